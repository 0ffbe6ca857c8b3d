"""The drawing of pairwise overlaps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from gradiend.visualizer.output import new_figure
from gradiend.visualizer.style import colormap, shown, text_color
from gradiend.visualizer.topk.overlap import Matrix

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colorbar import Colorbar
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

SCALES = ("linear", "log", "sqrt", "power")

_ANNOTATED_UP_TO = 15
_BRACKET = "#444444"


@dataclass(frozen=True)
class OverlapTable:
    """What the heatmap shows."""

    names: Sequence[str]
    matrix: Matrix
    """(names, names)."""
    meaning: str
    """What a number is, for the colour bar."""
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Titles of neighbouring names; names stand in the order of the groups."""
    row_metric: Mapping[str, float] = field(default_factory=dict)
    """A number by name, drawn beside its row."""


@dataclass(frozen=True)
class ColorScale:
    """How a number becomes a colour."""

    cmap: str = "viridis"
    vmin: float | None = None
    vmax: float | None = None
    scale: str = "linear"
    """linear, log, sqrt, or power with the exponent `gamma`."""
    gamma: float | None = None

    def norm(self, matrix: Matrix) -> Normalize:
        """The scale over `matrix`: from 0 (log: its smallest positive value) to its largest value."""
        from matplotlib.colors import LogNorm, Normalize, PowerNorm  # noqa: PLC0415 - optional

        high = float(matrix.max()) if self.vmax is None else self.vmax
        if self.scale == "log":
            low = float(np.min(matrix, initial=high, where=matrix > 0)) if self.vmin is None else self.vmin
            # An overlap of nothing has no logarithm: it takes the lowest colour.
            return LogNorm(low if low < high else high / 10, high, clip=True)
        low = 0.0 if self.vmin is None else self.vmin
        if self.scale == "linear":
            return Normalize(low, high)
        return PowerNorm(0.5 if self.scale == "sqrt" else self.gamma or 1.0, low, high)


@dataclass(frozen=True)
class HeatmapStyle:
    """How the heatmap looks; None is chosen by the figure."""

    colors: ColorScale = ColorScale()
    annotate: bool | None = None
    fmt: str = ".0f"
    """Format of the numbers in the cells."""
    figsize: tuple[float, float] | None = None
    title: str | None = None
    row_names: Mapping[str, str] = field(default_factory=dict)
    column_names: Mapping[str, str] = field(default_factory=dict)
    annot_fontsize: float | None = None
    tick_label_fontsize: float | None = None
    group_label_fontsize: float | None = None
    group_label_rotation_top: float = 0
    group_label_rotation_right: float = 0
    cbar_pad: float | None = None
    cbar_shrink: float | None = None
    cbar_fontsize: float | None = None
    metric_label: str = "corr"
    metric_colors: ColorScale = ColorScale("magma")


def heatmap_figure(table: OverlapTable, style: HeatmapStyle, ax: Axes | None = None) -> Figure:
    """Draw the matrix, the groups of its rows and columns, and a metric beside its rows.

    Args:
        table: What to draw.
        style: How.
        ax: Draw in these axes of a figure of the caller.

    Returns:
        A figure that pyplot does not know, or that of `ax`.

    Raises:
        ValueError: An unknown colormap, or a format that does not fit a number.
    """
    count = len(table.names)
    if ax is None:
        ax = new_figure(style.figsize or _size(table)).subplots()
    figure: Any = ax.figure
    cmap, norm = colormap(style.colors.cmap), style.colors.norm(table.matrix)
    image = ax.imshow(table.matrix, cmap=cmap, norm=norm, aspect="equal")
    annotate = count <= _ANNOTATED_UP_TO if style.annotate is None else style.annotate
    if annotate:
        backgrounds = np.asarray(cmap(norm(table.matrix)))
        for row, column in np.ndindex(count, count):
            value, background = float(table.matrix[row, column]), tuple(backgrounds[row, column])
            _write(ax, column, row, value, style.fmt, background, style.annot_fontsize)
    _label_ticks(ax, table, style)
    edge = count - 0.5
    if table.row_metric:
        edge = _draw_metric(ax, table, style)
    if table.groups:
        _draw_groups(ax, table, style, right=edge + 0.3)
    bar = figure.colorbar(
        image,
        ax=ax,
        shrink=style.cbar_shrink or 0.8,
        pad=0.03 if style.cbar_pad is None else style.cbar_pad,
        label=table.meaning,
    )
    if style.cbar_fontsize:
        bar.ax.tick_params(labelsize=style.cbar_fontsize)
        bar.ax.yaxis.label.set_fontsize(style.cbar_fontsize)
    if style.colors.scale == "log":
        _label_decades(bar)
    if style.title:
        # The titles of groups stand where a title of the axes would.
        figure.suptitle(style.title, fontsize=13)
    return figure


