"""P(class): the probability that a model gives to the words of a class, row by row."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

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
from gradiend.util._bootstrap import Floats, Weights, resampled_weights

Places = dict[tuple[Any, int, int], dict[TokenizedWord, None]]
"""(dataset class, number of a class, row of the dataset class) → the distinct token sequences of the class there."""


class WordProbabilities:
    """P(class) of classes whose words are given row by row.

    P(class) is the sum over the distinct token sequences of its words of the product of their tokens' probabilities:
    words with the same tokens count once. Everything is tokenized once; words that share a model input share its
    forward pass.

    Args:
        classes: The names of the classes.
        rows: Rows with the columns masked, factual and factual_class (the dataset class).
        words: For each row (number of the class, word), as the word is written in that text.
        objective: The model's objective.
        batch_size: Inputs per forward pass.
        check: A function that raises an error if classes have the same token sequences everywhere.
    """

    def __init__(
        self, classes: Sequence[str], rows: pd.DataFrame, words: Iterable[Iterable[tuple[int, str]]],
        objective: Objective, *, batch_size: int, check: Callable[[Places], None] | None = None,
    ) -> None:  # fmt: skip
        self.classes = list(classes)
        self.datasets = list(dict.fromkeys(rows[UNIFIED_FACTUAL_CLASS]))
        self._whole_texts: dict[str, list[str]] = {name: [] for name in self.datasets}
        self._weights: dict[str, Weights] = {}
        texts, written, place = [], [], []
        columns = [UNIFIED_MASKED, UNIFIED_FACTUAL, UNIFIED_FACTUAL_CLASS]
        for (text, factual, dataset), own in zip(rows[columns].itertuples(index=False), words, strict=True):
            row = len(self._whole_texts[dataset])
            # Several words of one text may be masked in turn; with its word back, the text shows that it is the same.
            self._whole_texts[dataset].append(text.replace(PLACEHOLDER, factual, 1))
            for number, word in own:
                texts.append(text)
                written.append(word)
                place.append((dataset, number, row))
        of_place: Places = {}
        for where, item in zip(place, objective.tokenize(texts, written), strict=True):
            of_place.setdefault(where, {})[item] = None
        if check is not None:
            check(of_place)
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
        batches = self._batches[dataset]

        def probabilities(batch: WordBatch) -> Floats:
            return scorer.log_probs(batch.to(scorer.device)).exp().cpu().double().numpy()

        with measurement_mode(scorer.model):
            found = scorer.compute(batches, lambda item: probabilities(item[1]))
        for ((rows, numbers), _), values in zip(batches, found, strict=True):
            np.add.at(result, (rows, numbers), values)
        return result

    def texts(self, dataset: str) -> list[str]:
        """The text of each row of a dataset class, with its word."""
        return self._whole_texts[dataset]

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


class ClassProbabilities(WordProbabilities):
    """P(class) of classes that have the same words in every row.

    A word is written as it is given, but with a capital if the place of the row's own word required a capital (see
    `write_in_place`).

    Raises ValueError if two classes with different words have the same tokens in every row.
    """

    def __init__(
        self, rows: pd.DataFrame, class_words: Mapping[str, Sequence[str]], objective: Objective, *, batch_size: int
    ) -> None:
        words = (
            dict.fromkeys(
                (number, write_in_place(word, text, factual))
                for number, given in enumerate(class_words.values())
                for word in given
            )
            for text, factual in rows[[UNIFIED_MASKED, UNIFIED_FACTUAL]].itertuples(index=False)
        )
        super().__init__(
            list(class_words), rows, words, objective, batch_size=batch_size,
            check=lambda of_place: _require_told_apart(class_words, of_place, objective.tokenizer),
        )  # fmt: skip


def _require_told_apart(class_words: Mapping[str, Sequence[str]], of_place: Places, tokenizer: Any) -> None:
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
