"""A matrix drawn as colours, with its names, numbers, groups, a column beside it and a colour bar."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gradiend.util._keywords import one_of
from gradiend.visualizer._arrangement import Matrix
from gradiend.visualizer._output import (
    PlotOptions,
    deliver,
    new_figure,
    require_destination,
    require_matplotlib,
    with_image_suffix,
)
from gradiend.visualizer._style import REFERENCE_COLOR, colormap, shown, text_color

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colorbar import Colorbar
    from matplotlib.colors import Normalize

SCALES = ("linear", "log", "sqrt", "power")
ANNOTATED_UP_TO = 15 * 15
"""The most cells in which numbers are written unless they are asked for."""
NOT_MEASURED = "#EEEEEE"
"""The colour of a cell without a number."""

Groups = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class ColorScale:
    """The colours of numbers."""

    cmap: str = "viridis"
    vmin: float | None = None
    vmax: float | None = None
    scale: str = "linear"
    """linear, log, sqrt, or power with the exponent `gamma`; of signed numbers, that of their absolute value."""
    gamma: float | None = None
    signed: bool = False
    """Whether 0 is in the middle, so that the lowest value has the opposite of the highest."""

    def __post_init__(self) -> None:
        one_of("scale", self.scale, SCALES)
        if self.scale == "power" and (self.gamma is None or self.gamma <= 0):
            raise ValueError(f"scale='power' needs scale_gamma above 0, for instance 0.5; got {self.gamma}.")
        if self.scale == "log" and not self.signed and self.vmin is not None and self.vmin <= 0:
            raise ValueError(f"scale='log' needs vmin above 0; got {self.vmin}.")
        if self.vmax is not None and self.vmax <= 0 and self.vmin is None and not self.signed:
            raise ValueError(f"vmax must be above 0 where no number is negative; got {self.vmax}.")
        if self.vmin is not None and self.vmax is not None and self.vmin >= self.vmax:
            raise ValueError(f"vmin must be below vmax; got {self.vmin} and {self.vmax}.")
        colormap(self.cmap)

    @property
    def exponent(self) -> float:
        """The exponent of a scale that is a power."""
        return 0.5 if self.scale == "sqrt" else self.gamma or 1.0

    def norm(self, matrix: Matrix) -> Normalize:
        """Make the scale over `matrix`, by default from 0 (log: its smallest positive value) to its largest value."""
        from matplotlib.colors import LogNorm, Normalize, PowerNorm  # noqa: PLC0415 - optional

        if self.signed:
            return self._signed_norm(matrix)
        known = matrix[~np.isnan(matrix)]
        high = float(known.max(initial=0.0)) or 1.0 if self.vmax is None else self.vmax
        low = self.vmin
        if low is None:
            low = float(known.min(initial=high, where=known > 0)) if self.scale == "log" else 0.0
        if low >= high:
            # All numbers are the same, or lie beyond the one limit that is given: the other end is a decade away.
            low, high = (high / 10, high) if self.vmin is None else (low, 10 * low)
        if self.scale == "log":
            # A similarity of 0 has no logarithm: `clip` gives it the lowest colour.
            return LogNorm(low, high, clip=True)
        if self.scale == "linear":
            return Normalize(low, high)
        return PowerNorm(self.exponent, low, high)

    def _signed_norm(self, matrix: Matrix) -> Normalize:
        from matplotlib.colors import FuncNorm, Normalize, SymLogNorm  # noqa: PLC0415 - optional

        sizes = np.abs(matrix[~np.isnan(matrix)])
        largest = float(sizes.max(initial=0.0)) or 1.0
        limit = max((abs(one) for one in (self.vmin, self.vmax) if one), default=largest)
        low = -limit if self.vmin is None else self.vmin
        high = limit if self.vmax is None else self.vmax
        if self.scale == "linear":
            return Normalize(low, high)
        if self.scale == "log":
            return SymLogNorm(float(sizes[sizes > 0].min(initial=largest)), vmin=low, vmax=high, clip=True)
        power = self.exponent
        return FuncNorm(
            (
                lambda values: np.sign(values) * np.abs(values) ** power,
                lambda values: np.sign(values) * np.abs(values) ** (1 / power),
            ),
            low, high,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class HeatmapOptions(PlotOptions):
    """The arguments that all heatmaps have, by their public names; `plot_comparison_heatmap` describes them."""

    annot: bool | str
    cmap: str
    vmin: float | None
    vmax: float | None
    scale: str
    scale_gamma: float | None
    return_data: bool
    ax: Axes | None
    percentages: bool
    annot_fontsize: float | None
    tick_label_fontsize: float | None
    group_label_fontsize: float | None
    group_label_rotation_top: float
    group_label_rotation_right: float
    cbar_pad: float | None
    cbar_fontsize: float | None
    cbar_shrink: float | None
    row_metric: Mapping[Any, float] | None
    row_metric_label: str | None
    row_metric_cmap: str
    row_metric_vmin: float | None
    row_metric_vmax: float | None
    row_label_mapping: Mapping[Any, str] | None
    column_label_mapping: Mapping[Any, str] | None

    def __post_init__(self) -> None:
        require_matplotlib()
        ColorScale(self.row_metric_cmap, self.row_metric_vmin, self.row_metric_vmax, signed=True)

    def colors(self, *, signed: bool = False) -> ColorScale:
        """The colours of the cells."""
        return ColorScale(self.cmap, self.vmin, self.vmax, self.scale, self.scale_gamma, signed)

    def path(self, output: str | Path | None, ways: str = "output_path", *, also: bool = False) -> Path | None:
        """The file; ValueError if nothing comes of the plot: no data, no drawing, and `also` nothing else."""
        path = with_image_suffix(output)
        useful = self.show or self.ax is not None or self.return_fig_ax or self.return_data or also
        require_destination(path, useful, ways)
        return path

    def number_format(self, name: str, given: str | None, *, counts: bool) -> str:
        """The format of the numbers in the cells; ValueError, with the name of the option, if it is none."""
        if given is None:
            return ".0f" if self.percentages or counts else ".2f"
        try:
            format(0.5, given)
        except ValueError as error:
            raise ValueError(f"{name}={given!r} is no format of a number; try '.1f' or '.0f'.") from error
        return given


@dataclass(frozen=True)
class DrawnMatrix:
    """A matrix with its names, texts, colours and groups, as a heatmap draws it."""

    values: Matrix
    """NaN where nothing was measured."""
    rows: Sequence[str]
    columns: Sequence[str]
    texts: Sequence[Sequence[str]]
    """The text of each cell."""
    meaning: str
    """The text of the colour bar."""
    colors: ColorScale
    row_groups: Groups
    column_groups: Groups
    options: HeatmapOptions

    @property
    def row_names(self) -> list[str]:
        """The rows by their display names."""
        return _labels(self.rows, self.options.row_label_mapping)

    @property
    def column_names(self) -> list[str]:
        """The columns by their display names."""
        return _labels(self.columns, self.options.column_label_mapping)

    @property
    def metric(self) -> dict[str, float]:
        """The numbers beside the rows."""
        given = by_text(self.options.row_metric)
        return {name: float(one) for name, one in given.items() if name in self.rows and one is not None}

    @property
    def annotated(self) -> bool:
        """Whether the texts are written."""
        annot = self.options.annot
        return self.values.size <= ANNOTATED_UP_TO if annot == "auto" else bool(annot)

    @property
    def size(self) -> tuple[float, float]:
        """Width and height in inches of a figure whose cells hold their texts."""
        longest = max(len(line) for row in self.texts for text in row for line in text.split("\n"))
        cell = max(0.62, 0.1 + 0.08 * (self.options.annot_fontsize or 9) / 9 * longest) if self.annotated else 0.62
        width = min(max(2.6, cell * len(self.columns)), 16.0) + 0.07 * max(map(len, self.row_names))
        height = min(max(2.6, cell * len(self.rows)), 16.0) + 0.07 * max(map(len, self.column_names))
        with_groups = bool(self.row_groups or self.column_groups)
        return width + 0.7 * bool(self.metric) + 1.4 * with_groups + 1.6, height + 0.4 * with_groups + 0.4

    def draw(self, title: str) -> Axes:
        """Draw the matrix in the caller's axes, or in those of a new figure; `title` is the default title."""
        ax = self.options.ax or new_figure(self.options.figsize or self.size).subplots()
        draw_matrix(ax, self)
        if head := self.options.heading(title):
            # The titles of groups stand where a title of the axes would.
            ax.figure.suptitle(head, fontsize=13)
        return ax

    def deliver(self, ax: Axes, path: Path | None, data: Any) -> Any:
        """Save and show the figure; return what the plot returns, with the data of the figure."""
        figure: Any = ax.figure
        deliver(figure, path, show=self.options.show and self.options.ax is None)
        data = data if self.options.return_data else {}
        return (data, figure, ax) if self.options.return_fig_ax else data


