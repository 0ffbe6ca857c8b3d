"""How the results of several seeds become one: numbers key by key, frames row by row, and the spread of both."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd

from gradiend.comparison._seeds import AGGREGATES, DISPERSIONS, Cells
from gradiend.evaluator.encoder_metrics import get_correlation
from gradiend.util._keywords import one_of

CHOSEN = ("learning_rate", "feature_factor", "id", "seed")
"""Keys of what was chosen for each seed by itself: no mean of them was ever measured."""
ROW_KEYS = ("input_text", "factual", "alternative", "type")
"""Columns by which the rows of seeds are matched."""

Aggregator = Callable[[Sequence[Any]], Any]


@dataclass(frozen=True)
class Aggregation:
    """What is said of several numbers, one of each seed."""

    aggregate: str = "mean"
    dispersion: str = "none"
    own: dict[str, Aggregator] = field(default_factory=dict)
    """Key of a result → function of the values of all seeds, which replaces the aggregate."""

    def __post_init__(self) -> None:
        one_of("aggregate", self.aggregate, AGGREGATES)
        one_of("dispersion", self.dispersion, DISPERSIONS)
        if self.dispersion == "range" and self.aggregate in ("min", "max"):
            raise ValueError(
                f'dispersion="range" is half a range around the middle, which aggregate={self.aggregate!r} is not: '
                'give dispersion="minmax", or aggregate="mean" or "median".'
            )

    def combined(self, results: Sequence[Mapping[Any, Any]]) -> dict[Any, Any]:
        """The results of all seeds as one, through nested dicts.

        Numbers are aggregated. Values that are equal stay. What one seed lacks, and texts that differ, are left out;
        what was chosen for each seed by itself is None if it differs, and so are intervals, which are those of one
        seed, and numbers that one seed lacks.
        """
        known = [key for key in results[0] if all(key in one for one in results)]
        pairs = ((key, self._value(key, [one[key] for one in results])) for key in known)
        return {key: value for key, value in pairs if value is not LEFT_OUT}

    def _value(self, key: Any, values: Sequence[Any]) -> Any:
        if key in self.own:
            return self.own[key](values)
        first, several = values[0], len(values) > 1
        is_interval = isinstance(key, str) and key.endswith("interval") and not _by_class(values)
        if all(isinstance(value, Mapping) for value in values) and not (is_interval and several):
            return self.combined(values)
        tables = any(isinstance(value, (pd.DataFrame, np.ndarray)) for value in values)
        if not tables and all(value == first for value in values) and not (is_interval and several):
            return first
        if key in CHOSEN or is_interval:
            return None
        if all(value is None or _is_number(value) for value in values):
            return None if None in values else self._middle(values)
        return LEFT_OUT

    def stats(self, results: Sequence[Mapping[Any, Any]]) -> dict[str, dict[str, Any]]:
        """Metric → mean, aggregate, n, min, max and the dispersion, for each number that all seeds have.

        The keys of nested dicts are joined by dots. Grids, and what was chosen for each seed, are left out.
        """
        numbers = [dict(_numbers(one)) for one in results]
        shared = [name for name in numbers[0] if all(name in one for one in numbers)]
        return {name: self._stat([one[name] for one in numbers]) for name in shared}

    def _stat(self, values: Sequence[float]) -> dict[str, Any]:
        known = Cells(self.aggregate, self.dispersion).statistics(np.array(values))
        return {"mean": float(np.mean(values)), **{name: one for name, one in known.items() if name != "scores"}}

    def _middle(self, values: Sequence[float]) -> float:
        return float(AGGREGATES[self.aggregate](values))

    def frame(self, frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
        """The rows of the first frame with the aggregated `encoded`, and with columns for its dispersion.

        Rows are matched by text, words and type. Encodings of a seed whose correlation with the labels is negative are
        negated before.

        Raises:
            ValueError: The seeds have other rows.
        """
        encoded = np.stack([_aligned(frame, frames[0]) for frame in frames])
        low, high = encoded.min(axis=0), encoded.max(axis=0)
        spread: dict[str, Any] = {
            "none": {},
            "std": {"encoded_std": encoded.std(axis=0)},
            "range": {"encoded_range_half_width": (high - low) / 2},
            "minmax": {"encoded_min": low, "encoded_max": high},
        }[self.dispersion]
        middle: Callable[..., Any] = AGGREGATES[self.aggregate]
        return frames[0].assign(encoded=middle(encoded, axis=0), **spread)


LEFT_OUT = object()
"""The value of a key that the seeds have nothing in common for."""


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _by_class(values: Sequence[Any]) -> bool:
    """Whether the values are dicts of intervals, one for each class, and not intervals themselves."""
    return all(isinstance(value, Mapping) and "low" not in value for value in values)


def _numbers(result: Mapping[Any, Any], before: str = "") -> Iterator[tuple[str, float]]:
    for key, value in result.items():
        if key in CHOSEN or key in ("grid", "boundaries", "level", "n_resamples"):
            continue
        if isinstance(value, Mapping) and not str(key).endswith("interval"):
            yield from _numbers(value, f"{before}{key}.")
        elif _is_number(value):
            yield f"{before}{key}", float(value)


def _aligned(frame: pd.DataFrame, first: pd.DataFrame) -> Any:
    """The encodings of a frame in the order of the first frame's rows, positive for the label +1."""
    labelled = frame[frame["label"] != 0]
    sign = -1.0 if len(labelled) and get_correlation(labelled) < 0 else 1.0
    wanted, own = (_row_index(one) for one in (first, frame))
    if len(wanted) != len(own) or not wanted.isin(own).all():
        raise ValueError(
            "The seeds have encoded other rows, so that they cannot be matched: evaluate all with the same data, split "
            "and max_size."
        )
    return sign * pd.Series(frame["encoded"].to_numpy(np.float64), index=own).loc[wanted].to_numpy()


def _row_index(frame: pd.DataFrame) -> pd.MultiIndex:
    keys = frame[[name for name in ROW_KEYS if name in frame]].astype(str)
    return pd.MultiIndex.from_frame(keys.assign(number=keys.groupby(list(keys)).cumcount()))
