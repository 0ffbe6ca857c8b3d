"""What is measured of a base model for the decoder evaluation: class probabilities and the language-modelling score."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch

from gradiend.data.text._neutral_masking import ExcludedWords
from gradiend.data.unified._casing import write_in_place
from gradiend.data.unified._schema import UNIFIED_FACTUAL, UNIFIED_FACTUAL_CLASS, UNIFIED_MASKED
from gradiend.gradients import (
    Objective,
    TokenizedWord,
    WordBatch,
    WordScorer,
    batches_by_length,
    measurement_mode,
    name_of_tokenizer,
)

DATASET_COLUMNS = (UNIFIED_FACTUAL_CLASS, "label_class", "factual_id")
"""Columns that may say which class a row belongs to; the first that a frame has."""


class ClassProbabilities:
    """Σ over a class's distinct token sequences, in the row's spacing, of the product of their tokens' probabilities.

    Words are as they are given, capitalised where the row's own word was by its place (see `write_in_place`). Two
    words that the tokenizer makes equal are one. Everything is tokenized once; words that share a model input share its
    forward pass.

    Args:
        rows: Columns masked, factual and factual_class (the dataset class).
        class_words: Class → its words.
        objective: The model's objective.
        batch_size: Texts per forward pass.

    Raises:
        ValueError: Two classes have other words, but the tokenizer makes the same tokens of them in every row.
    """

    def __init__(
        self,
        rows: pd.DataFrame,
        class_words: Mapping[str, Sequence[str]],
        objective: Objective,
        *,
        batch_size: int,
    ) -> None:
        self.classes = list(class_words)
        self.datasets = list(dict.fromkeys(rows[UNIFIED_FACTUAL_CLASS]))
        self._dataset_sizes = {name: int((rows[UNIFIED_FACTUAL_CLASS] == name).sum()) for name in self.datasets}
        texts, written, place = [], [], []
        columns = [UNIFIED_MASKED, UNIFIED_FACTUAL, UNIFIED_FACTUAL_CLASS]
        for row, (text, factual, dataset) in enumerate(rows[columns].itertuples(index=False)):
            for number, given in enumerate(class_words.values()):
                for word in dict.fromkeys(write_in_place(word, text, factual) for word in given):
                    texts.append(text)
                    written.append(word)
                    place.append((dataset, number, row))
        of_place: dict[tuple[Any, int, int], dict[TokenizedWord, None]] = {}
        for where, item in zip(place, objective.tokenize(texts, written), strict=True):
            of_place.setdefault(where, {})[item] = None
        _require_told_apart(class_words, of_place, objective.tokenizer)
        tokenized = [(where, item) for where, items in of_place.items() for item in items]
        # One list of batches per dataset class: a candidate is often measured on one of them only.
        self._batches: dict[str, list[tuple[torch.Tensor, WordBatch]]] = {}
        for dataset in self.datasets:
            chosen = [(number, item) for (name, number, _), item in tokenized if name == dataset]
            numbers = torch.tensor([number for number, _ in chosen])
            self._batches[dataset] = [
                (numbers[indices], batch)
                for indices, batch in batches_by_length(
                    [item for _, item in chosen], batch_size, objective.pad_token_id
                )
            ]

    @torch.no_grad()
    def measure(self, scorer: WordScorer, datasets: Collection[str] | None = None) -> dict[str, dict[str, float]]:
        """Mean probability of each class on the texts of some (default: all) dataset classes: {dataset: {class: P}}."""
        result = {}
        with measurement_mode(scorer.model):
            for dataset in self.datasets if datasets is None else datasets:
                totals = np.zeros(len(self.classes))
                for numbers, batch in self._batches[dataset]:
                    probabilities = scorer.log_probs(batch.to(scorer.device)).exp().cpu().double().numpy()
                    totals += np.bincount(numbers.numpy(), weights=probabilities, minlength=len(self.classes))
                means = totals / self._dataset_sizes[dataset]
                result[dataset] = dict(zip(self.classes, means.tolist(), strict=True))
        return result


def _require_told_apart(
    class_words: Mapping[str, Sequence[str]],
    of_place: Mapping[tuple[Any, int, int], Mapping[TokenizedWord, None]],
    tokenizer: Any,
) -> None:
    """Refuse two classes whose words differ while their tokens are the same everywhere."""
    names = list(class_words)
    rows = {(dataset, row) for dataset, _, row in of_place}
    for one, other in combinations(range(len(names)), 2):
        first, second = class_words[names[one]], class_words[names[other]]
        if set(first) == set(second) or not rows:
            continue
        if all(
            of_place.get((dataset, one, row), {}).keys() == of_place.get((dataset, other, row), {}).keys()
            for dataset, row in rows
        ):
            raise ValueError(
                f"{name_of_tokenizer(tokenizer)} makes the same tokens of the words of {names[one]!r} "
                f"({', '.join(first)}) and of {names[other]!r} ({', '.join(second)}), so the model cannot tell the "
                "classes apart. Use a model whose tokenizer keeps capitals and accents, or other words."
            )


class LanguageModelingScore:
    """Scores a model on texts that were tokenized and masked once, so that every candidate sees the same.

    The model's objective says what is asked of the texts and how the answers become a score: see `Masked` and `Causal`
    (`gradiend.objectives`). Special tokens and the tokens of ignored words are never scored.

    Args:
        texts: Neutral texts.
        objective: The model's objective.
        ignore: Words that are not scored, in any case (the class words).
        batch_size: Texts per forward pass.

    Raises:
        ValueError: No token is left to score.
    """

    def __init__(
        self,
        texts: Sequence[str],
        objective: Objective,
        *,
        ignore: Collection[str] = (),
        batch_size: int = 32,
    ) -> None:
        self.objective = objective
        asked = objective.neutral_words(list(tokenize_texts(texts, objective, ignore)))
        scored = [word for _, word in asked]
        self.n_tokens = sum(len(word.tokens) for word in scored)
        if not self.n_tokens:
            raise ValueError(
                "The neutral texts contain no token to score. Give neutral texts of several words each "
                "(eval_neutral_data, or neutral_df with a column 'text')."
            )
        batches = batches_by_length(scored, batch_size, objective.pad_token_id)
        self._batches = [batch for _, batch in batches]

    def measure(self, scorer: WordScorer) -> float:
        """The LMS of the scorer's model, between 0 and 1."""
        with measurement_mode(scorer.model):
            return self.objective.language_modeling_score(scorer, self._batches, self.n_tokens)


