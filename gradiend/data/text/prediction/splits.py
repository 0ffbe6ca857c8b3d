"""Training, validation and test parts: class by class, and no text in two of them."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gradiend.util._checks import require_number, require_text


@dataclass(frozen=True)
class SplitRatios:
    """Shares of the three parts.

    Raises:
        ValueError: A share outside [0, 1], shares that do not sum to 1, or two parts with one name.
        TypeError: A share that is no number, a name that is no string.
    """

    train: float
    validation: float
    test: float
    train_name: str = "train"
    """What the first part is called."""

    def __post_init__(self) -> None:
        for name, share in (("train_ratio", self.train), ("val_ratio", self.validation), ("test_ratio", self.test)):
            require_number(name, share)
        require_text("split_name", self.train_name)
        given = f"train_ratio={self.train}, val_ratio={self.validation}, test_ratio={self.test}"
        if not all(0 <= share <= 1 for share in self.shares):
            raise ValueError(f"Each ratio is a share between 0 and 1 (0.8, not 80), got {given}.")
        if not math.isclose(sum(self.shares), 1.0, abs_tol=1e-6):
            raise ValueError(f"The ratios must sum to 1, but {given} sum to {sum(self.shares):g}.")
        if self.train_name in self.names[1:]:
            raise ValueError(
                f"split_name names the training part and cannot be {self.train_name!r}, which is another part."
            )

    @property
    def names(self) -> tuple[str, str, str]:
        """What the parts are called in the column split."""
        return self.train_name, "validation", "test"

    @property
    def shares(self) -> tuple[float, float, float]:
        """The shares in the order of `names`."""
        return self.train, self.validation, self.test


def assign_splits(
    groups: Sequence[NDArray[np.int32]], ratios: SplitRatios, rng: random.Random
) -> list[NDArray[np.int8]]:
    """Choose the split of every row, by class at the given ratios.

    Rows of one group go to one split. Groups of several rows are divided first, the largest before the others, each to
    the part that has most room in its classes; each class's other rows then fill its parts, so that only a class with
    few rows of its own can miss its sizes.

    Args:
        groups: Of each class, the group of each row: whole numbers from 0 on, not all of which need occur.
        ratios: Shares of the parts.
        rng: Source of the random choice.

    Returns:
        Of each class, the number of each row's part, in the order of `ratios.names`.
    """
    generator = np.random.default_rng(rng.getrandbits(64))
    sizes = [len(own) for own in groups]
    group = np.concatenate(groups)
    n_rows = np.bincount(group)
    is_shared = n_rows > 1
    wanted = np.array([apportion(size, ratios.shares, keep_nonempty=True) for size in sizes])
    part = np.zeros(len(n_rows), np.int8)

    shared = generator.permutation(np.flatnonzero(is_shared))  # random among equals
    shared = shared[np.argsort(-n_rows[shared], kind="stable")]
    owner = np.repeat(np.arange(len(groups), dtype=np.int16), sizes)[is_shared[group]]
    owners = owner[np.argsort(group[is_shared[group]], kind="stable")].tolist()
    ends = np.cumsum(n_rows * is_shared)
    spans = zip((ends - n_rows)[shared].tolist(), ends[shared].tolist(), strict=True)
    part[shared] = _to_roomiest((owners[start:end] for start, end in spans), wanted, ratios.shares)

    for own, open_counts in zip(groups, wanted, strict=True):
        alone = ~is_shared[own]
        counts = _fill(open_counts - np.bincount(part[own[~alone]], minlength=len(open_counts)), int(alone.sum()))
        part[generator.permutation(own[alone])] = np.repeat(np.arange(len(counts)), counts)
    return [part[own] for own in groups]


def apportion(n: int, shares: Sequence[float], *, keep_nonempty: bool = False) -> list[int]:
    """Divide `n` things by largest remainders.

    Args:
        n: Number of things.
        shares: Shares that sum to 1.
        keep_nonempty: Give each share above 0 at least one thing, where there are enough.

    Returns:
        Counts that sum to `n`.
    """
    exact = [n * share for share in shares]
    counts = [math.floor(value + 1e-9) for value in exact]
    by_remainder = sorted(range(len(shares)), key=lambda part: exact[part] - counts[part], reverse=True)
    for part in by_remainder[: n - sum(counts)]:
        counts[part] += 1
    wanted = [part for part, share in enumerate(shares) if share > 0]
    if keep_nonempty and n >= len(wanted):
        for part in wanted:
            if counts[part] == 0:
                counts[counts.index(max(counts))] -= 1
                counts[part] = 1
    return counts


def _to_roomiest(
    owners_of_each: Iterable[Sequence[int]], wanted: NDArray[np.int64], shares: Sequence[float]
) -> list[int]:
    """The part of each group: where the squared distance from what is wanted of its rows' classes falls most, in units
    of what is wanted."""
    unit = np.maximum(wanted, 1)
    step = (1 / unit).T.tolist()
    # A row brings (2 · missing − 1) / wanted; half of it is kept.
    room = ((wanted - 0.5) / unit).T.tolist()
    sized = [part for part, share in enumerate(shares) if share > 0]
    result = []
    for owners in owners_of_each:
        best, most = sized[0], -math.inf
        for part in sized:
            own = room[part]
            total = 0.0
            for owner in owners:
                total += own[owner]
            if total > most:
                best, most = part, total
        result.append(best)
        for owner in owners:
            room[best][owner] -= step[best][owner]
    return result


def _fill(open_counts: Sequence[int], n: int) -> list[int]:
    """Use up what is open; what shared texts have overfilled is taken from the part with the most left."""
    counts = [max(0, int(count)) for count in open_counts]
    while sum(counts) > n:
        counts[counts.index(max(counts))] -= 1
    return counts
