"""Splits into training, validation and test: at the given ratios in each class, and no text in two of them."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from gradiend.util._checks import require_number, require_text


@dataclass(frozen=True)
class SplitRatios:
    """Shares of the three splits.

    Raises ValueError for a share outside [0, 1], shares that do not sum to 1, or two splits of one name, and TypeError
    for a share that is no number, or a name that is no string.
    """

    train: float
    validation: float
    test: float
    train_name: str = "train"
    """Name of the first split."""

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
        """The names of the splits in the column of splits."""
        return self.train_name, "validation", "test"

    @property
    def shares(self) -> tuple[float, float, float]:
        """The shares in the order of `names`."""
        return self.train, self.validation, self.test


def assign_splits(
    groups: Sequence[NDArray[np.int32]], ratios: SplitRatios, rng: random.Random
) -> list[NDArray[np.int8]]:
    """Choose for each class the split of every row, as a number in the order of `ratios.names`.

    Rows of one group (a whole number) go to one split. Groups of several rows come first, the largest before the
    others, each in the split that has most room for its classes. The other rows of each class then fill up its splits,
    so that only a class with few rows of its own can miss its sizes.
    """
    generator = np.random.default_rng(rng.getrandbits(64))
    sizes = [len(own) for own in groups]
    group = np.concatenate(groups)
    n_rows = np.bincount(group)
    is_shared = n_rows > 1
    wanted = np.array([apportion(size, ratios.shares) for size in sizes])
    split = np.zeros(len(n_rows), np.int8)

    shared = generator.permutation(np.flatnonzero(is_shared))  # random among equals
    shared = shared[np.argsort(-n_rows[shared], kind="stable")]
    owner = np.repeat(np.arange(len(groups), dtype=np.int16), sizes)[is_shared[group]]
    owners = owner[np.argsort(group[is_shared[group]], kind="stable")].tolist()
    ends = np.cumsum(n_rows * is_shared)
    spans = zip((ends - n_rows)[shared].tolist(), ends[shared].tolist(), strict=True)
    split[shared] = _to_roomiest((owners[start:end] for start, end in spans), wanted, ratios.shares)

    for own, open_counts in zip(groups, wanted, strict=True):
        alone = ~is_shared[own]
        left = open_counts - np.bincount(split[own[~alone]], minlength=len(open_counts))
        counts = [max(0, int(count)) for count in left]
        # Where shared texts overfilled a split, the fullest split gives way.
        while sum(counts) > alone.sum():
            counts[counts.index(max(counts))] -= 1
        split[generator.permutation(own[alone])] = np.repeat(np.arange(len(counts)), counts)
    return [split[own] for own in groups]


def apportion(n: int, shares: Sequence[float]) -> list[int]:
    """Divide `n` things by largest remainders; each share above 0 gets at least one thing, where there are enough."""
    exact = [n * share for share in shares]
    counts = [math.floor(value + 1e-9) for value in exact]
    by_remainder = sorted(range(len(shares)), key=lambda split: exact[split] - counts[split], reverse=True)
    for split in by_remainder[: n - sum(counts)]:
        counts[split] += 1
    wanted = [split for split, share in enumerate(shares) if share > 0]
    if n >= len(wanted):
        for split in wanted:
            if counts[split] == 0:
                counts[counts.index(max(counts))] -= 1
                counts[split] = 1
    return counts


def _to_roomiest(
    owners_of_each: Iterable[Sequence[int]], wanted: NDArray[np.int64], shares: Sequence[float]
) -> list[int]:
    """Choose the split of each group in which the squared distance from the wanted sizes, in their unit, falls most."""
    unit = np.maximum(wanted, 1)
    step = (1 / unit).T.tolist()
    # A row brings (2 · missing − 1) / wanted; half of it is kept.
    room = ((wanted - 0.5) / unit).T.tolist()
    sized = [split for split, share in enumerate(shares) if share > 0]
    result = []
    for owners in owners_of_each:
        best, most = sized[0], -math.inf
        for split in sized:
            own = room[split]
            total = 0.0
            for owner in owners:
                total += own[owner]
            if total > most:
                best, most = split, total
        result.append(best)
        for owner in owners:
            room[best][owner] -= step[best][owner]
    return result


def assign_splits_by_document(
    documents: Sequence[Sequence[object]], groups: Sequence[NDArray[np.int32]], ratios: SplitRatios, rng: random.Random
) -> list[NDArray[np.int8]]:
    """Do what `assign_splits` does, so that no document and no group is in two splits.

    Documents that share a group stay together. The largest document is assigned first, each to the split in which it
    brings the classes closest to their ratios. Rows whose document is None stay together by their groups alone.
    """
    parents: dict[tuple[str, object], tuple[str, object]] = {}
    for own, numbers in zip(documents, groups, strict=True):
        for document, group in zip(own, numbers.tolist(), strict=True):
            if document is not None:
                parents[root_of(parents, ("document", str(document)))] = root_of(parents, ("group", group))
    roots = [[root_of(parents, ("group", group)) for group in numbers.tolist()] for numbers in groups]
    sizes: dict[tuple[str, object], Counter[int]] = {}
    for index, own_roots in enumerate(roots):
        for root in own_roots:
            sizes.setdefault(root, Counter())[index] += 1

    order = list(sizes)
    rng.shuffle(order)
    order.sort(key=lambda root: sizes[root].total(), reverse=True)
    wanted = {split: [share * len(own) for own in groups] for split, share in enumerate(ratios.shares) if share > 0}
    missing = {split: list(counts) for split, counts in wanted.items()}
    split_of: dict[tuple[str, object], int] = {}
    for root in order:
        # how far the squared distance from the wanted sizes falls, relative to these sizes
        def gain(split: int, size: Mapping[int, int] = sizes[root]) -> float:
            return sum(n * (2 * missing[split][index] - n) / wanted[split][index] for index, n in size.items())

        best = max(missing, key=gain)
        split_of[root] = best
        for index, n in sizes[root].items():
            missing[best][index] -= n
    return [np.array([split_of[root] for root in own], np.int8) for own in roots]


Thing = TypeVar("Thing", bound=Hashable)


def root_of(parents: dict[Thing, Thing], item: Thing) -> Thing:
    """Return the item that stands for the group of `item`, where `parents` joins items; a new item is its own group."""
    path = []
    while (parent := parents.setdefault(item, item)) != item:
        path.append(item)
        item = parent
    parents.update(dict.fromkeys(path, item))
    return item


Balance: TypeAlias = Literal["try", "strict"] | bool | None


def parse_balance(balance: Balance) -> Literal["classes", "words"] | None:
    """Tell what to balance: `"try"` and True classes, `"strict"` words too, False and None nothing.

    Anything else is a ValueError.
    """
    if balance == "try" or balance is True:
        return "classes"
    if balance == "strict":
        return "words"
    if balance is False or balance is None:
        return None
    raise ValueError(f"balance must be 'try', 'strict', True, False or None, got {balance!r}.")


def balanced_counts(counts: Sequence[int], weights: Sequence[float]) -> list[int]:
    """Return the largest class sizes that are in proportion to the weights, rounded down and at least 1."""
    unit = min(count / weight for count, weight in zip(counts, weights, strict=True))
    return [max(1, min(count, math.floor(unit * weight + 1e-9))) for count, weight in zip(counts, weights, strict=True)]
