"""What is done with a block of texts before any decision: cut into segments, class words found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from gradiend.data.text.filter_config import TextFilterConfig
from gradiend.data.text.prediction.surface_matcher import SurfaceMatcher
from gradiend.data.text.prediction.word_lookup import Places
from gradiend.data.text.preprocess import TextPreprocessConfig, segments_by_text
from gradiend.data.text.spacy_sentences import SpacySentences

if TYPE_CHECKING:
    from gradiend.data.core.text_stream import TextBlock


@dataclass
class MatchedBlock:
    """What a block of texts has."""

    n_texts: int
    n_segments: int
    """Segments, without those that preprocessing dropped."""
    segments: list[str]
    """Segments with class words; all of them where even those without are kept."""
    documents: list[object]
    """The document that each of them comes from."""
    places: Places
    """The words in them."""
    dropped: Counter[str]
    """Dropped segments by reason."""


class BlockMatcher:
    """Finds the segments with class words in blocks of texts; independent of what came before.

    Args:
        configs: The classes.
        preprocess: How texts are cut and filtered; None takes them as they are.
        splitter: Splits into sentences in place of the rules.
        keep_all: Whether even segments without any word are kept, since a later step may find other words.
    """

    def __init__(
        self,
        configs: Sequence[TextFilterConfig],
        preprocess: TextPreprocessConfig | None = None,
        splitter: SpacySentences | None = None,
        *,
        keep_all: bool = False,
    ) -> None:
        self._arguments = (configs, preprocess, splitter)
        self._preprocess = preprocess
        self._splitter = splitter
        self._keep_all = keep_all
        self.surface = SurfaceMatcher(configs)

    def __call__(self, block: TextBlock) -> MatchedBlock:
        """Match a block."""
        dropped: Counter[str] = Counter()
        segments, documents = self._cut(block, dropped)
        n_segments = len(segments)
        places = self.surface.places(segments)
        if not self._keep_all:
            is_first = np.diff(places.number, prepend=-1) > 0
            kept = places.number[is_first].tolist()
            segments, documents = [segments[number] for number in kept], [documents[number] for number in kept]
            places = places._replace(number=np.cumsum(is_first) - 1)
        return MatchedBlock(len(block.texts), n_segments, segments, documents, places, dropped)

    def _cut(self, block: TextBlock, dropped: Counter[str]) -> tuple[list[str], list[object]]:
        """The segments of a block, and the document of each."""
        if self._preprocess is None:
            return block
        segments: list[str] = []
        documents: list[object] = []
        segments_of_each = segments_by_text(block.texts, self._preprocess, dropped, self._splitter)
        for document, own in zip(block.documents, segments_of_each, strict=True):
            n_before = len(segments)
            segments.extend(own)
            documents.extend([document] * (len(segments) - n_before))
        return segments, documents

    @property
    def cuts_texts(self) -> bool:
        """Whether texts are cut into sentences by rule, which costs more than finding words in them."""
        return self._preprocess is not None and self._preprocess.split_to_sentences is True

    @property
    def is_costly_to_copy(self) -> bool:
        """Whether each process would have to load a spaCy pipeline of its own."""
        return self._splitter is not None

    def __reduce__(self) -> tuple[object, ...]:
        return partial(BlockMatcher, keep_all=self._keep_all), self._arguments
