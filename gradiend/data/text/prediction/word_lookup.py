"""Which words of a set a sentence has, at a cost that does not grow with the set.

A sentence becomes one byte a character: equal letters in small and capital get the same byte, everything between
words a space. Its words are then looked up in a set, and places are found by searching for the word between spaces.
Bytes are what makes this several times faster than a regular expression over the characters.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

_CODECS = ("cp1252", "cp1250", "cp1251", "cp1253", "cp1255", "cp1256")
"""Latin, Central European, Cyrillic, Greek, Hebrew, Arabic: each has ASCII and the usual punctuation."""
_RUN = re.compile(r"[^\W_]+")
_SPACE, _NEW_LINE, _UNSUITABLE = 0x20, 0x0A, 0x00
_EQUALS_A_LETTER = "\u0345"
"""Iota subscript: a mark that a regular expression takes for a capital iota when it ignores case."""


_REPLACE = "gradiend.unsuitable"


def can_look_up(forms: Iterable[str]) -> bool:
    """Tell whether each form has a word by which a sentence with it is recognised."""
    return all(_RUN.search(form) and _EQUALS_A_LETTER not in form for form in forms)


class WordLookup:
    """Looks whole words up in sentences.

    Args:
        forms: Spelling to its owners, all of which `can_look_up` accepts. Forms of letters and digits alone
            are found with their places; of others (`"at least"`, `"C++"`) only a word that the sentence must have.
    """

    def __init__(self, forms: Mapping[str, Iterable[int]]) -> None:
        simple = [form for form in forms if form.isalnum()]
        self._codec = next((name for name in _CODECS if all(_code(form, name) for form in simple)), _CODECS[0])
        self._table = _alphabet(self._codec)[0]
        self._table_of_lines = self._table[:_NEW_LINE] + b"\n" + self._table[_NEW_LINE + 1 :]
        self._owners: dict[bytes, frozenset[int]] = {}
        self._parts: set[bytes] = set()
        for form, owners in forms.items():
            word = form if form.isalnum() else max(_RUN.findall(form), key=len)
            code = _code(word, self._codec)
            if code is None:
                continue  # no sentence that can be encoded has it
            self._owners[code] = self._owners.get(code, frozenset()) | frozenset(owners)
            if word != form:
                self._parts.add(code)
        self._words = frozenset(self._owners)
        self._needles = {word: b" %b " % word for word in self._words}

    def encode(self, sentence: str) -> bytes | None:
        """One byte for each character; None if the sentence has characters for which that cannot be done."""
        coded = sentence.encode(self._codec, _REPLACE).translate(self._table)
        return None if _UNSUITABLE in coded else coded

    def encode_each(self, sentences: Sequence[str]) -> Iterable[bytes | None]:
        """Do what `encode` does for many sentences, at less cost."""
        coded = "\n".join(sentences).encode(self._codec, _REPLACE).translate(self._table_of_lines)
        lines = coded.split(b"\n")
        if len(lines) != len(sentences):  # some sentence has a new line
            return map(self.encode, sentences)
        return lines if _UNSUITABLE not in coded else (None if _UNSUITABLE in line else line for line in lines)

    def words_in(self, coded: bytes) -> frozenset[bytes]:
        """The words of an encoded sentence that are looked for, without their number and places."""
        return self._words.intersection(coded.split())

    def needs_pattern(self, words: frozenset[bytes]) -> bool:
        """Whether one of the found words may belong to a form that is more than a word."""
        return bool(self._parts) and not self._parts.isdisjoint(words)

    def owners(self, words: Iterable[bytes]) -> set[int]:
        """The owners of the found words."""
        return {owner for word in words for owner in self._owners[word]}

    def places(self, coded: bytes, words: frozenset[bytes]) -> list[tuple[int, int]]:
        """Start and end of each occurrence of the found words in the sentence, from left to right."""
        padded = b" %b " % coded
        found = []
        for word in words:
            needle, length = self._needles[word], len(word)
            start = padded.find(needle)
            while start >= 0:
                found.append((start, start + length))
                # the space after a word is also the one before the next
                start = padded.find(needle, start + length + 1)
        if len(words) > 1:
            found.sort()
        return found


@lru_cache(maxsize=len(_CODECS))
def _alphabet(codec: str) -> tuple[bytes, dict[int, re.Pattern[str]]]:
    """Byte → byte of the same letter, or a space; and the letters, as patterns that ignore case."""
    letters: dict[int, re.Pattern[str]] = {}
    table = bytearray([_SPACE]) * 256
    table[_UNSUITABLE] = _UNSUITABLE
    for byte in range(256):
        character = bytes([byte]).decode(codec, "ignore")
        if character.isalnum():
            # asking patterns keeps one notion of "the same but for case"
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
