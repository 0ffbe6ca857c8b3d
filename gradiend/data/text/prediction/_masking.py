"""Segments with class words become masked examples: a row for each class of a segment."""

from __future__ import annotations

import sys
from array import array
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gradiend.data.core._splits import root_of
from gradiend.data.text._neutral_masking import WORD
from gradiend.data.text.filter_config import TextFilterConfig
from gradiend.data.text.prediction._matcher import SurfaceMatcher, Target, mask_places
from gradiend.data.text.prediction._tag_resolver import TagResolver
from gradiend.data.text.prediction._word_lookup import Places
from gradiend.data.unified._parsed_tables import DOCUMENT

OTHER_TAGS = "with a class word that has other tags"
AMBIGUOUS = "with a word that fits several classes"
SEVERAL_CLASSES = "with words of several classes"
HAS_MASK = "with the mask in the text"
DUPLICATE = "repeating a masked text"
CLASS_FULL = "of a class already full"
SHORT_LEFT = "with too few words to the left"


class _SegmentWords(NamedTuple):
    """The class words of a segment."""

    number: int
    """Which segment of its block."""
    places: dict[int, tuple[list[int], list[int], int]]
    """Class → the begins and the ends of its words, and the label of the first."""
    is_shared: bool
    """Whether a word belongs to several classes."""
    is_plain: bool
    """Whether some word has its class without a tag that decides so."""

    @property
    def has_contrast(self) -> bool:
        """Whether the words are of several classes, not all told apart by tags."""
        return len(self.places) > 1 and self.is_plain

    @property
    def reason_to_drop(self) -> str | None:
        """Why the segment is dropped if segments with words of several classes are not kept."""
        return AMBIGUOUS if self.is_shared else SEVERAL_CLASSES if self.has_contrast else None


@dataclass(frozen=True)
class MaskingRules:
    """Which segments become examples."""

    masks: Collection[str]
    """Masks; a segment that contains one of these already is dropped."""
    limit: int | None
    """How many examples a class has at most; None keeps all."""
    keep_several: bool
    """Whether segments with words of several classes are kept. Otherwise they are dropped, since a word that stays
    tells the class of the masked word, unless tags decide the class of every word: the article of one noun says nothing
    about the article of another."""
    with_documents: bool
    """Whether examples have a column with their documents."""
    min_left: Sequence[int] = ()
    """How many words must stand before the first masked word, for each class; empty asks for none."""


