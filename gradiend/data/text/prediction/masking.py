"""Blocks of segments with class words → masked examples of each class, a row for each class of a segment."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Collection, Sequence
from itertools import compress, pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradiend.data.text.filter_config import TextFilterConfig
from gradiend.data.text.masked_text import mask_places
from gradiend.data.text.prediction.block_matcher import MatchedBlock
from gradiend.data.text.prediction.class_words import ClassWords, Labels
from gradiend.data.text.prediction.disjoint_sets import DisjointSets
from gradiend.data.text.prediction.examples import Examples
from gradiend.data.text.prediction.seen_hashes import SeenHashes
from gradiend.data.text.prediction.segment_rows import SegmentRows, rank_in_class, sort_into_rows
from gradiend.data.text.prediction.text_column import TextColumn

AMBIGUOUS = "with a word that fits several classes"
SEVERAL_CLASSES = "with words of several classes"
HAS_MASK = "with the mask in the text"
DUPLICATE = "repeating a masked text"
CLASS_FULL = "of a class already full"

_SPREAD = np.int64(0x2545F4914F6CDD1D)
"""Moves the hash of a text to another place for each class."""


class Masker:
    """Masks the words of each class in turn, and keeps what is new.

    Memory is that of the kept examples: each text once, in a compact column where pandas has one, the rest in numbers.
    Whether a text is new is told by a hash of 64 bits: in a billion rows, the chance that one text is taken for another
    is three in a hundred.

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
        self._n_sentences = 0
        self._seen = SeenHashes()
        self._texts = [TextColumn() for _ in configs]
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
        rows = sort_into_rows(words, class_of_label, n)
        has_contrast = self._has_contrast(words, rows, n)
        rows = rows.only(self._wanted(block.segments, words, has_contrast)[rows.number])
        sizes = np.array(self.sizes)
        asked = rows.only((sizes < self._limit)[rows.owner])
        masked = self._masked(block.segments, words, asked)
        hashes = np.fromiter(map(hash, masked), np.int64, len(masked))
        is_new = self._seen.add(hashes ^ (asked.owner * _SPREAD))
        is_kept = is_new & (sizes[asked.owner] + rank_in_class(asked.owner, is_new) < self._limit)
        kept = asked.only(is_kept)
        sentence = np.cumsum(_marked(kept.number, n)) - 1 + self._n_sentences
        self._count_dropped(rows.number, asked.number[~is_new], kept.number, n)
        self._keep(kept.owner, list(compress(masked, is_kept.tolist())))
        self._columns.append(
            _Columns(
                kept.owner.astype(np.int16),
                words.label[kept.word].astype(np.int32),
                sentence[kept.number].astype(np.int32),
                hashes[is_kept],
                has_contrast[kept.number],
            )
        )
        self._n_sentences = int(sentence[-1]) + 1
        if self._with_documents:
            self._documents += [block.documents[number] for number in kept.number.tolist()]

    def examples(self) -> list[Examples]:
        """Return the examples of each class, and let go of them."""
        self._seen = SeenHashes()
        owner, label, sentence, text, has_contrast = map(np.concatenate, zip(*self._columns, strict=True))
        self._columns = [_NO_ROWS]
        group = _groups(sentence, text)
        result = []
        for index, texts in enumerate(self._texts):
            own = np.flatnonzero(owner == index)
            documents = [self._documents[row] for row in own.tolist()] if self._with_documents else []
            result.append(
                Examples(texts.take_all(), label[own], self._labels.all, group[own], has_contrast[own], documents)
            )
        return result

    def _keep(self, owners: NDArray[np.int64], masked: Sequence[str]) -> None:
        """Keep the texts of rows that are wanted, class by class."""
        ends = np.searchsorted(owners, np.arange(len(self._texts)), side="right").tolist()
        for texts, (start, end) in zip(self._texts, pairwise([0, *ends]), strict=True):
            texts.extend(masked[start:end])

    def _has_contrast(self, words: ClassWords, rows: SegmentRows, n: int) -> NDArray[np.bool_]:
        """Which segments have words of several classes, not all told apart by tags."""
        is_plain = ~np.array([label.by_tag for label in self._labels.all], bool)[words.label]
        return (np.bincount(rows.number, minlength=n) > 1) & _marked(words.number[is_plain], n)

    def _wanted(self, segments: Sequence[str], words: ClassWords, has_contrast: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Which segments are kept as far as their own words say."""
        n = len(segments)
        wanted = _marked(words.number, n)
        has_mask = np.zeros(n, bool)
        if has_any("\n".join(segments), self._masks):
            has_mask = np.fromiter((has_any(segment, self._masks) for segment in segments), bool, n)
        reasons = {HAS_MASK: has_mask}
        if not self._keep_several:
            reasons = {AMBIGUOUS: _marked(words.number[words.is_shared], n), SEVERAL_CLASSES: has_contrast, **reasons}
        for reason, applies in reasons.items():
            self.dropped[reason] += int((wanted & applies).sum())
            wanted &= ~applies
        return wanted

    def _masked(self, segments: Sequence[str], words: ClassWords, rows: SegmentRows) -> list[str]:
        """The segment of each row with the words of its class masked."""
        masks = [config.mask for config in self._configs]
        starts, ends = words.start[rows.order], words.end[rows.order]
        texts = [segments[number] for number in rows.number.tolist()]
        owners = rows.owner.tolist()
        first = zip(texts, owners, starts[rows.at].tolist(), ends[rows.at].tolist(), strict=True)
        masked = [f"{text[:start]}{masks[owner]}{text[end:]}" for text, owner, start, end in first]
        several = np.flatnonzero(rows.n_words > 1)
        bounds = zip(rows.at[several].tolist(), (rows.at + rows.n_words)[several].tolist(), strict=True)
        starts, ends = starts.tolist(), ends.tolist()
        for row, (one, other) in zip(several.tolist(), bounds, strict=True):
            masked[row] = mask_places(texts[row], starts[one:other], ends[one:other], masks[owners[row]])
        return masked

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

    owner: NDArray[np.int16]
    label: NDArray[np.int32]
    sentence: NDArray[np.int32]
    text: NDArray[np.int64]
    """A hash of the masked text."""
    has_contrast: NDArray[np.bool_]


_NO_ROWS = _Columns(*(np.zeros(0, kind) for kind in (np.int16, np.int32, np.int32, np.int64, bool)))


def _groups(sentence: NDArray[np.int32], text: NDArray[np.int64]) -> NDArray[np.int32]:
    """What must be in one split: the rows of a sentence, and those of a masked text that several classes have.

    Args:
        sentence: Of each row.
        text: A hash of the masked text of each row.
    """
    ordered = np.sort(text)
    shared = np.unique(ordered[1:][np.diff(ordered) == 0])
    rows = np.flatnonzero(np.isin(text, shared))
    joined: DisjointSets[int] = DisjointSets()
    first: dict[int, int] = {}
    for key, number in zip(text[rows].tolist(), sentence[rows].tolist(), strict=True):
        joined.join(first.setdefault(key, number), number)
    group_of = np.arange(sentence.max(initial=-1) + 1, dtype=np.int32)
    for number in joined:
        group_of[number] = joined.root(number)
    return group_of[sentence]


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
