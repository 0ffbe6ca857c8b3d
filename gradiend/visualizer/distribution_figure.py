"""The drawing of encodings by group."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gradiend.visualizer.encoding_groups import EncodingGroup
from gradiend.visualizer.legend import LegendPlace, add_legend
from gradiend.visualizer.output import new_figure
from gradiend.visualizer.style import DEFAULT_CMAP, NEUTRAL_COLORS, distinct_colors, shown, signed, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

MAX_POINTS = 800
"""Points drawn for a group; more would be one blot and a large file."""

_MIN_SPREAD = 0.01
"""Standard deviation below which a density is a line, and only points and summary are drawn."""

_HALF_WIDTH = 0.32
_ROTATE_FROM = 7
_GOLDEN_RATIO = 0.6180339887498949

_MEDIAN: dict[str, Any] = {"color": "black", "markersize": 7, "linestyle": "none"}

_NEUTRAL_NAMES = {
    "neutral_training_masked": "neutral (training text)",
    "neutral_dataset": "neutral (corpus)",
}


@dataclass(frozen=True)
class FontSizes:
    """Points of the parts of the figure."""

    title: float = 13
    label: float = 9
    axis_label: float = 11
    legend: float = 9

    @classmethod
    def chosen(
        cls, title: float | None, label: float | None, axis_label: float | None, legend: float | None
    ) -> FontSizes:
        """The user's sizes, the defaults where there are none."""
        return cls(title or cls.title, label or cls.label, axis_label or cls.axis_label, legend or cls.legend)


@dataclass(frozen=True)
class Names:
    """Display names of classes, neutral types and groups."""

    chosen: Mapping[str, str]

    def of(self, name: str) -> str:
        """The display name of a class or a neutral type."""
        return self.chosen.get(name, _NEUTRAL_NAMES.get(name, name))

    def tick(self, group: EncodingGroup, *, rotated: bool) -> str:
        """The name below a group: three short lines, or one where it is rotated."""
        if group.key in self.chosen or group.target is None:
            text = shown(self.of(group.key), 44, 1) if rotated else shown(self.of(group.key), 16)
        elif rotated:
            text = f"{shown(self.of(group.source), 22, 1)} -> {shown(self.of(group.target), 22, 1)}"
        else:
            text = f"{shown(self.of(group.source), 18, 2)}\n-> {shown(self.of(group.target), 18, 2)}"
        size = f"n = {group.values.size:,}"
        if rotated:
            return f"{text} ({size})"
        return f"{text}\n{size}\nmean {signed(float(group.values.mean()), '.2f')}"

    def pair_tick(self, left: EncodingGroup, right: EncodingGroup, *, rotated: bool) -> str:
        """The name below a violin of two halves."""
        one, other = (shown(self.of(group.key), 24, 1) for group in (left, right))
        text = f"{one} | {other}" if rotated else f"{one}\n| {other}"
        if (left.source, left.target) == (right.target, right.source):
            one, other = (shown(self.of(group.source), 18, 1) for group in (left, right))
            text = f"{one} <-> {other}" if rotated else f"{one}\n<-> {other}"
        size = f"n = {left.values.size:,} | {right.values.size:,}"
        if rotated:
            return f"{text} ({size})"
        means = " | ".join(signed(float(group.values.mean()), ".2f") for group in (left, right))
        return f"{text}\n{size}\nmean {means}"

    def legend(self, name: str, groups: Sequence[EncodingGroup]) -> str:
        """The name of a colour, with the label of its examples where they all have the same."""
        labels = {group.label for group in groups}
        same = len(labels) == 1 and not groups[0].neutral and math.isfinite(groups[0].label)
        tail = f" ({signed(labels.pop())})" if same else ""
        return shown(self.of(name)) + tail


