"""A similarity of weights, computed and plotted in one call."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from gradiend.comparison._seeds import Compared
from gradiend.comparison._vectors import network_of
from gradiend.comparison.similarity import compute_similarity_matrix
from gradiend.util._keywords import resolve_keywords
from gradiend.visualizer._output import checked_plot_options
from gradiend.visualizer.comparison import plot_comparison_heatmap

OF_FIGURE = [name for name in inspect.signature(plot_comparison_heatmap).parameters if name != "payload"]
OF_SIMILARITY = [name for name in inspect.signature(compute_similarity_matrix).parameters if name != "models"]


def plot_similarity_heatmap(models: Mapping[str, Any] | Sequence[Any], **options: Any) -> Any:
    """Compute how similar the weights of each two models are, and plot it as a heatmap.

    Args:
        models: See `compute_similarity_matrix`.
        **options: The arguments of `compute_similarity_matrix` (`metric` is a second name of `measure`) and those of
            `plot_comparison_heatmap`.

    Returns:
        What `plot_comparison_heatmap` returns.

    Raises:
        TypeError: An argument is unknown (the message names the nearest), or both names of one are given.
        ValueError, ImportError: See `compute_similarity_matrix` and `plot_comparison_heatmap`.
    """
    computed, drawn = _divided("plot_similarity_heatmap", options)
    return plot_comparison_heatmap(compute_similarity_matrix(models, **computed), **drawn)


def plot_similarity_heatmap_with_correlation(models: Mapping[str, Any] | Sequence[Any], **options: Any) -> Any:
    """Plot the similarity of weights with the correlation of each model beside its row.

    The correlation is the one that training.json in the model's checkpoint has; of several seeds, that of the first
    model. A model that does not know its own has none beside its row.

    Args:
        models: See `plot_similarity_heatmap`.
        **options: See `plot_similarity_heatmap`; `row_metric` replaces the correlations.

    Returns:
        What `plot_comparison_heatmap` returns.

    Raises:
        TypeError, ValueError, ImportError: See `plot_similarity_heatmap`.
    """
    computed, drawn = _divided("plot_similarity_heatmap_with_correlation", options)
    result = compute_similarity_matrix(models, **computed)
    return plot_comparison_heatmap(result, **{"row_metric": correlations(models), **drawn})


def correlations(models: Any) -> dict[str, float]:
    """Name → the correlation of the (first) model, as its training.json has it, for each model that knows it."""
    compared = Compared.parse(models)
    of_all = list(compared.models.values())
    found = {}
    for name, own in zip(compared.names, compared.members, strict=True):
        training = network_of(name, of_all[own[0]]).kwargs.get("training") or {}
        best, stats = training.get("best_score_checkpoint") or {}, training.get("training_stats") or {}
        correlation = best.get("correlation", stats.get("correlation"))
        if correlation is not None:
            found[name] = float(correlation)
    return found


def _divided(name: str, options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The options of the computation, and those of the figure, which are checked before the computation starts."""
    resolved = resolve_keywords(name, options, [*OF_SIMILARITY, *OF_FIGURE])
    computed = {key: value for key, value in resolved.items() if key in OF_SIMILARITY}
    return computed, checked_plot_options(
        plot_comparison_heatmap, {key: value for key, value in resolved.items() if key not in computed}
    )
