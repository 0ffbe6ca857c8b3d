"""Blocks of segments with class words → masked examples of each class, a row for each class of a segment."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gradiend.data.text.filter_config import TextFilterConfig
from gradiend.data.text.prediction.block_matcher import MatchedBlock
from gradiend.data.text.prediction.class_words import ClassWords, Labels
from gradiend.data.text.prediction.examples import Examples
from gradiend.data.text.prediction.filter_engine import replace_places
from gradiend.util.placeholder import PLACEHOLDER

AMBIGUOUS = "with a word that fits several classes"
SEVERAL_CLASSES = "with words of several classes"
HAS_MASK = "with the mask in the text"
DUPLICATE = "repeating a masked text"
CLASS_FULL = "of a class already full"


class Masker:
    """Masks the words of each class in turn, and keeps what is new.

    Memory is that of the kept examples: each text once, the rest in numbers.

    Args:
        configs: The classes.
        labels: The numbers of found words.
        masks: Segments that contain one of these already are dropped.
        limit: Examples a class at most.
        keep_several: Keep segments with words of several classes that no tag has decided.
        with_documents: Keep the document of each example.
    """

    def __init__(
        self,
        configs: Sequence[TextFilterConfig],
        labels: Labels,
        *,
        masks: Collection[str],
        limit: int | None,
        keep_several: bool,
        with_documents: bool,
    ) -> None:
        self._configs = configs
        self._labels = labels
        self._masks = masks
        self._limit = sys.maxsize if limit is None else limit
        self._keep_several = keep_several
        self._with_documents = with_documents
        self._texts: list[dict[str, None]] = [{} for _ in configs]
        self._columns = [_NO_ROWS]
        self._documents: list[object] = []
        self.dropped: Counter[str] = Counter()

    @property
    def sizes(self) -> list[int]:
        """How many examples each class has."""
        return [len(texts) for texts in self._texts]

    @property
    def is_full(self) -> bool:
        """Whether nothing more is wanted."""
        return min(self.sizes) >= self._limit

    def add(self, block: MatchedBlock) -> None:
        """Make the examples of a block."""
        words = self._labels.words_of(block, self.dropped)
        if not len(words.number):
            return
        n = len(block.segments)
        class_of_label = np.array([label.class_index for label in self._labels.all], np.int64)
        rows = _rows(words, class_of_label, n)
        has_contrast = self._has_contrast(words, rows, n)
        wanted = self._wanted(block.segments, words, has_contrast)
        rows = rows.only(wanted[rows.number])
        is_full = np.array(self.sizes) >= self._limit
        asked = rows.only(~is_full[rows.owner])
        kept, repeated = self._new(self._masked(block.segments, words, asked), asked.owner)
        self._count_dropped(rows.number, asked.number[repeated], asked.number[kept], n)

        numbers = asked.number[kept]
        group = _groups(block.segments, words, numbers)
        label = words.label[asked.word[kept]]
        self._columns.append(
            _Columns(asked.owner[kept].astype(np.int32), label.astype(np.int32), group, has_contrast[numbers])
        )
        if self._with_documents:
            self._documents += [block.documents[number] for number in numbers.tolist()]

    def examples(self) -> list[Examples]:
        """Return the examples of each class, and let go of them."""
        owner, label, group, has_contrast = map(np.concatenate, zip(*self._columns, strict=True))
        self._columns = [_NO_ROWS]
        result = []
        for index, texts in enumerate(self._texts):
            own = np.flatnonzero(owner == index)
            masked = pd.Series(list(texts), dtype=str)
            self._texts[index] = {}
            documents = [self._documents[row] for row in own.tolist()] if self._with_documents else []
            result.append(Examples(masked, label[own], self._labels.all, group[own], has_contrast[own], documents))
        return result

    def _has_contrast(self, words: ClassWords, rows: _Rows, n: int) -> NDArray[np.bool_]:
        """Which segments have words of several classes, not all told apart by tags."""
        is_plain = ~np.array([label.by_tag for label in self._labels.all], bool)[words.label]
        return (np.bincount(rows.number, minlength=n) > 1) & _marked(words.number[is_plain], n)

    def _wanted(self, segments: Sequence[str], words: ClassWords, has_contrast: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Which segments are kept as far as their own words say."""
        n = len(segments)
        wanted = _marked(words.number, n)
        reasons = {HAS_MASK: np.fromiter((has_any(segment, self._masks) for segment in segments), bool, n)}
        if not self._keep_several:
            reasons = {AMBIGUOUS: _marked(words.number[words.is_shared], n), SEVERAL_CLASSES: has_contrast, **reasons}
        for reason, applies in reasons.items():
            self.dropped[reason] += int((wanted & applies).sum())
            wanted &= ~applies
        return wanted

    def _masked(self, segments: Sequence[str], words: ClassWords, rows: _Rows) -> list[str]:
        """The segment of each row with the words of its class masked."""
        masks = [config.mask for config in self._configs]
        starts, ends = words.start[rows.order].tolist(), words.end[rows.order].tolist()
        return [
            f"{text[: starts[at]]}{mask}{text[ends[at] :]}"
            if count == 1
            else replace_places(text, zip(starts[at : at + count], ends[at : at + count], strict=True), mask)
            for text, mask, at, count in zip(
                map(segments.__getitem__, rows.number.tolist()),
                map(masks.__getitem__, rows.owner.tolist()),
                rows.at.tolist(),
                rows.count.tolist(),
                strict=True,
            )
        ]

    def _new(self, masked: Sequence[str], owners: NDArray[np.int64]) -> tuple[list[int], list[int]]:
        """Keep texts that their class does not have yet; return which these are, and which are repetitions."""
        kept, repeated = [], []
        for position, (text, owner) in enumerate(zip(masked, owners.tolist(), strict=True)):
            texts = self._texts[owner]
            if text in texts:
                repeated.append(position)
            elif len(texts) < self._limit:
                texts[text] = None
                kept.append(position)
        return kept, repeated

    def _count_dropped(
        self, wanted: NDArray[np.int64], repeated: NDArray[np.int64], kept: NDArray[np.int64], n: int
    ) -> None:
        """Count the segments that give no row, by their numbers."""
        without = _marked(wanted, n) & ~_marked(kept, n)
        is_repeated = _marked(repeated, n)
        self.dropped[DUPLICATE] += int((without & is_repeated).sum())
        self.dropped[CLASS_FULL] += int((without & ~is_repeated).sum())


