"""Several seeds, one after the other: which have converged, which is the best, and the report."""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gradiend.trainer.core.arguments import TrainingArguments
from gradiend.util._files import write_json
from gradiend.util.plain import plain

SEED_REPORT = "seed_report.json"

ZEROS = ("0", "0.0", "-0.0")
"""Labels of classes that are no target, as they are written in JSON too."""

SEED_RANGE = 2**31
"""First seeds that are drawn lie below."""


@dataclass(frozen=True)
class SeedRun:
    """One training among several."""

    seed: int
    output_dir: str
    training_score: float | None
    """|correlation| of the model that was kept, during training; without evaluation the last losses' mean, negated."""
    eval_correlation: float | None
    """Correlation on the validation split after training."""
    convergence_metric: str
    convergence_metric_value: float | None
    threshold: float
    converged: bool
    reason: str | None = None
    """Why it has not converged, where that is not the metric."""
    used_cache: bool = False
    """Whether an earlier training of the same was found, and none was made."""

    @property
    def selection_score(self) -> float | None:
        """|eval_correlation| when available, else training_score: higher is better."""
        return self.training_score if self.eval_correlation is None else abs(self.eval_correlation)


@dataclass(frozen=True)
class Convergence:
    """Whether a training has converged, and by what."""

    convergence_metric: str
    """correlation or loss."""
    convergence_metric_value: float | None
    """None where nothing was measured."""
    threshold: float
    """|correlation| at least, loss at most."""
    converged: bool
    reason: str | None = None
    """Why not, where that is not the metric: the training has diverged."""

    def to_dict(self) -> dict[str, Any]:
        """As it is written to training.json; a reason only where there is one."""
        return _without_reason(asdict(self))


def _without_reason(content: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in content.items() if name != "reason" or value is not None}


def last_loss(losses: Sequence[float]) -> float:
    """The mean over the last tenth of the steps; infinite without any (`max_steps=0`)."""
    last = losses[-max(1, len(losses) // 10) :]
    return sum(last) / len(last) if last else math.inf


def divergence(first: Sequence[float], last: Sequence[float], of_nothing: Sequence[float]) -> str | None:
    """Why a training has diverged: its loss has grown; None if it has not.

    A training has diverged when the mean loss of its last batches is more than twice that of its first batch, and more
    than twice what reproducing nothing (zeros) costs on the same batches. Either alone means little: gradients of one
    batch are several times those of another, and a training that goes on from a trained GRADIEND, or from class means,
    starts with a low loss. Weights that no step has changed cannot meet both, however many steps there are.

    Args:
        first: Loss of the first batch; empty without any step.
        last: Losses of the last batches.
        of_nothing: What they would be for zeros.
    """
    if not first or not last:
        return None
    start, end, nothing = first[0], sum(last) / len(last), sum(of_nothing) / len(of_nothing)
    if end > 2 * start and end > 2 * nothing:
        return f"its loss rose from {start:.3g} to {end:.3g}, where reproducing nothing costs {nothing:.3g}"
    return None


def best_correlation(training_stats: Mapping[str, Any], best: Mapping[str, Any]) -> float | None:
    """Of the model that was kept; None without evaluation."""
    return best.get("correlation", training_stats.get("correlation"))


def convergence(
    arguments: TrainingArguments,
    training_stats: Mapping[str, Any],
    best: Mapping[str, Any],
    losses: Sequence[float],
    evaluation: Mapping[str, Any] | None = None,
) -> Convergence:
    """Whether a finished training has converged: its metric has reached the thresholds, and its loss has not grown.

    Args:
        arguments: Metric and thresholds.
        training_stats: See `load_training_stats`.
        best: What is known of the model that was kept (`best_score_checkpoint`).
        losses: Of all steps.
        evaluation: Encoder metrics after training, which then replace those during training.
    """
    evaluation = evaluation or {}
    threshold = arguments.convergent_score_threshold
    assert threshold is not None
    if arguments.convergent_metric == "loss":
        value: float | None = last_loss(losses)
        converged = value is not None and value <= threshold
    else:
        value = evaluation.get("correlation")
        value = best_correlation(training_stats, best) if value is None else value
        converged = value is not None and abs(value) >= threshold
    least_mean = arguments.convergent_mean_by_class_threshold
    if least_mean is not None:
        during = {int(step): means for step, means in training_stats.get("mean_by_class", {}).items()}
        kept = best.get("global_step", max(during, default=0))
        means = evaluation.get("mean_by_class") or during.get(kept, {})
        signed = [mean for label, mean in means.items() if str(label) not in ZEROS]
        converged = converged and bool(signed) and min(signed) <= -least_mean and max(signed) >= least_mean
    diverged = training_stats.get("diverged")
    return Convergence(str(arguments.convergent_metric), value, threshold, converged and diverged is None, diverged)


def judge(
    seed: int,
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
    training, best, losses = (stats[name] for name in ("training_stats", "best_score_checkpoint", "losses"))
    outcome = convergence(arguments, training, best, losses, evaluation)
    correlation = best_correlation(training, best)
    score = -last_loss(losses) if correlation is None else abs(correlation)
    return SeedRun(seed, output_dir, score, evaluation.get("correlation"), **outcome.to_dict())


def run_seeds(arguments: TrainingArguments, run_one: Callable[[int], SeedRun]) -> tuple[list[SeedRun], str | None]:
    """Run seed, seed + 1, … until enough have converged or all are used up. Without a seed, the first is drawn.

    Returns:
        (the runs, why it stopped early or None).
    """
    runs: list[SeedRun] = []
    first = secrets.randbelow(SEED_RANGE) if arguments.seed is None else arguments.seed
    for offset in range(arguments.max_seeds):
        runs.append(run_one(first + offset))
        converged = sum(run.converged for run in runs)
        enough = arguments.min_convergent_seeds is not None and converged >= arguments.min_convergent_seeds
        if enough and offset + 1 < arguments.max_seeds:
            return runs, f"{converged} of {len(runs)} seeds have converged"
    return runs, None


def best_run(runs: list[SeedRun]) -> SeedRun:
    """The converged run (or, if none has, any run) with the highest selection score; the earlier one of equals."""
    candidates = [run for run in runs if run.converged] or runs
    return max(candidates, key=_rank)


def _rank(run: SeedRun) -> float:
    """The selection score; none, and an undefined one, is the lowest."""
    score = run.selection_score
    return -math.inf if score is None or math.isnan(score) else score


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
            {**_without_reason(asdict(run)), "selection_score": run.selection_score, "trained": not run.used_cache}
            for run in runs
        ],
    }
    write_json(path, plain(report))
    return str(path)
