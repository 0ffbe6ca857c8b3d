"""Texts of a corpus, chunk by chunk and in a seeded order, so that no corpus has to fit into memory."""

from __future__ import annotations

import math
import random
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import pandas as pd

from gradiend.util._checks import require_whole_characters


@dataclass(frozen=True)
class Columns:
    """The columns of a table that are read."""

    text: str
    document: str | None = None
    """The column that names the document of each text, if the table has one."""

    @property
    def names(self) -> list[str]:
        """The columns, the text first."""
        return [self.text] if self.document in (None, self.text) else [self.text, str(self.document)]

    def chunk(self, index: tuple[int, int], values: Sequence[Sequence[object]]) -> Chunk:
        """Make a chunk of the values of the columns in `names`."""
        return make_chunk(index, values[0], None if self.document is None else values[-1])

    def require(self, present: Iterable[object], where: str) -> None:
        """Raise a ValueError that lists the present columns if a column to be read is missing, or is there twice."""
        names = [str(column) for column in present]
        for column, argument in ((self.text, "text_column"), (self.document, "document_column")):
            if column is not None and column not in names:
                what = "texts" if argument == "text_column" else "documents"
                raise ValueError(
                    f"{where} has no column {column!r}; it has: {', '.join(names) or 'none'}. "
                    f"Name the column with the {what} by {argument}=."
                )
            if names.count(str(column)) > 1:
                raise ValueError(
                    f"{where} has {names.count(str(column))} columns called {column!r}: rename the others."
                )


@dataclass(frozen=True)
class Chunk:
    """A few texts that stand together in their source."""

    index: tuple[int, int]
    """The place in the source: sorting by the index gives the order of the source."""
    texts: list[str]
    """The texts, stripped; none is empty."""
    documents: list[object] | None = None
    """The document of each text, None for an empty one; None in all where the source has no column of documents."""


class TextSource(ABC):
    """Texts in chunks."""

    name: str
    """What errors and logs call the source."""

    @abstractmethod
    def chunks(self, rng: random.Random | None = None) -> Iterator[Chunk]:
        """Yield all chunks, in an order that `rng` decides where the source can be read from any place.

        An unreadable source, or one that is not UTF-8, is a ValueError; an entry that is no text is a TypeError.
        """

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """Return JSON values that are different for another source, and for this source after a change."""

    def files(self) -> list[Path]:
        """The files that are read, which no result may replace."""
        return []

    def check(self) -> None:
        """Read the first chunk, so that an unreadable source is an error before any work."""
        for _ in self.chunks():
            return


class MemoryTexts(TextSource):
    """Texts that are in memory already, as one chunk."""

    def __init__(self, chunk: Chunk, name: str) -> None:
        self.name = name
        self._chunk = chunk

    def chunks(self, rng: random.Random | None = None) -> Iterator[Chunk]:  # noqa: ARG002
        """Yield the one chunk."""
        yield self._chunk

    def identity(self) -> dict[str, Any]:
        """The number of texts, and a digest of texts and documents."""
        from gradiend.util._digest import digest_json  # noqa: PLC0415 - loads torch

        digest = digest_json([self._chunk.texts, list(map(ascii, self._chunk.documents or ()))])
        return {"kind": self.name, "texts": len(self._chunk.texts), "digest": digest}


def make_chunk(index: tuple[int, int], entries: Sequence[object], documents: Sequence[object] | None = None) -> Chunk:
    """Strip the texts and drop missing and empty texts, with their documents."""
    for position, entry in enumerate(entries):
        if isinstance(entry, str) and not entry.isascii():
            require_whole_characters(f"Text {position}", entry)
    if documents is None and set(map(type, entries)) == {str}:
        return Chunk(index, list(filter(None, map(str.strip, cast("Sequence[str]", entries)))))
    texts: list[str] = []
    kept: list[object] = []
    for position, entry in enumerate(entries):
        if isinstance(entry, str):
            text = entry.strip()
            if text:
                texts.append(text)
                if documents is not None:
                    kept.append(None if _is_missing(documents[position]) else documents[position])
        elif not _is_missing(entry):
            raise TypeError(
                f"Expected texts, but entry {position} is {entry!r:.60} ({type(entry).__name__}). Is the column right?"
            )
    return Chunk(index, texts, None if documents is None else kept)


def _is_missing(entry: object) -> bool:
    return entry is None or entry is pd.NA or (isinstance(entry, float) and math.isnan(entry))


def shuffled(n: int, rng: random.Random | None) -> list[int]:
    """Return the numbers 0 to n − 1 in the order that `rng` decides; ascending for None."""
    order = list(range(n))
    if rng is not None:
        rng.shuffle(order)
    return order


WINDOW_TEXTS = 1 << 16
WINDOW_CHARACTERS = 1 << 24

_FIRST_BLOCK, _LARGEST_BLOCK = 16, 1024


class TextBlock(NamedTuple):
    """Texts that follow each other in the stream."""

    texts: list[str]
    documents: list[object]
    """The document of each text: its name in the source, or the position of the text among the texts that are read."""


def stream_texts(source: TextSource, seed: int | None, max_size: int | None = None) -> Iterator[TextBlock]:
    """Yield the texts of a source, `max_size` at most, in the order that `seed` decides; None gives another each time.

    Chunks come in a random order where a source can be read from any place (a list, plain text, JSON Lines, Parquet by
    its row groups, data sets), and in the order of the source otherwise (CSV, gzip). Texts are then shuffled in windows
    of 65 536 texts or 16.8 million characters; one window is in memory at a time. A source that fits into one window is
    shuffled as a whole: all sources of the same texts then have the order of `random.Random(seed).shuffle`. A larger
    CSV or gzip file gives the texts of its beginning first. Blocks have up to 1 024 texts, and fewer at first, so that
    little is done for a reader that needs few texts.
    """
    rng = random.Random(seed)
    n_texts, size = 0, _FIRST_BLOCK
    for window in _windows(source, random.Random(None if seed is None else f"{seed}/chunks")):
        window.sort(key=lambda chunk: chunk.index)
        texts = [text for chunk in window for text in chunk.texts]
        documents: Sequence[object] = range(n_texts, n_texts + len(texts))
        if window[0].documents is not None:
            documents = [document for chunk in window for document in chunk.documents or ()]
        order = list(range(len(texts)))
        rng.shuffle(order)
        if max_size is not None:
            del order[max_size - n_texts :]
        start = 0
        while numbers := order[start : start + size]:
            yield TextBlock([texts[number] for number in numbers], [documents[number] for number in numbers])
            start += size
            size = min(2 * size, _LARGEST_BLOCK)
        n_texts += len(order)
        if n_texts == max_size:
            return


def _windows(source: TextSource, rng: random.Random) -> Iterator[list[Chunk]]:
    window: list[Chunk] = []
    n_texts = n_characters = 0
    for chunk in source.chunks(rng):
        window.append(chunk)
        n_texts += len(chunk.texts)
        n_characters += sum(map(len, chunk.texts))
        if n_texts >= WINDOW_TEXTS or n_characters >= WINDOW_CHARACTERS:
            yield window
            window = []
            n_texts = n_characters = 0
    if window:
        yield window
