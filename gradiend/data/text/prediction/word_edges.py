"""Where a word begins and ends, in any script."""

from __future__ import annotations

import re
import unicodedata

_UNSPACED = (
    "\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0ecd\u1000-\u109f\u1780-\u17d3"  # Thai, Lao, Burmese, Khmer
    "\u2e80-\u2fdf\u3005-\u3007\u3021-\u303b\u3040-\u30ff\u3100-\u312f\u31a0-\u31ff"  # kana, bopomofo
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9d\U00020000-\U0003ffff"  # Chinese
)
WORD_CHARACTER = rf"[^\W_{_UNSPACED}]"
"""Letters and digits that a word goes on with. The underscore is none: plain-text corpora write `_emphasis_` with it.
Nor are letters of scripts without spaces between words."""

_IS_UNSPACED = re.compile(f"[{_UNSPACED}]")

_LAST_SIMPLE = "\u00ac"
"""No combining or format character comes before or at this one."""


def is_word_character(character: str) -> bool:
    """Tell whether a character is a letter, a digit or a mark on one (an accent), in a script with spaces."""
    return _joins(character) or (_is_mark(character) and not is_unspaced(character))


def is_unspaced(character: str) -> bool:
    """Tell whether a character is of a script that puts no spaces between words, such as Chinese, Japanese or Thai."""
    return _IS_UNSPACED.match(character) is not None


def is_joined_before(text: str, start: int) -> bool:
    """Tell whether the word at `start` goes on to the left, behind marks and format characters.

    A regular expression sees only the next character, and `\\w` knows neither marks nor joiners: in a
    decomposed `"éhe"` the `he` follows an accent, in `"un\\u00adhe"` a soft hyphen.
    """
    position = start - 1
    while position >= 0 and text[position] > _LAST_SIMPLE and _is_transparent(text[position]):
        position -= 1
    return position >= 0 and _joins(text[position])


def is_joined_after(text: str, end: int) -> bool:
    """Tell whether the word that stops at `end` goes on: a mark on its last letter, or a joiner."""
    position = end
    while position < len(text) and text[position] > _LAST_SIMPLE:
        if _is_mark(text[position]):
            return True
        if not _is_transparent(text[position]):
            break
        position += 1
    return position < len(text) and _joins(text[position])


def _joins(character: str) -> bool:
    return character.isalnum() and not is_unspaced(character)


def _is_mark(character: str) -> bool:
    return unicodedata.category(character).startswith("M")


def _is_transparent(character: str) -> bool:
    """Marks and format characters separate no words; only the zero width space does."""
    return character != "\u200b" and (_is_mark(character) or unicodedata.category(character) == "Cf")
