"""Neutral examples: a random word that has nothing to do with the feature, masked."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

import numpy as np

from gradiend.data.text.filter_config import TextFilterConfig
from gradiend.data.text.prediction._matcher import (
    WORD_CHARACTER,
    SurfaceMatcher,
    is_joined_after,
    is_joined_before,
    is_unspaced,
    is_word_character,
    mask_places,
)
from gradiend.util import PLACEHOLDER

_LETTER = WORD_CHARACTER.replace("_", r"\d_", 1)
WORD = re.compile(rf"{_LETTER}+(?:['’]{_LETTER}+)*|[^\W\d_]")
"""A run of letters; in a script without spaces between words, one character."""
MIN_PREFIX_WORDS = 3
"""Words before the first word that may be masked: a causal model sees only the text before a word."""


class ExcludedWords:
    """Finds the places of words that are not to be touched, by the rule that finds a class's words in a corpus.

    Words are found in any case. A word that begins or ends with a letter or digit must be whole there: `he` is found
    in `_he_` but not in `then`; `%` is found in `5%`. Words with a sign in them (`n't`) are found in longer words too.
    """

    def __init__(self, words: Collection[str]) -> None:
        given = [word for word in dict.fromkeys(words) if word.strip()]
        self._matcher = SurfaceMatcher([TextFilterConfig(targets=given, id="excluded")]) if given else None
        anywhere = [re.escape(word) for word in given if any(map(_is_sign, word))]
        self._anywhere = re.compile("|".join(anywhere), re.IGNORECASE) if anywhere else None

    def places(self, text: str) -> list[tuple[int, int]]:
        """Begin and end of each place in a text, in order; places may overlap."""
        found = set() if self._matcher is None else {(hit.start, hit.end) for hit in self._matcher.find(text)}
        if self._anywhere is not None:
            found |= {match.span() for match in self._anywhere.finditer(text)}
        return sorted(found)

    def maskable(self, text: str, min_prefix: int = MIN_PREFIX_WORDS) -> list[re.Match[str]]:
        """Find whole words of a text that share no character with an excluded word and follow `min_prefix` words."""
        places = self.places(text)
        return [
            match
            for match in list(WORD.finditer(text))[min_prefix:]
            if not any(match.start() < end and match.end() > start for start, end in places)
            and not is_joined_before(text, match.start())
            and not is_joined_after(text, match.end())
        ]


def _is_sign(character: str) -> bool:
    return not (is_word_character(character) or is_unspaced(character) or character.isspace())


def mask_random_words(
    texts: Sequence[str], excluded: Collection[str], seed: int
) -> tuple[list[int], list[str], list[str]]:
    """Mask one random word, never an excluded one, in each text without a placeholder, the first of which is scored.

    The result is (indices of the texts that have a word to mask, their masked texts, the masked words).
    """
    generator = np.random.default_rng(seed)
    never = ExcludedWords(excluded)
    kept, masked, words = [], [], []
    for index, text in enumerate(texts):
        candidates = [] if PLACEHOLDER in text else never.maskable(text)
        if candidates:
            chosen = candidates[int(generator.integers(len(candidates)))]
            kept.append(index)
            masked.append(mask_words(text, [chosen]))
            words.append(chosen.group())
    return kept, masked, words


def mask_words(text: str, words: Sequence[re.Match[str]]) -> str:
    """Put a placeholder in place of each of the given words, which are in their order."""
    return mask_places(text, [word.start() for word in words], [word.end() for word in words], PLACEHOLDER)
