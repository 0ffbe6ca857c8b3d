"""Class words sorted into rows: one for each segment and class."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradiend.data.text.prediction.class_words import ClassWords


class SegmentRows(NamedTuple):
    """A row for each segment and class, class by class, in the order of the segments."""

    number: NDArray[np.int64]
    """The segment."""
    owner: NDArray[np.int64]
    """The class."""
    at: NDArray[np.int64]
    """Where its words begin in `order`."""
    n_words: NDArray[np.int64]
    """How many words it has."""
    order: NDArray[np.int64]
    """The words in the order of the rows."""

    @property
    def word(self) -> NDArray[np.int64]:
        """The first word of each row."""
        return self.order[self.at]

    def only(self, wanted: NDArray[np.bool_]) -> SegmentRows:
        """Some of the rows."""
        return SegmentRows(self.number[wanted], self.owner[wanted], self.at[wanted], self.n_words[wanted], self.order)


def sort_into_rows(words: ClassWords, class_of_label: NDArray[np.int64], n: int) -> SegmentRows:
    """Return the rows of `n` segments."""
    key = class_of_label[words.label] * n + words.number
    order = np.argsort(key, kind="stable")
    key = key[order]
    at = np.flatnonzero(np.diff(key, prepend=-1))
    return SegmentRows(key[at] % n, key[at] // n, at, np.diff(at, append=len(key)), order)


def rank_in_class(owners: NDArray[np.int64], counted: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return how many counted rows of the same class come before each row; rows are class by class."""
    before: NDArray[np.int64] = np.cumsum(counted) - counted
    return before - before[np.searchsorted(owners, owners)]
