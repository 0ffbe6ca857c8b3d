"""Matrices of encodings, computed and plotted in one call."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gradiend.comparison._features import Trainers
from gradiend.comparison.anchor import compute_anchor_aligned_encoding_matrix
from gradiend.comparison.cross_encoding import (
    compute_gradiend_feature_cross_encoding_matrix,
    compute_gradiend_transition_cross_encoding_matrix,
    compute_trainer_pair_encoding_matrix,
)
from gradiend.util._checks import require_flag
from gradiend.util._keywords import resolve_keywords
from gradiend.visualizer._output import checked_plot_options
from gradiend.visualizer.comparison import plot_comparison_heatmap

OF_FIGURE = [name for name in inspect.signature(plot_comparison_heatmap).parameters if name != "payload"]


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

    Args:
        trainers: See `compute_gradiend_transition_cross_encoding_matrix`; or its finished result.
        transitions: See there.
        **options: The arguments of that function and of `plot_comparison_heatmap`.

    Returns:
        What `plot_comparison_heatmap` returns.

    Raises:
        TypeError, ValueError, ImportError: See `plot_gradiend_feature_cross_encoding_heatmap`.
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


def _plotted(
    name: str, compute: Callable[..., Any], trainers: Trainers, wanted: Sequence[str] | None, options: Mapping[str, Any]
) -> Any:
    """The heatmap of a matrix, whose options are checked before the computation starts."""
    of_matrix = [one for one in inspect.signature(compute).parameters if one != "trainers"]
    resolved = resolve_keywords(name, options, [*of_matrix, *OF_FIGURE])
    computed = {key: value for key, value in resolved.items() if key in of_matrix}
    drawn = checked_plot_options(
        plot_comparison_heatmap, {key: value for key, value in resolved.items() if key not in computed}
    )
    if isinstance(trainers, Mapping) and {"measure", "matrix"} <= trainers.keys():
        if computed or wanted is not None:
            named = next(iter(computed), "the names of columns")
            raise TypeError(f"{name} got a finished matrix and {named}, which only a computation can use.")
        payload: Any = trainers
    else:
        payload = compute(trainers, *([] if wanted is None else [wanted]), **computed)
    return plot_comparison_heatmap(payload, **{"cbar_label": "mean encoding", **drawn})
