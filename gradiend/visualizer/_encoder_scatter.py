"""An interactive page on which every encoded example is a point that shows its text."""

from __future__ import annotations

import html
import logging
import textwrap
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gradiend.util._files import replacing
from gradiend.util._imports import install_hint
from gradiend.util.paths import SCATTER_PLOT
from gradiend.visualizer._encodings import Encodings, checked_frame, given_or_encoded, in_directory
from gradiend.visualizer._output import Run, marked, plot_keywords
from gradiend.visualizer._style import DEFAULT_CMAP, GOLDEN_RATIO, NEUTRAL_COLORS, distinct_colors, without_middle

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

logger = logging.getLogger(__name__)

REQUIRED = ("encoded", "label")
TEXT_COLUMNS = ("text", "input_text", "masked", "masked_text")
HOVER_COLUMNS = ("source_id", "target_id", "factual", "alternative", "type", *TEXT_COLUMNS)
"""Columns that are shown by default where the frame has them."""

SYMBOLS = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "x", "star")
"""Symbols, which tell groups apart beside colours."""

MAX_COLORS = 40
"""Values of the colour column with a colour of their own; the rarer values share one."""

# The button "Share chart" would send texts of the corpus to a server.
_CONFIG = {"displaylogo": False, "modeBarButtonsToRemove": ["sendChartToCloud", "sendDataToCloud"]}
_WEBGL_FROM = 5_000
_NAME_CHARS = 30
_LINE_CHARS = 90
_TITLES = {"source_id": "factual class", "target_id": "alternative class"}


@plot_keywords
def plot_encoder_scatter(
    trainer: Run | None = None, encoder_df: Encodings | None = None, *, color_by: str = "label",
    hover_cols: Sequence[str] | None = None, jitter_scale: float = 0.15, max_points: int | None = None,
    stratify_by: str | None = None, cmap: str = DEFAULT_CMAP, output_path: str | Path | None = None,
    output_dir: str | Path | None = None, experiment_dir: str | Path | None = None, show: bool = True,
    title: bool | str | None = None, height: int = 500, split: str = "test", hover_text_max_chars: int = 50,
    x_col: str | None = None, label_name_mapping: Mapping[Any, str] | None = None, return_fig_ax: bool = False,
) -> Any:  # fmt: skip
    """Plot every encoded example in a web page, where hovering over a point shows its text.

    The page holds all it needs (plotly's script too, 4 to 5 MB), so it works without a network.

    Args:
        trainer: Gives the frame if encoder_df is None, and the default directory and title.
        encoder_df: One row per example: encoded, label, and any other column; or a result that holds such a frame.
        color_by: Column that gives the colour.
        hover_cols: Columns to read when hovering; by default classes, words, type and text, where they are there.
        jitter_scale: Half width of a group of points; at 0.5 they touch the next.
        max_points: Draw at most so many rows, evenly spaced in the frame.
        stratify_by: Column whose values keep their shares if there are more rows than max_points.
        cmap: Colormap; the default gives way to a colour-blind safe palette for up to 16 values.
        output_path: The file of the page; .html is added where it has no extension.
        output_dir: Without output_path, the page is encoder_scatter.html in this directory.
        experiment_dir: Without output_path and output_dir, the page is encoder_analysis_scatter.html in this
            directory, by default that of the trainer.
        show: Open the page in a browser or notebook.
        title: True or None for a default title, a string for another, False for none.
        height: Height of the plot in pixels.
        split: The split that the trainer encodes if there is no frame.
        hover_text_max_chars: Number of characters of each value that are shown.
        x_col: Column whose values stand side by side; by default transitions and kinds of neutral text.
        label_name_mapping: Display names by value of the colour column, e.g. {1: "he"}.
        return_fig_ax: Return (figure, None), as other plots return (figure, axes): plotly has no axes.

    Returns:
        The plotly figure, with one trace for each value of the colour column and the texts as `customdata`; None, with
        a warning, where plotly is not installed.

    Raises:
        ValueError: There is neither a frame nor a trainer; the frame is bad or empty; a column or colormap is unknown;
            the file is no page; or max_points or hover_text_max_chars is below 1.
    """
    if plotly_is_missing("plot_encoder_scatter"):
        return (None, None) if return_fig_ax else None
    # Arguments are checked before a trainer makes a frame.
    for name, least_one in (("hover_text_max_chars", hover_text_max_chars), ("max_points", max_points)):
        if least_one is not None and least_one < 1:
            raise ValueError(f"{name} must be at least 1; got {least_one}.")
    path = _destination(trainer, output_path, output_dir, experiment_dir)
    columns = [*REQUIRED, color_by, *(hover_cols or ()), *(name for name in (stratify_by, x_col) if name is not None)]
    frame = thinned(checked_frame(given_or_encoded(trainer, encoder_df, split), columns), max_points, stratify_by)
    default = "Encodings" if trainer is None or trainer.run_id is None else f"Encodings of {trainer.run_id}"
    heading = default if title is True or title is None else title or None

    codes, groups = pd.factorize(_transitions(frame) if x_col is None else frame[x_col].astype(str))
    x = codes + jitter_scale * (2.0 * (np.arange(len(frame)) * GOLDEN_RATIO % 1.0) - 1.0)
    y = frame["encoded"].to_numpy(np.float64)
    if hover_cols is None:
        hover_cols = [name for name in HOVER_COLUMNS if name in frame.columns]
    texts = hover_texts(frame, [name for name in hover_cols if name not in REQUIRED], hover_text_max_chars)
    figure = points_figure(x, y, texts, _color_values(frame[color_by]), _value_names(label_name_mapping or {}), cmap)
    lay_out(figure, {str(name): float(place) for place, name in enumerate(groups)}, y, heading, color_by, height)
    deliver_page(figure, path, heading or default, show=show)
    return (figure, None) if return_fig_ax else figure


