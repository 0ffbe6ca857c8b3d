"""Finds the places of a set of words in many sentences at once.

Sentences become one byte a character: a small letter and its capital get the same byte, and everything between words
becomes a space. Operations on arrays then find the words of a block: the spaces, the words that begin with the first
two letters of a wanted word, and the wanted words among these, eight letters in one number.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_CODECS = ("cp1252", "cp1250", "cp1251", "cp1253", "cp1255", "cp1256")
"""Latin, Central European, Cyrillic, Greek, Hebrew, Arabic: each has ASCII and the usual punctuation."""
_RUN = re.compile(r"[^\W_]+")
_SPACE, _UNSUITABLE = 0x20, 0x00
_EQUALS_A_LETTER = "\u0345"
"""The iota subscript, a mark that a regular expression takes for a capital iota when it ignores case."""

_FIRST_BYTES = np.array([(1 << 8 * length) - 1 for length in range(9)], "<u8")
"""Masks by length: each keeps so many first bytes of a number of eight bytes."""

_REPLACE = "gradiend.unsuitable"


def can_look_up(forms: Iterable[str]) -> bool:
    """Tell whether each form has a word that the lookup can find."""
    return all(_RUN.search(form) and _EQUALS_A_LETTER not in form for form in forms)


class Places(NamedTuple):
    """The places of words in numbered sentences, ordered by sentence and then from left to right."""

    number: NDArray[np.int64]
    """The sentence of each word."""
    start: NDArray[np.int64]
    """The begin of each word in its sentence."""
    end: NDArray[np.int64]
    """The end of each word in its sentence."""


class WordLookup:
    """Looks whole words up in sentences.

    All forms must be accepted by `can_look_up`. A form of letters and digits alone is found with its places; for any
    other form (`"at least"`, `"C++"`) the lookup finds sentences that have the longest word of the form.
    """

    def __init__(self, forms: Iterable[str]) -> None:
        forms = list(forms)
        simple = [form for form in forms if form.isalnum()]
        self._codec = next((name for name in _CODECS if all(_code(form, name) for form in simple)), _CODECS[0])
        self._table = _alphabet(self._codec)[0]
        self._parts: set[bytes] = set()
        self._words: set[bytes] = set()
        for form in forms:
            word = form if form.isalnum() else max(_RUN.findall(form), key=len)
            code = _code(word, self._codec)
            if code is None:
                continue  # no sentence that can be encoded has it
            self._words.add(code)
            if word != form:
                self._parts.add(code)
        padded = b"".join(word[:8].ljust(8, b"\0") for word in self._words)
        self._keys = np.unique(np.frombuffer(padded, "<u8"))
        self._begins_a_word = np.zeros(1 << 16, bool)
        self._begins_a_word[[int.from_bytes((word + b" ")[:2], "little") for word in self._words]] = True

    def find(self, sentences: Sequence[str]) -> tuple[Places, set[int]]:
        """Find the words of all sentences, and the sentences in which a regular expression must search.

        Such a sentence has characters that the lookup does not know, or a word of a form that is more than a word.
        """
        coded = f" {' '.join(sentences)}{' ' * 8}".encode(self._codec, _REPLACE).translate(self._table)
        # the position of the space before each sentence
        spaces = np.cumsum(np.fromiter((len(sentence) + 1 for sentence in sentences), np.int64, len(sentences)))
        spaces = np.concatenate([[0], spaces])
        start, end = self._words_in(coded)
        number = _sentence_at(start, spaces)
        first = spaces[number] + 1
        unclear = set()
        if _UNSUITABLE in coded:
            unsuitable = np.flatnonzero(np.frombuffer(coded, np.uint8) == _UNSUITABLE)
            unclear = set(_sentence_at(unsuitable, spaces).tolist())
        if self._parts:
            spans = zip(number.tolist(), start.tolist(), end.tolist(), strict=True)
            unclear |= {sentence for sentence, one, other in spans if coded[one:other] in self._parts}
        return Places(number, start - first, end - first), unclear

    def _words_in(self, coded: bytes) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return where words begin and end in bytes that have eight spaces at the end."""
        if not self._words:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        gaps = np.flatnonzero(np.frombuffer(coded, np.uint8) == _SPACE)[:-7]
        pairs, eights = (_overlapping(coded, kind) for kind in ("<u2", "<u8"))
        word = np.flatnonzero(self._begins_a_word[pairs[gaps + 1]])
        start, end = gaps[word] + 1, gaps[word + 1]
        key = eights[start] & _FIRST_BYTES[np.minimum(end - start, 8)]
        at = np.searchsorted(self._keys, key)
        is_wanted = self._keys[np.minimum(at, len(self._keys) - 1)] == key
        start, end = start[is_wanted], end[is_wanted]
        # eight letters may be the beginning of a longer word
        is_other = [
            position
            for position in np.flatnonzero(end - start >= 8).tolist()
            if coded[start[position] : end[position]] not in self._words
        ]
        return np.delete(start, is_other), np.delete(end, is_other)


def _overlapping(coded: bytes, kind: str) -> NDArray[Any]:
    """Return the number that begins at each byte."""
    return np.ndarray(len(coded) - np.dtype(kind).itemsize + 1, kind, coded, strides=1)


def _sentence_at(position: NDArray[np.int64], spaces: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the sentence of each position; `spaces` has the position of the space before each sentence."""
    return np.searchsorted(spaces, position, side="right") - 1


@lru_cache(maxsize=len(_CODECS))
def _alphabet(codec: str) -> tuple[bytes, dict[int, re.Pattern[str]]]:
    """Return a table, byte → byte of the same letter or a space, and the letters as patterns that ignore case."""
    letters: dict[int, re.Pattern[str]] = {}
    table = bytearray([_SPACE]) * 256
    table[_UNSUITABLE] = _UNSUITABLE
    for byte in range(256):
        character = bytes([byte]).decode(codec, "ignore")
        if character.isalnum():
            # patterns decide, so that there is one notion of "the same but for case"
            same = (other for other, pattern in letters.items() if pattern.fullmatch(character))
            table[byte] = next(same, byte)
            if table[byte] == byte:
                letters[byte] = re.compile(re.escape(character), re.IGNORECASE)
        elif byte >= 0x80 and character and unicodedata.category(character)[0] in "MC":
            table[byte] = _UNSUITABLE
    return bytes(table), letters


@lru_cache(maxsize=4096)
def _code(form: str, codec: str) -> bytes | None:
    letters = _alphabet(codec)[1]
    coded = bytearray()
    for character in form:
        byte = next((byte for byte, pattern in letters.items() if pattern.fullmatch(character)), None)
        if byte is None:
            return None
        coded.append(byte)
    return bytes(coded)


def _unsuitable(error: UnicodeError) -> tuple[bytes, int]:
    """Replace what cannot be encoded, one byte a character, so that places stay right."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return bytes([_UNSUITABLE]) * (error.end - error.start), error.end


codecs.register_error(_REPLACE, _unsuitable)
