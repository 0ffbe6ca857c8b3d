"""Where texts are read from: chunk by chunk, so that no corpus has to fit into memory."""

from __future__ import annotations

import hashlib
import math
import random
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import pandas as pd

from gradiend.util._checks import HALF_CHARACTER, lone_surrogate


@dataclass(frozen=True)
class Columns:
    """The columns of a table that are read."""

    text: str
    document: str | None = None
    """Names the document of each text, if the table has such a column."""

    @property
    def names(self) -> list[str]:
        """The columns, the text first."""
        return [self.text] if self.document in (None, self.text) else [self.text, str(self.document)]

    def require(self, present: Iterable[object], where: str) -> None:
        """Raise a ValueError that names the present columns if one of these is not among them, or is there twice."""
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
    """Place in the source: sorting by it gives the order of the source."""
    texts: list[str]
    """Stripped, none empty."""
    documents: list[object] | None = None
    """The document of each text, where the source has a column for it; None where that says nothing."""


class TextSource(ABC):
    """Texts in chunks."""

    name: str
    """What errors and logs call it."""
    has_documents: bool = False
    """Whether chunks name the document of each text."""

    @abstractmethod
    def chunks(self, rng: random.Random | None = None) -> Iterator[Chunk]:
        """Yield all chunks.

        Args:
            rng: Decides their order, where the source can be entered anywhere; None keeps the order of the source.

        Raises:
            ValueError: The source cannot be read, or is not UTF-8.
            TypeError: An entry is no text.
        """

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """What tells this source from another one, or from itself after a change."""

    def check(self) -> None:
        """Read the first chunk, so that what is wrong with the source is found out before any work."""
        for _ in self.chunks():
            return


class MemoryTexts(TextSource):
    """Texts that are in memory already, as one chunk."""

    def __init__(self, entries: Sequence[object], name: str, documents: Sequence[object] | None = None) -> None:
        self.name = name
        self.has_documents = documents is not None
        self._chunk = make_chunk((0, 0), entries, documents)

    def chunks(self, rng: random.Random | None = None) -> Iterator[Chunk]:  # noqa: ARG002
        """Yield the one chunk."""
        yield self._chunk

    def identity(self) -> dict[str, Any]:
        """A hash of all texts."""
        digest = hashlib.sha256()
        for text in self._chunk.texts:
            digest.update(text.encode("utf-8", "surrogatepass") + b"\0")
        for document in self._chunk.documents or ():
            digest.update(str(document).encode("utf-8", "surrogatepass") + b"\0")
        return {"kind": self.name, "texts": len(self._chunk.texts), "sha256": digest.hexdigest()}


def make_chunk(index: tuple[int, int], entries: Sequence[object], documents: Sequence[object] | None = None) -> Chunk:
    """Strip the texts and drop missing and empty ones, with their documents.

    Raises:
        TypeError: An entry is neither a text nor missing.
        ValueError: A text has half a character.
    """
    for position, entry in enumerate(entries):
        if isinstance(entry, str) and (half := lone_surrogate(entry)) is not None:
            raise ValueError(
                f"Text {position} has half a character ({half!r}, a lone surrogate): {entry[:60]!r}. {HALF_CHARACTER}"
            )
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
                f"Expected texts, but entry {position} is {entry!r:.60} of type {type(entry).__name__}. "
                "Is it the right column?"
            )
    return Chunk(index, texts, None if documents is None else kept)


def _is_missing(entry: object) -> bool:
    return entry is None or entry is pd.NA or (isinstance(entry, float) and math.isnan(entry))


def shuffled(n: int, rng: random.Random | None) -> list[int]:
    """0 to n − 1, in the order that `rng` decides; ascending without one."""
    order = list(range(n))
    if rng is not None:
        rng.shuffle(order)
    return order