def lay_out(
    figure: Figure, ticks: Mapping[str, float], y: NDArray[np.float64], title: str | None, legend: str, height: int
) -> None:
    """Give a figure of points its title, its axes with `ticks` (name → place), and a legend under a name."""
    limit = 1.05 * max(1.0, float(np.abs(y).max()))
    figure.update_layout(
        title=None if title is None else {"text": html.escape(marked(title), quote=False)},
        height=height,
        template="plotly_white",
        hoverlabel={"align": "left"},
        legend={"title": {"text": html.escape(legend, quote=False)}, "itemsizing": "constant"},
        showlegend=True,
        xaxis={
            "tickvals": list(ticks.values()),
            "ticktext": [_short(name) for name in ticks],
            "range": [-0.6, max(ticks.values()) + 0.6],
            "showgrid": False,
            "zeroline": False,
            "automargin": True,
        },
        yaxis={"title": {"text": "encoding"}, "range": [-limit, limit], "zerolinecolor": "#999999"},
    )


def _destination(
    trainer: Run | None, output_path: str | Path | None, output_dir: str | Path | None,
    experiment_dir: str | Path | None,
) -> Path | None:  # fmt: skip
    if output_path is not None:
        return page_path("output_path", output_path)
    if output_dir is not None:
        return Path(output_dir) / "encoder_scatter.html"
    return in_directory(trainer, SCATTER_PLOT) if experiment_dir is None else Path(experiment_dir) / SCATTER_PLOT


def page_path(option: str, output: str | Path | None, why: str = "the scatter is a web page") -> Path | None:
    """The file of a page, .html without an extension; the ValueError for another extension has the option and `why`."""
    if output is None:
        return None
    path = Path(output)
    if path.suffix.lower() not in ("", ".html", ".htm"):
        raise ValueError(f"{option} must end with .html, because {why}; got {path.name!r}.")
    return path if path.suffix else path.with_name(f"{path.name}.html")


def plotly_is_missing(call: str) -> bool:
    """Whether plotly is not installed, in which case a warning says what needs it."""
    missing = find_spec("plotly") is None
    if missing:
        warnings.warn(f"{call} needs plotly: {install_hint('plotly', 'plot')}", stacklevel=4)
    return missing


def deliver_page(figure: Figure, path: Path | None, title: str, *, show: bool) -> None:
    """Write a page with plotly's script in it, because a linked script needs a network; show it on request."""
    if path is not None:
        body = figure.to_html(full_html=False, include_plotlyjs=True, config=_CONFIG)
        page = (
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f"<title>{html.escape(title)}</title>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
        )
        with replacing(path) as temporary:
            temporary.write_text(page, encoding="utf-8")
        logger.info("Scatter: %s", path)
    if show:
        figure.show(config=_CONFIG)


def points_figure(
    x: NDArray[np.float64], y: NDArray[np.float64], texts: Sequence[str], values: Sequence[str],
    names: Mapping[str, str], cmap: str,
) -> Figure:  # fmt: skip
    """Draw a trace for each distinct value in `values`, which has the value of the colour column for each point."""
    import plotly.graph_objects as go  # noqa: PLC0415 - optional

    distinct = sorted(dict.fromkeys(values), key=_value_order)
    colors = dict(zip(distinct, distinct_colors(len(distinct), cmap), strict=True))
    if cmap == DEFAULT_CMAP:
        neutral = [value for value in distinct if value.startswith("neutral")]
        colors |= {value: NEUTRAL_COLORS[i % len(NEUTRAL_COLORS)] for i, value in enumerate(neutral)}
    # WebGL draws tens of thousands of points smoothly; SVG is crisp and works without a graphics card.
    trace = go.Scattergl if y.size > _WEBGL_FROM else go.Scatter
    of_point = np.asarray(values, dtype=object)
    figure = go.Figure()
    for number, value in enumerate(distinct):
        chosen = np.flatnonzero(of_point == value)
        look = {"color": colors[value], "symbol": SYMBOLS[number % len(SYMBOLS)], "size": 7, "opacity": 0.7}
        shown: dict[str, Any] = {"mode": "markers", "marker": look, "name": _short(names.get(value, value) or "none")}
        shown |= {"customdata": [texts[i] for i in chosen.tolist()], "hovertemplate": "%{customdata}<extra></extra>"}
        figure.add_trace(trace(x=x[chosen], y=y[chosen], **shown))
    return figure