def distribution_figure(
    groups: Sequence[EncodingGroup],
    *,
    violins: Sequence[tuple[EncodingGroup, ...]] | None = None,
    names: Names | None = None,
    colors: Mapping[str, str] | Sequence[str] | None = None,
    cmap: str = DEFAULT_CMAP,
    title: str | None = None,
    figsize: tuple[float, float] | None = None,
    fonts: FontSizes | None = None,
    legend: LegendPlace | None = None,
) -> Figure:
    """Draw groups of encodings side by side, coloured by factual class.

    Args:
        groups: In the order of drawing.
        violins: The groups again, one or two (left and right half) a violin; by default each has its own.
        names: Display names.
        colors: Colours by factual class, neutral type or group key, or a list in the order of the legend.
        cmap: Colormap for classes without such a colour.
        title: Heading.
        figsize: Inches; by default as wide as the number of groups needs.
        fonts: Sizes.
        legend: Where the user wants the legend.

    Returns:
        A figure that pyplot does not know, with one collection of points a group.

    Raises:
        ValueError: `colors` is a list that is too short, or `cmap` is unknown.
    """
    names, fonts = names or Names({}), fonts or FontSizes()
    palette = _palette(groups, colors, cmap)
    # tanh encodings share one axis in all runs; another activation gets the range that it needs.
    scale = max(1.0, *(float(np.abs(group.values).max()) for group in groups))
    violins = [(group,) for group in groups] if violins is None else violins
    figure = new_figure(figsize or _size(violins))
    ax = figure.subplots()
    for position, violin in enumerate(violins):
        sides = (-1, 1) if len(violin) == 2 else (0,)
        for group, side in zip(violin, sides, strict=True):
            _draw(ax, position, group, palette[_color_name(group, palette)], scale, side)

    rotated = len(violins) >= _ROTATE_FROM
    ticks = [
        names.pair_tick(*violin, rotated=rotated) if len(violin) == 2 else names.tick(violin[0], rotated=rotated)
        for violin in violins
    ]
    turn: dict[str, Any] = {"rotation": 55, "ha": "right", "rotation_mode": "anchor"} if rotated else {}
    ax.set_xticks(range(len(violins)), ticks, fontsize=fonts.label, **turn)
    ax.tick_params(axis="x", length=0)
    ax.set_xlim(-0.6, len(violins) - 0.4)
    ax.set_ylabel("encoding", fontsize=fonts.axis_label)
    _frame(ax, scale)
    if title:
        figure.suptitle(title, fontsize=fonts.title)
    add_legend(ax, _legend_handles(ax, groups, names, palette), legend or LegendPlace(), fontsize=fonts.legend)
    return figure


def _size(violins: Sequence[tuple[EncodingGroup, ...]]) -> tuple[float, float]:
    if len(violins) < _ROTATE_FROM:
        return (4.0 + sum(1.5 if len(violin) == 1 else 2.1 for violin in violins), 4.8)
    return (min(6.0 + 0.55 * len(violins), 24.0), 6.4)


def _palette(
    groups: Sequence[EncodingGroup], colors: Mapping[str, str] | Sequence[str] | None, cmap: str
) -> dict[str, str]:
    """Colour by factual class or neutral type, and by group key where the user asked for that."""
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
    """A violin with its points, or its left (side −1) or right (+1) half."""
    values = _even_sample(group.values)
    density = _relative_density(values, scale)
    low, high = values[0], values[-1]
    left, right = (_HALF_WIDTH if side <= 0 else 0.0), (_HALF_WIDTH if side >= 0 else 0.0)
    if group.values.std() >= _MIN_SPREAD * scale:
        grid = np.linspace(low, high, 256)
        height = density(grid)
        ax.fill_betweenx(
            grid, position - left * height, position + right * height, color=color, alpha=0.25, linewidth=0
        )
        room = density(values)
    else:
        room = np.full(values.size, 0.7)
    # Multiples of the golden ratio cover the width evenly without a random seed; 0.85 keeps points inside.
    share = np.arange(values.size) * _GOLDEN_RATIO % 1.0
    jitter = 0.85 * (share * (left + right) - left) * room
    ax.scatter(
        position + jitter,
        values,
        s=11,
        color=color,
        alpha=0.6,
        linewidths=0,
        rasterized=True,
        label=group.key,
    )
    # Beside the points: on encodings that hardly differ, a bar across would hide them all.
    place = _HALF_WIDTH + 0.06
    ax.plot(
        [position + place if side > 0 else position - place],
        [np.median(group.values)],
        marker="<" if side > 0 else ">",
        **_MEDIAN,
    )


def _even_sample(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sorted values; of many, evenly spaced quantiles, the extremes included."""
    values = np.sort(values)
    if values.size <= MAX_POINTS:
        return values
    return values[np.linspace(0, values.size - 1, MAX_POINTS).round().astype(int)]


def _relative_density(
    values: NDArray[np.float64], scale: float
) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """Gaussian kernel density of `values`, 1 at its highest sample."""
    # Scott's bandwidth would smear two clusters at ±1 into each other, so it is capped.
    bandwidth = np.clip(values.std() * values.size**-0.2, 0.01 * scale, 0.08 * scale)

    def kernel(points: NDArray[np.float64]) -> NDArray[np.float64]:
        distance = (points[:, None] - values[None, :]) / bandwidth
        mean: NDArray[np.float64] = np.exp(-0.5 * distance**2).mean(axis=1)
        return mean

    highest = kernel(values).max()
    return lambda points: kernel(points) / highest


def _frame(ax: Axes, scale: float) -> None:
    tidy(ax)
    ax.axhline(0.0, color="#999999", linewidth=0.8, zorder=1)
    ax.set_ylim(-1.05 * scale, 1.05 * scale)


def _legend_handles(
    ax: Axes, groups: Sequence[EncodingGroup], names: Names, palette: Mapping[str, str]
) -> list[Line2D]:
    members: dict[str, list[EncodingGroup]] = {}
    for group in groups:
        members.setdefault(_color_name(group, palette), []).append(group)
    handles: list[Line2D] = []
    for name, of_name in members.items():
        label = names.legend(name, of_name)
        handles += ax.plot([], [], color=palette[name], marker="o", linestyle="none", label=label)
    return handles + ax.plot([], [], marker=">", **_MEDIAN, label="median")