def _label_decades(bar: Colorbar) -> None:
    """Ticks at 1, 2 and 5 of each power of ten, as plain numbers: overlaps span little more than one."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator  # noqa: PLC0415 - optional

    bar.ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    bar.ax.yaxis.set_minor_locator(NullLocator())
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _size(table: OverlapTable) -> tuple[float, float]:
    side = min(max(2.6, 0.62 * len(table.names)), 16.0)
    names = 0.07 * max(len(shown(str(name), lines=1)) for name in table.names)
    extra = (0.7 if table.row_metric else 0.0) + (1.4 if table.groups else 0.0)
    return side + names + extra + 1.6, side + names + (0.4 if table.groups else 0.0) + 0.4


def _write(
    ax: Axes, x: float, y: float, value: float, fmt: str, background: tuple[float, ...], size: float | None
) -> None:
    text = format(value, fmt)
    ax.text(x, y, text, ha="center", va="center", color=text_color(background), fontsize=size or 9)


def _label_ticks(ax: Axes, table: OverlapTable, style: HeatmapStyle) -> None:
    places, size = range(len(table.names)), style.tick_label_fontsize or 9
    rows = [shown(str(style.row_names.get(name, name)), lines=1) for name in table.names]
    columns = [shown(str(style.column_names.get(name, name)), lines=1) for name in table.names]
    ax.set_yticks(places, rows, fontsize=size)
    longest = max(len(name) for name in columns)
    turn: dict[str, Any] = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if longest > 5 else {}
    ax.set_xticks(places, columns, fontsize=size, **turn)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)


def _draw_metric(ax: Axes, table: OverlapTable, style: HeatmapStyle) -> float:
    """A column of numbers right of the matrix, in its data coordinates; returns the right edge."""
    from matplotlib.patches import Rectangle  # noqa: PLC0415 - optional

    known = np.array([table.row_metric[name] for name in table.names if name in table.row_metric], dtype=np.float64)
    scale = style.metric_colors
    low = min(0.0, float(known.min())) if scale.vmin is None else scale.vmin
    high = max(1.0, float(known.max())) if scale.vmax is None else scale.vmax
    norm, cmap = ColorScale(vmin=low, vmax=high).norm(known), colormap(scale.cmap)
    left = len(table.names) - 0.5 + 0.25
    for row, name in enumerate(table.names):
        if name not in table.row_metric:
            continue
        value = float(table.row_metric[name])
        color = tuple(cmap(float(norm(np.array(value)))))
        ax.add_patch(Rectangle((left, row - 0.5), 1, 1, facecolor=color, linewidth=0, clip_on=False))
        _write(ax, left + 0.5, row, value, ".3g", color, style.annot_fontsize)
    size = style.tick_label_fontsize or 9
    ax.text(left + 0.5, len(table.names) - 0.4, shown(style.metric_label, 12), ha="center", va="top", fontsize=size)
    return left + 1.0


def _draw_groups(ax: Axes, table: OverlapTable, style: HeatmapStyle, *, right: float) -> None:
    """Lines between groups, and a bracket with the title of each above and right of the matrix."""
    end = len(table.names) - 0.5
    top, start, size = -0.75, -0.5, style.group_label_fontsize or 10
    line: dict[str, Any] = {"color": _BRACKET, "linewidth": 1.4, "clip_on": False}
    for title, members in table.groups.items():
        stop = start + len(members)
        middle, name = (start + stop) / 2, shown(title, 14)
        if start > 0:
            ax.plot([start, start], [-0.5, end], color="white", linewidth=2)
            ax.plot([-0.5, end], [start, start], color="white", linewidth=2)
        ax.plot([start + 0.1, stop - 0.1], [top, top], **line)
        ax.plot([right, right], [start + 0.1, stop - 0.1], **line)
        ax.text(
            middle,
            top - 0.12,
            name,
            ha="center",
            va="bottom",
            fontsize=size,
            rotation=style.group_label_rotation_top,
        )
        ax.text(
            right + 0.15,
            middle,
            name,
            ha="left",
            va="center",
            fontsize=size,
            rotation=style.group_label_rotation_right,
        )
        start = stop
    # Lines outside of the image would move its limits.
    ax.set_xlim(-0.5, end)
    ax.set_ylim(end, -0.5)
