"""Texts of a source in a seeded order, with bounded memory."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import TypeAlias

from gradiend.data.core.text_source import Chunk, TextSource

WINDOW_TEXTS = 1 << 16
WINDOW_CHARACTERS = 1 << 24


Text: TypeAlias = tuple[str, object]
"""A text, and its document: as the source names it, or the position of the text in what is read."""


def stream_texts(source: TextSource, seed: int | None, max_size: int | None = None) -> Iterator[Text]:
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
        The texts with their documents.
    """
    rng = random.Random(seed)
    n_texts = 0
    for window in _windows(source, random.Random(None if seed is None else f"{seed}/chunks")):
        texts = _in_source_order(window, n_texts)
        rng.shuffle(texts)
        if max_size is not None and n_texts + len(texts) >= max_size:
            yield from texts[: max_size - n_texts]
            return
        yield from texts
        n_texts += len(texts)


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


def _in_source_order(window: list[Chunk], first: int) -> list[Text]:
    window.sort(key=lambda chunk: chunk.index)
    texts = [text for chunk in window for text in chunk.texts]
    if window[0].documents is None:
        return list(zip(texts, range(first, first + len(texts)), strict=True))
    return list(zip(texts, [document for chunk in window for document in chunk.documents or ()], strict=True))
