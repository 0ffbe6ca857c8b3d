"""Which weights several GRADIENDs agree on: overlaps of their top-k weights."""

from gradiend.visualizer.topk._heatmap import plot_topk_overlap_heatmap
from gradiend.visualizer.topk._sets import compute_topk_sets
from gradiend.visualizer.topk._venn import plot_topk_overlap, plot_topk_overlap_venn, plot_topk_venn

__all__ = [
    "compute_topk_sets",
    "plot_topk_overlap",
    "plot_topk_overlap_heatmap",
    "plot_topk_overlap_venn",
    "plot_topk_venn",
]
