"""Classification scores on plain label sequences, with numpy only."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

logger = logging.getLogger(__name__)

Labels = Sequence[Any] | NDArray[Any]
Average = Literal["binary", "weighted", "macro", "micro"]
ZeroDivision = Literal["warn", 0, 1]


@dataclass(frozen=True)
class _Counts:
    """Per label: true positives, how often it was predicted, how often it was right."""

    labels: NDArray[Any]
    hits: NDArray[np.float64]
    predicted: NDArray[np.float64]
    actual: NDArray[np.float64]


def accuracy_score(y_true: Labels, y_pred: Labels) -> float:
    """Share of positions at which the two sequences agree.

    Args:
        y_true: The right labels, length n.
        y_pred: The predicted labels, length n.

    Returns:
        A number in [0, 1]; 0.0 for empty input.

    Raises:
        ValueError: The lengths differ or an input is not one-dimensional.
    """
    truth, prediction = _as_pair(y_true, y_pred)
    return float(np.mean(truth == prediction)) if truth.size else 0.0


def precision_score(
    y_true: Labels, y_pred: Labels, *, average: Average = "binary", zero_division: ZeroDivision = "warn"
) -> float:
    """Share of the predictions of a label that are right: tp / (tp + fp).

    Args:
        y_true: The right labels, length n.
        y_pred: The predicted labels, length n.
        average: "binary" scores the positive label of at most two (1 if it occurs, otherwise the larger one);
            "macro" is the mean over the labels, "weighted" the mean weighted by their frequency in `y_true`,
            "micro" counts all labels together.
        zero_division: The score where nothing was predicted: 0, 1, or "warn" (0 and one log line).

    Returns:
        A number in [0, 1].

    Raises:
        ValueError: Lengths differ, an option is unknown, or "binary" meets more than two labels.
    """
    counts = _count(y_true, y_pred)
    return _average(counts, counts.hits, counts.predicted, average, zero_division)


def recall_score(
    y_true: Labels, y_pred: Labels, *, average: Average = "binary", zero_division: ZeroDivision = "warn"
) -> float:
    """Share of the occurrences of a label that were found: tp / (tp + fn).

    Arguments, result and errors are those of `precision_score`.
    """
    counts = _count(y_true, y_pred)
    return _average(counts, counts.hits, counts.actual, average, zero_division)


def f1_score(
    y_true: Labels, y_pred: Labels, *, average: Average = "binary", zero_division: ZeroDivision = "warn"
) -> float:
    """Harmonic mean of precision and recall: 2 tp / (2 tp + fp + fn).

    Arguments, result and errors are those of `precision_score`.
    """
    counts = _count(y_true, y_pred)
    return _average(counts, 2 * counts.hits, counts.predicted + counts.actual, average, zero_division)


def _as_pair(y_true: Labels, y_pred: Labels) -> tuple[NDArray[Any], NDArray[Any]]:
    truth, prediction = np.asarray(y_true), np.asarray(y_pred)
    if truth.ndim != 1 or prediction.ndim != 1:
        raise ValueError(
            f"Labels must be one-dimensional, got shapes {truth.shape} and {prediction.shape}; "
            "take the argmax of scores first."
        )
    if truth.size != prediction.size:
        raise ValueError(
            f"y_true has {truth.size} labels and y_pred {prediction.size}; they must describe the same rows."
        )
    return truth, prediction


def _count(y_true: Labels, y_pred: Labels) -> _Counts:
    truth, prediction = _as_pair(y_true, y_pred)
    labels, codes = np.unique(np.concatenate([truth, prediction]), return_inverse=True)
    true_codes, predicted_codes = codes[: truth.size], codes[truth.size :]
    size = labels.size

    def tally(chosen: NDArray[np.intp]) -> NDArray[np.float64]:
        return np.bincount(chosen, minlength=size).astype(np.float64)

    hits = tally(true_codes[true_codes == predicted_codes])
    return _Counts(labels, hits, tally(predicted_codes), tally(true_codes))


def _positive(labels: NDArray[Any]) -> int | None:
    """Index of the positive label, None where it does not occur."""
    if labels.size > 2:
        raise ValueError(
            f"average='binary' needs at most two labels, got {labels.size}: {labels.tolist()[:10]}; "
            "pass average='macro', 'weighted' or 'micro'."
        )
    ones = np.flatnonzero(labels == 1)
    if ones.size:
        return int(ones[0])
    if labels.size == 0 or (labels.size == 1 and labels.dtype.kind in "biuf"):
        return None
    return int(labels.size - 1)


def _average(
    counts: _Counts,
    numerator: NDArray[np.float64],
    denominator: NDArray[np.float64],
    average: Average,
    zero_division: ZeroDivision,
) -> float:
    if zero_division not in ("warn", 0, 1):
        raise ValueError(f"zero_division must be 'warn', 0 or 1, got {zero_division!r}.")
    if average == "binary":
        index = _positive(counts.labels)
        picked = slice(0, 0) if index is None else slice(index, index + 1)
        numerator, denominator = numerator[picked].sum(keepdims=True), denominator[picked].sum(keepdims=True)
    elif average == "micro":
        numerator, denominator = numerator.sum(keepdims=True), denominator.sum(keepdims=True)
    elif average not in ("macro", "weighted"):
        raise ValueError(f"average must be 'binary', 'macro', 'weighted' or 'micro', got {average!r}.")

    undefined = denominator == 0
    fallback = 0.0 if zero_division == "warn" else float(zero_division)
    if zero_division == "warn" and (undefined.any() or undefined.size == 0):
        logger.warning("A score is undefined (division by zero) and counts as 0; set zero_division to choose.")
    scores = np.where(undefined, fallback, numerator / np.where(undefined, 1.0, denominator))
    if scores.size == 0:
        return fallback
    if average == "weighted":
        return float(np.average(scores, weights=counts.actual))
    return float(scores.mean())
