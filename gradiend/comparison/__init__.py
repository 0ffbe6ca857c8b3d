"""Comparisons between several GRADIENDs: of their weights, and of what they encode."""

from typing import TYPE_CHECKING

from gradiend.util._imports import lazy_names

if TYPE_CHECKING:
    from gradiend.comparison._closed_form import ClosedForm as ClosedForm
    from gradiend.comparison._closed_form import closed_form as closed_form
    from gradiend.comparison._figures import plot_cross_encoding_heatmap as plot_cross_encoding_heatmap
    from gradiend.comparison._figures import (
        plot_gradiend_feature_cross_encoding_heatmap as plot_gradiend_feature_cross_encoding_heatmap,
    )
    from gradiend.comparison._figures import (
        plot_gradiend_transition_cross_encoding_heatmap as plot_gradiend_transition_cross_encoding_heatmap,
    )
    from gradiend.comparison._figures import plot_similarity_heatmap as plot_similarity_heatmap
    from gradiend.comparison._figures import (
        plot_similarity_heatmap_with_correlation as plot_similarity_heatmap_with_correlation,
    )
    from gradiend.comparison._result import ComparisonResult as ComparisonResult
    from gradiend.comparison._saved_inputs import load_saved_cross_encoding_inputs as load_saved_cross_encoding_inputs
    from gradiend.comparison.anchor import (
        compute_anchor_aligned_encoding_matrix as compute_anchor_aligned_encoding_matrix,
    )
    from gradiend.comparison.anchor import (
        compute_anchor_aligned_encoding_std_matrix as compute_anchor_aligned_encoding_std_matrix,
    )
    from gradiend.comparison.anchor import (
        compute_dense_anchor_aligned_encoding_matrix as compute_dense_anchor_aligned_encoding_matrix,
    )
    from gradiend.comparison.cross_encoding import build_cross_task_encoder_summary as build_cross_task_encoder_summary
    from gradiend.comparison.cross_encoding import (
        compute_gradiend_feature_cross_encoding_matrix as compute_gradiend_feature_cross_encoding_matrix,
    )
    from gradiend.comparison.cross_encoding import (
        compute_gradiend_transition_cross_encoding_matrix as compute_gradiend_transition_cross_encoding_matrix,
    )
    from gradiend.comparison.cross_encoding import (
        compute_trainer_pair_encoding_matrix as compute_trainer_pair_encoding_matrix,
    )
    from gradiend.comparison.similarity import (
        compute_grouped_similarity_matrices as compute_grouped_similarity_matrices,
    )
    from gradiend.comparison.similarity import compute_similarity_matrix as compute_similarity_matrix

__all__, __dir__, __getattr__ = lazy_names(__name__)
