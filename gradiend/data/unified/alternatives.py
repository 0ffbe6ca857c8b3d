"""Alternative words where the data names none: drawn from the other class as often as it uses them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gradiend.data.unified.casing import capitalised, capitalised_by_place


@dataclass(frozen=True)
class Vocabulary:
    """The distinct words of one or more classes, as they are written in the middle of a sentence."""

    words: NDArray[np.object_]
    """(v,) in alphabetic order, so that the order of the rows never decides a draw."""
    counts: NDArray[np.int64]
    """(v,) how often each occurs."""

    @classmethod
    def of(cls, spellings_by_class: Iterable[Sequence[str]]) -> Vocabulary:
        """Count words.

        Args:
            spellings_by_class: The words of each class, see `own_spellings`. What differs in case only is one word of
                that class, in its commonest spelling; in two classes it is two words (`sie` and `Sie`).
        """
        total: Counter[str] = Counter()
        for spellings in spellings_by_class:
            # The form itself breaks ties; small letters win.
            forms = sorted(Counter(spellings).items(), key=lambda item: (item[1], item[0]), reverse=True)
            commonest: dict[str, str] = {}
            for form, count in forms:
                total[commonest.setdefault(form.lower(), form)] += count
        words = sorted(total, key=lambda word: (word.lower(), word))
        return cls(np.array(words, dtype=object), np.array([total[word] for word in words], dtype=np.int64))

    def places_of(self, masked: Sequence[str], factual: Sequence[str]) -> NDArray[np.int64]:
        """(n, 2) which words would be a row's own word if written in its place; `len(words)` stands for none."""
        none = len(self.words)
        exact = {word: index for index, word in enumerate(self.words)}
        raised = {capitalised(word): index for index, word in enumerate(self.words) if capitalised(word) != word}
        own = np.full((len(factual), 2), none, dtype=np.int64)
        for row, (text, word) in enumerate(zip(masked, factual, strict=True)):
            own[row, 0] = exact.get(word, none)
            if word in raised and capitalised_by_place(text, word):
                own[row, 1] = raised[word]
        return own


def sample_alternatives(
    masked: Sequence[str], factual: Sequence[str], other: Vocabulary, size: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Draw up to `size` distinct words of the other class for each row, never the row's own word.

    A row's draws follow the words' frequencies without replacement. They are exact: an integer is drawn among
    the occurrences that are still allowed and then shifted over those that are not.

    Args:
        masked: (n,) texts.
        factual: (n,) words that stand in them.
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
    taken = other.places_of(masked, factual)
    n_own = taken.shape[1]
    for _ in range(min(size, unused)):
        left = starts[-1] - counts[taken].sum(axis=1)
        drawn = rng.integers(0, np.maximum(left, 1))
        for column in np.sort(taken, axis=1).T:
            drawn += np.where(drawn >= starts[column], counts[column], 0)
        picked = np.searchsorted(starts[:-1], drawn, side="right") - 1
        taken = np.column_stack([taken, np.where(left > 0, picked, unused)])
    picks = taken[:, n_own:]
    return np.where(picks == unused, -1, picks)
