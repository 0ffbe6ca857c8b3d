"""Measurements of a base model for the decoder evaluation: class probabilities and the language-modelling score."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

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
from gradiend.util import PLACEHOLDER
from gradiend.util._bootstrap import Weights, resampled_weights

Floats = NDArray[np.float64]

DATASET_COLUMNS = (UNIFIED_FACTUAL_CLASS, "label_class", "factual_id")
"""Columns that may name the class of a row; the first column that a frame has is used."""


class ClassProbabilities:
    """P(class): the sum over the distinct token sequences of a class of the product of their tokens' probabilities.

    A word is written as it is given, but with a capital if the place of the row's own word required a capital (see
    `write_in_place`). Words with the same tokens count once. Everything is tokenized once; words that share a model
    input share its forward pass. The rows have the columns masked, factual and factual_class (the dataset class).

    Raises ValueError if two classes with different words have the same tokens in every row.
    """

    def __init__(
        self, rows: pd.DataFrame, class_words: Mapping[str, Sequence[str]], objective: Objective, *, batch_size: int
    ) -> None:
        self.classes = list(class_words)
        self.datasets = list(dict.fromkeys(rows[UNIFIED_FACTUAL_CLASS]))
        self._whole_texts: dict[str, list[str]] = {name: [] for name in self.datasets}
        self._weights: dict[str, Weights] = {}
        texts, written, place = [], [], []
        columns = [UNIFIED_MASKED, UNIFIED_FACTUAL, UNIFIED_FACTUAL_CLASS]
        for text, factual, dataset in rows[columns].itertuples(index=False):
            row = len(self._whole_texts[dataset])
            # Several words of one text may be masked in turn; with its word back, the text shows that it is the same.
            self._whole_texts[dataset].append(text.replace(PLACEHOLDER, factual, 1))
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
        # Each dataset class has batches of its own, because a candidate is often measured on one dataset class only.
        self._batches: dict[str, list[tuple[NDArray[np.int64], WordBatch]]] = {}
        for dataset in self.datasets:
            chosen = [((row, number), item) for (name, number, row), item in tokenized if name == dataset]
            places, items = np.array([where for where, _ in chosen]), [item for _, item in chosen]
            batches = batches_by_length(items, batch_size, objective.pad_token_id)
            self._batches[dataset] = [(places[indices.numpy()].T, batch) for indices, batch in batches]

    @torch.no_grad()
    def rows(self, scorer: WordScorer, dataset: str) -> Floats:
        """The probability of each class on each row of a dataset class, (rows, classes)."""
        result = np.zeros((len(self._whole_texts[dataset]), len(self.classes)))
        with measurement_mode(scorer.model):
            for (rows, numbers), batch in self._batches[dataset]:
                found = scorer.log_probs(batch.to(scorer.device)).exp().cpu().double().numpy()
                np.add.at(result, (rows, numbers), found)
        return result

    def measure(self, scorer: WordScorer, datasets: Collection[str] | None = None) -> dict[str, dict[str, float]]:
        """{dataset class: {class: mean probability of the class}} for some (default: all) dataset classes."""
        wanted = self.datasets if datasets is None else datasets
        means = {dataset: self.rows(scorer, dataset).mean(axis=0).tolist() for dataset in wanted}
        return {dataset: dict(zip(self.classes, values, strict=True)) for dataset, values in means.items()}

    def weights(self, dataset: str) -> Weights:
        """How often each row of a dataset class counts in each resample of its texts, (resamples, rows)."""
        if dataset not in self._weights:
            self._weights[dataset] = resampled_weights(self._whole_texts[dataset])
        return self._weights[dataset]


def _require_told_apart(
    class_words: Mapping[str, Sequence[str]],
    of_place: Mapping[tuple[Any, int, int], Mapping[TokenizedWord, None]],
    tokenizer: Any,
) -> None:
    """Raise ValueError if two classes with different words have the same tokens in every row."""
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
    """Scores a model on neutral texts that are tokenized and masked once, so that all candidates see the same texts.

    The model's objective chooses the tokens and defines the score: see `Masked` and `Causal` (`gradiend.objectives`).
    Special tokens and the words in `ignore` (the class words), in upper or lower case, are never scored.

    Raises ValueError if no token is left to score.
    """

    def __init__(
        self, texts: Sequence[str], objective: Objective, *, ignore: Collection[str] = (), batch_size: int = 32
    ) -> None:
        self.objective = objective
        scored = [word for _, word in objective.neutral_words(list(tokenize_texts(texts, objective, ignore)))]
        self.n_tokens = sum(len(word.tokens) for word in scored)
        if not self.n_tokens:
            raise ValueError(
                "The neutral texts contain no token to score. Give neutral texts of several words each "
                "(eval_neutral_data, or neutral_df with a column 'text')."
            )
        self._batches = [batch for _, batch in batches_by_length(scored, batch_size, objective.pad_token_id)]

    def measure(self, scorer: WordScorer) -> float:
        """The LMS of the scorer's model, between 0 and 1."""
        with measurement_mode(scorer.model):
            return self.objective.language_modeling_score(scorer, self._batches, self.n_tokens)