def thinned(frame: pd.DataFrame, max_points: int | None, stratify_by: str | None) -> pd.DataFrame:
    """Take at most `max_points` rows in their order, evenly from the frame or from each value of `stratify_by`.

    Every value keeps a share of the points in proportion to its rows, and at least one point if there are enough.
    """
    if max_points is None or len(frame) <= max_points:
        return frame
    if stratify_by is None:
        return frame.iloc[_evenly(len(frame), max_points)]
    codes, names = pd.factorize(frame[stratify_by].astype(str))
    members = [np.flatnonzero(codes == code) for code in range(len(names))]
    counts = _shares([len(rows) for rows in members], max_points)
    picked = [rows[_evenly(len(rows), count)] for rows, count in zip(members, counts, strict=True)]
    return frame.iloc[np.sort(np.concatenate(picked))]


def _evenly(length: int, count: int) -> NDArray[np.intp]:
    """Choose `count` of the positions 0 … length − 1, evenly spaced, with the first and the last."""
    return np.unique(np.linspace(0, length - 1, count).round().astype(np.intp))


def _shares(sizes: Sequence[int], total: int) -> list[int]:
    """Divide `total` in proportion to `sizes` by largest remainders; each share is at least 1 if that is possible."""
    least = 1 if total >= len(sizes) else 0
    exact = np.asarray(sizes, dtype=np.float64) / sum(sizes) * total
    counts = np.maximum(np.floor(exact).astype(int), least)
    for position in np.argsort(np.floor(exact) - exact, kind="stable"):
        if counts.sum() < total:
            counts[position] += 1
    while counts.sum() > total:
        counts[int(np.argmax(counts))] -= 1
    return [int(count) for count in np.minimum(counts, sizes)]


def _transitions(frame: pd.DataFrame) -> pd.Series:
    """Name the group of each row: `a → b`, the neutral type, or the label, whichever the frame has."""
    empty = pd.Series([None] * len(frame), index=frame.index, dtype=object)
    source, target = (frame[name] if name in frame.columns else empty for name in ("source_id", "target_id"))
    kind = frame["type"].astype(str) if "type" in frame.columns else empty.astype(str)
    neutral = kind.str.startswith("neutral")
    known = source.notna() & ~neutral
    name = source.astype(str).where(target.isna(), source.astype(str) + " → " + target.astype(str))
    return name.where(known, kind.where(neutral, "label " + _as_text(frame["label"])))


# Values and texts as they are shown; everything from the frame is untrusted, and plotly renders HTML


def _as_text(column: pd.Series) -> pd.Series:
    """Write values as text, missing ones as ""; whole numbers have no decimal point, negative numbers a true minus."""
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        values = ["" if pd.isna(value) else f"{float(value):g}".replace("-", "−") for value in column]
    else:
        values = ["" if pd.isna(value) else str(value) for value in column]
    return pd.Series(values, index=column.index, dtype=object)


def _color_values(column: pd.Series) -> list[str]:
    """Return the value of each point as text; beyond `MAX_COLORS` values, the rarer values become one."""
    values = list(_as_text(column))
    counts = Counter(values)
    common = {value for value, _ in counts.most_common(MAX_COLORS)}
    other = f"other ({len(counts) - len(common)} values)"
    return [value if value in common else other for value in values]


def _value_names(mapping: Mapping[Any, str]) -> dict[str, str]:
    """Return display names by the text of the value, so that 1, 1.0, "1" and "1.0" are the same label."""
    names = {}
    for key, name in mapping.items():
        try:
            names[f"{float(key):g}".replace("-", "−")] = name
        except (TypeError, ValueError):
            names[str(key)] = name
    return names


def _value_order(value: str) -> tuple[int, float]:
    """Return a key that puts numbers first, the largest first, then words as they come, and neutral words last."""
    try:
        return (0, -float(value.replace("−", "-")))
    except ValueError:
        return (2 if value.startswith("neutral") else 1, 0.0)


def _short(name: str) -> str:
    return html.escape(without_middle(" ".join(name.split()), _NAME_CHARS), quote=False)


def hover_texts(frame: pd.DataFrame, columns: Sequence[str], chars: int) -> list[str]:
    """Return the text of each point as HTML: encoding, label, and the values of some columns, each cut to `chars`."""
    heads = "<b>encoding " + frame["encoded"].map("{:+.3f}".format) + "</b>, label " + _as_text(frame["label"])
    parts = [list(heads)]
    for column in columns:
        title = html.escape(_TITLES.get(column, column), quote=False)
        parts.append([f"{title}: {_hover_text(text, chars)}" if text else "" for text in _as_text(frame[column])])
    return ["<br>".join(filter(None, row)) for row in zip(*parts, strict=True)]


def _hover_text(text: str, chars: int) -> str:
    """Shorten `text` to `chars` characters, wrap and escape it."""
    text = " ".join(text.split())
    if len(text) > chars:
        text = text[: max(chars - 1, 0)] + "…"
    lines = textwrap.wrap(text, _LINE_CHARS, break_on_hyphens=False)
    return "<br>".join(html.escape(line, quote=False) for line in lines)
