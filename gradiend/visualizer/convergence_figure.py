"""The drawing of training curves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gradiend.visualizer.legend import LegendPlace, add_legend
from gradiend.visualizer.output import new_figure
from gradiend.visualizer.style import MARKERS, REFERENCE_COLOR, distinct_colors, shown, tidy
from gradiend.visualizer.training_curves import Curve, TrainingCurves

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

_MARKERS_A_LINE = 25


@dataclass(frozen=True)
class _Panel:
    label: str
    curves: tuple[Curve, ...]
    named: bool
    """The curves are told apart by name, so they belong in the legend."""


@dataclass(frozen=True)
class _Look:
    color: str
    marker: str


def convergence_figure(
    curves: TrainingCurves,
    *,
    correlation: bool = True,
    mean_by_class: bool = True,
    mean_by_feature_class: bool | None = None,
    best_step: bool = True,
    title: str | None = None,
    figsize: tuple[float, float] | None = None,
    legend: LegendPlace | None = None,
) -> Figure:
    """Draw one panel for each chosen quantity, above a common axis of steps.

    Args:
        curves: What was recorded.
        correlation: Draw the correlation.
        mean_by_class: Draw the mean encoding by label.
        mean_by_feature_class: Draw the mean encoding by factual class; None: if these outnumber the labels.
        best_step: Mark the step whose model was kept.
        title: Heading of the figure.
        figsize: Inches.
        legend: Where the user wants the legend.

    Returns:
        A figure that pyplot does not know.

    Raises:
        ValueError: Nothing is chosen, or what is chosen was never recorded.
    """
    if mean_by_feature_class is None:
        mean_by_feature_class = len(curves.by_feature_class) > len(curves.by_class)
    panels: list[_Panel] = []
    if correlation and curves.correlation is not None:
        panels.append(_Panel("correlation", (curves.correlation,), named=False))
    if mean_by_class and curves.by_class:
        panels.append(_Panel("mean encoding\nby label", curves.by_class, named=True))
    if mean_by_feature_class and curves.by_feature_class:
        panels.append(_Panel("mean encoding\nby class", curves.by_feature_class, named=True))
    if not panels:
        raise ValueError(
            "There is nothing to plot: the statistics hold no evaluated step for the chosen quantities. "
            "Train with an evaluation (eval_steps), and leave at least one plot_… option on."
        )

    figure = new_figure(figsize or (8.0, 0.8 + 2.3 * len(panels)))
    axes = list(figure.subplots(len(panels), 1, sharex=True, squeeze=False).flat)
    looks = _looks(panels)
    handles: dict[str, Line2D] = {}
    for ax, panel in zip(axes, panels, strict=True):
        for curve in panel.curves:
            line = _draw(ax, curve, looks[curve.name] if panel.named else _Look("black", "o"))
            if panel.named:
                handles.setdefault(curve.name, line)
        _frame(ax, panel)
    shown_handles = list(handles.values())
    if best_step and curves.best_step is not None:
        shown_handles.append(_mark_best(axes, curves.best_step, curves.best_correlation))
    axes[-1].set_xlabel("training step")
    axes[-1].locator_params(axis="x", integer=True)
    steps = {step for panel in panels for curve in panel.curves for step in curve.steps}
    if len(steps) == 1:
        axes[-1].set_xlim(min(steps) - 1, max(steps) + 1)
    if title:
        figure.suptitle(title, fontsize=13)
    add_legend(axes[0], shown_handles, legend or LegendPlace())
    return figure


def _looks(panels: Sequence[_Panel]) -> Mapping[str, _Look]:
    """One colour and marker a name, the same in all panels."""
    names = list(dict.fromkeys(curve.name for panel in panels if panel.named for curve in panel.curves))
    return {
        name: _Look(color, MARKERS[i % len(MARKERS)])
        for i, (name, color) in enumerate(zip(names, distinct_colors(len(names)), strict=True))
    }


def _draw(ax: Axes, curve: Curve, look: _Look) -> Line2D:
    (line,) = ax.plot(
        curve.steps,
        curve.values,
        color=look.color,
        marker=look.marker,
        markersize=4,
        markevery=max(1, len(curve.steps) // _MARKERS_A_LINE),
        linewidth=1.8,
        label=shown(curve.name),
    )
    return line


def _frame(ax: Axes, panel: _Panel) -> None:
    values = [value for curve in panel.curves for value in curve.values if math.isfinite(value)]
    ax.set_ylabel(panel.label)
    tidy(ax)
    ax.axhline(0.0, color="#999999", linewidth=0.8, zorder=1)
    # Correlations and tanh encodings share one scale in all runs; another activation gets its own.
    if all(abs(value) <= 1.0 for value in values):
        low = -1.0 if panel.named or min(values, default=0.0) < 0 else 0.0
        ax.set_ylim(low - 0.05, 1.05)
        ax.set_yticks([tick for tick in (-1.0, -0.5, 0.0, 0.5, 1.0) if tick >= low])


def _mark_best(axes: Sequence[Axes], step: float, correlation: float | None) -> Line2D:
    lines = [ax.axvline(step, color=REFERENCE_COLOR, linestyle="--", linewidth=1.2) for ax in axes]
    label = f"best step {step:g}"
    lines[0].set_label(label if correlation is None else f"{label}\n(correlation {correlation:.3f})")
    return lines[0]
