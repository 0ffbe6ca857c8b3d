"""Casing: a word has a capital where its place asks for a capital, and keeps its own capitals everywhere else."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache

from gradiend.util import PLACEHOLDER

_SENTENCE_ENDS = frozenset(".!?…。！？")
_QUOTES_AND_BRACKETS = "\"'`´“”„‟‘’‚‛«»‹›()[]{}<>¿¡*_ "
_EMPTY_LINE = re.compile(r"\n[ \t\r]*\n")
_OPENING_QUOTES = "\"'`´“„‟‘‚‛«»‹›「『"


def capitalised_by_place(masked_text: str, factual: str) -> bool:
    """Tell whether a word has its capital from its place at the first `[MASK]`, as any word would have there.

    The place begins a sentence, a quotation or a paragraph. A text without placeholder is a ValueError.
    """
    first = next(filter(str.isalpha, factual), "")
    if not (first.isupper() or first.istitle()):
        return False
    before = masked_text.partition(PLACEHOLDER)[0]
    return starts_sentence(masked_text) or _starts_quotation(before) or _starts_paragraph(before)


def write_in_place(word: str, masked_text: str, factual: str) -> str:
    """Write a word for the place of another word, by one rule for sampled words and words of classes.

    The word gets a capital where the word `factual` had one by its place (see `capitalised_by_place`). In all other
    places it stays as it is; a word whose first piece has a capital of its own (`"I"`, `"Sie"`) always does.
    """
    raised = capitalised(word)
    return raised if raised != word and capitalised_by_place(masked_text, factual) else word


@lru_cache(maxsize=10_000)
def capitalised(word: str) -> str:
    """Make the first letter of a word or phrase a capital, unless its first piece has a capital already."""
    head = word.split(" ", 1)[0]
    return word if head != head.lower() else _with_first_letter(word, str.title)


def own_spellings(masked: Sequence[str], words: Sequence[str]) -> list[str]:
    """Take back the capitals that words of a class have from their places only.

    `He` at the start of a sentence becomes `he` if the class has `he` anywhere. `Sie` stays `Sie` if the class has only
    `Sie`. If the class has both, `Sie` at the start of a sentence becomes the spelling that is more common elsewhere.
    The result never has a word that does not occur in `words`.
    """
    placed = [
        word != word.lower() and capitalised_by_place(text, word) for text, word in zip(masked, words, strict=True)
    ]
    elsewhere = Counter(word for word, is_placed in zip(words, placed, strict=True) if not is_placed)
    spelling: dict[str, str] = {}
    for word in {word for word, is_placed in zip(words, placed, strict=True) if is_placed}:
        lowered = _with_first_letter(word, str.lower)
        spelling[word] = lowered if elsewhere[lowered] >= max(1, elsewhere[word]) else word
    return [spelling[word] if is_placed else word for word, is_placed in zip(words, placed, strict=True)]


def apply_factual_casing(factual: str, alternative: str, *, sentence_start: bool = False) -> str:
    """Write `alternative` in the casing of `factual`.

    Lower case gives lower case, all capitals give capitals, title case gives title case; any other pattern
    (`"McDonald"`, `"5"`) leaves the alternative as it is. A single capital letter, alone or as the first
    piece (`"I"`, `"I'm"`, `"A man"`), fits both capitals and title case: it gives title case where the
    word starts its sentence and otherwise says nothing.

    Args:
        factual: The word that stands in the text.
        alternative: The word to adapt.
        sentence_start: Whether the word is the first of its sentence (see `starts_sentence`).

    Returns the adapted alternative; unchanged where either word is empty.
    """
    if not factual or not alternative:
        return alternative
    if factual.islower():
        return alternative.lower()
    if factual.isupper() and _letters(factual) > 1:
        return alternative.upper()
    if _begins_with_lone_capital(factual):
        return _title(alternative) if sentence_start else alternative
    words = factual.split()
    if len(words) > 1 and all(_is_title(word) for word in words):
        return " ".join(_title(word) for word in alternative.split(" "))
    return _title(alternative) if _is_title(factual) else alternative


def starts_sentence(masked_text: str) -> bool:
    """Tell whether the first placeholder of a text begins a sentence.

    It does at the start of the text and after `. ! ? …`, with any quotes, brackets and spaces in between. An
    abbreviation (`"Mrs. [MASK]"`) looks the same as the end of a sentence and counts as one. Raises ValueError for a
    text without a placeholder.
    """
    before, placeholder, _ = masked_text.partition(PLACEHOLDER)
    if not placeholder:
        raise ValueError(f"Expected a text with the placeholder {PLACEHOLDER}, got {masked_text[:60]!r}.")
    before = before.rstrip().rstrip(_QUOTES_AND_BRACKETS).rstrip()
    return not before or before[-1] in _SENTENCE_ENDS


def _begins_with_lone_capital(word: str) -> bool:
    """Tell whether a word is one capital letter up to the first space or apostrophe, and no other capital follows."""
    head = re.split(r"[\s'’]", word, maxsplit=1)[0]
    return head.isupper() and _letters(head) == 1 and word == _title(word)


def _starts_quotation(before: str) -> bool:
    """Tell whether a text ends with an opening quotation mark, after nothing, a space, a bracket or a dash."""
    before = before.rstrip() if before.rstrip().endswith("«") else before
    outside = before.rstrip(_OPENING_QUOTES)
    return outside != before and (not outside or outside[-1].isspace() or outside[-1] in "([{-–—")


def _starts_paragraph(before: str) -> bool:
    """Tell whether no letter or digit stands between the last empty line, or the beginning, and the end of a text."""
    return not any(map(str.isalnum, _EMPTY_LINE.split(before)[-1]))


def _with_first_letter(word: str, change: Callable[[str], str]) -> str:
    """Change the first character of a word behind quotes and apostrophes, such as the t of `'tis`."""
    at = len(word) - len(word.lstrip(_QUOTES_AND_BRACKETS))
    return word[:at] + change(word[at : at + 1]) + word[at + 1 :]


def _letters(word: str) -> int:
    return sum(character.isalpha() for character in word)


def _is_title(word: str) -> bool:
    """Tell whether a capital and then small letters make up a word; `str.istitle` is False for `"Don't"`."""
    return word[:1].istitle() and word[1:].islower()


def _title(word: str) -> str:
    return word[:1].title() + word[1:].lower()
