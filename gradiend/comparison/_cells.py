"""From encodings to cells: orientation, means, intervals and null levels, and the payload that holds them.

Orientation goes by class, not by a label column: each GRADIEND gets the sign with which the texts of its first class
encode higher than those of its second class, whatever word its source reads. A GRADIEND and the same one inverted
therefore have the same cells.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradiend.comparison._encoded import Encoded
from gradiend.comparison._pool import Flags, Settings
from gradiend.comparison._result import ComparisonResult
from gradiend.util._bootstrap import EQUAL, LEVEL, N_RESAMPLES, Floats, weight_chunks

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
    """The absolute value below which 95 % of the null GRADIENDs stay, for each cell."""
    signs: Floats
    """(M,): the orientation of each model."""
    by_seed: Floats | None
    """(seeds, rows, columns): the cells of the n-th models alone, NaN where there are none; None without seeds."""


def orientation(encoded: Encoded, values: Floats, first: Sequence[bool] | None = None) -> Floats:
    """The sign of each model, (L, M), for encodings (L, M, rows).

    `first` says for each feature whether its first class should be positive, as it is by default. Without own texts of
    both classes, the sign is the one that the training gave the model.
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
    """The mean encoding of each model in each column, (L, M, columns); NaN where a column has no rows.

    `values` are oriented, (L, M, rows), or (1, M, rows) with `weights` (L, rows), which say how often each row counts;
    `columns` (rows, columns) says which rows count in which column. With `owned`, a feature counts only its own rows.
    """
    n_columns = columns.shape[1]
    result = np.full((len(values) if weights is None else len(weights), values.shape[1], n_columns), np.nan)
    for column in range(n_columns):
        rows = np.flatnonzero(columns[:, column])
        counted = np.ones((values.shape[1], len(rows)))
        if owned:
            counted = encoded.pool.owned[rows][:, encoded.owner].T.astype(np.float64)
        some = values[:, :, rows] * counted
        if weights is None:
            total, size = some.sum(axis=2), counted.sum(axis=1)[None]
        else:
            total, size = weights[:, rows] @ some[0].T, weights[:, rows] @ counted.T
        np.divide(total, size, out=result[:, :, column], where=size > 0)
    return result


def over_seeds(encoded: Encoded, found: Floats) -> Floats:
    """Numbers of models (L, M, columns) → the means of each feature's models (L, features, columns)."""
    starts = np.flatnonzero(np.diff(encoded.owner, prepend=-1))
    sizes = np.bincount(encoded.owner)
    return np.add.reduceat(found, starts, axis=1) / sizes[:, None]


def by_seed(encoded: Encoded, found: Floats) -> Floats:
    """Numbers of models (1, M, columns) → numbers (seeds, features, columns) of each feature's n-th model, or NaN."""
    numbers = np.concatenate([np.arange(len(feature.models)) for feature in encoded.features])
    result = np.full((numbers.max() + 1, len(encoded.features), found.shape[2]), np.nan)
    result[numbers, encoded.owner] = found[0]
    return result


def measured(
    encoded: Encoded, columns: Flags, cells: Cells = np.asarray, *, owned: bool = False,
    first: Sequence[bool] | None = None, n_resamples: int = N_RESAMPLES,
) -> Measured:  # fmt: skip
    """The cells of a matrix, their intervals over texts, and their null levels.

    `cells` makes them of the features' mean encodings, which they are by default (see `means`); `first` is that of
    `orientation`. Rows of one text are drawn together into a resample.
    """
    signs = orientation(encoded, encoded.values[None], first)
    values = (encoded.values * signs[0][:, None])[None]

    def made(some: Floats, weights: Floats | None = None) -> Floats:
        return cells(over_seeds(encoded, means(encoded, some, columns, weights, owned=owned)))

    matrix = made(values)[0]
    resampled = [
        made(values, weights.astype(np.float64))
        for weights in weight_chunks(encoded.pool.rows["input_text"].to_numpy(), n_resamples)
    ]
    level = None
    if encoded.nulls is not None:
        oriented = encoded.nulls * orientation(encoded, encoded.nulls, first)[:, :, None]
        levels = np.where(np.isnan(matrix), matrix, np.quantile(np.abs(made(oriented)), LEVEL, axis=0))
        level = [[None if np.isnan(cell) else float(cell) for cell in row] for row in levels]
    seeds = None
    if len(encoded.owner) > len(encoded.features):
        seeds = cells(by_seed(encoded, means(encoded, values, columns, owned=owned)))
    return Measured(matrix, _intervals(resampled, matrix), level, signs[0], seeds)


