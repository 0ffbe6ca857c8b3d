"""The plot of class probabilities and the language-modelling score (LMS) over the size of the rewrite."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gradiend.util import BALANCE, WEAKENED
from gradiend.util._keywords import nearest, nearest_first
from gradiend.visualizer._output import USUAL, FigureOptions, Run, checked_output, marked, plot_keywords
from gradiend.visualizer._style import (
    MARKERS,
    REFERENCE_COLOR,
    add_legend,
    cover_characters,
    distinct_colors,
    shown,
    signed,
    tidy,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

logger = logging.getLogger(__name__)

Grid = Mapping[Any, Mapping[str, Any]]

LIKELIHOOD = "likelihood"
LMS_RATIO = 0.99
"""The share of the base model's LMS that a candidate must keep, for results that do not say it."""

LMS_BELOW = 5.0
"""How far the LMS panel reaches below the limit at most, in per cent of the base model's LMS."""

LMS_MARGIN = 0.6
"""Free room in the LMS panel above and below the points, in per cent of the base model's LMS."""

BASE_STYLE = (0, (5, 3))
_LINE_STYLES = ("-", "--", "-.", ":")
_TWO_COLUMNS_FROM = 5
_LABEL_POINTS = 8.0
"""Size of the labels of steps."""


@plot_keywords
def plot_probability_shifts(
    trainer: Run | None = None, decoder_results: Mapping[str, Any] | None = None,
    plotting_data: Mapping[str, Any] | None = None, class_ids: Sequence[str] | None = None,
    target_class: str | Sequence[str] | None = None, increase_target_probabilities: bool = True,
    output: str | Path | None = None, show: bool = True, figsize: tuple[float, float] | None = None,
    return_fig_ax: bool = False,
) -> Any:  # fmt: skip
    """Plot P(class) on the texts of each class, and the LMS, over feature_factor × learning_rate.

    Arguments that are not described are those of `plot_training_convergence`.

    Args:
        trainer: A trainer, which gives the classes to draw.
        decoder_results: The result of evaluate_decoder, whose summaries mark the selected candidates.
        plotting_data: {"plotting_data": grid}; by default the grid of decoder_results.
        class_ids: Classes to draw; by default the classes of the trainer, or without a trainer all classes of the grid.
        target_class: Class or classes whose selected candidate is marked; by default every class with a candidate.
        increase_target_probabilities: Mark candidates that strengthen a class; False marks those that weaken it.
        output: The file to write; its extension is the format, png without an extension.

    Returns:
        `output`, unchanged.

    Raises:
        ValueError: There is no grid or no probability in it, there is no summary for target_class, the format is
            unknown, or there is neither `output` nor `show`.
        ImportError: matplotlib is not installed.
    """
    options = FigureOptions.of(locals())
    path = checked_output(output, show or return_fig_ax)
    if class_ids is None and trainer is not None:
        class_ids = trainer.target_classes
    curves = shift_curves(
        _grid(decoder_results, plotting_data), decoder_results or {}, class_ids=class_ids,
        target_classes=[target_class] if isinstance(target_class, str) else target_class,
        strengthen=increase_target_probabilities,
    )  # fmt: skip
    figure = shift_figure(curves, options)
    delivered = options.deliver(figure, path, figure.axes)
    return delivered if return_fig_ax else output


def _grid(decoder_results: Mapping[str, Any] | None, plotting_data: Mapping[str, Any] | None) -> Grid:
    name, holder, key = "plotting_data", plotting_data, "plotting_data"
    if holder is None:
        name, holder, key = "decoder_results", decoder_results, "grid"
    if holder is None:
        raise ValueError("There is nothing to plot: pass decoder_results (of evaluate_decoder) or plotting_data.")
    if not isinstance(holder.get(key), Mapping):
        raise ValueError(f"{name} must be a dict with the grid under {key!r}, got keys {list(holder)[:10]}.")
    grid: Grid = holder[key]
    return grid


# The grid as curves


