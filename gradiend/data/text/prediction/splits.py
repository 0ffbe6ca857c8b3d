"""Training, validation and test parts: class by class, and no text in two of them."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gradiend.util.checks import require_number, require_text


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
    texts_by_class: Mapping[str, Sequence[str]], ratios: SplitRatios, rng: random.Random
) -> dict[str, list[str]]:
    """Choose the split of every text, by class at the given ratios.

    A text that occurs in several classes (`"[MASK] left."`), or more than once in a class, goes to one split. Those
    texts are divided first, each to the part that has most room in its classes; each class's other texts then fill
    its parts, so that only a class with few texts of its own can miss its sizes.

    Args:
        texts_by_class: Class to its texts.
        ratios: Shares of the parts.
        rng: Source of the random choice.

    Returns:
        Class to split names, aligned with its texts.
    """
    owners: dict[str, tuple[str, ...]] = {}
    for name, texts in texts_by_class.items():
        alone = (name,)
        for text in texts:
            others = owners.get(text)
            owners[text] = alone if others is None else (*others, name)
    groups: dict[tuple[str, ...], list[str]] = {}
    for text, names in owners.items():
        groups.setdefault(names, []).append(text)

    open_counts = {
        name: apportion(len(texts), ratios.shares, keep_nonempty=True) for name, texts in texts_by_class.items()
    }
    wanted = {name: list(counts) for name, counts in open_counts.items()}
    split_of: dict[str, str] = {}
    for names in sorted(groups, key=len, reverse=True):
        texts = groups[names]
        rng.shuffle(texts)
        if len(names) > 1:
            for text in texts:
                part = _roomiest(names, open_counts, wanted)
                split_of[text] = ratios.names[part]
                for name in names:
                    open_counts[name][part] -= 1
            continue
        counts = _fill(open_counts[names[0]], len(texts))
        labels = [split for split, count in zip(ratios.names, counts, strict=True) for _ in range(count)]
        split_of.update(zip(texts, labels, strict=True))
    return {name: [split_of[text] for text in texts] for name, texts in texts_by_class.items()}


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


def _roomiest(names: Sequence[str], open_counts: Mapping[str, list[int]], wanted: Mapping[str, list[int]]) -> int:
    """The part that has most room left in some classes, relative to its size; never one without any size."""
    sized = [part for part in range(len(wanted[names[0]])) if any(wanted[name][part] for name in names)]
    return max(sized, key=lambda part: sum(open_counts[name][part] / max(wanted[name][part], 1) for name in names))


def _fill(open_counts: Sequence[int], n: int) -> list[int]:
    """Use up what is open; what shared texts have overfilled is taken from the part with the most left."""
    counts = [max(0, count) for count in open_counts]
    while sum(counts) > n:
        counts[counts.index(max(counts))] -= 1
    return counts
