"""How many rows of each class are kept."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, TypeAlias

Balance: TypeAlias = Literal["try"] | bool | None


def parse_balance(balance: Balance) -> bool:
    """Tell whether to balance: `"try"` and True do, False and None keep everything; else a ValueError."""
    if balance == "try" or balance is True:
        return True
    if balance is False or balance is None:
        return False
    raise ValueError(f"balance must be 'try', True, False or None, got {balance!r}.")


def balanced_counts(counts: Sequence[int], weights: Sequence[float]) -> list[int]:
    """Return the largest class sizes that are in proportion to the weights.

    Args:
        counts: Rows that each class has, at least 1.
        weights: Relative sizes; equal weights give every class the size of the smallest.

    Returns:
        Sizes, rounded down and at least 1; one class at least keeps all it has.
    """
    unit = min(count / weight for count, weight in zip(counts, weights, strict=True))
    return [max(1, min(count, math.floor(unit * weight + 1e-9))) for count, weight in zip(counts, weights, strict=True)]
