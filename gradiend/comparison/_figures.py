"""Matrices, computed and plotted in one call."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gradiend.comparison._features import Trainers
from gradiend.comparison._seeds import Compared
from gradiend.comparison._vectors import network_of
from gradiend.comparison.anchor import compute_anchor_aligned_encoding_matrix
from gradiend.comparison.cross_encoding import (
    compute_gradiend_feature_cross_encoding_matrix,
    compute_gradiend_transition_cross_encoding_matrix,
    compute_trainer_pair_encoding_matrix,
)
from gradiend.comparison.similarity import compute_similarity_matrix
from gradiend.util._checks import require_flag
from gradiend.util._keywords import resolve_keywords
from gradiend.visualizer._output import checked_plot_options
from gradiend.visualizer.comparison import plot_comparison_heatmap


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
    computed, drawn = _divided("plot_similarity_heatmap", compute_similarity_matrix, options)
    return plot_comparison_heatmap(compute_similarity_matrix(models, **computed), **drawn)


def plot_similarity_heatmap_with_correlation(models: Mapping[str, Any] | Sequence[Any], **options: Any) -> Any:
    """Call `plot_similarity_heatmap` with the correlation of each model beside its row.

    The correlation is the one that training.json in the model's checkpoint has; of several seeds, that of the first
    model. A model that does not know its own has none beside its row. `row_metric` replaces the correlations.
    """
    name = "plot_similarity_heatmap_with_correlation"
    computed, drawn = _divided(name, compute_similarity_matrix, options)
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


def plot_gradiend_feature_cross_encoding_heatmap(
    trainers: Trainers, feature_classes: Sequence[str] | None = None, **options: Any
) -> Any:
    """Plot the mean encoding of the texts of each class by each GRADIEND.

    Args:
        trainers: See `compute_gradiend_feature_cross_encoding_matrix`; or its finished result.
        feature_classes: See there.
        **options: The arguments of that function and of `plot_comparison_heatmap`.

    Returns:
        What `plot_comparison_heatmap` returns.

    Raises:
        TypeError: An unknown argument; the message names the nearest. Or an argument of the computation beside a
            finished result.
        ValueError, ImportError: See both functions.
    """
    compute = compute_gradiend_feature_cross_encoding_matrix
    return _plotted("plot_gradiend_feature_cross_encoding_heatmap", compute, trainers, feature_classes, options)


def plot_gradiend_transition_cross_encoding_heatmap(
    trainers: Trainers, transitions: Sequence[str] | None = None, **options: Any
) -> Any:
    """Plot the mean encoding of each directed transition by each GRADIEND.

    The arguments are those of `compute_gradiend_transition_cross_encoding_matrix` (or its finished result, in place of
    trainers) and of `plot_comparison_heatmap`; result and errors are those of
    `plot_gradiend_feature_cross_encoding_heatmap`.
    """
    compute = compute_gradiend_transition_cross_encoding_matrix
    return _plotted("plot_gradiend_transition_cross_encoding_heatmap", compute, trainers, transitions, options)


def plot_cross_encoding_heatmap(
    trainers: Trainers, feature_classes: Sequence[str] | None = None, *, metric: str | None = None,
    run_evaluation: bool = True, **options: Any,
) -> Any:  # fmt: skip
    """Plot the anchor-aligned matrix; or, with a metric, what each GRADIEND encodes on the pairs of all trainers.

    Args:
        trainers: See `compute_anchor_aligned_encoding_matrix`; or a finished result.
        feature_classes: The classes of the anchor-aligned matrix; not with `metric`.
        metric: See `compute_trainer_pair_encoding_matrix`, whose matrix is then drawn.
        run_evaluation: Without effect: the encodings are made for the figure, and no evaluation is run or read.
        **options: The arguments of the computation (`alignment`, which is factual by default, `aggregate`, …) and of
            `plot_comparison_heatmap`.

    Returns:
        What `plot_comparison_heatmap` returns.

    Raises:
        TypeError, ValueError, ImportError: See `plot_gradiend_feature_cross_encoding_heatmap`.
    """
    require_flag("run_evaluation", run_evaluation)
    name = "plot_cross_encoding_heatmap"
    if metric is None:
        return _plotted(name, compute_anchor_aligned_encoding_matrix, trainers, feature_classes, options)
    if feature_classes is not None:
        raise TypeError("feature_classes and metric belong to different matrices (of classes, and of pairs): give one.")
    return _plotted(name, compute_trainer_pair_encoding_matrix, trainers, None, {"metric": metric, **options})


def _divided(
    name: str, compute: Callable[..., Any], options: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The options of a computation, and the options of its figure, which are checked before the computation."""
    of_matrix, of_figure = (list(inspect.signature(one).parameters)[1:] for one in (compute, plot_comparison_heatmap))
    resolved = resolve_keywords(name, options, [*of_matrix, *of_figure])
    computed = {key: value for key, value in resolved.items() if key in of_matrix}
    drawn = {key: value for key, value in resolved.items() if key not in of_matrix}
    return computed, checked_plot_options(plot_comparison_heatmap, drawn)


def _plotted(
    name: str, compute: Callable[..., Any], trainers: Trainers, wanted: Sequence[str] | None, options: Mapping[str, Any]
) -> Any:
    """The heatmap of a matrix of encodings, or of a finished result."""
    computed, drawn = _divided(name, compute, options)
    payload: Any = trainers
    if not (isinstance(trainers, Mapping) and {"measure", "matrix"} <= trainers.keys()):
        payload = compute(trainers, *([] if wanted is None else [wanted]), **computed)
    elif computed or wanted is not None:
        named = next(iter(computed), "the names of columns")
        raise TypeError(f"{name} got a finished matrix and {named}, which only a computation can use.")
    return plot_comparison_heatmap(payload, **{"cbar_label": "mean encoding", **drawn})
