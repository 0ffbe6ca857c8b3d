"""One measurement of a language model for the decoder evaluation: class probabilities and LMS."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, Protocol

import pandas as pd

from gradiend.data.unified._schema import UNIFIED_FACTUAL_CLASS
from gradiend.evaluator.lms import LanguageModelingScore
from gradiend.evaluator.probabilities import ClassProbabilities
from gradiend.gradients.scorer import WordScorer

DATASET_COLUMNS = (UNIFIED_FACTUAL_CLASS, "label_class", "factual_id")
"""Columns that may say which class a row belongs to; the first that a frame has."""


class BaseModelMeasurement(Protocol):
    """Measures a base model as it is at that moment, as often as it changes."""

    def lms(self) -> dict[str, Any]:
        """What can be had without class probabilities: {"lms": {"lms": score}}, or {}."""

    def on(self, datasets: Collection[str] | None) -> dict[str, Any]:
        """What is measured on the rows of some dataset classes (None: all), at least probs_by_dataset."""


class TextMeasurement:
    """Class probabilities and LMS of a scorer's model; texts and masks are fixed.

    Args:
        scorer: Of the model to measure.
        probabilities: The rows and class words.
        score: The neutral texts.
    """

    def __init__(self, scorer: WordScorer, probabilities: ClassProbabilities, score: LanguageModelingScore) -> None:
        self._scorer, self._probabilities, self._score = scorer, probabilities, score

    def lms(self) -> dict[str, Any]:
        """See `BaseModelMeasurement.lms`."""
        return {"lms": {"lms": self._score.measure(self._scorer)}}

    def on(self, datasets: Collection[str] | None) -> dict[str, Any]:
        """See `BaseModelMeasurement.on`; classes without rows are left out."""
        known = None if datasets is None else [name for name in datasets if name in self._probabilities.datasets]
        return summarise(self._probabilities.measure(self._scorer, known))


class WholeMeasurement:
    """A measurement that only `evaluate_base_model` of a trainer knows how to make, all of it at once.

    Args:
        evaluate: `evaluate_base_model`, with the model and everything but the rows bound.
        rows: Of all dataset classes.
    """

    def __init__(self, evaluate: Callable[[Any], dict[str, Any]], rows: Any) -> None:
        self._evaluate, self._rows = evaluate, rows

    def lms(self) -> dict[str, Any]:
        """Nothing: it comes with the probabilities."""
        return {}

    def on(self, datasets: Collection[str] | None) -> dict[str, Any]:
        """See `BaseModelMeasurement.on`; all rows where none belongs to the classes."""
        column = dataset_column(self._rows)
        if datasets is None or column is None:
            return self._evaluate(self._rows)
        chosen = self._rows[self._rows[column].isin(list(datasets))]
        return self._evaluate(self._rows if chosen.empty else chosen)


def dataset_column(rows: Any) -> str | None:
    """The column of a frame that says which class a row belongs to, or None."""
    if not isinstance(rows, pd.DataFrame):
        return None
    return next((name for name in DATASET_COLUMNS if name in rows.columns), None)


def measure_all(measurement: BaseModelMeasurement, datasets: Collection[str] | None = None) -> dict[str, Any]:
    """Everything at once.

    Args:
        measurement: Of the model to measure.
        datasets: Only rows of these dataset classes. Default: all.

    Returns:
        probs_by_dataset {dataset class: {class: mean probability}}, probs {X: mean probability of the other classes on
        X's texts}, probs_factual {X: that of X on X's texts}, lms {"lms": score}.
    """
    return {**measurement.lms(), **measurement.on(datasets)}


def summarise(by_dataset: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """probs_by_dataset, probs and probs_factual, see `measure_all`."""
    probs, factual = {}, {}
    for dataset, means in by_dataset.items():
        others = [mean for name, mean in means.items() if name != dataset]
        if others:
            probs[dataset] = sum(others) / len(others)
        if dataset in means:
            factual[dataset] = means[dataset]
    return {"probs_by_dataset": dict(by_dataset), "probs": probs, "probs_factual": factual}
