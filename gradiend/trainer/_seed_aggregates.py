"""How the results of several seeds become one, number by number and row by row, and the table with a row for each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gradiend.comparison._seeds import AGGREGATES, DISPERSIONS, CellsOfSeeds
from gradiend.evaluator._goals import as_probability, goal_entries
from gradiend.evaluator.encoder_metrics import get_correlation
from gradiend.trainer._seed_stability import FEWEST, overlaps_with, saved_stability
from gradiend.trainer.core._seeds import NOT_COMPARED
from gradiend.trainer.core.arguments import TrainingArguments
from gradiend.trainer.core.stats import overlap_sentence
from gradiend.util._display import UNKNOWN, Shown, Table, number, with_interval
from gradiend.util._files import write_csv
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
            return None if None in values else float(AGGREGATES[self.aggregate](values))
        return LEFT_OUT

    def stats(self, results: Sequence[Mapping[Any, Any]]) -> dict[str, dict[str, Any]]:
        """Metric → mean, aggregate, n, min, max and the dispersion, for each number that all seeds have.

        The keys of nested dicts are joined by dots. Grids, and what was chosen for each seed, are left out.
        """
        numbers = [dict(_numbers(one)) for one in results]
        shared = [name for name in numbers[0] if all(name in one for one in numbers)]
        found: dict[str, dict[str, Any]] = {}
        for name in shared:
            values = np.array([one[name] for one in numbers])
            known = CellsOfSeeds(self.aggregate, self.dispersion).statistics(values)
            found[name] = {
                "mean": float(np.mean(values)),
                **{key: one for key, one in known.items() if key != "scores"},
            }
        return found

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
"""Stands for the value of a key whose values of the seeds cannot be made one."""


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


class SeedTable(Shown):
    """One row for each seed, see `MultiSeedTrainerView.table`."""

    def __init__(self, frame: pd.DataFrame, stability: Mapping[str, Any] | None) -> None:
        self.frame = frame
        """seed, best, converged, correlation, low, high, `mean <class>`, step, `<goal> before`, `<goal> after`, and
        overlap_with_best; a number that was not measured is NaN."""
        self.stability = stability
        """How much the top-k weights of the seeds overlap, as `topk_stability` in the report; None for one seed."""

    def to_frame(self) -> pd.DataFrame:
        """A copy of the frame."""
        return self.frame.copy()

    def to_csv(self, path: str | Path) -> str:
        """Write the frame to a CSV file, which replaces an earlier one only when it is whole. Returns the path."""
        write_csv(path, self.frame)
        return str(path)

    def _tables(self) -> tuple[str, Sequence[Table]]:
        names = [str(name) for name in self.frame]
        pairs = [name.removesuffix(" before") for name in names if name.endswith(" before")]
        means = [name for name in names if name.startswith("mean ")]
        header = ["seed", "converged", "correlation", *means, "step", *pairs, "overlap with best"]
        rows = [self._row(dict(row), means, pairs) for _, row in self.frame.iterrows()]
        note = "" if self.stability is None else overlap_sentence(self.stability)
        return f"{len(rows)} seeds", [Table("", header, rows, note)]

    @staticmethod
    def _row(row: Mapping[Any, Any], means: Sequence[str], pairs: Sequence[str]) -> list[object]:
        interval = None if pd.isna(row["low"]) else (row["low"], row["high"])
        moved = [f"{_shown(row[f'{name} before'], '.4f')} → {_shown(row[f'{name} after'], '.4f')}" for name in pairs]
        return [
            f"{row['seed']}{' (best)' if row['best'] else ''}",
            "yes" if row["converged"] else "no",
            UNKNOWN if pd.isna(row["correlation"]) else with_interval(row["correlation"], interval),
            *(_shown(row[name], "+.2f") for name in means),
            _shown(row["step"], ".0f"),
            *moved,
            _shown(row["overlap_with_best"], ".2f"),
        ]


def seed_table(
    report: Mapping[str, Any], paths: Mapping[int, str], decoder: Mapping[int, Mapping[str, Any]],
    classes: Sequence[str], args: TrainingArguments,
) -> SeedTable:  # fmt: skip
    """The table of the seeds in `paths` (seed → directory), from their report and decoder results (seed → result)."""
    runs = {run["seed"]: run for run in report["runs"]}
    reported = report.get("topk_stability", NOT_COMPARED)
    stability: Mapping[str, Any] | None = None
    asked = (args.seed_stability_topk, args.seed_stability_part)
    same = reported["computed"] and set(reported["seeds"]) == set(paths)
    if same and (reported["topk"], reported["part"]) == asked:
        stability = reported
    elif len(paths) >= FEWEST:
        # The report does not say it of these seeds: their weights do.
        stability = saved_stability(paths, *asked)
    overlaps = {} if stability is None else overlaps_with(report["best_seed"], stability)
    rows = []
    for seed in paths:
        run = runs[seed]
        interval = run.get("correlation_interval") or {}
        means = run.get("mean_by_class", {})
        order = [*(name for name in classes if name in means), *(name for name in means if name not in classes)]
        moved: dict[str, Any] = {}
        for goal, entry in goal_entries(decoder.get(seed, {})).items():
            for name, key in (("before", "base_value"), ("after", "value")):
                moved[f"{goal} {name}"] = as_probability(goal, entry.get(key), classes)
        rows.append({
            "seed": seed, "best": seed == report["best_seed"], "converged": run["converged"],
            "correlation": run["eval_correlation"], "low": interval.get("low"), "high": interval.get("high"),
            **{f"mean {name}": means[name] for name in order},
            "step": run.get("best_checkpoint_global_step"), **moved, "overlap_with_best": overlaps.get(seed),
        })  # fmt: skip
    frame = pd.DataFrame(rows)
    numbers = [name for name in frame if name not in ("seed", "best", "converged")]
    return SeedTable(frame.astype(dict.fromkeys(numbers, float)), stability)


def _shown(value: Any, form: str) -> str:
    return number(None if pd.isna(value) else value, form)
