"""Sentence boundaries by a spaCy pipeline that finds them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING

from gradiend.data.core.spacy_reader import SpacyReader
from gradiend.data.text.tags import TokenProperty

if TYPE_CHECKING:
    from spacy.tokens import Doc

_BATCH = 128


class SpacySentences:
    """Splits texts at new lines, and each line where a spaCy pipeline says.

    Args:
        model: Name or folder of the pipeline.
        download_if_missing: Download a pipeline that is not installed.

    Raises:
        ImportError: spaCy is not installed.
        OSError: The pipeline is not installed.
    """

    def __init__(self, model: str | os.PathLike[str], download_if_missing: bool = False) -> None:
        self._reader = SpacyReader(model, {TokenProperty.SENTENCE_START}, download_if_missing)
        self._reader.load()

    @property
    def finds_sentences(self) -> bool:
        """Whether a component of the pipeline says where sentences begin; a tagger alone does not."""
        (found,) = self._reader.read(["One. Two."], lambda _, doc: doc.has_annotation("SENT_START"))
        return found

    def split(self, texts: Iterable[str]) -> Iterator[list[str]]:
        """Yield the sentences of each text, stripped, none empty.

        Args:
            texts: Any texts; read in batches, so that the source is a little ahead.

        Yields:
            One list a text.
        """
        source = iter(texts)
        while batch := list(islice(source, _BATCH)):
            lines = [(number, line) for number, text in enumerate(batch) for line in text.splitlines() if line.strip()]
            sentences: list[list[str]] = [[] for _ in batch]
            for (number, _), found in zip(
                lines, self._reader.read([line for _, line in lines], _sentences), strict=True
            ):
                sentences[number] += found
            yield from sentences


def _sentences(_: int, doc: Doc) -> list[str]:
    return [stripped for sentence in doc.sents if (stripped := sentence.text.strip())]
