"""The pass over the corpus: texts become segments, and segments with class words become masked examples."""

from __future__ import annotations

import logging
import signal
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from gradiend.data.core._text_source import TextBlock
from gradiend.data.text._preprocess import Segmenter
from gradiend.data.text.filter_config import TextFilterConfig
from gradiend.data.text.prediction._masking import HAS_MASK, Masker, has_any
from gradiend.data.text.prediction._matcher import SurfaceMatcher
from gradiend.data.text.prediction._tag_resolver import TokenExclusion
from gradiend.data.text.prediction._word_lookup import Places
from gradiend.util._interruption import SIGNALS, StopRequest
from gradiend.util._processes import processes
from gradiend.util._progress import Progress

logger = logging.getLogger(__name__)

BALANCING = "to balance the classes"


class MatchedBlock(NamedTuple):
    """The segments of a block of texts and the class words in them."""

    segments: Sequence[str]
    """Segments with class words; all segments if the matcher keeps all."""
    documents: Sequence[object]
    """The document of each segment."""
    places: Places
    """The class words in the segments."""


class BlockMatcher:
    """Cuts blocks of texts into segments, finds the class words in them, and counts; may keep those without a word."""

    def __init__(self, surface: SurfaceMatcher, segmenter: Segmenter | None = None, *, keep_all: bool = False) -> None:
        self.surface = surface
        self.n_texts = 0
        self.n_segments = 0
        self.dropped: Counter[str] = Counter()
        self._segmenter = segmenter or Segmenter(None)
        self._keep_all = keep_all

    def __call__(self, block: TextBlock) -> MatchedBlock:
        """Match a block."""
        segments, documents = self._cut(block)
        self.n_texts += len(block.texts)
        self.n_segments += len(segments)
        places = self.surface.places(segments)
        if not self._keep_all:
            is_first = np.diff(places.number, prepend=-1) > 0
            kept = places.number[is_first].tolist()
            segments, documents = [segments[number] for number in kept], [documents[number] for number in kept]
            places = places._replace(number=np.cumsum(is_first) - 1)
        return MatchedBlock(segments, documents, places)

    def _cut(self, block: TextBlock) -> tuple[list[str], list[object]]:
        if self._segmenter.config is None:
            return block
        segments: list[str] = []
        documents: list[object] = []
        segments_of_each = self._segmenter.by_text(block.texts, self.dropped)
        for document, own in zip(block.documents, segments_of_each, strict=True):
            n_before = len(segments)
            segments.extend(own)
            documents.extend([document] * (len(segments) - n_before))
        return segments, documents


class Collected(NamedTuple):
    """The result of a pass over the corpus."""

    examples: list[pd.DataFrame]
    """The examples of each class; see `Masker.examples`."""
    n_texts: int
    """How many texts were read."""
    n_segments: int
    """How many segments were read; segments that preprocessing dropped do not count."""
    dropped: Counter[str]
    """Reason → how many segments were dropped, of those with a class word and those that were never searched."""
    stopped: bool = False
    """Whether Ctrl-C ended the pass before its end."""


def collect_examples(texts: Iterable[TextBlock], segmenter: Segmenter, masker: Masker) -> Collected:
    """Find the examples of all classes in one pass; stop when the masker is full, or after Ctrl-C.

    Raises `Interrupted` if Ctrl-C came before every class had an example, or twice; or after SIGTERM.
    """
    matcher = BlockMatcher(masker.surface, segmenter, keep_all=masker.resolver.needs_every_sentence)
    wanted = "" if masker.rules.limit is None else f"/{masker.rules.limit}"
    stopped = False
    # A signal waits for the end of a block, so that what is kept is whole.
    with Progress("training data", unit="text", brief=True) as bar, StopRequest() as stop, stop.waiting():
        for block in texts:
            masker.add(*matcher(block))
            counts = zip(masker.configs, masker.sizes, strict=True)
            bar.advance(len(block.texts), ", ".join(f"{config.id} {size}{wanted}" for config, size in counts))
            stopped = _is_stopped(stop, keeps=all(masker.sizes))
            if masker.is_full or stopped:
                break
    matcher.dropped.update(masker.dropped)
    return Collected(masker.examples(), matcher.n_texts, matcher.n_segments, matcher.dropped, stopped)


def _is_stopped(stop: StopRequest, *, keeps: bool) -> bool:
    """Tell whether Ctrl-C ends the pass over the texts; it raises if nothing can be kept, and after SIGTERM."""
    if not stop.wanted:
        return False
    interruption = stop.interruption("Too little was found to keep.")
    # Several processes would stop at different texts, and go on with different tables.
    if not keeps or interruption.code != SIGNALS[signal.SIGINT][1] or processes().count > 1:
        raise interruption
    logger.warning("Stopped by Ctrl-C: what was found until now is kept.")
    return True


def collect_neutral(
    texts: Iterable[TextBlock], excluded: Sequence[TextFilterConfig], segmenter: Segmenter, exclusion: TokenExclusion,
    *, masks: Collection[str], limit: int | None,
) -> tuple[list[str], Counter[str], bool]:  # fmt: skip
    """Find up to `limit` segments without any excluded word, token or mask, and count the other segments by reason.

    The last of the result is whether Ctrl-C ended the pass before its end; its errors are those of `collect_examples`.
    """
    matcher = BlockMatcher(SurfaceMatcher(excluded), segmenter, keep_all=True)
    neutral: list[str] = []
    stopped = False
    with Progress("neutral data", unit="text", brief=True) as bar, StopRequest() as stop, stop.waiting():
        for segment, is_excluded in exclusion.split(_without_words(texts, matcher, masks, bar)):
            if is_excluded:
                matcher.dropped["with an excluded tag or lemma"] += 1
            else:
                neutral.append(segment)
                stopped = _is_stopped(stop, keeps=True)
                if stopped or (limit is not None and len(neutral) >= limit):
                    break
    return neutral, matcher.dropped, stopped


def _without_words(
    texts: Iterable[TextBlock], matcher: BlockMatcher, masks: Collection[str], bar: Progress
) -> Iterator[str]:
    for block in texts:
        segments, _, places = matcher(block)
        excluded = set(places.number.tolist())
        for number, segment in enumerate(segments):
            if has_any(segment, masks):
                matcher.dropped[HAS_MASK] += 1
            elif number in excluded:
                matcher.dropped["with an excluded word"] += 1
            else:
                yield segment
        bar.advance(len(block.texts))
