"""Classification scores on plain label sequences, with numpy only."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

logger = logging.getLogger(__name__)

Labels = Sequence[Any] | NDArray[Any]
Average = Literal["binary", "weighted", "macro", "micro"]
ZeroDivision = Literal["warn", 0, 1]


def accuracy_score(y_true: Labels, y_pred: Labels) -> float:
    """The share of positions at which the right labels (n,) and the predicted labels (n,) agree; 0.0 for empty input.

    Raises ValueError if the lengths differ or an input is not one-dimensional.
    """
    truth, prediction = _as_pair(y_true, y_pred)
    return float(np.mean(truth == prediction)) if truth.size else 0.0


def precision_score(
    y_true: Labels, y_pred: Labels, *, average: Average = "binary", zero_division: ZeroDivision = "warn"
) -> float:
    """The share of the predictions of a label that are right: tp / (tp + fp).

    Args:
        y_true: The right labels, length n.
        y_pred: The predicted labels, length n.
        average: "binary" scores the positive label of at most two (1 if 1 occurs, otherwise the larger label);
            "macro" is the mean over the labels, "weighted" the mean with the frequencies in `y_true` as weights,
            "micro" counts all labels together.
        zero_division: The score of a label that was never predicted: 0, 1, or "warn" (0 and one log line).

    Returns:
        A number in [0, 1].

    Raises ValueError if lengths differ, an option is unknown, or "binary" meets more than two labels.
    """
    return _score(y_true, y_pred, average, zero_division, of_predicted=1, of_actual=0)


def recall_score(
    y_true: Labels, y_pred: Labels, *, average: Average = "binary", zero_division: ZeroDivision = "warn"
) -> float:
    """The share of the occurrences of a label that were found: tp / (tp + fn); otherwise as `precision_score`."""
    return _score(y_true, y_pred, average, zero_division, of_predicted=0, of_actual=1)


def f1_score(
    y_true: Labels, y_pred: Labels, *, average: Average = "binary", zero_division: ZeroDivision = "warn"
) -> float:
    """The harmonic mean of precision and recall: 2 tp / (2 tp + fp + fn); otherwise as `precision_score`."""
    return _score(y_true, y_pred, average, zero_division, of_predicted=1, of_actual=1)


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


def _positive(labels: NDArray[Any]) -> slice:
    """The place of the positive label; the slice is empty if the positive label does not occur."""
    if labels.size > 2:
        raise ValueError(
            f"average='binary' needs at most two labels, got {labels.size}: {labels.tolist()[:10]}; "
            "pass average='macro', 'weighted' or 'micro'."
        )
    ones = np.flatnonzero(labels == 1)
    if not ones.size and (not labels.size or (labels.size == 1 and labels.dtype.kind in "biuf")):
        return slice(0, 0)
    index = int(ones[0]) if ones.size else labels.size - 1
    return slice(index, index + 1)


def _score(
    y_true: Labels, y_pred: Labels, average: Average, zero_division: ZeroDivision, of_predicted: int, of_actual: int
) -> float:
    """The average over labels of the share of true positives in the predictions, the occurrences, or both."""
    truth, prediction = _as_pair(y_true, y_pred)
    labels, codes = np.unique(np.concatenate([truth, prediction]), return_inverse=True)
    found, actual = codes[truth.size :], codes[: truth.size]
    hits, n_found, n_actual = (np.bincount(c, minlength=labels.size) for c in (actual[actual == found], found, actual))
    numerator: NDArray[Any] = (of_predicted + of_actual) * hits.astype(np.float64)
    denominator: NDArray[Any] = of_predicted * n_found.astype(np.float64) + of_actual * n_actual
    if zero_division not in ("warn", 0, 1):
        raise ValueError(f"zero_division must be 'warn', 0 or 1, got {zero_division!r}.")
    if average == "binary":
        numerator, denominator = numerator[_positive(labels)], denominator[_positive(labels)]
    elif average not in ("macro", "weighted", "micro"):
        raise ValueError(f"average must be 'binary', 'macro', 'weighted' or 'micro', got {average!r}.")
    if average in ("binary", "micro"):
        numerator, denominator = numerator.sum(keepdims=True), denominator.sum(keepdims=True)
    undefined = denominator == 0
    fallback = 0.0 if zero_division == "warn" else float(zero_division)
    if zero_division == "warn" and (undefined.any() or undefined.size == 0):
        logger.warning("A score is undefined (division by zero) and counts as 0; set zero_division to choose.")
    scores = np.where(undefined, fallback, numerator / np.where(undefined, 1.0, denominator))
    if scores.size == 0:
        return fallback
    return float(np.average(scores, weights=n_actual) if average == "weighted" else scores.mean())