def result_of(
    measure: str, encoded: Encoded, found: Measured, columns: Sequence[str], counted: Flags, settings: Settings,
    **more: Any,
) -> ComparisonResult:  # fmt: skip
    """The payload of a matrix whose rows are the features, and whose columns are those of `counted` (rows, columns).

    `more` has further keys of the payload.
    """
    ids = [feature.id for feature in encoded.features]
    sizes = counted.sum(axis=0).tolist()
    payload = {
        "measure": measure, "model_ids": ids, "matrix": found.matrix.tolist(), "rows": ids, "columns": list(columns),
        "column_ids": list(columns), "n_matrix": [sizes for _ in ids],
    }  # fmt: skip
    return ComparisonResult({**payload, **common(encoded, found, settings), **more})


def common(encoded: Encoded, found: Measured, settings: Settings) -> dict[str, Any]:
    """The keys about encodings that every payload has."""
    signs = [[int(sign) for sign in found.signs[encoded.owner == n]] for n in range(len(encoded.features))]
    payload: dict[str, Any] = {
        "split": settings.split, "max_size": settings.max_size, "interval": found.interval,
        "orientation": {feature.id: own for feature, own in zip(encoded.features, signs, strict=True)},
        "source": {feature.id: feature.side.value for feature in encoded.features},
        "pair_by_trainer": {feature.id: list(feature.classes) for feature in encoded.features},
    }  # fmt: skip
    if found.null_level is not None:
        made_of = {"kind": settings.null, "n": settings.n_null, "quantile": LEVEL}
        payload |= {"null_level": found.null_level, "null": made_of}
    if found.by_seed is not None:
        payload |= {"multi_seed": True, "seed_aggregate": "mean", "dispersion": "std"}
        payload["cell_stats"] = [
            [_statistics(cell, found.by_seed[:, row, column]) for column, cell in enumerate(cells)]
            for row, cells in enumerate(found.matrix.tolist())
        ]
    return payload


def _statistics(cell: float, of_seeds: Floats) -> dict[str, Any] | None:
    """The documented statistics of a cell over seeds; None for a cell without a number."""
    known = of_seeds[~np.isnan(of_seeds)]
    if not len(known):
        return None
    low, high = float(known.min()), float(known.max())
    spread = {"min": low, "max": high, "std": float(known.std())}
    return {"aggregate": cell, "n": len(known), "scores": known.tolist(), **spread}


def _intervals(resampled: Sequence[Floats], matrix: Floats) -> list[list[list[float] | None]]:
    found: list[list[list[float] | None]] = [[None] * matrix.shape[1] for _ in matrix]
    every = np.concatenate(resampled) if resampled else np.zeros((0, *matrix.shape))
    for row, column in zip(*np.nonzero(~np.isnan(matrix)), strict=True):
        cell = every[:, row, column]
        cell = cell[~np.isnan(cell)]
        if len(cell) and np.ptp(cell) > EQUAL:
            found[row][column] = np.quantile(cell, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]).tolist()
    return found


def aggregated(contributions: Floats, aggregate: str) -> Floats:
    """Numbers (L, n, …) aggregated over n: mean, min, max, count or std (of a sample), without those that are NaN.

    NaN stands where there is no number (for std: less than two).
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
