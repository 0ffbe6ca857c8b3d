"""Alternative words where the data names none: drawn from the other class as often as it uses them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray


@dataclass(frozen=True)
class Vocabulary:
    """The distinct words of a class, ignoring case."""

    words: NDArray[np.object_]
    """(v,) each word in its most frequent casing."""
    lowered: pd.Index
    """(v,) the same words in lower case."""
    counts: NDArray[np.int64]
    """(v,) how often each occurs, in any casing."""

    @classmethod
    def of(cls, words: pd.Series) -> Vocabulary:
        """Count the words of a class."""
        forms = words.value_counts().rename_axis("form").reset_index(name="count")
        # The form itself breaks ties, so that the order of the rows never decides; small letters win.
        forms = forms.sort_values(["count", "form"], ascending=False, kind="stable")
        forms["lowered"] = forms["form"].str.lower()
        grouped = forms.groupby("lowered", sort=True).agg(form=("form", "first"), count=("count", "sum"))
        return cls(
            words=grouped["form"].to_numpy(dtype=object),
            lowered=grouped.index,
            counts=grouped["count"].to_numpy(dtype=np.int64),
        )


def sample_alternatives(
    factual: pd.Series, other: Vocabulary, size: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Draw up to `size` distinct words of the other class for each row, never the row's own word.

    A row's draws follow the words' frequencies without replacement. They are exact: an integer is drawn among
    the occurrences that are still allowed and then shifted over those that are not.

    Args:
        factual: (n,) words that stand in the texts.
        other: The words of the other class.
        size: How many words a row shall get.
        rng: Source of randomness.

    Returns:
        (n, m) indices into `other.words`, m ≤ size; -1 where no word was left.
    """
    unused = len(other.words)
    starts = np.cumsum(other.counts) - other.counts
    # One entry more, of weight 0 behind all others, stands for "no word".
    starts = np.append(starts, other.counts.sum())
    counts = np.append(other.counts, 0)
    own = other.lowered.get_indexer(pd.Index(factual.str.lower()))
    taken = np.where(own < 0, unused, own).astype(np.int64)[:, None]
    for _ in range(min(size, unused)):
        left = starts[-1] - counts[taken].sum(axis=1)
        drawn = rng.integers(0, np.maximum(left, 1))
        for column in np.sort(taken, axis=1).T:
            drawn += np.where(drawn >= starts[column], counts[column], 0)
        picked = np.searchsorted(starts[:-1], drawn, side="right") - 1
        taken = np.column_stack([taken, np.where(left > 0, picked, unused)])
    picks = taken[:, 1:]
    return np.where(picks == unused, -1, picks)
