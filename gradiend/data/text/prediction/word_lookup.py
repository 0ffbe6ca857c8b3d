"""Where the words of a set stand in many sentences at once.

Sentences become one byte a character: equal letters in small and capital get the same byte, everything between
words a space. One regular expression over these bytes, in which words share their beginnings, then finds all words of
all sentences. Bytes are what makes this several times faster than a regular expression over the characters.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import NamedTuple, TypeAlias

_CODECS = ("cp1252", "cp1250", "cp1251", "cp1253", "cp1255", "cp1256")
"""Latin, Central European, Cyrillic, Greek, Hebrew, Arabic: each has ASCII and the usual punctuation."""
_RUN = re.compile(r"[^\W_]+")
_SPACE, _UNSUITABLE = 0x20, 0x00
_EQUALS_A_LETTER = "\u0345"
"""Iota subscript: a mark that a regular expression takes for a capital iota when it ignores case."""

_REPLACE = "gradiend.unsuitable"

Place: TypeAlias = tuple[int, int]
"""Start and end of a word in its sentence."""


def can_look_up(forms: Iterable[str]) -> bool:
    """Tell whether each form has a word by which a sentence with it is recognised."""
    return all(_RUN.search(form) and _EQUALS_A_LETTER not in form for form in forms)


class Found(NamedTuple):
    """What a lookup says about sentences, by their number."""

    places: dict[int, list[Place] | None]
    """The words, from left to right; None where they have several owners and no more was to be known. A sentence
    without any is left out."""
    unclear: set[int]
    """Sentences that the lookup cannot judge: with characters that it does not know, or with a word of a form that is
    more than a word. Places of theirs mean nothing."""


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
        # the space after a word is also the one before the next
        self._pattern = re.compile(b" (%b)(?= )" % _any_of(self._owners))

    def find(self, sentences: Sequence[str], *, one_owner: bool = False) -> Found:
        """Find the words of all sentences.

        Args:
            sentences: Any sentences.
            one_owner: Do not ask where the words of a sentence are that has some of several owners.
        """
        coded = f" {' '.join(sentences)} ".encode(self._codec, _REPLACE).translate(self._table)
        # of each sentence, the space before it
        starts = list(accumulate((len(sentence) + 1 for sentence in sentences), initial=0))
        unclear = _unsuitable_in(coded, starts)
        found: dict[int, list[Place] | None] = {}
        places: list[Place] = []
        position = number = start = end = 0
        owners: frozenset[int] = frozenset()
        while match := self._pattern.search(coded, position):
            begin, position = match.span(1)
            word = match[1]
            if begin > end:
                number = bisect_right(starts, begin) - 1
                start, end = starts[number] + 1, starts[number + 1]
                found[number] = places = []
                owners = self._owners[word]
            places.append((begin - start, position - start))
            if word in self._parts:
                unclear.add(number)
            elif one_owner and (len(owners) > 1 or self._owners[word] != owners):
                found[number] = None
                if not self._parts:
                    position = end
        return Found(found, unclear)


def _unsuitable_in(coded: bytes, starts: Sequence[int]) -> set[int]:
    """The sentences that have a character for which there is no byte."""
    numbers = set()
    position = coded.find(_UNSUITABLE)
    while position >= 0:
        number = bisect_right(starts, position) - 1
        numbers.add(number)
        position = coded.find(_UNSUITABLE, starts[number + 1])
    return numbers


def _any_of(words: Iterable[bytes]) -> bytes:
    """A pattern of any of the words; those with the same beginning share it, so that many cost little more than few."""
    rests: dict[bytes, list[bytes]] = {}
    for word in words:
        rests.setdefault(word[:1], []).append(word[1:])
    branches = [
        re.escape(first) + (re.escape(rest[0]) if len(rest) == 1 else _any_of(rest)) for first, rest in rests.items()
    ]
    return b"(?:%b)" % b"|".join(branches) if branches else b"(?!)"


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
