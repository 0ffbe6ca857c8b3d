"""Where a word begins and ends, in any script."""

from __future__ import annotations

import unicodedata

WORD_CHARACTER = r"[^\W_]"
"""Letters and digits. The underscore is none: plain-text corpora write `_emphasis_` with it."""

_LAST_SIMPLE = "\u00ac"
"""No combining or format character comes before or at this one."""


def is_word_character(character: str) -> bool:
    """Tell whether a character is a letter, a digit or a mark on one (an accent, a vowel sign)."""
    return character.isalnum() or _is_mark(character)


def is_joined_before(text: str, start: int) -> bool:
    """Tell whether the word at `start` goes on to the left, behind marks and format characters.

    A regular expression sees only the next character, and `\\w` knows neither marks nor joiners: in a
    decomposed `"éhe"` the `he` follows an accent, in `"un\\u00adhe"` a soft hyphen.
    """
    position = start - 1
    while position >= 0 and text[position] > _LAST_SIMPLE and _is_transparent(text[position]):
        position -= 1
    return position >= 0 and text[position].isalnum()


def is_joined_after(text: str, end: int) -> bool:
    """Tell whether the word that stops at `end` goes on: a mark on its last letter, or a joiner."""
    position = end
    while position < len(text) and text[position] > _LAST_SIMPLE:
        if _is_mark(text[position]):
            return True
        if not _is_transparent(text[position]):
            break
        position += 1
    return position < len(text) and text[position].isalnum()


def _is_mark(character: str) -> bool:
    return unicodedata.category(character).startswith("M")


def _is_transparent(character: str) -> bool:
    """Marks and format characters separate no words; only the zero width space does."""
    return character != "\u200b" and (_is_mark(character) or unicodedata.category(character) == "Cf")