class Masker:
    """Masks the words of each class in turn, and keeps new examples: a segment gives an example for each class in it.

    Memory grows with the examples that are kept, not with the corpus.
    """

    def __init__(self, configs: Sequence[TextFilterConfig], resolver: TagResolver, rules: MaskingRules) -> None:
        reasons = [HAS_MASK, DUPLICATE, CLASS_FULL, *([SHORT_LEFT] if any(rules.min_left) else [])]
        reasons = reasons if rules.keep_several else [AMBIGUOUS, SEVERAL_CLASSES, *reasons]
        reasons = reasons if resolver.reader is None else [OTHER_TAGS, *reasons]
        self.configs, self.resolver, self.rules = configs, resolver, rules
        self.surface = SurfaceMatcher(configs)
        self.dropped: Counter[str] = Counter(dict.fromkeys(reasons, 0))
        self._limit = sys.maxsize if rules.limit is None else rules.limit
        # A label is a found text that stands for a class. The next four lists have an entry for each label.
        self._label_texts: list[str] = []
        self._label_words: list[str] = []
        self._owners: list[int] = []
        self._by_tag: list[bool] = []
        self._labels_of: dict[str | tuple[str, tuple[Target, ...]], tuple[int, ...]] = {}
        self._n_sentences = 0
        self._seen: list[set[str]] = [set() for _ in configs]
        self._texts: list[list[str]] = [[] for _ in configs]
        # The class, label, sentence, hash and contrast of each row, one after the other: objects would take most of the
        # memory, and of the time in which garbage is collected.
        self._numbers = array("q")
        self._documents: list[object] = []

    @property
    def sizes(self) -> list[int]:
        """How many examples each class has."""
        return list(map(len, self._texts))

    @property
    def is_full(self) -> bool:
        """Whether every class has as many examples as are wanted."""
        return min(self.sizes) >= self._limit

    def add(self, segments: Sequence[str], documents: Sequence[object], places: Places) -> None:
        """Make the examples of a block of segments with the words found in them."""
        is_open = [size < self._limit for size in self.sizes]
        masks, keep_several = self.rules.masks, self.rules.keep_several
        some_mask, some_short = has_any("\n".join(segments), masks), any(self.rules.min_left)
        kept: list[list[tuple[str, int, int, bool, object]]] = [[] for _ in self._texts]
        for words in self._words_of(segments, places):
            segment = segments[words.number]
            reason = None if keep_several else words.reason_to_drop
            reason = HAS_MASK if reason is None and some_mask and has_any(segment, masks) else reason
            if reason is not None:
                self.dropped[reason] += 1
                continue
            is_kept = is_repeated = is_short = False
            for owner, (starts, ends, label) in words.places.items():
                if not is_open[owner]:
                    continue
                if some_short and len(WORD.findall(segment, 0, starts[0])) < self.rules.min_left[owner]:
                    is_short = True
                    continue
                masked = mask_places(segment, starts, ends, self.configs[owner].mask)
                seen = self._seen[owner]
                if masked in seen:
                    is_repeated = True
                    continue
                seen.add(masked)
                if len(self._texts[owner]) + len(kept[owner]) < self._limit:
                    row = masked, label, self._n_sentences, words.has_contrast, documents[words.number]
                    kept[owner].append(row)
                    is_kept = True
            self._n_sentences += is_kept
            if not is_kept:
                self.dropped[DUPLICATE if is_repeated else SHORT_LEFT if is_short else CLASS_FULL] += 1
        for owner, rows in enumerate(kept):  # class by class: the draw of splits depends on the order of the rows
            for masked, label, sentence, has_contrast, document in rows:
                self._texts[owner].append(masked)
                self._numbers.extend((owner, label, sentence, hash(masked), has_contrast))
                if self.rules.with_documents:
                    self._documents.append(document)

    def examples(self) -> list[pd.DataFrame]:
        """Return the examples of each class in corpus order, and release their memory.

        The columns are masked; label, the first masked word in the casing of the sentence; word, the target that the
        label spells; group, a number that is equal for rows that must be in one split, since they share a sentence or a
        masked text; has_contrast, whether the sentence shows a word of another class; on request document.
        """
        self._seen.clear()
        owner, label, sentence, text, has_contrast = np.array(self._numbers).reshape(-1, 5).T
        group = _groups(sentence, text)
        labels, words = (pd.Series(texts, dtype=str).array for texts in (self._label_texts, self._label_words))
        frames = []
        for index, texts in enumerate(self._texts):
            own = np.flatnonzero(owner == index)
            columns = {
                "masked": pd.Series(texts, dtype=str), "label": labels.take(label[own]), "word": words.take(label[own]),
                "group": group[own], "has_contrast": has_contrast[own] > 0,
            }  # fmt: skip
            if self.rules.with_documents:
                columns[DOCUMENT] = pd.Series([self._documents[row] for row in own.tolist()], dtype=object)
            frames.append(pd.DataFrame(columns))
            texts.clear()
        return frames

    def _words_of(self, segments: Sequence[str], found_at: Places) -> Iterator[_SegmentWords]:
        """Yield the class words of each segment that has some, without words whose tags do not hold."""
        for number, found in groupby(self._found(segments, found_at), itemgetter(0)):
            places: dict[int, tuple[list[int], list[int], int]] = {}
            is_shared = is_plain = False
            for _, start, end, labels in found:
                if len(labels) > 1:
                    is_shared = True
                for label in labels:
                    owner = self._owners[label]
                    if owner in places:
                        places[owner][0].append(start)
                        places[owner][1].append(end)
                    else:
                        places[owner] = [start], [end], label
                    if not self._by_tag[label]:
                        is_plain = True
            if places:
                yield _SegmentWords(number, places, is_shared, is_plain)

    def _found(self, segments: Sequence[str], places: Places) -> Iterator[tuple[int, int, int, tuple[int, ...]]]:
        """Yield the segment, begin, end and labels of each word; a word whose tags do not hold has no labels."""
        if self.resolver.reader is None:
            for number, start, end in zip(*(column.tolist() for column in places), strict=True):
                text = segments[number][start:end]
                if text not in self._labels_of:
                    self._labels_of[text] = self._new_labels(text, self.surface.targets_of(text))
                yield number, start, end, self._labels_of[text]
            return
        hits = self.surface.hits_at(segments, places)
        for number, own in enumerate(self.resolver.resolve_batch(list(zip(segments, hits, strict=True)))):
            self.dropped[OTHER_TAGS] += bool(own) and not any(hit.targets for hit in own)
            for hit in own:
                key = hit.text, hit.targets
                if key not in self._labels_of:
                    self._labels_of[key] = self._new_labels(*key)
                yield number, hit.start, hit.end, self._labels_of[key]

    def _new_labels(self, text: str, targets: Sequence[Target]) -> tuple[int, ...]:
        """Add a label for each class of a text, and return their numbers."""
        first = len(self._owners)
        for index in dict.fromkeys(target.class_index for target in targets):
            own = [target for target in targets if target.class_index == index]
            # A class may have two words that differ in case only: `sie` and `Sie`. The form of a lemma stays as it is.
            word = text if own[0].is_lemma or any(target.word == text for target in own) else own[0].word
            self._label_texts.append(text)
            self._label_words.append(word)
            self._owners.append(index)
            self._by_tag.append(all(target.tags is not None for target in own))
        return tuple(range(first, len(self._owners)))


def _groups(sentence: NDArray[np.int64], text: NDArray[np.int64]) -> NDArray[np.int32]:
    """Number the groups of rows that must be in one split: they share a sentence, or the hash of a masked text."""
    ordered = np.sort(text)
    shared = np.unique(ordered[1:][np.diff(ordered) == 0])
    rows = np.flatnonzero(np.isin(text, shared))
    parents: dict[int, int] = {}
    first: dict[int, int] = {}
    for key, number in zip(text[rows].tolist(), sentence[rows].tolist(), strict=True):
        parents[root_of(parents, first.setdefault(key, number))] = root_of(parents, number)
    group_of = np.arange(sentence.max(initial=-1) + 1, dtype=np.int32)
    for number in parents:
        group_of[number] = root_of(parents, number)
    return group_of[sentence]


def has_any(segment: str, masks: Collection[str]) -> bool:
    """Tell whether a segment contains one of the masks."""
    for mask in masks:  # noqa: SIM110 (a generator takes three times as long, and this runs for each segment)
        if mask in segment:
            return True
    return False
