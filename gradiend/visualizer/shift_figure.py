"""The drawing of probability shifts."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from gradiend.visualizer.legend import LegendPlace, add_legend
from gradiend.visualizer.output import new_figure
from gradiend.visualizer.shift_curves import GridPoint, Selected, ShiftCurves
from gradiend.visualizer.style import MARKERS, REFERENCE_COLOR, distinct_colors, shown, signed, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

LMS_RATIO = 0.99
"""Share of the base model's LMS below which the default policy selects no candidate."""

LMS_FLOOR = 94.0
"""The panel of the LMS never begins lower, in per cent of the base model's: it has to show the limit."""

LMS_MARGIN = 0.6
"""Per cent that are left free above and below."""

BASE_STYLE = (0, (5, 3))
_LINE_STYLES = ("-", "--", "-.", ":")
_TWO_COLUMNS_FROM = 5
_LABEL_POINTS = 8.0
"""Size of the labels of steps."""


def shift_figure(curves: ShiftCurves, *, figsize: tuple[float, float] | None = None) -> Figure:
    """Draw one panel for the LMS and one for the texts of each dataset class, above a common signed axis.

    Args:
        curves: What the grid holds.
        figsize: Inches.

    Returns:
        A figure that pyplot does not know. Vertical lines are selected candidates, dashed ones the base
        model; points whose LMS is below 99 % of the base model's are hollow.
    """
    panels = 1 + len(curves.datasets)
    columns = 2 if panels >= _TWO_COLUMNS_FROM else 1
    rows = math.ceil(panels / columns)
    figure = new_figure(figsize or (8.5 if columns == 1 else 13.0, 1.8 + 2.2 * rows))
    grid = figure.subplots(rows, columns, sharex=True, squeeze=False).ravel()
    axes = list(grid[:panels])
    for unused in grid[panels:]:
        unused.remove()
        axes[-columns].tick_params(labelbottom=True)
    names = dict.fromkeys([*curves.classes, *(chosen.name for chosen in curves.selected)])
    colors = dict(zip(names, distinct_colors(len(names)), strict=True))

    for ax, dataset in zip(axes[1:], curves.datasets, strict=True):
        handles = _draw_dataset(ax, curves, dataset, colors)
    top = max(_highest(ax.lines) for ax in axes[1:])
    for ax in axes[1:]:
        ax.set_ylim(0.0, min(1.02, 1.12 * top) if top > 0 else 1.0)
    handles += _draw_lms(axes[0], curves)
    for chosen in curves.selected:
        marks = [
            ax.axvline(chosen.step, color=colors[chosen.name], linestyle="-.", linewidth=1.4, zorder=1.5) for ax in axes
        ]
        marks[0].set_label(_describe(chosen))
        handles.append(marks[0])
    for ax in axes:
        _signed_axis(ax, curves)
        tidy(ax)
    figure.draw_without_rendering()
    for ax in axes:
        _label_steps(ax, curves)
    for ax in axes[-columns:]:
        ax.set_xlabel(_axis_label(curves.selected))
    add_legend(axes[0], handles, LegendPlace(), outside="outside lower center", outside_ncol=2)
    return figure


def _draw_lms(ax: Axes, curves: ShiftCurves) -> list[Line2D]:
    """The LMS as per cent of the base model's, in a range in which the limit can be seen; lower points lie on its floor
    as triangles. Without a base model: the LMS itself.
    """
    ax.set_title("Language modelling on neutral text", loc="left", fontsize=10)
    if not curves.base_lms:
        _draw_series(ax, curves, lambda point: point.lms, color=REFERENCE_COLOR, label="LMS", marker="o")
        ax.set_ylabel("LMS")
        top = _highest(ax.lines)
        ax.set_ylim(0.0, 1.12 * top if top > 0 else 1.0)
        return []
    base, limit = curves.base_lms, 100 * LMS_RATIO

    def per_cent(point: GridPoint) -> float | None:
        return None if point.lms is None else 100 * point.lms / base

    _draw_series(ax, curves, per_cent, color=REFERENCE_COLOR, label="LMS", marker="o")
    shares = [share for point in curves.points if (share := per_cent(point)) is not None]
    floor = max(LMS_FLOOR, min([limit, *shares]) - LMS_MARGIN)
    ax.set_ylim(floor, max([100.0, *shares]) + LMS_MARGIN)
    below = [point.step for point in curves.points if point.lms is not None and 100 * point.lms / base < floor]
    if below:
        ax.plot(below, [floor] * len(below), color=REFERENCE_COLOR, linestyle="none", marker="v", clip_on=False)
    ax.set_ylabel("LMS, % of base")
    return [
        ax.axhline(100.0, color=REFERENCE_COLOR, linestyle=BASE_STYLE, linewidth=1.0, label="base model"),
        ax.axhline(
            limit,
            color="#CC0000",
            linestyle=":",
            linewidth=1.3,
            label=f"{LMS_RATIO:.0%} of the base model's LMS\n(hollow points are below, triangles far below)",
        ),
    ]


