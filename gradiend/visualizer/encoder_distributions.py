"""The plot of the encodings of each transition, and of neutral text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from gradiend.util._display import UNKNOWN
from gradiend.util._keywords import one_of, split_order
from gradiend.util.paths import ENCODER_PLOT, safe_name
from gradiend.visualizer._encodings import (
    SPLIT,
    EncodingGroup,
    Encodings,
    encoding_groups,
    group_name,
    in_directory,
    merged,
    ordered,
    paired,
    title_of,
)
from gradiend.visualizer._output import FigureOptions, Run, plot_keywords
from gradiend.visualizer._style import (
    DEFAULT_CMAP,
    GOLDEN_RATIO,
    NEUTRAL_COLORS,
    add_legend,
    distinct_colors,
    shown,
    signed,
    tidy,
)
from gradiend.visualizer.plot_style import arrow_or

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_POINTS = 800
"""Points drawn for a group; more would be one blot and a large file."""

_MIN_SPREAD = 0.01
"""Standard deviation below which a density is a line, and only points and the median are drawn."""

_HALF_WIDTH = 0.32
_ROTATE_FROM = 7
_MEDIAN: dict[str, Any] = {"color": "black", "markersize": 7, "linestyle": "none"}


@plot_keywords
def plot_encoder_distributions(
    trainer: Run, encoder_df: Encodings | None = None, output: str | Path | None = None,
    output_dir: str | Path | None = None, show: bool = True, title: bool | str = True,
    violin_order: Sequence[str] | None = None, paired_legend_labels: Sequence[str] | None = None,
    legend_name_mapping: Mapping[str, str] | None = None,
    legend_group_mapping: Mapping[str, Sequence[str]] | None = None, title_fontsize: float | None = None,
    label_fontsize: float | None = None, axis_label_fontsize: float | None = None, legend_fontsize: float | None = None,
    colors: Mapping[str, str] | Sequence[str] | None = None, legend_loc: str | None = "best",
    legend_ncol: int | None = None, legend_bbox_to_anchor: tuple[float, ...] | None = None, cmap: str = DEFAULT_CMAP,
    img_format: str = "png", dpi: float | None = None, figsize: tuple[float, float] | None = None,
    target_and_neutral_only: bool = True, ignore_missing_legend_group_labels: bool = False,
    include_neutral: bool = True, split_plot_mode: Literal["together", "facets"] = "together",
    return_fig_ax: bool = False,
) -> Any:  # fmt: skip
    """Plot the encodings of each transition `factual -> alternative` and of each kind of neutral text.

    Every example is a point (large groups show an even sample), over the density if there is any spread, with a
    triangle at the median. Groups are called `a -> b` (or `a → b`), a neutral type, or, in most options, by
    their factual class alone.

    Arguments that are not described are those of `plot_training_convergence`.

    Args:
        trainer: The run that the frame belongs to, which gives order, names and the default path.
        encoder_df: One row per example: encoded, label, type, optionally source_id and target_id; or a result that
            holds such a frame.
        output: The file to write; an image extension is replaced by `img_format`.
        output_dir: Without `output`, the file is <run_id>_encoder_distributions.<img_format> in this directory.
            Without output and output_dir it is encoder_analysis.<img_format> in the trainer's experiment_dir.
        violin_order: Groups ("a -> b", a neutral type) or factual classes ("a") that come first.
        paired_legend_labels: Groups that are the left and right halves of violins, in turn: two names for each
            violin. Every other group has a violin of its own.
        legend_name_mapping: Display names by class, neutral type or group.
        legend_group_mapping: {title: groups or factual classes} that are drawn as one group of that name.
        title_fontsize: Size of the title in points.
        label_fontsize: Size of the group names in points.
        axis_label_fontsize: Size of the axis label in points.
        legend_fontsize: Size of the legend in points.
        colors: Colours by factual class, neutral type or group, or a list in the order of the legend.
        legend_loc: Place of the legend in the plot; "best", the default, is beside the plot, where it covers nothing.
        cmap: Colormap for factual classes; the default gives way to a colour-blind safe palette for up to 16.
        target_and_neutral_only: Leave out identity examples of other classes (label 0).
        ignore_missing_legend_group_labels: Pass over names in legend_group_mapping that fit no group.
        include_neutral: Show neutral text.
        split_plot_mode: "facets" draws a panel for each split of the frame (its column data_split, as of
            `evaluate_encoder(split=["train", "test"], return_df=True)`); rows that are in no split, such as those of
            a neutral corpus, are in each panel. "together": one panel.
        return_fig_ax: Return (figure, axes); with facets, a list of axes.

    Returns:
        The path of the file, "" if no file was written.

    Raises:
        ValueError: The frame is missing, empty or broken; an option names an unknown group or format; or there is
            neither a path nor `show`.
        ImportError: matplotlib is not installed.
    """
    options = DistributionOptions.of(locals())
    destination = _destination(trainer, output, output_dir)
    path = options.path(destination, "output, output_dir or a trainer with an experiment_dir")
    facets = one_of("split_plot_mode", split_plot_mode, ("together", "facets")) == "facets"
    groups = encoding_groups(
        encoder_df,
        first_classes=trainer.pair or (),
        target_and_neutral_only=target_and_neutral_only,
        include_neutral=include_neutral,
    )
    groups = merged(groups, legend_group_mapping or {}, ignore_missing=ignore_missing_legend_group_labels)
    groups = ordered(groups, violin_order)
    splits = split_order(split for group in groups for split in group.splits if split) if facets else ()
    if facets and not splits:
        raise ValueError(
            f"split_plot_mode='facets' needs the splits of the rows in a column {SPLIT!r}, which "
            'evaluate_encoder(split=["train", "test"], return_df=True) writes.'
        )
    figure = distribution_figure(
        groups, violins=paired(groups, paired_legend_labels), splits=splits,
        names=Names(_by_group_name(legend_name_mapping or {})),
        colors=_by_group_name(colors) if isinstance(colors, Mapping) else colors, cmap=cmap,
        title=title_of("Encodings", trainer), options=options,
    )  # fmt: skip
    return options.deliver(figure, path, figure.axes if facets else figure.axes[0])


def _by_group_name(values: Mapping[str, str]) -> dict[str, str]:
    """Return `values` under the names that the user gave, and under names with arrows as groups have them."""
    return {**values, **{group_name(name): value for name, value in values.items()}}


def _destination(trainer: Run, output: str | Path | None, output_dir: str | Path | None) -> str | Path | None:
    if output is None and output_dir is not None:
        # A run_id may name a subfolder; here it is part of a file name.
        prefix = "" if trainer.run_id is None else f"{safe_name(trainer.run_id.replace('/', '_'))}_"
        return Path(output_dir) / f"{prefix}encoder_distributions"
    return in_directory(trainer, ENCODER_PLOT) if output is None else output


# The figure


@dataclass(frozen=True, kw_only=True)
class DistributionOptions(FigureOptions):
    """The look of the figure; see `plot_encoder_distributions`."""

    title_fontsize: float | None = None
    label_fontsize: float | None = None
    axis_label_fontsize: float | None = None
    legend_fontsize: float | None = None

    @property
    def legend(self) -> dict[str, Any]:
        """As of all figures; "best" without an anchor leaves the place to the figure."""
        left = self.legend_loc == "best" and self.legend_bbox_to_anchor is None
        return {**super().legend, **({"loc": None} if left else {})}


@dataclass(frozen=True)
class Names:
    """Display names of classes, neutral types and groups."""

    chosen: Mapping[str, str]

    def of(self, name: str) -> str:
        """Return the display name of a class or a neutral type."""
        ours = {"neutral_training_masked": "neutral (training text)", "neutral_dataset": "neutral (corpus)"}
        return self.chosen.get(name, ours.get(name, name))

    def tick(self, violin: Sequence[EncodingGroup], *, rotated: bool) -> str:
        """Return the name below a violin: up to four short lines, or one line if the name is rotated."""
        head = self._group(violin[0], rotated) if len(violin) == 1 else self._pair(violin[0], violin[1], rotated)
        size = "n = " + " | ".join(f"{group.values.size:,}" for group in violin)
        if rotated:
            return f"{head} ({size})"
        means = [signed(float(one.values.mean()), ".2f") if one.values.size else UNKNOWN for one in violin]
        return f"{head}\n{size}\nmean {' | '.join(means)}"

    def _group(self, group: EncodingGroup, rotated: bool) -> str:
        if group.key in self.chosen or group.target is None:
            return shown(self.of(group.key), 44, 1) if rotated else shown(self.of(group.key), 16)
        if rotated:
            return f"{shown(self.of(group.source), 22, 1)} {arrow_or('->')} {shown(self.of(group.target), 22, 1)}"
        return f"{shown(self.of(group.source), 18, 2)}\n{arrow_or('->')} {shown(self.of(group.target), 18, 2)}"

    def _pair(self, left: EncodingGroup, right: EncodingGroup, rotated: bool) -> str:
        if (left.source, left.target) == (right.target, right.source):
            names = [shown(self.of(group.source), 18, 1) for group in (left, right)]
            sign = arrow_or("<->", bidirectional=True)
        else:
            names, sign = [shown(self.of(group.key), 24, 1) for group in (left, right)], "|"
        return (f" {sign} " if rotated else f"\n{sign} ").join(names)

    def legend(self, name: str, groups: Sequence[EncodingGroup]) -> str:
        """Return the name of a colour, with the label of its examples if they all have the same label."""
        labels = {group.label for group in groups}
        same = len(labels) == 1 and not groups[0].neutral and math.isfinite(groups[0].label)
        tail = f" ({signed(labels.pop())})" if same else ""
        return shown(self.of(name)) + tail


def distribution_figure(
    groups: Sequence[EncodingGroup], *, violins: Sequence[tuple[EncodingGroup, ...]] | None = None,
    splits: Sequence[str] = (), names: Names | None = None, colors: Mapping[str, str] | Sequence[str] | None = None,
    cmap: str = DEFAULT_CMAP, title: str = "Encodings", options: DistributionOptions | None = None,
) -> Figure:  # fmt: skip
    """Draw groups of encodings side by side, coloured by factual class, one collection of points for each group.

    `violins` has the groups again, one or two (left and right half) in a violin; by default each group has its own.
    With `splits`, each of these has a panel with the groups' values in it.
    """
    names, options = names or Names({}), options or DistributionOptions()
    palette = _palette(groups, colors, cmap)
    # tanh encodings share one axis in all runs; another activation gets the range that it needs.
    scale = max(1.0, *(float(np.abs(group.values).max()) for group in groups))
    violins = [(group,) for group in groups] if violins is None else violins
    rotated = len(violins) >= _ROTATE_FROM
    width, height = _size(violins, rotated)
    figure = options.figure((width, height * max(0.8 * len(splits), 1)), title, options.title_fontsize or 13)
    axes = list(figure.subplots(max(len(splits), 1), 1, squeeze=False).flat)
    for ax, split in zip(axes, splits or ("",), strict=True):
        own = [tuple(group.of_split(split) for group in violin) for violin in violins] if split else violins
        if split:
            ax.set_title(shown(split, 60, 1), loc="left", fontsize=options.axis_label_fontsize or 11)
        for position, violin in enumerate(own):
            sides = (-1, 1) if len(violin) == 2 else (0,)
            for group, side in zip(violin, sides, strict=True):
                if group.values.size:
                    _draw(ax, position, group, palette[_color_name(group, palette)], scale, side)
        _frame(ax, [names.tick(violin, rotated=rotated) for violin in own], scale, options, rotated=rotated)
    members: dict[str, list[EncodingGroup]] = {}
    for group in groups:
        members.setdefault(_color_name(group, palette), []).append(group)
    handles = []
    for name, of_name in members.items():
        label = names.legend(name, of_name)
        handles += axes[0].plot([], [], color=palette[name], marker="o", linestyle="none", label=label)
    handles += axes[0].plot([], [], marker=">", **_MEDIAN, label="median")
    add_legend(axes[0], handles, fontsize=options.legend_fontsize, **options.legend)
    return figure


def _frame(ax: Axes, ticks: Sequence[str], scale: float, options: DistributionOptions, *, rotated: bool) -> None:
    turn: dict[str, Any] = {"rotation": 55, "ha": "right", "rotation_mode": "anchor"} if rotated else {}
    ax.set_xticks(range(len(ticks)), ticks, fontsize=options.label_fontsize or 9, **turn)
    ax.tick_params(axis="x", length=0)
    ax.set_xlim(-0.6, len(ticks) - 0.4)
    ax.set_ylim(-1.05 * scale, 1.05 * scale)
    ax.set_ylabel("encoding", fontsize=options.axis_label_fontsize or 11)
    tidy(ax, zero_line=True)


def _size(violins: Sequence[tuple[EncodingGroup, ...]], rotated: bool) -> tuple[float, float]:
    if rotated:
        return (min(6.0 + 0.55 * len(violins), 24.0), 6.4)
    return (4.0 + sum(1.5 if len(violin) == 1 else 2.1 for violin in violins), 4.8)


def _palette(
    groups: Sequence[EncodingGroup], colors: Mapping[str, str] | Sequence[str] | None, cmap: str
) -> dict[str, str]:
    """Return the colour of each factual class and neutral type, and of group keys that the user named."""
    classes = list(dict.fromkeys(group.source for group in groups if not group.neutral))
    neutral = list(dict.fromkeys(group.source for group in groups if group.neutral))
    palette = dict(zip(classes, distinct_colors(len(classes), cmap), strict=True))
    palette |= {name: NEUTRAL_COLORS[i % len(NEUTRAL_COLORS)] for i, name in enumerate(neutral)}
    if isinstance(colors, Mapping):
        known = {name for group in groups for name in (group.source, group.key)}
        return palette | {name: color for name, color in colors.items() if name in known}
    if colors is not None:
        if len(colors) < len(palette):
            raise ValueError(f"colors has {len(colors)} colours for {len(palette)} names: {list(palette)}.")
        return dict(zip(palette, colors, strict=False))
    return palette


def _color_name(group: EncodingGroup, palette: Mapping[str, str]) -> str:
    return group.key if group.key in palette else group.source


def _draw(ax: Axes, position: int, group: EncodingGroup, color: str, scale: float, side: int) -> None:
    """Draw a violin with its points, or its left (side −1) or right (+1) half."""
    from matplotlib.mlab import GaussianKDE  # noqa: PLC0415 - optional

    values = np.sort(group.values)
    if values.size > MAX_POINTS:
        # Evenly spaced quantiles, the extremes included.
        values = values[np.linspace(0, values.size - 1, MAX_POINTS).round().astype(int)]
    left, right = (_HALF_WIDTH if side <= 0 else 0.0), (_HALF_WIDTH if side >= 0 else 0.0)
    room = np.full(values.size, 0.7)
    if group.values.std() >= _MIN_SPREAD * scale:
        # Scott's bandwidth would smear two clusters at ±1 into each other, so it is capped.
        bandwidth = np.clip(values.std() * values.size**-0.2, 0.01 * scale, 0.08 * scale)
        density = GaussianKDE(values, float(bandwidth / values.std(ddof=1)))
        room = density(values)
        grid = np.linspace(values[0], values[-1], 256)
        height = density(grid) / room.max()
        room = room / room.max()
        edges = position - left * height, position + right * height
        ax.fill_betweenx(grid, *edges, color=color, alpha=0.25, linewidth=0)
    # 0.85 keeps the points inside.
    share = np.arange(values.size) * GOLDEN_RATIO % 1.0
    jitter = 0.85 * (share * (left + right) - left) * room
    dots: dict[str, Any] = {"s": 11, "color": color, "alpha": 0.6, "linewidths": 0, "rasterized": True}
    ax.scatter(position + jitter, values, label=group.key, **dots)
    # The median stands beside the points: on encodings that hardly differ, a bar across would hide them all.
    place = _HALF_WIDTH + 0.06
    at, marker = (position + place, "<") if side > 0 else (position - place, ">")
    ax.plot([at], [np.median(group.values)], marker=marker, **_MEDIAN)
