"""The word that another class would have at the masked place."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from itertools import accumulate

from gradiend.data.text.prediction.collector import MaskedExample
from gradiend.data.unified.casing import apply_factual_casing, starts_sentence
from gradiend.util.placeholder import PLACEHOLDER


class AlternativeSampler:
    """Draws words of a class as often as they are its label, written in the casing of the word they replace.

    Args:
        examples: The examples of the class, at least one.
        rng: Source of the random choice.
    """

    def __init__(self, examples: Iterable[MaskedExample], rng: random.Random) -> None:
        frequency = Counter(example.word for example in examples)
        self._words = sorted(frequency)
        self._cumulative = list(accumulate(frequency[word] for word in self._words))
        self._rng = rng

    def draw(self, example: MaskedExample, mask: str) -> str:
        """Draw a word for the place of `example.label`, where the text of the example has `mask`."""
        (word,) = self._rng.choices(self._words, cum_weights=self._cumulative)
        before = example.masked.partition(mask)[0]
        return apply_factual_casing(example.label, word, sentence_start=starts_sentence(before + PLACEHOLDER))
