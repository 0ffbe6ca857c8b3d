"""Several seeds: which seeds are tried, how a run is judged, which run is the best, and what is kept of the others."""

from __future__ import annotations

import math
import random
import re
import secrets
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gradiend.model._checkpoint_files import remove_empty, remove_files, take_over
from gradiend.trainer.core.arguments import TrainingArguments
from gradiend.trainer.core.stats import best_correlation, convergence, last_loss, target_means, without_reason
from gradiend.util._argument_fields import plain
from gradiend.util._checks import require_whole
from gradiend.util._files import made_aside, require_room, write_checked_json
from gradiend.util._isolation import RANDOM_STATE, exclusive
from gradiend.util._processes import by_first, processes
from gradiend.util.logging import get_logger
from gradiend.util.paths import SEED_REPORT, TRAINING

logger = get_logger(__name__)


REPORTED = ("convergent_mean_by_class_threshold", "min_convergent_seeds", "max_seeds")
"""Arguments that a report of seeds has under their own names."""
NOT_COMPARED = {"computed": False}
"""`topk_stability` in the report of seeds whose weights were not compared."""
SEED_RANGE = 2**31
"""A first seed that is drawn lies below this number."""


def set_seed(seed: int | None) -> None:
    """Seed the random generators of Python, NumPy and PyTorch (all devices); None changes no generator."""
    require_whole("seed", seed, None, none_means="to change no generator")
    if seed is not None:
        if not -(2**63) <= seed < 2**63:
            raise ValueError(f"seed must have at most 63 bits; got {seed}.")
        with exclusive(RANDOM_STATE):
            random.seed(seed)
            np.random.seed(seed % 2**32)
            torch.manual_seed(seed)


@dataclass(frozen=True)
class SeedRun:
    """One training among several."""

    seed: int
    output_dir: str
    training_score: float | None
    """|correlation| of the kept model during training; without evaluations, the negated mean of the last losses."""
    eval_correlation: float | None
    """Correlation on the validation split after training."""
    convergence_metric: str
    convergence_metric_value: float | None
    threshold: float
    converged: bool
    reason: str | None = None
    """Why the run has not converged, if the reason is not the metric."""
    used_cache: bool = False
    """Whether the same training was done before, so that it was not done again."""
    best_checkpoint_global_step: int | None = None
    """The step whose model was kept; None without evaluations."""
    correlation_interval: Mapping[str, Any] | None = None
    """The bootstrap interval of `eval_correlation`; None if it was not estimable."""
    mean_by_class: Mapping[str, float] = field(default_factory=dict)
    """Class → mean encoding on the validation split."""
    convergent_mean_by_class_threshold: float | None = None
    """Least distance from 0 of the class means of a converged run; None asks for none."""
    convergent_min_target_class_abs_mean: float | None = None
    """The smallest distance from 0 of a target class's mean; None without evaluations."""
    split_cycle_index: int | None = None
    """Number of the run's splits, see `Modality.for_seed`; None: all runs have the same splits."""
    split_cycle_length: int | None = None
    """Number of splits of a balanced cycle; None: there is no cycle."""

    @property
    def selection_score(self) -> float | None:
        """|eval_correlation| if it is known, else training_score; higher is better."""
        return self.training_score if self.eval_correlation is None else abs(self.eval_correlation)


def judge(
    seed: int, output_dir: str, stats: Mapping[str, Any], evaluation: Mapping[str, Any], arguments: TrainingArguments
) -> SeedRun:
    """Whether a training has converged, and how good it is, by its training.json (`stats`) and its encoder metrics."""
    training, best, losses = (stats[name] for name in ("training_stats", "best_score_checkpoint", "losses"))
    outcome = convergence(arguments, training, best, losses, evaluation)
    correlation = best_correlation(training, best)
    score = -last_loss(losses) if correlation is None else abs(correlation)
    means = target_means(training, best, evaluation)
    return SeedRun(
        seed, output_dir, score, evaluation.get("correlation"), **outcome.to_dict(),
        best_checkpoint_global_step=best.get("global_step"),
        correlation_interval=evaluation.get("correlation_interval"),
        mean_by_class=evaluation.get("mean_by_feature_class") or means,
        convergent_mean_by_class_threshold=arguments.convergent_mean_by_class_threshold,
        convergent_min_target_class_abs_mean=min(map(abs, means.values()), default=None),
    )  # fmt: skip


