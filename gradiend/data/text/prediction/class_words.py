"""Found words and the classes that they belong to, as columns of numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradiend.data.text.prediction.block_matcher import MatchedBlock
from gradiend.data.text.prediction.surface_matcher import Hit, SurfaceMatcher, Target
from gradiend.data.text.prediction.tag_resolver import TagResolver
from gradiend.data.text.prediction.word_lookup import Places

OTHER_TAGS = "with a class word that has other tags"


class Label(NamedTuple):
    """A word that stands for a class."""

    class_index: int
    text: str
    """In the casing of the sentence."""
    word: str
    """The target that it spells, in the user's spelling; the text again where a lemma was sought."""
    by_tag: bool
    """Whether its tags decided that it belongs to the class."""


class ClassWords(NamedTuple):
    """The class words of numbered segments, in their order: a row for each class that a word belongs to."""

    number: NDArray[np.int64]
    """Which segment."""
    start: NDArray[np.int64]
    end: NDArray[np.int64]
    label: NDArray[np.int64]
    """Which of the labels."""
    is_shared: NDArray[np.bool_]
    """Whether the word belongs to several classes."""


class Labels:
    """The words that were found so far; each text of a class has a number.

    Args:
        surface: Knows the targets that a text spells.
        resolver: Narrows them to those whose tags hold.
    """

    def __init__(self, surface: SurfaceMatcher, resolver: TagResolver) -> None:
        self.all: list[Label] = []
        self._surface = surface
        self._resolver = resolver
        self._by_text: dict[str, tuple[int, ...]] = {}
        self._by_targets: dict[tuple[str, tuple[Target, ...]], tuple[int, ...]] = {}

    def words_of(self, block: MatchedBlock, dropped: Counter[str]) -> ClassWords:
        """Return the words of a block that count.

        Args:
            block: Its words are read by their surface alone where no class has tags or lemmas.
            dropped: Receives the number of segments with words none of whose tags hold.
        """
        if self._resolver.reader is None:
            places = block.places
            texts = [
                block.segments[number][start:end]
                for number, start, end in zip(*(column.tolist() for column in places), strict=True)
            ]
            for text in set(texts) - self._by_text.keys():
                self._by_text[text] = self._numbers(text, self._surface.targets_of(text))
            return _columns(places, [self._by_text[text] for text in texts])
        found = self._surface.hits_at(block.segments, block.places)
        resolved = self._resolver.resolve_batch(list(zip(block.segments, found, strict=True)))
        dropped[OTHER_TAGS] += sum(bool(hits) and not any(hit.targets for hit in hits) for hits in resolved)
        rows = [(number, hit) for number, hits in enumerate(resolved) for hit in hits]
        columns = np.array([(number, hit.start, hit.end) for number, hit in rows], np.int64).reshape(-1, 3).T
        return _columns(Places(*columns), [self._of_hit(hit) for _, hit in rows])

    def _of_hit(self, hit: Hit) -> tuple[int, ...]:
        key = hit.text, hit.targets
        if key not in self._by_targets:
            self._by_targets[key] = self._numbers(*key)
        return self._by_targets[key]

    def _numbers(self, text: str, targets: Sequence[Target]) -> tuple[int, ...]:
        """The numbers of new labels, one for each class."""
        first = len(self.all)
        for index in dict.fromkeys(target.class_index for target in targets):
            own = [target for target in targets if target.class_index == index]
            # A class may have two words that differ in case only: `sie` and `Sie`.
            word = text if own[0].is_lemma or any(target.word == text for target in own) else own[0].word
            self.all.append(Label(index, text, word, all(target.tags is not None for target in own)))
        return tuple(range(first, len(self.all)))


def _columns(places: Places, labels: Sequence[tuple[int, ...]]) -> ClassWords:
    """Words with the labels of each; those without any are left out."""
    counts = np.fromiter(map(len, labels), np.int64, len(labels))
    flat = np.fromiter(chain.from_iterable(labels), np.int64, int(counts.sum()))
    row = np.repeat(np.arange(len(counts)), counts)
    return ClassWords(places.number[row], places.start[row], places.end[row], flat, counts[row] > 1)
