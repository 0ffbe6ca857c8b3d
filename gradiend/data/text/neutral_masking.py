"""Neutral examples: a random word that has nothing to do with the feature, masked."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence, Set

import numpy as np

from gradiend.data.text.masked_text import mask_places
from gradiend.util.placeholder import PLACEHOLDER

WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
MIN_PREFIX_WORDS = 3
"""A word is asked for only after some context, which is all that a causal model sees."""


def mask_random_words(
    texts: Sequence[str], excluded: Collection[str], seed: int
) -> tuple[list[int], list[str], list[str]]:
    """Mask one random word in each text.

    Args:
        texts: Any; those with a placeholder are left out, since the first one of a text is what is scored.
        excluded: Words never to mask, in any case.
        seed: Of the choice.

    Returns:
        (indices of the texts that have such a word, their masked texts, the masked words).
    """
    generator = np.random.default_rng(seed)
    never = {word.lower() for word in excluded}
    kept, masked, words = [], [], []
    for index, text in enumerate(texts):
        candidates = [] if PLACEHOLDER in text else maskable_words(text, never)
        if candidates:
            chosen = candidates[int(generator.integers(len(candidates)))]
            kept.append(index)
            masked.append(mask_words(text, [chosen]))
            words.append(chosen.group())
    return kept, masked, words


def maskable_words(text: str, never: Set[str], min_prefix: int = MIN_PREFIX_WORDS) -> list[re.Match[str]]:
    """The words of a text that may be masked, in their order.

    Args:
        text: Without placeholders.
        never: Words that may not be masked in any case, themselves in lower case.
        min_prefix: How many words must stand before.
    """
    return [match for match in list(WORD.finditer(text))[min_prefix:] if match.group().lower() not in never]


def mask_words(text: str, words: Sequence[re.Match[str]]) -> str:
    """The text with a placeholder in place of each of its words that are given, in their order."""
    return mask_places(text, [word.start() for word in words], [word.end() for word in words], PLACEHOLDER)