def tokenize_texts(
    texts: Sequence[str], objective: Objective, ignore: Collection[str]
) -> Iterator[tuple[list[int], list[int]]]:
    """(token ids, positions that may be scored) of every text."""
    if not texts:
        return
    excluded = ExcludedWords(ignore)
    encoded = objective.encode(texts, truncation=True, max_length=objective.max_length)
    rows = zip(texts, encoded["input_ids"], encoded["offset_mapping"], encoded["special_tokens_mask"], strict=True)
    for text, ids, offsets, special in rows:
        spans = excluded.places(text)
        free = [
            position
            for position, (begin, end) in enumerate(offsets)
            if not special[position] and not any(begin < stop and end > start for start, stop in spans)
        ]
        yield ids, free


class BaseModelMeasurement(Protocol):
    """Measures a base model as it is at that moment, as often as it changes."""

    def lms(self) -> dict[str, Any]:
        """What can be had without class probabilities: {"lms": {"lms": score}}, or {}."""

    def on(self, datasets: Collection[str] | None) -> dict[str, Any]:
        """What is measured on the rows of some dataset classes (None: all), at least probs_by_dataset."""


@dataclass(frozen=True)
class TextMeasurement:
    """Class probabilities and LMS of a scorer's model; texts and masks are fixed."""

    scorer: WordScorer
    probabilities: ClassProbabilities
    score: LanguageModelingScore

    def lms(self) -> dict[str, Any]:
        """See `BaseModelMeasurement.lms`."""
        return {"lms": {"lms": self.score.measure(self.scorer)}}

    def on(self, datasets: Collection[str] | None) -> dict[str, Any]:
        """See `BaseModelMeasurement.on`; classes without rows are left out."""
        known = None if datasets is None else [name for name in datasets if name in self.probabilities.datasets]
        return summarise(self.probabilities.measure(self.scorer, known))


@dataclass(frozen=True)
class WholeMeasurement:
    """A measurement that only `evaluate_base_model` of a trainer knows how to make, all of it at once."""

    evaluate: Callable[[Any], dict[str, Any]]
    """`evaluate_base_model`, with the model and everything but the rows bound."""
    rows: Any
    """Rows of all dataset classes."""

    def lms(self) -> dict[str, Any]:
        """Nothing: the LMS comes with the probabilities."""
        return {}

    def on(self, datasets: Collection[str] | None) -> dict[str, Any]:
        """See `BaseModelMeasurement.on`; all rows where none belongs to the classes."""
        column = dataset_column(self.rows)
        if datasets is None or column is None:
            return self.evaluate(self.rows)
        chosen = self.rows[self.rows[column].isin(list(datasets))]
        return self.evaluate(self.rows if chosen.empty else chosen)


def dataset_column(rows: Any) -> str | None:
    """The column of a frame that says which class a row belongs to, or None."""
    if not isinstance(rows, pd.DataFrame):
        return None
    return next((name for name in DATASET_COLUMNS if name in rows.columns), None)


def measure_all(measurement: BaseModelMeasurement, datasets: Collection[str] | None = None) -> dict[str, Any]:
    """Everything at once, on the rows of these dataset classes (default: all).

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
