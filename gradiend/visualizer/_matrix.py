"""A matrix drawn as colours, with its names, numbers, groups, a column beside it and a colour bar."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np

from gradiend.util._keywords import one_of
from gradiend.visualizer._arrangement import Matrix
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
        if self.vmin is not None and self.vmax is not None and self.vmin >= self.vmax:
            raise ValueError(f"vmin must be below vmax; got {self.vmin} and {self.vmax}.")
        colormap(self.cmap)

    @property
    def exponent(self) -> float:
        """The exponent of a scale that is a power."""
        return 0.5 if self.scale == "sqrt" else self.gamma or 1.0

    def norm(self, matrix: Matrix) -> Normalize:
        """Make the scale over `matrix`, from 0 (log: its smallest positive value) to its largest value."""
        from matplotlib.colors import LogNorm, Normalize, PowerNorm  # noqa: PLC0415 - optional

        if self.signed:
            return self._signed_norm(matrix)
        largest = float(matrix[~np.isnan(matrix)].max()) if not np.isnan(matrix).all() else 1.0
        high = largest if self.vmax is None else self.vmax
        if self.scale == "log":
            low = float(np.nanmin(matrix, initial=high, where=matrix > 0)) if self.vmin is None else self.vmin
            # A similarity of nothing has no logarithm: it takes the lowest colour.
            return LogNorm(low if low < high else high / 10, high, clip=True)
        low = 0.0 if self.vmin is None else self.vmin
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


@dataclass(frozen=True)
class SideColumn:
    """A number of each row, beside it."""

    numbers: Mapping[str, float] = field(default_factory=dict)
    label: str = ""
    colors: ColorScale = field(default_factory=ColorScale)


@dataclass(frozen=True)
class MatrixStyle:
    """The look of a matrix; the figure chooses each value that is None."""

    colors: ColorScale
    annot: bool | str = "auto"
    row_labels: Mapping[str, str] = field(default_factory=dict)
    column_labels: Mapping[str, str] = field(default_factory=dict)
    annot_fontsize: float | None = None
    tick_label_fontsize: float | None = None
    group_label_fontsize: float | None = None
    group_label_rotation_top: float = 0
    group_label_rotation_right: float = 0
    cbar_pad: float | None = None
    cbar_fontsize: float | None = None
    cbar_shrink: float | None = None


@dataclass(frozen=True)
class DrawnMatrix:
    """What is drawn."""

    values: Matrix
    """NaN where nothing was measured."""
    rows: Sequence[str]
    columns: Sequence[str]
    texts: Sequence[Sequence[str]]
    """What is written into each cell."""
    meaning: str
    """What the colours stand for."""
    row_groups: Groups = field(default_factory=dict)
    column_groups: Groups = field(default_factory=dict)
    side: SideColumn = field(default_factory=SideColumn)

    def annotated(self, style: MatrixStyle) -> bool:
        """Whether the texts are written."""
        return self.values.size <= ANNOTATED_UP_TO if style.annot == "auto" else bool(style.annot)

    def size(self, style: MatrixStyle) -> tuple[float, float]:
        """Width and height in inches of a figure whose cells hold their texts."""
        row_names, column_names = _labels(self.rows, style.row_labels), _labels(self.columns, style.column_labels)
        longest = max(len(line) for row in self.texts for text in row for line in text.split("\n"))
        cell = max(0.62, 0.1 + 0.08 * (style.annot_fontsize or 9) / 9 * longest) if self.annotated(style) else 0.62
        width = min(max(2.6, cell * len(self.columns)), 16.0) + 0.07 * max(map(len, row_names))
        height = min(max(2.6, cell * len(self.rows)), 16.0) + 0.07 * max(map(len, column_names))
        with_groups = bool(self.row_groups or self.column_groups)
        return width + 0.7 * bool(self.side.numbers) + 1.4 * with_groups + 1.6, height + 0.4 * with_groups + 0.4


def draw_matrix(ax: Axes, drawn: DrawnMatrix, style: MatrixStyle) -> None:
    """Draw a matrix in axes, with everything around it."""
    values, figure = drawn.values, ax.figure
    cmap = colormap(style.colors.cmap).with_extremes(bad=NOT_MEASURED)
    image = ax.imshow(np.ma.masked_invalid(values), cmap=cmap, norm=style.colors.norm(values), aspect="equal")
    if drawn.annotated(style):
        backgrounds = image.to_rgba(np.ma.masked_invalid(values))
        for row, column in np.ndindex(*values.shape):
            background = backgrounds[row, column].tolist()
            write(ax, column, row, drawn.texts[row][column], background, style.annot_fontsize)
    rows, columns = _labels(drawn.rows, style.row_labels), _labels(drawn.columns, style.column_labels)
    _label_ticks(ax, rows, columns, style.tick_label_fontsize)
    edge = len(columns) - 0.5
    if drawn.side.numbers:
        _draw_side(ax, drawn.rows, edge, drawn.side, style.annot_fontsize)
        edge += 1.25
        label, size = shown(drawn.side.label, 12), style.tick_label_fontsize or 9
        ax.text(edge - 0.5, len(rows) - 0.4, label, ha="center", va="top", fontsize=size)
    if drawn.row_groups or drawn.column_groups:
        _draw_groups(ax, drawn, edge + 0.3, style)
    pad = 0.03 if style.cbar_pad is None else style.cbar_pad
    bar = figure.colorbar(image, ax=ax, shrink=style.cbar_shrink or 0.8, pad=pad, label=drawn.meaning)
    _label_bar(bar, style.cbar_fontsize, decades=style.colors.scale == "log" and not style.colors.signed)


def number_format(name: str, given: str | None, default: str) -> str:
    """Return the format of a number, or raise a ValueError that names the option."""
    try:
        format(0.5, default if given is None else given)
    except ValueError as error:
        raise ValueError(f"{name}={given!r} is no format of a number; try '.1f' or '.0f'.") from error
    return default if given is None else given


def write(ax: Axes, x: float, y: float, text: str, background: Sequence[float], size: float | None) -> None:
    """Write into a cell, in black or white."""
    ax.text(x, y, text, ha="center", va="center", color=text_color(background), fontsize=size or 9)


def _labels(names: Sequence[str], mapping: Mapping[str, str]) -> list[str]:
    return [shown(str(mapping.get(name, name)), lines=1) for name in names]


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


def _draw_side(ax: Axes, rows: Sequence[str], edge: float, side: SideColumn, size: float | None) -> None:
    """Draw a column of numbers, one unit wide, a quarter right of the matrix."""
    from matplotlib.patches import Rectangle  # noqa: PLC0415 - optional

    colors, numbers = side.colors, side.numbers
    low = min(0.0, *numbers.values()) if colors.vmin is None else colors.vmin
    high = max(1.0, *numbers.values()) if colors.vmax is None else colors.vmax
    norm, cmap = ColorScale(vmin=low, vmax=high).norm(np.zeros(1)), colormap(colors.cmap)
    left = edge + 0.25
    for name, value in numbers.items():
        row, color = list(rows).index(name), cmap(float(norm(value)))
        ax.add_patch(Rectangle((left, row - 0.5), 1, 1, facecolor=color, linewidth=0, clip_on=False))
        write(ax, left + 0.5, row, f"{value:.3g}", color, size)


def _draw_groups(ax: Axes, drawn: DrawnMatrix, right: float, style: MatrixStyle) -> None:
    """Draw lines between groups, and brackets with their titles: of columns above, of rows right of the matrix."""
    bottom, end = len(drawn.rows) - 0.5, len(drawn.columns) - 0.5
    top, size = -0.75, style.group_label_fontsize or 10
    line: dict[str, Any] = {"color": REFERENCE_COLOR, "linewidth": 1.4, "clip_on": False}
    place_x = place_y = -0.5
    for of_columns, of_rows in zip_longest(drawn.column_groups.items(), drawn.row_groups.items()):
        if of_columns is not None:
            start, place_x = place_x, place_x + len(of_columns[1])
            if start > 0:
                ax.plot([start, start], [-0.5, bottom], color="white", linewidth=2)
            ax.plot([start + 0.1, place_x - 0.1], [top, top], **line)
            turn: Any = {"rotation": style.group_label_rotation_top, "fontsize": size}
            ax.text((start + place_x) / 2, top - 0.12, shown(of_columns[0], 14), ha="center", va="bottom", **turn)
        if of_rows is not None:
            start, place_y = place_y, place_y + len(of_rows[1])
            if start > 0:
                ax.plot([-0.5, end], [start, start], color="white", linewidth=2)
            ax.plot([right, right], [start + 0.1, place_y - 0.1], **line)
            turn = {"rotation": style.group_label_rotation_right, "fontsize": size}
            ax.text(right + 0.15, (start + place_y) / 2, shown(of_rows[0], 14), ha="left", va="center", **turn)
    # Lines outside of the image would move its limits.
    ax.set_xlim(-0.5, end)
    ax.set_ylim(bottom, -0.5)
