"""P(class) at the placeholder, measured as often as the model changes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd
import torch

from gradiend.data.unified.casing import apply_factual_casing, starts_sentence
from gradiend.data.unified.schema import UNIFIED_FACTUAL, UNIFIED_FACTUAL_CLASS, UNIFIED_MASKED
from gradiend.gradients.batch import WordBatch, batches_by_length
from gradiend.gradients.scorer import WordScorer
from gradiend.gradients.state import measurement_mode
from gradiend.gradients.words import WordTokenizer


class ClassProbabilities:
    """Σ over a class's distinct words, in the row's casing and spacing, of the product of their token probabilities.

    Everything is tokenized once; words that share a model input share its forward pass.

    Args:
        rows: Columns masked, factual and factual_class (the dataset class).
        class_words: Class → its words; case is ignored when they are told apart.
        words: Tokenizer of the model.
        batch_size: Texts per forward pass.
        pad_token_id: For padding.
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
        distinct = {name: list(dict.fromkeys(map(str.lower, given))) for name, given in class_words.items()}
        # The first spelling of a word decides what "unchanged casing" means (German nouns).
        spelling = {word.lower(): word for given in reversed(list(class_words.values())) for word in reversed(given)}
        texts, cased, place = [], [], []
        for text, factual, dataset in rows[[UNIFIED_MASKED, UNIFIED_FACTUAL, UNIFIED_FACTUAL_CLASS]].itertuples(
            index=False
        ):
            at_start = starts_sentence(text)
            for number, name in enumerate(self.classes):
                for word in distinct[name]:
                    texts.append(text)
                    cased.append(apply_factual_casing(factual, spelling[word], sentence_start=at_start))
                    place.append((dataset, number))
        tokenized = words(texts, cased)
        # One list of batches per dataset class: a candidate is often measured on one of them only.
        self._batches: dict[str, list[tuple[torch.Tensor, WordBatch]]] = {}
        for dataset in self.datasets:
            chosen = [index for index, (name, _) in enumerate(place) if name == dataset]
            numbers = torch.tensor([place[index][1] for index in chosen])
            self._batches[dataset] = [
                (numbers[indices], batch)
                for indices, batch in batches_by_length([tokenized[i] for i in chosen], batch_size, pad_token_id)
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