class _Columns(NamedTuple):
    """Kept rows of a block, of all classes."""

    owner: NDArray[np.int32]
    label: NDArray[np.int32]
    group: NDArray[np.int64]
    has_contrast: NDArray[np.bool_]


_NO_ROWS = _Columns(np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0, np.int64), np.zeros(0, bool))


class _Rows(NamedTuple):
    """A row for each segment and class, class by class."""

    number: NDArray[np.int64]
    """The segment."""
    owner: NDArray[np.int64]
    """The class."""
    at: NDArray[np.int64]
    """Where its words begin in `order`."""
    count: NDArray[np.int64]
    """How many words it has."""
    order: NDArray[np.int64]
    """The words in the order of the rows."""

    @property
    def word(self) -> NDArray[np.int64]:
        """The first word of each row."""
        return self.order[self.at]

    def only(self, wanted: NDArray[np.bool_]) -> _Rows:
        """Some of the rows."""
        return _Rows(self.number[wanted], self.owner[wanted], self.at[wanted], self.count[wanted], self.order)


def _rows(words: ClassWords, class_of_label: NDArray[np.int64], n: int) -> _Rows:
    key = class_of_label[words.label] * n + words.number
    order = np.argsort(key, kind="stable")
    key = key[order]
    at = np.flatnonzero(np.diff(key, prepend=-1))
    return _Rows(key[at] % n, key[at] // n, at, np.diff(at, append=len(key)), order)


def _groups(segments: Sequence[str], words: ClassWords, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """A hash of each segment without the words of any class; of those that are asked for."""
    distinct = np.flatnonzero(_marked(numbers, len(segments)))
    # a word of several classes is there for each
    is_new = (np.diff(words.number, prepend=-1) > 0) | (np.diff(words.start, prepend=-1) != 0)
    bounds = np.searchsorted(words.number[is_new], [distinct, distinct + 1]).T.tolist()
    starts, ends = words.start[is_new].tolist(), words.end[is_new].tolist()
    hashes = np.zeros(len(segments), np.int64)
    hashes[distinct] = [
        hash(replace_places(segments[number], zip(starts[a:b], ends[a:b], strict=True), PLACEHOLDER))
        for number, (a, b) in zip(distinct.tolist(), bounds, strict=True)
    ]
    return hashes[numbers]


def _marked(numbers: NDArray[np.int64], n: int) -> NDArray[np.bool_]:
    """Which of `n` segments are named."""
    marked = np.zeros(n, bool)
    marked[numbers] = True
    return marked


def has_any(segment: str, masks: Collection[str]) -> bool:
    """Tell whether a segment contains one of the masks."""
    for mask in masks:  # noqa: SIM110 (a generator takes three times as long, and this runs for each segment)
        if mask in segment:
            return True
    return False
