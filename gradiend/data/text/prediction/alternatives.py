"""The word that another class would have at the masked place."""

from __future__ import annotations

import random
from itertools import accumulate

from gradiend.data.text.prediction.examples import Examples
from gradiend.data.unified.casing import apply_factual_casing, starts_sentence
from gradiend.util.placeholder import PLACEHOLDER


class AlternativeSampler:
    """Draws words of a class as often as they are its label, written in the casing of the word they replace.

    Args:
        examples: The examples of the class, at least one.
        rng: Source of the random choice.
    """

    def __init__(self, examples: Examples, rng: random.Random) -> None:
        frequency = examples.word_counts
        self._words = sorted(frequency)
        self._cumulative = list(accumulate(frequency[word] for word in self._words))
        self._rng = rng

    def draw(self, masked: str, mask: str, label: str) -> str:
        """Draw a word for the place of `label`, where the text has `mask`."""
        (word,) = self._rng.choices(self._words, cum_weights=self._cumulative)
        before = masked.partition(mask)[0]
        return apply_factual_casing(label, word, sentence_start=starts_sentence(before + PLACEHOLDER))
