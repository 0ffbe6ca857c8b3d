"""The plots of a trainer."""

from __future__ import annotations

from typing import Any

from gradiend.visualizer._encoder_scatter import plot_encoder_scatter
from gradiend.visualizer._encodings import Encodings
from gradiend.visualizer._output import marked_titles
from gradiend.visualizer.convergence import plot_training_convergence
from gradiend.visualizer.encoder_by_word import plot_encoder_by_target, plot_encoder_strip_by_split
from gradiend.visualizer.encoder_distributions import plot_encoder_distributions
from gradiend.visualizer.probability_shifts import plot_probability_shifts
from gradiend.visualizer.topk import compute_topk_sets, plot_topk_overlap


class Visualizer:
    """The plots, bound to a trainer: each method calls the plot function of its name with the trainer.

    Args:
        trainer: A `Trainer`.
    """

    compute_topk_sets = staticmethod(compute_topk_sets)
    """Compares models, not trainers: see `gradiend.visualizer.compute_topk_sets`."""

    plot_topk_neuron_intersection = staticmethod(plot_topk_overlap)
    """Compares models too: see `gradiend.visualizer.topk.plot_topk_overlap`."""

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer

    def plot_training_convergence(self, **kwargs: Any) -> str:
        """See `gradiend.visualizer.plot_training_convergence`."""
        with marked_titles(self.trainer):
            return plot_training_convergence(self.trainer, **kwargs)

    def plot_encoder_distributions(self, encoder_df: Encodings | None = None, **kwargs: Any) -> str:
        """See `gradiend.visualizer.plot_encoder_distributions`."""
        with marked_titles(self.trainer):
            return plot_encoder_distributions(self.trainer, encoder_df=encoder_df, **kwargs)

    def plot_encoder_scatter(self, encoder_df: Encodings | None = None, **kwargs: Any) -> Any:
        """See `gradiend.visualizer.plot_encoder_scatter`."""
        with marked_titles(self.trainer):
            return plot_encoder_scatter(self.trainer, encoder_df=encoder_df, **kwargs)

    def plot_encoder_by_target(self, encoder_df: Encodings | None = None, **kwargs: Any) -> Any:
        """See `gradiend.visualizer.plot_encoder_by_target`."""
        with marked_titles(self.trainer):
            return plot_encoder_by_target(self.trainer, encoder_df=encoder_df, **kwargs)

    def plot_encoder_strip_by_split(self, encoder_df: Encodings | None = None, **kwargs: Any) -> Any:
        """See `gradiend.visualizer.plot_encoder_strip_by_split`."""
        with marked_titles(self.trainer):
            return plot_encoder_strip_by_split(self.trainer, encoder_df=encoder_df, **kwargs)

    def plot_probability_shifts(self, **kwargs: Any) -> Any:
        """See `gradiend.visualizer.plot_probability_shifts`."""
        with marked_titles(self.trainer):
            return plot_probability_shifts(self.trainer, **kwargs)