def by_text(given: Mapping[Any, Any] | None) -> dict[str, Any]:
    """A mapping of names, which may be numbers such as seeds, by the names as texts."""
    return {str(name): value for name, value in (given or {}).items()}


def draw_matrix(ax: Axes, drawn: DrawnMatrix) -> None:
    """Draw a matrix in axes, with everything around it."""
    values, options, colors = drawn.values, drawn.options, drawn.colors
    cmap = colormap(colors.cmap).with_extremes(bad=NOT_MEASURED)
    image = ax.imshow(np.ma.masked_invalid(values), cmap=cmap, norm=colors.norm(values), aspect="equal")
    if drawn.annotated:
        backgrounds = image.to_rgba(np.ma.masked_invalid(values))
        for row, column in np.ndindex(*values.shape):
            background = backgrounds[row, column].tolist()
            write(ax, column, row, drawn.texts[row][column], background, options.annot_fontsize)
    _label_ticks(ax, drawn.row_names, drawn.column_names, options.tick_label_fontsize)
    edge = len(drawn.columns) - 0.5
    if drawn.metric:
        _draw_side(ax, drawn, edge)
        edge += 1.25
        label, size = shown(options.row_metric_label or "", 12), options.tick_label_fontsize or 9
        ax.text(edge - 0.5, len(drawn.rows) - 0.4, label, ha="center", va="top", fontsize=size)
    if drawn.row_groups or drawn.column_groups:
        _draw_groups(ax, drawn, edge + 0.3)
    pad = 0.03 if options.cbar_pad is None else options.cbar_pad
    bar = ax.figure.colorbar(image, ax=ax, shrink=options.cbar_shrink or 0.8, pad=pad, label=drawn.meaning)
    _label_bar(bar, options.cbar_fontsize, decades=colors.scale == "log" and not colors.signed)


def write(ax: Axes, x: float, y: float, text: str, background: Sequence[float], size: float | None) -> None:
    """Write into a cell, in black or white."""
    ax.text(x, y, text, ha="center", va="center", color=text_color(background), fontsize=size or 9)


def _labels(names: Sequence[str], mapping: Mapping[Any, str] | None) -> list[str]:
    chosen = by_text(mapping)
    return [shown(str(chosen.get(name, name)), lines=1) for name in names]


def _label_ticks(ax: Axes, rows: Sequence[str], columns: Sequence[str], size: float | None) -> None:
    ax.set_yticks(range(len(rows)), rows, fontsize=size or 9)
    long = max(map(len, columns)) > 5
    turn: dict[str, Any] = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if long else {}
    ax.set_xticks(range(len(columns)), columns, fontsize=size or 9, **turn)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)


def _label_bar(bar: Colorbar, size: float | None, *, decades: bool) -> None:
    """Set the size of the text and, for a logarithmic scale, ticks at 1, 2 and 5 of each power of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator  # noqa: PLC0415 - optional

    if size:
        bar.ax.tick_params(labelsize=size)
        bar.ax.yaxis.label.set_fontsize(size)
    if not decades:
        return
    bar.ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    bar.ax.yaxis.set_minor_locator(NullLocator())
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _draw_side(ax: Axes, drawn: DrawnMatrix, edge: float) -> None:
    """Draw a column of numbers, one unit wide, a quarter right of the matrix."""
    from matplotlib.patches import Rectangle  # noqa: PLC0415 - optional

    options, numbers = drawn.options, drawn.metric
    low = min(0.0, *numbers.values()) if options.row_metric_vmin is None else options.row_metric_vmin
    high = max(1.0, *numbers.values()) if options.row_metric_vmax is None else options.row_metric_vmax
    norm, cmap = ColorScale(vmin=low, vmax=high).norm(np.zeros(1)), colormap(options.row_metric_cmap)
    left = edge + 0.25
    for name, value in numbers.items():
        row, color = list(drawn.rows).index(name), cmap(float(norm(value)))
        ax.add_patch(Rectangle((left, row - 0.5), 1, 1, facecolor=color, linewidth=0, clip_on=False))
        write(ax, left + 0.5, row, f"{value:.3g}", color, options.annot_fontsize)


def _draw_groups(ax: Axes, drawn: DrawnMatrix, right: float) -> None:
    """Draw lines between groups, and brackets with their titles: of columns above, of rows right of the matrix."""
    bottom, end = len(drawn.rows) - 0.5, len(drawn.columns) - 0.5
    options = drawn.options
    top, size = -0.75, options.group_label_fontsize or 10
    line: dict[str, Any] = {"color": REFERENCE_COLOR, "linewidth": 1.4, "clip_on": False}
    place_x = place_y = -0.5
    for of_columns, of_rows in zip_longest(drawn.column_groups.items(), drawn.row_groups.items()):
        if of_columns is not None:
            start, place_x = place_x, place_x + len(of_columns[1])
            if start > 0:
                ax.plot([start, start], [-0.5, bottom], color="white", linewidth=2)
            ax.plot([start + 0.1, place_x - 0.1], [top, top], **line)
            turn: Any = {"rotation": options.group_label_rotation_top, "fontsize": size}
            ax.text((start + place_x) / 2, top - 0.12, shown(of_columns[0], 14), ha="center", va="bottom", **turn)
        if of_rows is not None:
            start, place_y = place_y, place_y + len(of_rows[1])
            if start > 0:
                ax.plot([-0.5, end], [start, start], color="white", linewidth=2)
            ax.plot([right, right], [start + 0.1, place_y - 0.1], **line)
            turn = {"rotation": options.group_label_rotation_right, "fontsize": size}
            ax.text(right + 0.15, (start + place_y) / 2, shown(of_rows[0], 14), ha="left", va="center", **turn)
    # Lines outside of the image would move its limits.
    ax.set_xlim(-0.5, end)
    ax.set_ylim(bottom, -0.5)
