"""The encodings word by word: do unseen words of a class lie where the words of the training lie?"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gradiend.util._checks import require_whole
from gradiend.util._keywords import one_of, split_order
from gradiend.util.paths import WORDS_PLOT, WORDS_STRIP
from gradiend.visualizer._encoder_scatter import (
    HOVER_COLUMNS,
    deliver_page,
    hover_texts,
    lay_out,
    page_path,
    plotly_is_missing,
    points_figure,
)
from gradiend.visualizer._encodings import (
    SPLIT,
    Encodings,
    checked_frame,
    given_or_encoded,
    in_directory,
    title_of,
)
from gradiend.visualizer._output import FigureOptions, Run, plot_keywords, require_matplotlib
from gradiend.visualizer._style import DEFAULT_CMAP, GOLDEN_RATIO, add_legend, distinct_colors, shown, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

logger = logging.getLogger(__name__)

DEFAULT_TITLE = "Encodings by word"
_GAP = 0.8
"""Room between the words of two classes."""
_LABELS = 6
"""Outliers of a class and split that are named."""

STYLES = ("strip", "box", "violin")


@plot_keywords
def plot_encoder_by_target(
    trainer: Run | None = None, encoder_df: Encodings | None = None, *, plot_style: str = "strip",
    split: str | Sequence[str] = "all", target_col: str = "factual", max_words: int = 120, interactive: bool = False,
    output: str | Path | None = None, show: bool = True, title: bool | str = True,
    figsize: tuple[float, float] | None = None, height: int = 500, cmap: str = DEFAULT_CMAP,
    legend_loc: str | None = None, legend_ncol: int | None = None,
    legend_bbox_to_anchor: tuple[float, ...] | None = None, img_format: str = "png", dpi: float | None = None,
    return_fig_ax: bool = False,
) -> Any:  # fmt: skip
    """Plot the encodings of each word, side by side within its class, in the colour of its split.

    Words that differ in case only are one word. Within a class, words of the training come first, then those of the
    validation and of the test split, in alphabetic order. If held-out words lie with the other words of their
    class, the encoder reads the feature; if they lie at 0 or with the other class, it knows the words.

    Arguments that are not described are those of `plot_training_convergence`.

    Args:
        trainer: Gives the frame if encoder_df is None, and the default directory and title.
        encoder_df: One row per example: encoded, source_id (its class), the word, and its split in data_split, where
            known; or a result that holds such a frame. Neutral rows are left out.
        plot_style: "strip" (every example is a point), "box" or "violin".
        split: The split, or splits, that the trainer encodes if there is no frame; "all" for those of the data.
        target_col: Column of the words.
        max_words: Words of each class that are drawn at most, the most frequent.
        interactive: Make a web page, on which a point shows its text, in place of an image; it needs plotly.
        output: The file to write, without it encoder_by_target.<img_format> (or .html) in the trainer's
            experiment_dir; an image extension is replaced by `img_format`.
        height: Height of the web page's plot in pixels.
        cmap: Colormap of the splits; the default is a colour-blind safe palette.
        return_fig_ax: Return (figure, axes).

    Returns:
        The path of the file, "" if no file was written; with `interactive` the plotly figure, or None, with a warning,
        where plotly is not installed.

    Raises:
        ValueError: There is neither a frame nor a trainer; the frame is bad, empty or without a column; the style or
            format is unknown; or there is neither a path nor `show`.
        ImportError: matplotlib is not installed.
    """
    options = FigureOptions.of(locals())
    one_of("plot_style", plot_style, STYLES)
    require_whole("max_words", max_words, 1)
    if interactive and plotly_is_missing("plot_encoder_by_target(interactive=True)"):
        return None
    output = in_directory(trainer, WORDS_PLOT) if output is None else output
    if interactive:
        path = page_path("output", output, "interactive=True writes a web page")
    else:
        path = options.path(output, "output or a trainer with an experiment_dir")
    rows = word_rows(given_or_encoded(trainer, encoder_df, split), target_col, max_words)
    default = title_of(DEFAULT_TITLE, trainer)
    if interactive:
        return _page(rows, path, options.heading(default), cmap=cmap, height=height, show=show)
    figure = words_figure(rows, plot_style, cmap, default, options)
    return options.deliver(figure, path, figure.axes[0])


@plot_keywords
def plot_encoder_strip_by_split(
    trainer: Run | None = None, encoder_df: Encodings | None = None, *, aggregate_targets: bool = True,
    label_outliers: str | None = "iqr", outlier_k: float | None = None, label_samples: int = 0,
    label_words: Sequence[str] = (), split: str | Sequence[str] = "all", target_col: str = "factual",
    output: str | Path | None = None, show: bool = True, title: bool | str = True,
    figsize: tuple[float, float] | None = None, cmap: str = DEFAULT_CMAP, legend_loc: str | None = None,
    legend_ncol: int | None = None, legend_bbox_to_anchor: tuple[float, ...] | None = None, img_format: str = "png",
    dpi: float | None = None, return_fig_ax: bool = False,
) -> Any:  # fmt: skip
    """Plot a strip of words for each class and split, side by side, and name the words that lie apart.

    Args:
        trainer, encoder_df, split, target_col, cmap: See `plot_encoder_by_target`.
        aggregate_targets: Draw the mean encoding of each word as a point; otherwise a point is an example.
        label_outliers: Which points are named, at most six of a strip: "iqr" (outside of the quartiles by `outlier_k`
            times their distance), "zscore" (more than `outlier_k` standard deviations from the mean), or None.
        outlier_k: See `label_outliers`. Default: 1.5 for "iqr", 3 for "zscore".
        label_samples: How many points of a strip are named, too, evenly spaced in the order of their encodings.
        label_words: Words that are named wherever they stand, whatever their case.
        output: The file to write, without it encoder_strip_by_split.<img_format> in the trainer's experiment_dir.
        show, title, figsize, legend_loc, legend_ncol, legend_bbox_to_anchor, img_format, dpi: See
            `plot_training_convergence`.
        return_fig_ax: Return (figure, axes).

    Returns:
        The path of the file, "" if no file was written.

    Raises:
        ValueError: As of `plot_encoder_by_target`; the rule of outliers is unknown, or `outlier_k` is not positive.
        ImportError: matplotlib is not installed.
    """
    options = FigureOptions.of(locals())
    if label_outliers is not None:
        one_of("label_outliers", label_outliers, ("iqr", "zscore"))
    if outlier_k is not None and outlier_k <= 0:
        raise ValueError(f"outlier_k must be positive; got {outlier_k}.")
    output = in_directory(trainer, WORDS_STRIP) if output is None else output
    path = options.path(output, "output or a trainer with an experiment_dir")
    rows = word_rows(given_or_encoded(trainer, encoder_df, split), target_col)
    if aggregate_targets:
        keys = ["class", "word", "split"]
        rows = rows.groupby(keys, sort=False, as_index=False).agg(encoded=("encoded", "mean"), label=("label", "mean"))
    named = _Named(
        label_outliers, outlier_k or (1.5 if label_outliers == "iqr" else 3.0), label_samples,
        {word.strip().lower() for word in label_words},
    )  # fmt: skip
    figure = strips_figure(rows, named, cmap, title_of(DEFAULT_TITLE, trainer), options)
    return options.deliver(figure, path, figure.axes[0])


# The rows


def word_rows(encodings: Encodings, target_col: str, max_words: int | None = None) -> pd.DataFrame:
    """Return the encoded rows of words in the order in which they are drawn.

    The columns class, word, split, encoded and label come first; class is a factual class, and word the commonest
    spelling of a word in it. Classes of label +1 come first and those of label 0 last; words are in the order of
    their first split and of the alphabet. With `max_words`, only so many words of a class are kept, the most frequent.

    Raises:
        ValueError: There are no rows, or no rows with words, or a column is missing.
    """
    frame = checked_frame(encodings, ("encoded", "source_id", target_col))
    if "type" in frame.columns:
        frame = frame[~frame["type"].astype(str).str.startswith("neutral")]
    frame = frame[frame[target_col].notna() & frame["source_id"].notna()].reset_index(drop=True)
    if frame.empty:
        raise ValueError(f"The encoder frame has no row with a class and a word (source_id and {target_col}).")
    spelled = frame[target_col].astype(str).str.strip()
    rows = pd.DataFrame(
        {
            "class": frame["source_id"].astype(str), "word": spelled, "key": spelled.str.lower(),
            "split": frame[SPLIT].astype(str) if SPLIT in frame.columns else "",
            "encoded": frame["encoded"].astype(np.float64),
            "label": frame["label"].astype(np.float64) if "label" in frame.columns else 0.0,
        }
    )  # fmt: skip
    rows = rows.join(frame[[name for name in frame.columns if name not in rows.columns]])
    by_word = rows.groupby(["class", "key"])["word"]
    sizes = by_word.transform("size")
    if max_words is not None:
        most = rows.assign(n=sizes).drop_duplicates(["class", "key"]).sort_values(["n", "key"], ascending=[False, True])
        kept = most.groupby("class").head(max_words)
        if len(kept) < len(most):
            logger.info("%d of %d words are drawn, the most frequent of each class.", len(kept), len(most))
        rows = rows.merge(kept[["class", "key"]], on=["class", "key"])
    rows["word"] = rows.groupby(["class", "key"])["word"].transform(lambda own: own.value_counts().idxmax())
    rank = {name: place for place, name in enumerate(split_order(rows["split"]))}
    rows["rank"] = rows["split"].map(rank)
    rows["first"] = rows.groupby(["class", "key"])["rank"].transform("min")
    label = rows.groupby("class")["label"].transform("mean")
    rows["place"] = np.where(label == 0, 2.0, -label)
    rows = rows.sort_values(["place", "class", "first", "key", "rank"], kind="stable", ignore_index=True)
    return rows.drop(columns=["key", "rank", "first", "place"])


def word_places(rows: pd.DataFrame) -> dict[tuple[str, str], float]:
    """Return (class, word) → its place on the axis, with room between classes."""
    words = list(dict.fromkeys(zip(rows["class"], rows["word"], strict=True)))
    classes = list(dict.fromkeys(name for name, _ in words))
    return {(name, word): at + _GAP * classes.index(name) for at, (name, word) in enumerate(words)}


# The figures


def words_figure(rows: pd.DataFrame, style: str, cmap: str, title: str, options: FigureOptions) -> Figure:
    """Draw the result of `word_rows`: a place for each word, in which its splits stand side by side."""
    places, splits = word_places(rows), split_order(rows["split"])
    colors = dict(zip(splits, distinct_colors(len(splits), cmap), strict=True))
    figure = options.figure((min(3.5 + 0.32 * len(places), 40.0), 5.0), title)
    ax = figure.subplots()
    for (name, word), own in rows.groupby(["class", "word"], sort=False):
        present = [one for one in splits if (own["split"] == one).any()]
        width = 0.8 / len(present)
        for number, one in enumerate(present):
            at = places[str(name), str(word)] + (number - (len(present) - 1) / 2) * width
            _draw(ax, at, own.loc[own["split"] == one, "encoded"].to_numpy(), style, colors[one], 0.42 * width)
    ticks = [shown(word, 24, 1) for _, word in places]
    ax.set_xticks(list(places.values()), ticks, rotation=90, fontsize=8)
    _name_classes(ax, places)
    _frame(ax, rows, (-0.7, max(places.values()) + 0.7))
    _add_splits(ax, colors, options)
    return figure


def _draw(ax: Axes, at: float, values: NDArray[np.float64], style: str, color: str, half: float) -> None:
    """Draw the encodings of a word in a split; few or equal values are points in every style."""
    if style == "box" and values.size > 1:
        drawn = ax.boxplot(
            values, positions=[at], widths=1.6 * half, patch_artist=True, manage_ticks=False,
            flierprops={"marker": ".", "markersize": 3, "markeredgecolor": color},
            medianprops={"color": "black"},
        )  # fmt: skip
        drawn["boxes"][0].set(facecolor=color, alpha=0.5)
        return
    if style == "violin" and values.size > 1 and float(np.ptp(values)) > 1e-6:
        bodies: Any = ax.violinplot(values, positions=[at], widths=2 * half, showextrema=False)["bodies"]
        bodies[0].set(facecolor=color, alpha=0.5)
        ax.plot([at], [np.median(values)], marker="_", color="black", markersize=6)
        return
    size = 10 if values.size > 10 else 24
    ax.scatter(at + half * _jitter(values.size), values, s=size, color=color, alpha=0.6, linewidths=0, rasterized=True)
    ax.plot([at - half, at + half], [values.mean()] * 2, color="black", linewidth=1)


def _jitter(n: int) -> NDArray[np.float64]:
    """Return `n` places within −1 and 1, evenly spread, the first in the middle."""
    return 2.0 * ((np.arange(n, dtype=np.float64) * GOLDEN_RATIO + 0.5) % 1.0) - 1.0


@dataclass(frozen=True)
class _Named:
    """Which points of a strip are named."""

    rule: str | None
    """The rule of outliers, with its factor `k`."""
    k: float
    n_samples: int
    words: Set[str]

    def places(self, own: pd.DataFrame) -> list[int]:
        """The places of these points among the rows of a strip."""
        values = own["encoded"].to_numpy()
        n = min(self.n_samples, len(values))
        samples = np.argsort(values, kind="stable")[(np.arange(n) * 2 + 1) * len(values) // (2 * n or 1)].tolist()
        chosen = [index for index, word in enumerate(own["word"]) if word.lower() in self.words]
        return list(dict.fromkeys([*outliers(values, self.rule, self.k)[:_LABELS], *samples, *chosen]))


def strips_figure(rows: pd.DataFrame, named: _Named, cmap: str, title: str, options: FigureOptions) -> Figure:
    """Draw a strip of points for each class and split, with the names of some."""
    require_matplotlib()
    from matplotlib.patheffects import withStroke  # noqa: PLC0415 - optional

    classes, splits = list(dict.fromkeys(rows["class"])), split_order(rows["split"])
    colors = dict(zip(splits, distinct_colors(len(splits), cmap), strict=True))
    figure = options.figure((3.5 + 1.1 * len(classes) * len(splits), 5.0), title)
    ax = figure.subplots()
    width = 0.9 / len(splits)
    for place, name in enumerate(classes):
        for number, one in enumerate(splits):
            own = rows[(rows["class"] == name) & (rows["split"] == one)]
            if own.empty:
                continue
            jitter = _jitter(len(own))
            at, values = place + (number - (len(splits) - 1) / 2) * width, own["encoded"].to_numpy()
            half = 0.35 * width
            _draw(ax, at, values, "strip", colors[one], half)
            for index in named.places(own):
                ax.annotate(
                    shown(str(own["word"].iloc[index]), 18, 1), (at + half * jitter[index], values[index]),
                    xytext=(4, 2), textcoords="offset points", fontsize=7,
                    path_effects=[withStroke(linewidth=2, foreground="white")],
                )  # fmt: skip
    ax.set_xticks(range(len(classes)), [shown(name) for name in classes])
    _frame(ax, rows, (-0.6, len(classes) - 0.4))
    _add_splits(ax, colors, options)
    return figure


def outliers(values: NDArray[np.float64], rule: str | None, k: float) -> list[int]:
    """Return the places of the values that lie apart by a rule ("iqr" or "zscore"), the farthest first."""
    if rule is None or values.size < 3:
        return []
    if rule == "iqr":
        low, high = np.quantile(values, [0.25, 0.75])
        distance = np.maximum(low - values, values - high) - k * (high - low)
    else:
        distance = np.abs(values - values.mean()) - k * values.std()
    order = np.argsort(-distance, kind="stable")
    # A distance within the rounding error does not count.
    return [int(index) for index in order if distance[index] > 1e-9]


def _name_classes(ax: Axes, places: Mapping[tuple[str, str], float]) -> None:
    of_class: dict[str, list[float]] = {}
    for (name, _), place in places.items():
        of_class.setdefault(name, []).append(place)
    for number, (name, own) in enumerate(of_class.items()):
        ax.text(
            (own[0] + own[-1]) / 2, 1.01, shown(name, 18), transform=ax.get_xaxis_transform(), ha="center",
            va="bottom", fontweight="bold",
        )  # fmt: skip
        if number:
            ax.axvline(own[0] - (1 + _GAP) / 2, color="#BBBBBB", linewidth=0.8)


def _frame(ax: Axes, rows: pd.DataFrame, limits: tuple[float, float]) -> None:
    scale = max(1.0, float(rows["encoded"].abs().max()))
    ax.set_xlim(*limits)
    ax.set_ylim(-1.05 * scale, 1.05 * scale)
    ax.set_ylabel("encoding")
    ax.tick_params(axis="x", length=0)
    tidy(ax, zero_line=True)


def _add_splits(ax: Axes, colors: Mapping[str, str], options: FigureOptions) -> None:
    """Add a legend of the splits; a frame without splits has none."""
    if set(colors) != {""}:
        handles = [
            line
            for name, color in colors.items()
            for line in ax.plot([], [], color=color, marker="o", linestyle="none", label=shown(name))
        ]
        add_legend(ax, handles, **options.legend)


def _page(rows: pd.DataFrame, path: Path | None, title: str | None, *, cmap: str, height: int, show: bool) -> Any:
    """Draw the result of `word_rows` as a web page: a point for each row, which shows its text."""
    places = word_places(rows)
    centre = np.array([places[key] for key in zip(rows["class"], rows["word"], strict=True)])
    x = centre + 0.3 * _jitter(len(rows))
    y = rows["encoded"].to_numpy()
    columns = [name for name in ("class", "word", "split", *HOVER_COLUMNS) if name in rows.columns]
    splits = [name or "all" for name in rows["split"]]
    figure = points_figure(x, y, hover_texts(rows, columns, 200), splits, {}, cmap)
    several = {word for _, word in places if sum(word == other for _, other in places) > 1}
    names = {f"{word} ({name})" if word in several else word: place for (name, word), place in places.items()}
    lay_out(figure, names, y, title, "split", height)
    deliver_page(figure, path, title or DEFAULT_TITLE, show=show)
    return figure