@dataclass(frozen=True)
class _Rewrite:
    """The rewritten model θ + learning_rate · decoder(feature_factor)."""

    factor: float
    learning_rate: float
    lms: float | None
    """The score on neutral text: the LMS, or the likelihood score as a ratio to the base model's."""

    @property
    def step(self) -> float:
        """The signed position on the axis: feature_factor × learning_rate."""
        return self.factor * self.learning_rate


@dataclass(frozen=True)
class GridPoint(_Rewrite):
    """One model of the grid; the base model has step 0."""

    probabilities: Mapping[str, Mapping[str, float]]
    """{dataset class: {class: mean probability}}."""


@dataclass(frozen=True)
class Selected(_Rewrite):
    """The candidate that the evaluation selected for a class."""

    name: str
    strengthen: bool
    value: float | None


@dataclass(frozen=True)
class ShiftCurves:
    """The content of a figure of probability shifts."""

    base: GridPoint | None
    points: tuple[GridPoint, ...]
    classes: tuple[str, ...]
    """Classes whose probabilities are drawn."""
    datasets: tuple[str, ...]
    """Dataset classes; each has a panel."""
    selected: tuple[Selected, ...]
    score: str
    """Name of the score by which candidates were judged."""
    limit: float | None
    """The share of the base model's score that a candidate must keep; None if the choice asked for none."""

    def series(self, value: Callable[[GridPoint], float | None]) -> list[list[tuple[float, float]]]:
        """Return sorted (step, value) of the points of each |feature factor|, with the base model at 0."""
        base = [] if self.base is None else [self.base]
        series = []
        for magnitude in sorted({abs(point.factor) for point in self.points}) or [0.0]:
            points = [point for point in self.points if abs(point.factor) == magnitude]
            series.append(sorted((p.step, found) for p in [*points, *base] if (found := value(p)) is not None))
        return series

    @property
    def base_lms(self) -> float | None:
        """Language-modelling score of the base model."""
        return None if self.base is None else self.base.lms


def shift_curves(
    grid: Grid, results: Mapping[str, Any], *, class_ids: Sequence[str] | None = None,
    target_classes: Sequence[str] | None = None, strengthen: bool = True,
) -> ShiftCurves:  # fmt: skip
    """Read the curves from the grid and the summaries of a decoder evaluation.

    `grid` has 'base' and (feature_factor, learning_rate) → an entry with id, probs_by_dataset and lms; `results` has
    summaries by class (`<class>_weaken` where the class was made less likely). By default all classes of the grid are
    drawn, and the selected candidate of each that has one is marked; a missing class or summary raises ValueError.
    """
    # A likelihood policy scores each rewrite on another number of tokens, so that only ratios can be compared.
    by_ratio = any("scored_until" in (entry.get("lms") or {}) for entry in grid.values())
    base = _point(grid["base"], 0.0, 0.0, by_ratio) if "base" in grid else None
    points = []
    for key, entry in grid.items():
        # The goal of balance moves factor and step together, which has no place on this axis.
        if key == "base" or BALANCE in entry:
            continue
        identity = entry.get("id")
        factor, rate = (identity["feature_factor"], identity["learning_rate"]) if isinstance(identity, Mapping) else key
        points.append(_point(entry, float(factor), float(rate), by_ratio))
    moved = tuple(point for point in points if point.step != 0.0)
    if len(moved) < len(points):
        logger.info("%d grid points with step 0 are not drawn: there the base model stands.", len(points) - len(moved))

    everything = [*moved, *([base] if base is not None else [])]
    datasets = list(dict.fromkeys(name for point in everything for name in point.probabilities))
    classes = list(dict.fromkeys(name for point in everything for row in point.probabilities.values() for name in row))
    known = [*classes, *(name for name in datasets if name not in classes)]
    for name in class_ids or ():
        if known and name not in known:
            raise ValueError(f"The grid has no class {name!r}; it has {', '.join(nearest_first(name, known))}.")
    if class_ids is not None:
        datasets = [name for name in class_ids if name in datasets]
        classes = [name for name in class_ids if name in classes]
    if not datasets or not classes:
        wanted = "" if class_ids is None else f" for {list(class_ids)}"
        raise ValueError(
            f"The grid holds no probabilities{wanted}: its entries need probs_by_dataset, which "
            "evaluate_decoder(plot=True) fills in."
        )
    selected = _selected(results, classes, target_classes, strengthen)
    summaries = [one for one in results.values() if isinstance(one, Mapping) and ("why" in one or "reason" in one)]
    # Results of other tools do not say what the choice asked for; a share of 0 asks for nothing.
    limit = (summaries[0].get("least_share") or None) if summaries else LMS_RATIO
    score = LIKELIHOOD if by_ratio else "LMS"
    return ShiftCurves(base, moved, tuple(classes), tuple(datasets), selected, score, limit)


