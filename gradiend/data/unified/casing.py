"""Casing of the alternative word: it is written as the factual word was written."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gradiend.util.placeholder import PLACEHOLDER

_SENTENCE_ENDS = frozenset(".!?…。！？")
_QUOTES_AND_BRACKETS = "\"'`´“”„‟‘’‚‛«»‹›()[]{}<>¿¡*_ "


def apply_factual_casing(factual: str, alternative: str, *, sentence_start: bool = False) -> str:
    """Write ``alternative`` in the casing of ``factual``.

    Lower case gives lower case, all capitals give capitals, title case gives title case; any other pattern
    (``"McDonald"``, ``"5"``) leaves the alternative as it is. A single capital letter, alone or as the first
    part (``"I"``, ``"I'm"``, ``"A man"``), fits both capitals and title case: it gives title case where the
    word starts its sentence and otherwise says nothing.

    Args:
        factual: The word that stands in the text.
        alternative: The word to adapt.
        sentence_start: Whether the word is the first of its sentence (see :func:`starts_sentence`).

    Returns:
        The adapted alternative; unchanged where either word is empty.
    """
    if not factual or not alternative:
        return alternative
    if factual.islower():
        return alternative.lower()
    if factual.isupper() and _letters(factual) > 1:
        return alternative.upper()
    if begins_with_lone_capital(factual):
        return _title(alternative) if sentence_start else alternative
    words = factual.split()
    if len(words) > 1 and all(_is_title(word) for word in words):
        return " ".join(_title(word) for word in alternative.split(" "))
    return _title(alternative) if _is_title(factual) else alternative


def starts_sentence(masked_text: str) -> bool:
    """Tell whether the first placeholder of a text begins a sentence.

    It does at the start of the text and after ``. ! ? …``, with any quotes, brackets and spaces in between.
    An abbreviation (``"Mrs. [MASK]"``) looks the same as the end of a sentence and counts as one.

    Args:
        masked_text: A text with at least one ``[MASK]``.

    Returns:
        Whether the first placeholder starts its sentence.

    Raises:
        ValueError: The text has no placeholder.
    """
    before, placeholder, _ = masked_text.partition(PLACEHOLDER)
    if not placeholder:
        raise ValueError(f"Expected a text with the placeholder {PLACEHOLDER}, got {masked_text[:60]!r}.")
    before = before.rstrip().rstrip(_QUOTES_AND_BRACKETS).rstrip()
    return not before or before[-1] in _SENTENCE_ENDS


def begins_with_lone_capital(word: str) -> bool:
    """Tell whether the casing of a word says nothing unless one knows that it starts a sentence.

    Args:
        word: A word or phrase.

    Returns:
        Whether its part before the first space or apostrophe is one capital letter and no other follows.
    """
    head = re.split(r"[\s'’]", word, maxsplit=1)[0]
    return head.isupper() and _letters(head) == 1 and word == _title(word)


def apply_casing_to_rows(
    masked: NDArray[np.object_], factual: NDArray[np.object_], alternative: NDArray[np.object_]
) -> NDArray[np.object_]:
    """Apply :func:`apply_factual_casing` to many rows, each distinct case once.

    Args:
        masked: (n,) texts; read only where the sentence start decides.
        factual: (n,) words of the texts.
        alternative: (n,) words to adapt.

    Returns:
        (n,) adapted alternatives.
    """
    factual_codes, factual_words = pd.factorize(factual)
    alternative_codes, alternative_words = pd.factorize(alternative)
    ambiguous = np.array([begins_with_lone_capital(word) for word in factual_words], dtype=bool)[factual_codes]
    starts = np.zeros(len(factual), dtype=np.int64)
    starts[ambiguous] = [starts_sentence(text) for text in masked[ambiguous]]
    keys = (factual_codes * len(alternative_words) + alternative_codes) * 2 + starts
    _, first, case_of_row = np.unique(keys, return_index=True, return_inverse=True)
    cased = [apply_factual_casing(factual[row], alternative[row], sentence_start=bool(starts[row])) for row in first]
    return np.array(cased, dtype=object)[case_of_row]


def _letters(word: str) -> int:
    return sum(character.isalpha() for character in word)


def _is_title(word: str) -> bool:
    """One capital first, small letters after it; unlike ``str.istitle`` this holds for ``"Don't"``."""
    return word[:1].istitle() and word[1:].islower()


def _title(word: str) -> str:
    return word[:1].title() + word[1:].lower()
