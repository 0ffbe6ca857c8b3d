"""Sentence boundaries by rule: new lines, then `. ! ?`."""

from __future__ import annotations

import re
from collections.abc import Iterator

_END = re.compile(r"(?<![.!?])([.!?]+)([\"'”’»)\]]*)\s+|[。！？]+[\"'”’»)\]」』）]*\s*")
"""A run of stops is tried at its beginning only: at each of its characters, a long one would take quadratic time.
Scripts without spaces end their sentences without one."""
_OPENING = "\"'“‘«»([„‚"
_NO_END = re.compile(
    r"mr|mrs|ms|dr|prof|rev|hon|capt|col|gen|lt|sgt|messrs|mme|mlle|st|vs|cf|e\.g|i\.e"
    r"|hr|fr|nr|bzw|ca|z\.b|d\.h",
    re.IGNORECASE,
)
"""Words whose full stop does not end a sentence, without that stop."""


def split_sentences(text: str) -> Iterator[str]:
    """Split a text at new lines, and each line after `. ! ?` and `。 ！ ？` with what closes a quotation or bracket.

    Nothing is split where the sentence goes on: after a title or abbreviation (`Mrs.`) or an initial
    (`J.`), and where a small letter follows dots (`Well... he`) or a closed quotation (`"Yes?" he
    said`).

    Args:
        text: Any text.

    Yields:
        The sentences, stripped, none empty.
    """
    for line in text.splitlines():
        begin = 0
        for end in _END.finditer(line):
            if _goes_on(line, begin, end):
                continue
            sentence = line[begin : end.end()].strip()
            if sentence:
                yield sentence
            begin = end.end()
        rest = line[begin:].strip()
        if rest:
            yield rest


def _goes_on(line: str, begin: int, end: re.Match[str]) -> bool:
    terminator, closing = end.groups()
    if terminator is None:
        return False
    if (closing or terminator.startswith("..")) and line[end.end() : end.end() + 1].islower():
        return True
    if terminator != "." or closing:
        return False
    # not cut from the whole line: the sentence may have gone on at thousands of stops before this one
    word = line[line.rfind(" ", begin, end.start()) + 1 or begin : end.start()].lstrip(_OPENING)
    initial = len(word) == 1 and word.isupper() and word != "I"
    return initial or _NO_END.fullmatch(word) is not None