def _point(entry: Mapping[str, Any], factor: float, rate: float, by_ratio: bool) -> GridPoint:
    scores = entry.get("lms") or {}
    lms = scores.get("lms")
    if by_ratio:
        lms = scores["likelihood_ratio"]["value"] if "likelihood_ratio" in scores else None if factor else 1.0
    return GridPoint(factor, rate, None if lms is None else float(lms), entry.get("probs_by_dataset") or {})


def _selected(
    results: Mapping[str, Any], classes: Sequence[str], wanted: Sequence[str] | None, strengthen: bool
) -> tuple[Selected, ...]:
    suffix = "" if strengthen else WEAKENED
    chosen = []
    for name in classes if wanted is None else wanted:
        summary = results.get(f"{name}{suffix}")
        if summary is None:
            if wanted is None:
                continue
            names = [key for key, value in results.items() if isinstance(value, Mapping) and "learning_rate" in value]
            raise ValueError(
                f"decoder_results has no summary {name + suffix!r}, only {nearest_first(name, names)}; run "
                f"evaluate_decoder first.{nearest(name + suffix, names)}"
            )
        if summary["learning_rate"] is None:
            # The evaluation found no rewrite for this class: there is nothing to mark.
            continue
        factor, rate = float(summary["feature_factor"]), float(summary["learning_rate"])
        score = summary["likelihood_ratio"]["value"] if "scored_until" in summary else summary.get("lms")
        value = summary.get("value")
        if value is not None and not strengthen:
            # The result holds 1 − P(class), and the panels show P(class).
            value = 1 - value
        chosen.append(Selected(factor, rate, score, name, strengthen, value))
    return tuple(chosen)


# The figure


def shift_figure(curves: ShiftCurves, options: FigureOptions = USUAL) -> Figure:
    """Draw one panel for the LMS and one for the texts of each dataset class, above a common signed axis.

    Vertical lines are selected candidates, dashed lines the base model; points whose LMS is below the limit are hollow.
    """
    panels = 1 + len(curves.datasets)
    columns = 2 if panels >= _TWO_COLUMNS_FROM else 1
    rows = math.ceil(panels / columns)
    figure = options.figure((8.5 if columns == 1 else 13.0, 1.8 + 2.2 * rows))
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
        line: dict[str, Any] = {"color": colors[chosen.name], "linestyle": "-.", "linewidth": 1.4, "zorder": 1.5}
        marks = [ax.axvline(chosen.step, **line) for ax in axes]
        marks[0].set_label(_describe(chosen, curves.score))
        handles.append(marks[0])
    for ax in axes:
        _signed_axis(ax, curves)
        tidy(ax)
    cover_characters(figure)
    figure.draw_without_rendering()
    for ax in axes:
        _label_steps(ax, curves)
    for ax in axes[-columns:]:
        ax.set_xlabel(_axis_label(curves.selected))
    add_legend(axes[0], handles, outside="outside lower center", outside_ncol=2)
    return figure


