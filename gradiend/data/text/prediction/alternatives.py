"""The word that another class would have at the masked place."""

from __future__ import annotations

import random
from collections import Counter
from itertools import accumulate

from gradiend.data.text.prediction.examples import Examples
from gradiend.data.unified.casing import own_spellings, write_in_place
from gradiend.util import PLACEHOLDER


class AlternativeSampler:
    """Draws words of a class as often as they are its label, capitalised where their place asks for it.

    Args:
        examples: The examples of the class, at least one.
        mask: What stands in their texts for the word.
        rng: Source of the random choice.
    """

    def __init__(self, examples: Examples, mask: str, rng: random.Random) -> None:
        words = examples.words
        # only of a word with a capital does its place matter
        pairs = zip(examples.masked, words, strict=True)
        texts = [_with_placeholder(text, mask) if word != word.lower() else "" for text, word in pairs]
        frequency = Counter(own_spellings(texts, words))
        self._words = sorted(frequency)
        self._cumulative = list(accumulate(frequency[word] for word in self._words))
        self._rng = rng

    def draw(self, masked: str, mask: str, label: str) -> str:
        """Draw a word for the place of `label`, where the text has `mask`."""
        (word,) = self._rng.choices(self._words, cum_weights=self._cumulative)
        return write_in_place(word, _with_placeholder(masked, mask), label)


def _with_placeholder(masked: str, mask: str) -> str:
    """The text up to its first mask, and our placeholder instead: all that decides about the capital."""
    return masked.partition(mask)[0] + PLACEHOLDER
