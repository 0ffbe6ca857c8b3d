"""One measurement of a language model for the decoder evaluation: class probabilities and LMS."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from gradiend.evaluator.lms import LanguageModelingScore
from gradiend.evaluator.probabilities import ClassProbabilities
from gradiend.gradients.scorer import WordScorer


def measure_base_model(
    scorer: WordScorer,
    probabilities: ClassProbabilities,
    lms: LanguageModelingScore,
    datasets: Collection[str] | None = None,
) -> dict[str, Any]:
    """Measure the scorer's model.

    Args:
        scorer: Of the model to measure.
        probabilities: The rows and class words.
        lms: The neutral texts.
        datasets: Only rows of these dataset classes. Default: all.

    Returns:
        probs_by_dataset {dataset class: {class: mean probability}}, probs {X: mean probability of the other classes on
        X's texts}, probs_factual {X: that of X on X's texts}, lms {"lms": score}.
    """
    by_dataset = probabilities.measure(scorer, datasets)
    return {**summarise(by_dataset), "lms": {"lms": lms.measure(scorer)}}


def summarise(by_dataset: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """probs_by_dataset, probs and probs_factual, see `measure_base_model`."""
    probs, factual = {}, {}
    for dataset, means in by_dataset.items():
        others = [mean for name, mean in means.items() if name != dataset]
        if others:
            probs[dataset] = sum(others) / len(others)
        if dataset in means:
            factual[dataset] = means[dataset]
    return {"probs_by_dataset": dict(by_dataset), "probs": probs, "probs_factual": factual}