def _draw_lms(ax: Axes, curves: ShiftCurves) -> list[Line2D]:
    """Draw the LMS in per cent of the base model's, with triangles at the floor for lower points, or the LMS itself."""
    ax.set_title(marked("Language modelling on neutral text"), loc="left", fontsize=10)
    if not curves.base_lms:
        _draw_series(ax, curves, lambda point: point.lms, color=REFERENCE_COLOR, label=curves.score, marker="o")
        ax.set_ylabel(curves.score)
        top = _highest(ax.lines)
        ax.set_ylim(0.0, 1.12 * top if top > 0 else 1.0)
        return []
    base, limit = curves.base_lms, None if curves.limit is None else 100 * curves.limit
    least = 100.0 if limit is None else limit

    def per_cent(point: GridPoint) -> float | None:
        return None if point.lms is None else 100 * point.lms / base

    _draw_series(ax, curves, per_cent, color=REFERENCE_COLOR, label=curves.score, marker="o")
    shares = [share for point in curves.points if (share := per_cent(point)) is not None]
    floor = max(least - LMS_BELOW, min([least, *shares]) - LMS_MARGIN)
    ax.set_ylim(floor, max([100.0, *shares]) + LMS_MARGIN)
    below = [point.step for point in curves.points if point.lms is not None and 100 * point.lms / base < floor]
    if below:
        ax.plot(below, [floor] * len(below), color=REFERENCE_COLOR, linestyle="none", marker="v", clip_on=False)
    ax.set_ylabel(f"{curves.score}, % of base")
    lines = [ax.axhline(100.0, color=REFERENCE_COLOR, linestyle=BASE_STYLE, linewidth=1.0, label="base model")]
    if limit is not None:
        label = f"{limit:g}% of the base model's {curves.score}\n(hollow points are below, triangles far below)"
        lines.append(ax.axhline(limit, color="#CC0000", linestyle=":", linewidth=1.3, label=label))
    return lines


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
    ax.set_title(marked(f"Texts of class {shown(dataset, width=48, lines=1)}"), loc="left", fontsize=10)
    ax.set_ylabel("probability")
    return handles


def _draw_series(
    ax: Axes, curves: ShiftCurves, value: Callable[[GridPoint], float | None], *, color: str, label: str, marker: str
) -> Line2D:
    """Draw a line for each |feature factor|, with filled points where the LMS is kept; return the first line."""
    dots: dict[str, Any] = {"color": color, "marker": marker, "markersize": 5}
    look: dict[str, Any] = {"linewidth": 1.5, "markerfacecolor": "white", "label": label, **dots}
    lines = []
    for points, style in zip(curves.series(value), itertools.cycle(_LINE_STYLES)):
        lines += ax.plot(*_columns(points), linestyle=style, **look)
    kept = [point for point in (*curves.points, curves.base) if point is not None and _keeps_lms(point, curves)]
    filled = [(point.step, found) for point in kept if (found := value(point)) is not None]
    ax.plot(*_columns(filled), linestyle="none", **dots)
    return lines[0]


def _columns(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [step for step, _ in points], [value for _, value in points]


def _keeps_lms(point: GridPoint, curves: ShiftCurves) -> bool:
    if point.lms is None or curves.base_lms is None or curves.limit is None:
        return True
    return point.lms >= curves.limit * curves.base_lms


def _highest(lines: Iterable[Line2D]) -> float:
    values = np.concatenate([np.zeros(1), *(np.asarray(line.get_ydata(), dtype=float) for line in lines)])
    return float(np.nanmax(values))


def _signed_axis(ax: Axes, curves: ShiftCurves) -> None:
    """Make the axis logarithmic in both directions, with the base model at 0 and the largest step at its ends."""
    steps = [point.step for point in curves.points] + [chosen.step for chosen in curves.selected if chosen.step]
    sizes = [abs(step) for step in steps] or [1.0]
    smallest, largest = min(sizes), max(sizes)
    ax.set_xscale("symlog", linthresh=smallest, linscale=1.0)
    margin = 1.3 * largest
    rest = 0.3 * smallest
    ax.set_xlim(-margin if min(steps, default=-1.0) < 0 else -rest, margin if max(steps, default=1.0) > 0 else rest)
    ax.set_xticks([], minor=True)


def _label_steps(ax: Axes, curves: ShiftCurves) -> None:
    """Put a tick at every step and at the base model, and leave out labels near the ends that would overlap others."""
    # Steps that differ by rounding only count as one step.
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


def _describe(chosen: Selected, score: str) -> str:
    goal = "strengthened" if chosen.strengthen else "weakened"
    known = {"value": chosen.value, score: chosen.lms}
    scores = [f"{name} {value:.3f}" for name, value in known.items() if value is not None]
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
