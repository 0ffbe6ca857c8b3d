"""Results → figures. matplotlib, plotly and the Venn packages are needed only when a plot is drawn."""

from gradiend.util._imports import public_names
from gradiend.visualizer._encoder_scatter import plot_encoder_scatter as plot_encoder_scatter
from gradiend.visualizer._visualizer import Visualizer as Visualizer
from gradiend.visualizer.balance import plot_balance as plot_balance
from gradiend.visualizer.comparison import comparison_matrix_from_cell_stat as comparison_matrix_from_cell_stat
from gradiend.visualizer.comparison import plot_comparison_heatmap as plot_comparison_heatmap
from gradiend.visualizer.convergence import plot_training_convergence as plot_training_convergence
from gradiend.visualizer.encoder_by_word import plot_encoder_by_target as plot_encoder_by_target
from gradiend.visualizer.encoder_by_word import plot_encoder_strip_by_split as plot_encoder_strip_by_split
from gradiend.visualizer.encoder_distributions import plot_encoder_distributions as plot_encoder_distributions
from gradiend.visualizer.probability_shifts import plot_probability_shifts as plot_probability_shifts
from gradiend.visualizer.side_effects import plot_side_effects as plot_side_effects
from gradiend.visualizer.topk import compute_topk_sets as compute_topk_sets
from gradiend.visualizer.topk import plot_topk_overlap_heatmap as plot_topk_overlap_heatmap
from gradiend.visualizer.topk import plot_topk_overlap_venn as plot_topk_overlap_venn
from gradiend.visualizer.topk import plot_topk_venn as plot_topk_venn

__all__ = list(public_names(__name__))