def run_seeds(arguments: TrainingArguments, run_one: Callable[[int], SeedRun]) -> tuple[list[SeedRun], str | None]:
    """(the runs of seed, seed + 1, … until enough have converged; why not all were run, or None).

    Without a seed, the first is drawn.
    """
    runs: list[SeedRun] = []
    first = arguments.seed
    if first is None:
        first = processes().agreed(lambda: secrets.randbelow(SEED_RANGE))
    for offset in range(arguments.max_seeds):
        runs.append(run_one(first + offset))
        converged = sum(run.converged for run in runs)
        enough = arguments.min_convergent_seeds is not None and converged >= arguments.min_convergent_seeds
        if enough and offset + 1 < arguments.max_seeds:
            return runs, f"{converged} of {len(runs)} seeds have converged"
    return runs, None


def best_run(runs: list[SeedRun]) -> SeedRun:
    """The first run with the highest selection score among the converged runs or, if there is none, among all runs."""

    def score(run: SeedRun) -> float:
        found = run.selection_score
        return -math.inf if found is None or math.isnan(found) else found

    return max([run for run in runs if run.converged] or runs, key=score)


def choose_seed(
    directory: str | Path, runs: list[SeedRun], arguments: TrainingArguments, stopped: str | None
) -> SeedRun:
    """The best run; all runs are reported in seed_report.json, and one warning is logged if none has converged."""
    best = best_run(runs)
    converged = [run.seed for run in runs if run.converged]
    among = "the converged seeds" if best.converged else "all seeds, because none has converged"
    report = {
        "convergence_metric": arguments.convergent_metric,
        "threshold": arguments.convergent_score_threshold,
        **{name: arguments.get(name) for name in REPORTED},
        "seeds_tried": [run.seed for run in runs],
        "convergent_count": len(converged),
        "convergent_seeds": converged,
        "best_seed": best.seed,
        "best_selection_score": best.selection_score,
        "best_seed_selection_strategy": f"highest selection_score of {among}",
        "early_stop_reason": stopped,
        "split_resplit_strategy": arguments.split_resplit_strategy if arguments.resplits else None,
        "runs": [
            {**without_reason(asdict(run)), "selection_score": run.selection_score, "trained": not run.used_cache}
            for run in runs
        ],
        "topk_stability": NOT_COMPARED,
    }
    write_checked_json(Path(directory) / SEED_REPORT, plain(report))
    if not converged:
        shown = "; ".join(f"seed {run.seed}: {cause_of(asdict(run))}" for run in runs)
        logger.warning(
            "None of %d seeds has converged (%s): the best is kept. Try more steps or another learning_rate.",
            len(runs), shown,
        )  # fmt: skip
    return best


def cause_of(run: Mapping[str, Any]) -> str:
    """Why a run, or a training, has not converged, from what its report says."""
    return run.get("reason") or f"{run['convergence_metric']} {run['convergence_metric_value']}"


def best_path(output_dir: str | Path) -> Path:
    """Directory of the best model so far, which `CheckpointCallback` writes."""
    return Path(f"{output_dir}_best")


def intermediate_checkpoints(directory: str | Path, kind: str = "step|epoch") -> list[Path]:
    """The checkpoints `<directory>_step_<n>` and `<directory>_epoch_<n>` that a training wrote, with rising numbers."""
    result = Path(directory)
    pattern = re.compile(re.escape(result.name) + rf"_({kind})_(\d+)")
    found = [(pattern.fullmatch(path.name), path) for path in result.parent.glob("*") if path.is_dir()]
    return [path for *_, path in sorted((match[1], int(match[2]), path) for match, path in found if match)]


@by_first
def promote(best: str, output: str) -> None:
    """Copy a seed's directory to `output`, and the seed's intermediate checkpoints beside `output`.

    Other files in `output` stay, because `output` may be any folder of the user.
    """
    for source in (Path(best), *intermediate_checkpoints(best)):
        target = Path(output + source.name.removeprefix(Path(best).name))
        size = sum(path.stat().st_size for path in source.rglob("*") if path.is_file())
        require_room(target.parent, size, f"The copy of {source}")
        with made_aside(target) as staging:
            shutil.copytree(source, staging)
            take_over(staging, target, remove_files)


@by_first
def drop_weights(directories: Sequence[str]) -> None:
    """Remove the checkpoints but for the training statistics; files of others stay."""
    for directory in directories:
        remove_files(Path(directory), keep=[TRAINING])
        for checkpoint in intermediate_checkpoints(directory):
            remove_checkpoint(checkpoint)


def remove_checkpoint(directory: str | Path) -> None:
    """Remove a checkpoint, if there is one, and its folder, unless files of others are in it."""
    remove_files(Path(directory))
    remove_empty(Path(directory))
