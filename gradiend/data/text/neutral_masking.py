"""Neutral examples: a random word that has nothing to do with the feature, masked."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

import numpy as np

from gradiend.util.placeholder import PLACEHOLDER

WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
MIN_PREFIX_WORDS = 3
"""A word is asked for only after some context, which is all that a causal model sees."""


def mask_random_words(
    texts: Sequence[str], excluded: Collection[str], seed: int
) -> tuple[list[int], list[str], list[str]]:
    """Mask one random word in each text.

    Args:
        texts: Without placeholders.
        excluded: Words never to mask, in any case.
        seed: Of the choice.

    Returns:
        (indices of the texts that have such a word, their masked texts, the masked words).
    """
    generator = np.random.default_rng(seed)
    never = {word.lower() for word in excluded}
    kept, masked, words = [], [], []
    for index, text in enumerate(texts):
        found = list(WORD.finditer(text))
        candidates = [match for match in found[MIN_PREFIX_WORDS:] if match.group().lower() not in never]
        if candidates:
            chosen = candidates[int(generator.integers(len(candidates)))]
            kept.append(index)
            masked.append(f"{text[: chosen.start()]}{PLACEHOLDER}{text[chosen.end() :]}")
            words.append(chosen.group())
    return kept, masked, words