def tokenize_texts(
    texts: Sequence[str], objective: Objective, ignore: Collection[str]
) -> Iterator[tuple[list[int], list[int]]]:
    """Yield (token ids, positions that may be scored) of every text."""
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
    """Measures a base model as it is at the moment of the call."""

    def lms(self) -> dict[str, Any]:
        """The score without class probabilities, {"lms": {"lms": score}}; {} if the score only comes with them."""

    def on(self, datasets: Collection[str] | None) -> dict[str, Any]:
        """The measurements on the rows of some dataset classes (None: all), at least probs_by_dataset."""


@dataclass(frozen=True)
class TextMeasurement:
    """Measures class probabilities and LMS of a scorer's model; texts and masks are fixed."""

    scorer: WordScorer
    probabilities: ClassProbabilities
    score: LanguageModelingScore

    def lms(self) -> dict[str, Any]:
        """The LMS of the scorer's model, see `BaseModelMeasurement.lms`."""
        return {"lms": {"lms": self.score.measure(self.scorer)}}

    def on(self, datasets: Collection[str] | None) -> dict[str, Any]:
        """The probabilities, see `BaseModelMeasurement.on`; dataset classes without rows are left out."""
        known = None if datasets is None else [name for name in datasets if name in self.probabilities.datasets]
        return summarise(self.probabilities.measure(self.scorer, known))


@dataclass(frozen=True)
class WholeMeasurement:
    """A measurement by `evaluate_base_model` of a trainer, which gives LMS and probabilities in one call."""

    evaluate: Callable[[Any], dict[str, Any]]
    """The method `evaluate_base_model` with all arguments but the rows."""
    rows: Any
    """The rows of all dataset classes."""

    def lms(self) -> dict[str, Any]:
        """{}, because the LMS comes with the probabilities."""
        return {}

    def on(self, datasets: Collection[str] | None) -> dict[str, Any]:
        """All measurements, see `BaseModelMeasurement.on`; of all rows if no row belongs to the dataset classes."""
        column = dataset_column(self.rows)
        if datasets is None or column is None:
            return self.evaluate(self.rows)
        chosen = self.rows[self.rows[column].isin(list(datasets))]
        return self.evaluate(self.rows if chosen.empty else chosen)


def dataset_column(rows: Any) -> str | None:
    """The column of a frame that names the class of a row, or None."""
    if not isinstance(rows, pd.DataFrame):
        return None
    return next((name for name in DATASET_COLUMNS if name in rows.columns), None)


def measure_all(measurement: BaseModelMeasurement, datasets: Collection[str] | None = None) -> dict[str, Any]:
    """All measurements on the rows of some dataset classes (default: all).

    Returns:
        probs_by_dataset {dataset class: {class: mean probability}}, probs {X: mean probability of the other classes on
        X's texts}, probs_factual {X: mean probability of X on X's texts}, lms {"lms": score}.
    """
    return {**measurement.lms(), **measurement.on(datasets)}


def summarise(by_dataset: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """The entries probs_by_dataset, probs and probs_factual of `measure_all`."""
    probs, factual = {}, {}
    for dataset, means in by_dataset.items():
        others = [mean for name, mean in means.items() if name != dataset]
        if others:
            probs[dataset] = sum(others) / len(others)
        if dataset in means:
            factual[dataset] = means[dataset]
    return {"probs_by_dataset": dict(by_dataset), "probs": probs, "probs_factual": factual}
