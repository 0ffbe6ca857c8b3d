"""The weights that several GRADIENDs agree on: overlaps of their top-k weights."""

from gradiend.util._imports import public_names
from gradiend.visualizer.topk._overlaps import compute_topk_sets as compute_topk_sets
from gradiend.visualizer.topk._overlaps import plot_topk_overlap_heatmap as plot_topk_overlap_heatmap
from gradiend.visualizer.topk._venn import plot_topk_overlap as plot_topk_overlap
from gradiend.visualizer.topk._venn import plot_topk_overlap_venn as plot_topk_overlap_venn
from gradiend.visualizer.topk._venn import plot_topk_venn as plot_topk_venn

__all__ = list(public_names(__name__))
