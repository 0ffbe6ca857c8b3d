"""How sure a correlation is, and how well encodings rank the two classes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Floats = NDArray[np.float64]

N_RESAMPLES = 1000
LEVEL = 0.95
SEED = 0
_CHUNK = 1 << 21


def correlation_interval(
    encoded: Floats, label: Floats, *, n_resamples: int = N_RESAMPLES, level: float = LEVEL, seed: int = SEED
) -> dict[str, Any] | None:
    """A percentile bootstrap interval of the Pearson correlation: rows are drawn with replacement.

    Args:
        encoded: (n,).
        label: (n,).
        n_resamples: Resamples; those with a constant column have no correlation and are left out.
        level: Share of the resamples within the interval.
        seed: Of the resamples.

    Returns:
        low, high, level, n_resamples (those that count); None where no resample has a correlation.
    """
    if encoded.size < 2 or np.ptp(encoded) == 0 or np.ptp(label) == 0:
        return None
    # Standardised, so that the sums below do not lose digits.
    x, y = ((v - v.mean()) / np.abs(v - v.mean()).max() for v in (encoded, label))
    generator = np.random.default_rng(seed)
    rows = max(1, _CHUNK // x.size)
    found = [
        _correlations(x, y, generator.integers(0, x.size, (min(rows, n_resamples - start), x.size)))
        for start in range(0, n_resamples, rows)
    ]
    correlations = np.concatenate(found)
    correlations = correlations[np.isfinite(correlations)]
    if not correlations.size:
        return None
    low, high = np.quantile(correlations, [(1 - level) / 2, (1 + level) / 2])
    return {"low": float(low), "high": float(high), "level": level, "n_resamples": int(correlations.size)}


def roc_auc(encoded: Floats, label: Floats) -> float | None:
    """The probability that a row of label +1 is encoded higher than one of label −1; ties count half.

    The rank statistic of Mann and Whitney: (R₊ − n₊(n₊ + 1)/2) / (n₊ n₋), with R₊ the sum of the mid-ranks of label +1.

    Returns:
        A number in [0, 1]; None unless both labels occur.
    """
    target = label != 0
    positive = label[target] > 0
    n_positive, n_negative = int(positive.sum()), int((~positive).sum())
    if not n_positive or not n_negative:
        return None
    ranks = pd.Series(encoded[target]).rank().to_numpy()
    return float((ranks[positive].sum() - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative))


def _correlations(x: Floats, y: Floats, chosen: NDArray[np.int64]) -> Floats:
    """The correlation of each row of `chosen` (resamples, n); NaN where a column is constant."""
    a, b = x[chosen], y[chosen]
    constant = (np.ptp(a, axis=1) == 0) | (np.ptp(b, axis=1) == 0)
    a -= a.mean(axis=1, keepdims=True)
    b -= b.mean(axis=1, keepdims=True)
    squares = np.einsum("ij,ij->i", a, a) * np.einsum("ij,ij->i", b, b)
    products = np.einsum("ij,ij->i", a, b)
    undefined = constant | (squares == 0)
    return np.where(undefined, np.nan, np.clip(products / np.sqrt(np.where(undefined, 1.0, squares)), -1.0, 1.0))
