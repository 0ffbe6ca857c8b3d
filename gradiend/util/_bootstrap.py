"""The bootstrap over texts: rows of one text are drawn together, because they do not vary independently."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Weights = NDArray[np.integer[Any]]
"""(resamples, rows): how often the text of each row was drawn."""
Interval = tuple[float, float]
Groups = Sequence[Hashable] | NDArray[Any]

N_RESAMPLES = 1000
LEVEL = 0.95
SEED = 0
EQUAL = 1e-9
"""Resampled numbers of the order of 1 that differ by no more than this are equal: the rest is rounding."""
_CHUNK = 1 << 21
"""How many numbers are drawn, or weights used, at once."""


def resampled_weights(groups: Groups, n_resamples: int = N_RESAMPLES, seed: int = SEED) -> Weights:
    """How often each row counts in each resample of its texts (`groups`): an array (resamples, rows)."""
    found = list(weight_chunks(groups, n_resamples, seed))
    return np.concatenate(found) if found else np.zeros((0, len(groups)), np.uint16)


def weight_chunks(groups: Groups, n_resamples: int = N_RESAMPLES, seed: int = SEED) -> Iterator[Weights]:
    """Yield the rows of `resampled_weights`, as many at a time as a moderate amount of memory holds."""
    group_of_row = numbers_of_groups(groups)
    n_groups = int(group_of_row.max(initial=-1)) + 1
    if not n_groups:
        return
    generator = np.random.default_rng(seed)
    rows = max(1, _CHUNK // len(group_of_row))
    for start in range(0, n_resamples, rows):
        size = min(rows, n_resamples - start)
        chosen = generator.integers(0, n_groups, (size, n_groups)) + n_groups * np.arange(size)[:, None]
        counts = np.bincount(chosen.ravel(), minlength=size * n_groups).reshape(size, n_groups)
        yield counts.astype(np.uint16)[:, group_of_row]


def numbers_of_groups(groups: Groups) -> NDArray[np.int64]:
    """The groups as numbers 0, 1, … in the order of their first rows."""
    # A column of objects, because a list of tuples would become a frame with several columns.
    column = pd.Series(np.fromiter(groups, object, len(groups)), dtype=object)
    return pd.factorize(column, use_na_sentinel=False)[0].astype(np.int64)


def interval_of_mean(values: Any, weights: Weights, level: float = LEVEL) -> Interval | None:
    """The percentile interval of a mean over rows; for before → after, give the differences.

    `values` has a number for each row; `level` is the share of the resamples within the interval. Resamples without any
    of the rows are left out. None, not estimable, if the mean does not vary: there is one text, or all values are
    equal.
    """
    return intervals_of_means(np.asarray(values, np.float64)[:, None], weights, level)[0]


def intervals_of_means(values: Floats, weights: Weights, level: float = LEVEL) -> list[Interval | None]:
    """`interval_of_mean` for each column of `values` (rows, columns), all with the same resamples."""
    if not len(values) or not len(weights):
        return [None] * values.shape[1]
    # Centred and scaled, so that rounding is easily told from variation.
    centre = values.mean(axis=0)
    scale = np.abs(values - centre).max(axis=0)
    # Values that differ by rounding alone, such as a difference of sums, are equal.
    varies = np.ptp(values, axis=0) > 1e-12 * np.abs(values).max(axis=0)
    scaled = np.where(varies, (values - centre) / np.where(varies, scale, 1.0), 0.0)
    rows = max(1, _CHUNK // len(values))
    means = []
    for start in range(0, len(weights), rows):
        chosen = weights[start : start + rows].astype(np.float64)
        total = chosen.sum(axis=1)
        means.append((chosen @ scaled)[total > 0] / total[total > 0, None])
    resampled = np.concatenate(means)
    if not len(resampled):
        return [None] * values.shape[1]
    low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2], axis=0)
    estimable = np.ptp(resampled, axis=0) > EQUAL
    return [
        (float(centre[i] + scale[i] * low[i]), float(centre[i] + scale[i] * high[i])) if estimable[i] else None
        for i in range(values.shape[1])
    ]