def _draw_dataset(ax: Axes, curves: ShiftCurves, dataset: str, colors: Mapping[str, str]) -> list[Line2D]:
    handles = []
    for i, name in enumerate(curves.classes):

        def probability(point: GridPoint, name: str = name) -> float | None:
            return point.probabilities.get(dataset, {}).get(name)

        label, marker = f"P({shown(name, lines=1)})", MARKERS[i % len(MARKERS)]
        handles.append(_draw_series(ax, curves, probability, color=colors[name], label=label, marker=marker))
        base = None if curves.base is None else probability(curves.base)
        if base is not None:
            ax.axhline(base, color=colors[name], linestyle=BASE_STYLE, linewidth=0.9, alpha=0.8)
    ax.set_title(f"Texts of class {shown(dataset, width=48, lines=1)}", loc="left", fontsize=10)
    ax.set_ylabel("probability")
    return handles


def _draw_series(
    ax: Axes,
    curves: ShiftCurves,
    value: Callable[[GridPoint], float | None],
    *,
    color: str,
    label: str,
    marker: str,
) -> Line2D:
    """One line for each |feature factor|, filled points where the LMS is kept; returns the first line."""
    lines = []
    for i, (steps, values) in enumerate(curves.series(value).values()):
        style = _LINE_STYLES[i % len(_LINE_STYLES)]
        lines += ax.plot(
            steps,
            values,
            color=color,
            linestyle=style,
            linewidth=1.5,
            marker=marker,
            markersize=5,
            markerfacecolor="white",
            label=label,
        )
    kept = [point for point in (*curves.points, curves.base) if point is not None and _keeps_lms(point, curves)]
    filled = [(point.step, found) for point in kept if (found := value(point)) is not None]
    ax.plot(
        [step for step, _ in filled],
        [found for _, found in filled],
        color=color,
        linestyle="none",
        marker=marker,
        markersize=5,
    )
    return lines[0]


def _keeps_lms(point: GridPoint, curves: ShiftCurves) -> bool:
    return point.lms is None or curves.base_lms is None or point.lms >= LMS_RATIO * curves.base_lms


def _highest(lines: Iterable[Line2D]) -> float:
    values = np.concatenate([np.zeros(1), *(np.asarray(line.get_ydata(), dtype=float) for line in lines)])
    return float(np.nanmax(values))


def _signed_axis(ax: Axes, curves: ShiftCurves) -> None:
    """A logarithmic axis in both directions, with the base model at 0 and the largest step at its ends."""
    steps = [point.step for point in curves.points] + [chosen.step for chosen in curves.selected if chosen.step]
    sizes = [abs(step) for step in steps] or [1.0]
    smallest, largest = min(sizes), max(sizes)
    ax.set_xscale("symlog", linthresh=smallest, linscale=1.0)
    margin = 1.3 * largest
    rest = 0.3 * smallest
    ax.set_xlim(-margin if min(steps, default=-1.0) < 0 else -rest, margin if max(steps, default=1.0) > 0 else rest)
    ax.set_xticks([], minor=True)


def _label_steps(ax: Axes, curves: ShiftCurves) -> None:
    """A tick for every measured step and for the base model, with labels that stand up where there are many.

    Of labels that would lie on each other the one nearer to the ends of the axis is left out; its tick stays.
    """
    # Steps that differ by rounding only are one.
    steps = sorted({float(f"{step:.6g}") for step in (0.0, *(point.step for point in curves.points))}, key=abs)
    places = {step: ax.transData.transform((step, 0.0))[0] * 72.0 / ax.figure.dpi for step in steps}
    upright = min((abs(places[a] - places[b]) for a, b in itertools.combinations(steps, 2)), default=99.0) < 34.0
    least = _LABEL_POINTS if upright else 0.0
    labelled: list[float] = []
    for step in steps:
        if all(abs(places[step] - places[other]) >= least for other in labelled):
            labelled.append(step)
    names = {step: f"{step:.3g}".replace("-", "−") if step else "base" for step in labelled}
    ax.set_xticks(steps, [names.get(step, "") for step in steps], fontsize=_LABEL_POINTS, rotation=90 * upright)


def _describe(chosen: Selected) -> str:
    goal = "strengthened" if chosen.strengthen else "weakened"
    scores = [
        f"{name} {value:.3f}" for name, value in (("value", chosen.value), ("LMS", chosen.lms)) if value is not None
    ]
    setting = f"factor {signed(chosen.factor)}, lr {chosen.learning_rate:.3g}"
    tail = f"\n({', '.join(scores)})" if scores else ""
    return f"selected, {shown(chosen.name, lines=1)} {goal}: {setting}{tail}"


def _axis_label(selected: Sequence[Selected]) -> str:
    label = "feature factor × learning rate"
    if not 1 <= len(selected) <= 2:
        return label
    left = [shown(chosen.name, lines=1) for chosen in selected if chosen.step < 0]
    right = [shown(chosen.name, lines=1) for chosen in selected if chosen.step > 0]
    if len(left) > 1 or len(right) > 1:
        return label
    goal = "strengthens" if selected[0].strengthen else "weakens"
    ends = [f"← {goal} {name}" for name in left] + [f"{goal} {name} →" for name in right]
    return f"{label}\n{'          '.join(ends)}"
