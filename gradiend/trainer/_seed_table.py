"""The table of several seeds: one row for each, as a frame, a CSV file, and on the screen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from gradiend.evaluator._goals import goal_entries
from gradiend.trainer._seed_stability import FEWEST, overlaps_with, saved_stability
from gradiend.trainer.core._seeds import NOT_COMPARED
from gradiend.trainer.core.arguments import TrainingArguments
from gradiend.trainer.core.stats import overlap_sentence
from gradiend.util._display import UNKNOWN, Shown, Table, number, with_interval
from gradiend.util._files import replacing
from gradiend.util._processes import by_first


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

    @by_first
    def to_csv(self, path: str | Path) -> str:
        """Write the frame to a CSV file, which replaces an earlier one only when it is whole. Returns the path."""
        with replacing(Path(path)) as temporary:
            self.frame.to_csv(temporary, index=False)
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
            moved |= {f"{goal} before": entry.get("base_value"), f"{goal} after": entry.get("value")}
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
