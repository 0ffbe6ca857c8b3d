"""Several seeds, one after the other: which have converged, which is the best, and the report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gradiend.trainer.core.arguments import TrainingArguments
from gradiend.trainer.core.stats import plain
from gradiend.util.files import write_json

SEED_REPORT = "seed_report.json"


@dataclass(frozen=True)
class SeedRun:
    """One training among several."""

    seed: int | None
    output_dir: str
    training_score: float | None
    """Best |correlation| during training (or the mean of the last losses, negated, without evaluation)."""
    eval_correlation: float | None
    """Correlation on the validation split after training."""
    convergence_metric: str
    convergence_metric_value: float | None
    threshold: float | None
    converged: bool

    @property
    def selection_score(self) -> float | None:
        """eval_correlation when available, else training_score."""
        return self.training_score if self.eval_correlation is None else self.eval_correlation


def judge(
    seed: int | None,
    output_dir: str,
    stats: Mapping[str, Any],
    evaluation: Mapping[str, Any],
    arguments: TrainingArguments,
) -> SeedRun:
    """Whether a finished training has converged, and how good it is.

    Args:
        seed: Of the run.
        output_dir: Where it was saved.
        stats: Content of its training.json.
        evaluation: Encoder metrics on the validation split, or {}.
        arguments: Metric and thresholds.
    """
    losses = stats["losses"][-max(1, len(stats["losses"]) // 10) :]
    loss = sum(losses) / len(losses)
    best = stats["best_score_checkpoint"].get("correlation", stats["training_stats"].get("correlation"))
    training_score = -loss if best is None else abs(best)
    correlation = evaluation.get("correlation")
    if arguments.convergent_metric == "loss":
        value: float | None = loss
        assert arguments.convergent_score_threshold is not None
        converged = loss <= arguments.convergent_score_threshold
    else:
        value = correlation if correlation is not None else best
        assert arguments.convergent_score_threshold is not None
        converged = value is not None and abs(value) >= arguments.convergent_score_threshold
    least_mean = arguments.convergent_mean_by_class_threshold
    if least_mean is not None:
        means = [mean for label, mean in evaluation.get("mean_by_class", {}).items() if float(label)]
        converged = converged and bool(means) and min(means) <= -least_mean and max(means) >= least_mean
    return SeedRun(
        seed, output_dir, training_score, correlation, str(arguments.convergent_metric), value,
        arguments.convergent_score_threshold, converged,
    )  # fmt: skip


def run_seeds(
    arguments: TrainingArguments, run_one: Callable[[int | None], SeedRun]
) -> tuple[list[SeedRun], str | None]:
    """Run seed, seed + 1, … until enough have converged or all are used up.

    Returns:
        (the runs, why it stopped early or None).
    """
    runs: list[SeedRun] = []
    for offset in range(arguments.max_seeds):
        runs.append(run_one(None if arguments.seed is None else arguments.seed + offset))
        converged = sum(run.converged for run in runs)
        enough = arguments.min_convergent_seeds is not None and converged >= arguments.min_convergent_seeds
        if enough and offset + 1 < arguments.max_seeds:
            return runs, f"{converged} of {len(runs)} seeds have converged"
    return runs, None


def best_run(runs: list[SeedRun]) -> SeedRun:
    """The converged run (or, if none has, any run) with the highest selection score; the earlier one of equals."""
    candidates = [run for run in runs if run.converged] or runs
    return max(candidates, key=lambda run: float("-inf") if run.selection_score is None else abs(run.selection_score))


def write_seed_report(
    directory: str | Path, runs: list[SeedRun], arguments: TrainingArguments, stopped: str | None
) -> str:
    """Write `seed_report.json` and return its path."""
    best = best_run(runs)
    path = Path(directory) / SEED_REPORT
    report = {
        "convergence_metric": arguments.convergent_metric,
        "threshold": arguments.convergent_score_threshold,
        "min_convergent_seeds": arguments.min_convergent_seeds,
        "max_seeds": arguments.max_seeds,
        "seeds_tried": [run.seed for run in runs],
        "convergent_count": sum(run.converged for run in runs),
        "best_seed": best.seed,
        "best_selection_score": best.selection_score,
        "early_stop_reason": stopped,
        "runs": [
            {**asdict(run), "selection_score": run.selection_score, "trained": True, "used_cache": False}
            for run in runs
        ],
    }
    write_json(path, plain(report))
    return str(path)
