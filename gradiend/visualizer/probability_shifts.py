"""How class probabilities and the language-modelling score move with the size of the rewrite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from gradiend.visualizer.keywords import plot_keywords
from gradiend.visualizer.output import deliver, format_of, require_destination
from gradiend.visualizer.shift_curves import Grid, shift_curves
from gradiend.visualizer.shift_figure import shift_figure


class ClassedRun(Protocol):
    """What the plot asks of a trainer."""

    @property
    def target_classes(self) -> Sequence[str] | None:
        """The classes to draw."""


@plot_keywords
def plot_probability_shifts(
    trainer: ClassedRun | None = None,
    decoder_results: Mapping[str, Any] | None = None,
    plotting_data: Mapping[str, Any] | None = None,
    class_ids: Sequence[str] | None = None,
    target_class: str | Sequence[str] | None = None,
    increase_target_probabilities: bool = True,
    output: str | Path | None = None,
    show: bool = True,
    figsize: tuple[float, float] | None = None,
    return_fig_ax: bool = False,
) -> Any:
    """Plot P(class) on the texts of each class, and the LMS, over feature_factor × learning_rate.

    Args:
        trainer: Gives the classes to draw where class_ids does not.
        decoder_results: What evaluate_decoder returned: its summaries mark the selected candidates.
        plotting_data: {"plotting_data": grid}; by default the grid of decoder_results.
        class_ids: Classes to draw; without a trainer all of the grid.
        target_class: Class or classes whose selected candidate is marked; by default all that have one.
        increase_target_probabilities: Mark what strengthens a class, otherwise what weakens it.
        output: File; its extension is the format, png without one.
        show: Show the figure.
        figsize: Inches.
        return_fig_ax: Return (figure, list of axes).

    Returns:
        `output`, unchanged.

    Raises:
        ValueError: No grid, no probabilities in it, no summary for target_class, an unknown format, or
            neither `output` nor `show`.
        ImportError: matplotlib is not installed.
    """
    path = None if output is None else Path(output)
    require_destination(path, show or return_fig_ax, "output")
    img_format = None if path is None else format_of(path)
    if class_ids is None and trainer is not None:
        class_ids = trainer.target_classes
    curves = shift_curves(
        _grid(decoder_results, plotting_data),
        decoder_results or {},
        class_ids=class_ids,
        target_classes=[target_class] if isinstance(target_class, str) else target_class,
        strengthen=increase_target_probabilities,
    )
    figure = shift_figure(curves, figsize=figsize)
    deliver(figure, path, show=show, img_format=img_format)
    return (figure, figure.axes) if return_fig_ax else output


def _grid(decoder_results: Mapping[str, Any] | None, plotting_data: Mapping[str, Any] | None) -> Grid:
    for name, holder, key in (
        ("plotting_data", plotting_data, "plotting_data"),
        ("decoder_results", decoder_results, "grid"),
    ):
        if holder is None:
            continue
        if not isinstance(holder.get(key), Mapping):
            raise ValueError(f"{name} must be a dict with the grid under {key!r}, got keys {list(holder)[:10]}.")
        grid: Grid = holder[key]
        return grid
    raise ValueError("There is nothing to plot: pass decoder_results (of evaluate_decoder) or plotting_data.")
