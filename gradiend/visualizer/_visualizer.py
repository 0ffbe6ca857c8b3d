"""The plots of a trainer."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from gradiend.visualizer._encoder_scatter import plot_encoder_scatter
from gradiend.visualizer._output import marked_titles
from gradiend.visualizer.convergence import plot_training_convergence
from gradiend.visualizer.encoder_by_word import plot_encoder_by_target, plot_encoder_strip_by_split
from gradiend.visualizer.encoder_distributions import plot_encoder_distributions
from gradiend.visualizer.probability_shifts import plot_probability_shifts
from gradiend.visualizer.topk import compute_topk_sets, plot_topk_overlap


def _of_trainer(plot: Callable[..., Any]) -> Callable[..., Any]:
    """A plot as a method of `Visualizer`, whose trainer is the first argument and ends the titles."""

    @functools.wraps(plot)
    def call(self: Visualizer, *args: Any, **kwargs: Any) -> Any:
        with marked_titles(self.trainer):
            return plot(self.trainer, *args, **kwargs)

    call.__doc__ = f"See `gradiend.visualizer.{plot.__name__}`."
    return call


class Visualizer:
    """The plots, bound to a trainer: each method calls the plot function of its name with the trainer.

    Args:
        trainer: A `Trainer`.
    """

    compute_topk_sets = staticmethod(compute_topk_sets)
    """Compares models, not trainers: see `gradiend.visualizer.compute_topk_sets`."""

    plot_topk_neuron_intersection = staticmethod(plot_topk_overlap)
    """Compares models too: see `gradiend.visualizer.topk.plot_topk_overlap`."""

    plot_training_convergence = _of_trainer(plot_training_convergence)
    plot_encoder_distributions = _of_trainer(plot_encoder_distributions)
    plot_encoder_scatter = _of_trainer(plot_encoder_scatter)
    plot_encoder_by_target = _of_trainer(plot_encoder_by_target)
    plot_encoder_strip_by_split = _of_trainer(plot_encoder_strip_by_split)
    plot_probability_shifts = _of_trainer(plot_probability_shifts)

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer
