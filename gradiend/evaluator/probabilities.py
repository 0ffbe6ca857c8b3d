"""P(class) at the placeholder, measured as often as the model changes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import torch

from gradiend.data.unified._casing import write_in_place
from gradiend.data.unified._schema import UNIFIED_FACTUAL, UNIFIED_FACTUAL_CLASS, UNIFIED_MASKED
from gradiend.gradients.batch import WordBatch, batches_by_length
from gradiend.gradients.scorer import WordScorer
from gradiend.gradients.state import measurement_mode
from gradiend.gradients.words import TokenizedWord, WordTokenizer, name_of_tokenizer


class ClassProbabilities:
    """Σ over a class's distinct token sequences, in the row's spacing, of the product of their tokens' probabilities.

    Words are as they are given, capitalised where the row's own word was by its place (see `write_in_place`). Two
    words that the tokenizer makes equal are one. Everything is tokenized once; words that share a model input share its
    forward pass.

    Args:
        rows: Columns masked, factual and factual_class (the dataset class).
        class_words: Class → its words.
        words: Tokenizer of the model.
        batch_size: Texts per forward pass.
        pad_token_id: For padding.

    Raises:
        ValueError: Two classes have other words, but the tokenizer makes the same tokens of them in every row.
    """

    def __init__(
        self,
        rows: pd.DataFrame,
        class_words: Mapping[str, Sequence[str]],
        words: WordTokenizer,
        *,
        batch_size: int,
        pad_token_id: int,
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
        for where, item in zip(place, words(texts, written), strict=True):
            of_place.setdefault(where, {})[item] = None
        _require_told_apart(class_words, of_place, words.tokenizer)
        tokenized = [(where, item) for where, items in of_place.items() for item in items]
        # One list of batches per dataset class: a candidate is often measured on one of them only.
        self._batches: dict[str, list[tuple[torch.Tensor, WordBatch]]] = {}
        for dataset in self.datasets:
            chosen = [(number, item) for (name, number, _), item in tokenized if name == dataset]
            numbers = torch.tensor([number for number, _ in chosen])
            self._batches[dataset] = [
                (numbers[indices], batch)
                for indices, batch in batches_by_length([item for _, item in chosen], batch_size, pad_token_id)
            ]

    @torch.no_grad()
    def measure(self, scorer: WordScorer, datasets: Collection[str] | None = None) -> dict[str, dict[str, float]]:
        """Mean probability of each class on each dataset class's texts: {dataset class: {class: P}}.

        Args:
            scorer: Of the model to measure.
            datasets: Only these dataset classes. Default: all.
        """
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
