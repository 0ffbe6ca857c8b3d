"""Texts of a source in a seeded order, with bounded memory."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from gradiend.data.core.text_source import Chunk, TextSource

WINDOW_TEXTS = 1 << 16
WINDOW_CHARACTERS = 1 << 24

_FIRST_BLOCK, _LARGEST_BLOCK = 16, 1024


class TextBlock(NamedTuple):
    """Texts that follow each other in the stream."""

    texts: list[str]
    documents: list[object]
    """The document of each text: as the source names it, or the position of the text in what is read."""


def stream_texts(source: TextSource, seed: int | None, max_size: int | None = None) -> Iterator[TextBlock]:
    """Yield the texts of a source in the order that `seed` decides.

    Chunks come in a random order where the source can be entered anywhere (a list, plain text, JSON Lines,
    Parquet by its row groups, data sets), in the order of the source otherwise (CSV, gzip). Texts are then
    shuffled in windows of 65 536 texts or 16.8 million characters, which is what is held in memory. A source that fits
    into one window is shuffled as a whole: all sources of the same texts then have the same order, that of
    `random.Random(seed).shuffle`. Of a larger source that cannot be entered anywhere, the first texts of the
    stream are those of its beginning.

    Args:
        source: The texts.
        seed: Decides the order; None gives another one each time.
        max_size: Stop after so many texts.

    Yields:
        The texts in blocks of up to 1 024, small ones at first, so that little is done for a reader that needs few.
    """
    rng = random.Random(seed)
    n_texts, size = 0, _FIRST_BLOCK
    for window in _windows(source, random.Random(None if seed is None else f"{seed}/chunks")):
        texts, documents = _in_source_order(window, n_texts)
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


def _in_source_order(window: list[Chunk], first: int) -> tuple[list[str], Sequence[object]]:
    window.sort(key=lambda chunk: chunk.index)
    texts = [text for chunk in window for text in chunk.texts]
    if window[0].documents is None:
        return texts, range(first, first + len(texts))
    return texts, [document for chunk in window for document in chunk.documents or ()]
