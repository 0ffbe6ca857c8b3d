"""Results → figures. matplotlib, plotly and the Venn packages are needed only when a plot is drawn."""

from gradiend.visualizer.convergence import plot_training_convergence
from gradiend.visualizer.encoder_distributions import plot_encoder_distributions
from gradiend.visualizer.encoder_scatter import plot_encoder_scatter
from gradiend.visualizer.probability_shifts import plot_probability_shifts
from gradiend.visualizer.topk import (
    compute_topk_sets,
    plot_topk_overlap_heatmap,
    plot_topk_overlap_venn,
    plot_topk_venn,
)
from gradiend.visualizer.visualizer import Visualizer

__all__ = [
    "Visualizer",
    "compute_topk_sets",
    "plot_encoder_distributions",
    "plot_encoder_scatter",
    "plot_probability_shifts",
    "plot_topk_overlap_heatmap",
    "plot_topk_overlap_venn",
    "plot_topk_venn",
    "plot_training_convergence",
]
