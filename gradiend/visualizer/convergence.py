"""How a training converged: correlation and mean encodings over its steps."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from gradiend.visualizer.convergence_figure import convergence_figure
from gradiend.visualizer.keywords import plot_keywords
from gradiend.visualizer.legend import LegendPlace
from gradiend.visualizer.output import deliver, require_destination, with_format
from gradiend.visualizer.training_curves import read_training_stats, training_curves

DEFAULT_NAME = "training_convergence"


class TrainedRun(Protocol):
    """What the plot asks of a trainer."""

    def get_training_stats(self) -> Mapping[str, Any] | None:
        """The content of training.json, None before training."""

    @property
    def experiment_dir(self) -> str | Path | None:
        """Where the run keeps its files."""


@plot_keywords
def plot_training_convergence(
    trainer: TrainedRun | None = None,
    model_path: str | Path | None = None,
    training_stats: Mapping[str, Any] | None = None,
    *,
    plot_mean_by_class: bool = True,
    plot_mean_by_feature_class: bool | None = None,
    plot_correlation: bool = True,
    best_step: bool = True,
    label_name_mapping: Mapping[Any, str] | None = None,
    output: str | Path | None = None,
    experiment_dir: str | Path | None = None,
    show: bool = True,
    title: bool | str = True,
    figsize: tuple[float, float] | None = None,
    img_format: str = "png",
    dpi: float | None = None,
    legend_ncol: int | None = None,
    legend_bbox_to_anchor: tuple[float, ...] | None = None,
    legend_loc: str | None = None,
    return_fig_ax: bool = False,
) -> Any:
    """Plot correlation and mean encodings over the steps of a training.

    Args:
        trainer: A trained trainer; asked for its statistics if neither of the next two is given.
        model_path: A directory with training.json.
        training_stats: The statistics themselves (all of training.json or its training_stats); come first.
        plot_mean_by_class: Show the mean encoding of each label.
        plot_mean_by_feature_class: Show the mean encoding of each factual class; by default only where there
            are more classes than labels.
        plot_correlation: Show the correlation.
        best_step: Mark the step whose model was kept.
        label_name_mapping: Display names by label value (1, "-1.0") or class name.
        output: File; an image extension is replaced by `img_format`.
        experiment_dir: Without `output`, the file is training_convergence.<img_format> in there; by default
            the trainer's.
        show: Show the figure.
        title: True for a default title, a string for another, False for none.
        figsize: Inches.
        img_format: File format.
        dpi: Pixels per inch of raster formats.
        legend_ncol: Columns of the legend.
        legend_bbox_to_anchor: Anchor of the legend, in coordinates of the first panel.
        legend_loc: Place of the legend in the first panel; by default right of all panels.
        return_fig_ax: Return (figure, list of axes).

    Returns:
        The path of the file, "" if none was written.

    Raises:
        ValueError: No source, no evaluated step in it, an unknown format, or neither a path nor `show`.
        ImportError: matplotlib is not installed.
    """
    path = _destination(trainer, output, experiment_dir, img_format)
    require_destination(path, show or return_fig_ax, "output, experiment_dir or a trainer with an experiment_dir")
    curves = training_curves(_source(trainer, model_path, training_stats), label_name_mapping)
    figure = convergence_figure(
        curves,
        correlation=plot_correlation,
        mean_by_class=plot_mean_by_class,
        mean_by_feature_class=plot_mean_by_feature_class,
        best_step=best_step,
        title="Training convergence" if title is True else title or None,
        figsize=figsize,
        legend=LegendPlace(legend_loc, legend_bbox_to_anchor, legend_ncol),
    )
    delivered = deliver(figure, path, show=show, dpi=dpi)
    return (figure, figure.axes) if return_fig_ax else delivered


def _source(
    trainer: TrainedRun | None, model_path: str | Path | None, training_stats: Mapping[str, Any] | None
) -> Mapping[str, Any]:
    if training_stats is not None:
        return training_stats
    if model_path is not None:
        return read_training_stats(model_path)
    if trainer is None:
        raise ValueError("There is nothing to plot: pass training_stats, model_path or a trainer.")
    stats = trainer.get_training_stats()
    if stats is None:
        raise ValueError("The trainer has no training.json yet: call train() first, or pass model_path.")
    return stats


def _destination(
    trainer: TrainedRun | None,
    output: str | Path | None,
    experiment_dir: str | Path | None,
    img_format: str,
) -> Path | None:
    if output is not None:
        return with_format(output, img_format)
    if experiment_dir is None and trainer is not None:
        experiment_dir = trainer.experiment_dir
    return None if experiment_dir is None else with_format(Path(experiment_dir) / DEFAULT_NAME, img_format)
