"""From encodings to cells: orientation, means, intervals and null levels.

Orientation goes by class, not by a label column: each GRADIEND gets the sign with which the texts of its first class
encode higher than those of its second class, whatever word its source reads. A GRADIEND and the same one inverted
therefore have the same cells.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gradiend.comparison._encoded import Encoded
from gradiend.comparison._pool import Flags
from gradiend.util._bootstrap import EQUAL, LEVEL, N_RESAMPLES, weight_chunks

Floats = NDArray[np.float64]
Cells = Callable[[Floats], Floats]
"""Means (L, features, columns) → cells (L, rows, columns)."""


@dataclass(frozen=True, eq=False)
class Measured:
    """Cells, each with what is known of it."""

    matrix: Floats
    """(rows, columns); NaN where nothing was encoded."""
    interval: list[list[list[float] | None]]
    """[low, high] of each cell, or None where the cell does not vary."""
    null_level: list[list[float | None]] | None
    """What 95 % of the null GRADIENDs stay below, as absolute values."""
    signs: NDArray[np.float64]
    """(M,): the orientation of each model."""


def orientation(encoded: Encoded, values: Floats, first: Sequence[bool] | None = None) -> Floats:
    """The sign of each model, (L, M), for encodings (L, M, rows).

    Without own texts of both classes, it is the sign that the training gave the model.

    Args:
        encoded: The features and their rows.
        values: The encodings.
        first: For each feature, whether its first class should be positive; False turns it round. Default: always.
    """
    signs = np.ones(values.shape[:2])
    groups = encoded.pool.sides(encoded.features)
    models = [model for feature in encoded.features for model in feature.models]
    for number, own in enumerate(encoded.owner):
        feature, (positive, negative) = encoded.features[own], (group[:, own] for group in groups)
        if positive.any() and negative.any():
            difference = values[:, number, positive].mean(axis=1) - values[:, number, negative].mean(axis=1)
        else:
            direction = models[number].feature_class_encoding_direction or {}
            difference = np.full(len(values), float(direction.get(feature.classes[0], 1)))
        signs[:, number] = np.where(difference < 0, -1.0, 1.0)
        if first is not None and not first[own]:
            signs[:, number] *= -1
    return signs


def means(encoded: Encoded, values: Floats, columns: Flags, weights: Floats | None = None, *, owned: bool) -> Floats:
    """The mean encoding of each feature in each column, the mean of its seeds' means: (L, features, columns).

    Args:
        encoded: The features and their rows.
        values: Oriented encodings (L, M, rows); (1, M, rows) with `weights`.
        columns: (rows, columns): which rows of the pool count in which column.
        weights: How often each row counts, (L, rows).
        owned: Whether a feature counts only its own rows.
    """
    n_columns = columns.shape[1]
    result = np.full((len(values) if weights is None else len(weights), values.shape[1], n_columns), np.nan)
    for column in range(n_columns):
        rows = np.flatnonzero(columns[:, column])
        # (M, rows of the column)
        counted = encoded.pool.owned[rows][:, encoded.owner].T.astype(np.float64) if owned else None
        some = values[:, :, rows] if counted is None else values[:, :, rows] * counted
        if counted is None:
            counted = np.ones(some.shape[1:])
        if weights is None:
            total, size = some.sum(axis=2), counted.sum(axis=1)[None]
        else:
            total, size = weights[:, rows] @ some[0].T, weights[:, rows] @ counted.T
        np.divide(total, size, out=result[:, :, column], where=size > 0)
    starts = np.flatnonzero(np.diff(encoded.owner, prepend=-1))
    sizes = np.diff([*starts, len(encoded.owner)])
    return np.add.reduceat(result, starts, axis=1) / sizes[:, None]


def measured(
    encoded: Encoded, columns: Flags, cells: Cells, *, owned: bool = False, first: Sequence[bool] | None = None,
    n_resamples: int = N_RESAMPLES,
) -> Measured:  # fmt: skip
    """The cells of a matrix, their intervals over texts, and their null levels.

    Args:
        encoded: The encodings.
        columns: (rows, columns): which rows of the pool count in which column.
        cells: Makes cells of the features' mean encodings.
        owned: See `means`.
        first: See `orientation`.
        n_resamples: The number of resamples of the texts; rows of one text are drawn together.
    """
    signs = orientation(encoded, encoded.values[None], first)
    values = (encoded.values * signs[0][:, None])[None]
    matrix = cells(means(encoded, values, columns, owned=owned))[0]
    resampled = [
        cells(means(encoded, values, columns, weights.astype(np.float64), owned=owned))
        for weights in weight_chunks(encoded.pool.rows["input_text"].to_numpy(), n_resamples)
    ]
    level = None
    if encoded.nulls is not None:
        oriented = encoded.nulls * orientation(encoded, encoded.nulls, first)[:, :, None]
        level = _levels(np.abs(cells(means(encoded, oriented, columns, owned=owned))), matrix)
    return Measured(matrix, _intervals(resampled, matrix), level, signs[0])


def _intervals(resampled: Sequence[Floats], matrix: Floats) -> list[list[list[float] | None]]:
    found: list[list[list[float] | None]] = [[None] * matrix.shape[1] for _ in matrix]
    every = np.concatenate(resampled) if resampled else np.zeros((0, *matrix.shape))
    for row, column in zip(*np.nonzero(~np.isnan(matrix)), strict=True):
        cell = every[:, row, column]
        cell = cell[~np.isnan(cell)]
        if len(cell) and np.ptp(cell) > EQUAL:
            found[row][column] = np.quantile(cell, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]).tolist()
    return found


def _levels(null: Floats, matrix: Floats) -> list[list[float | None]]:
    levels = np.quantile(null, LEVEL, axis=0)
    return [
        [None if np.isnan(cell) else float(cell) for cell in row] for row in np.where(np.isnan(matrix), matrix, levels)
    ]


def aggregated(contributions: Floats, aggregate: str) -> Floats:
    """Numbers (L, n, …), some of them NaN, aggregated over n; NaN where there is none (std: less than two).

    Args:
        contributions: The numbers.
        aggregate: mean, min, max, std (of a sample) or count.
    """
    there = ~np.isnan(contributions)
    size = there.sum(axis=1)
    if aggregate == "count":
        return size.astype(np.float64)
    if aggregate in ("min", "max"):
        worst = np.inf if aggregate == "min" else -np.inf
        found = getattr(np.where(there, contributions, worst), aggregate)(axis=1)
        return np.where(size > 0, found, np.nan)
    known = np.where(there, contributions, 0.0)
    mean = known.sum(axis=1) / np.maximum(size, 1)
    if aggregate == "mean":
        return np.where(size > 0, mean, np.nan)
    squares = np.where(there, (contributions - mean[:, None]) ** 2, 0.0).sum(axis=1)
    return np.where(size > 1, np.sqrt(squares / np.maximum(size - 1, 1)), np.nan)
