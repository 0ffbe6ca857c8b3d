"""Comparisons between several GRADIENDs: of their weights, and of what they encode."""

from typing import TYPE_CHECKING

from gradiend.util._imports import lazy_names

if TYPE_CHECKING:
    from gradiend.comparison._closed_form import ClosedForm as ClosedForm
    from gradiend.comparison._closed_form import closed_form as closed_form
    from gradiend.comparison._figures import plot_similarity_heatmap as plot_similarity_heatmap
    from gradiend.comparison._figures import (
        plot_similarity_heatmap_with_correlation as plot_similarity_heatmap_with_correlation,
    )
    from gradiend.comparison._result import ComparisonResult as ComparisonResult
    from gradiend.comparison.similarity import (
        compute_grouped_similarity_matrices as compute_grouped_similarity_matrices,
    )
    from gradiend.comparison.similarity import compute_similarity_matrix as compute_similarity_matrix

__all__, __dir__, __getattr__ = lazy_names(__name__)
