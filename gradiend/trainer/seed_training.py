"""Train a GRADIEND with several seeds, compare them on the validation split, and keep the best."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from gradiend.trainer.core._outcome import load_training_stats
from gradiend.trainer.core._seeds import SeedRun, best_run, drop_weights, judge, promote, run_seeds, write_seed_report
from gradiend.trainer.core.arguments import TrainingArguments
from gradiend.util.logging import get_logger

logger = get_logger(__name__)

SEEDS_DIR = "seeds"
"""Directory of the seed runs, beside that of the trained model."""


class SeedTrainer(Protocol):
    """What of a `Trainer` is needed to try seeds."""

    reused: bool
    """Whether the last `train_one` found its training done."""

    def train_one(self, output_dir: str, args: TrainingArguments, run: Mapping[str, Any]) -> str:
        """One training with `args.seed`; its model is `get_model()` afterwards."""

    def get_model(self) -> Any:
        """The model that was trained last."""

    def load_seed_runs(self, directories: Mapping[int, str]) -> dict[int, Any]:
        """seed → checkpoint."""

    def selection_metrics(self, model: Any, args: TrainingArguments) -> dict[str, Any]:
        """Encoder metrics of a model on the validation split; {} if there is nothing to measure."""


def train_seeds(
    trainer: SeedTrainer, output: str, args: TrainingArguments, run: Mapping[str, Any], chosen: Callable[[], None]
) -> dict[int, Any]:
    """Try seeds until enough have converged, and copy the best to `output`.

    Args:
        trainer: Trains and measures one.
        output: Directory of the result.
        args: Seeds, thresholds and all else.
        run: What `trainer.train_one` needs besides.
        chosen: Called when the best lies in `output`, before the weights of the others go.

    Returns:
        seed → model with `keep_seed_runs`, else {}.
    """
    directory = Path(args.seed_runs_dir or Path(output).parent / SEEDS_DIR)

    def run_one(seed: int) -> SeedRun:
        path = trainer.train_one(str(directory / f"seed_{seed}"), args.replace(seed=seed), run)
        evaluation = trainer.selection_metrics(trainer.get_model(), args)
        correlation = evaluation.get("correlation")
        measured = "not measured" if correlation is None else f"{correlation:.3f}"
        logger.info("seed %s: validation correlation %s", seed, measured)
        stats = load_training_stats(path)
        assert stats is not None
        return dataclasses.replace(judge(seed, path, stats, evaluation, args), used_cache=trainer.reused)

    runs, stopped = run_seeds(args, run_one)
    write_seed_report(directory, runs, args, stopped)
    if not any(one.converged for one in runs):
        logger.warning(
            "None of %d seeds has converged (%s): the best is kept. Try more steps or another learning_rate.",
            len(runs),
            "; ".join(
                f"seed {one.seed}: {one.reason or f'{one.convergence_metric} {one.convergence_metric_value}'}"
                for one in runs
            ),
        )
    promote(best_run(runs).output_dir, output)
    chosen()
    if not args.keep_seed_runs:
        drop_weights([one.output_dir for one in runs])
        return {}
    return trainer.load_seed_runs({one.seed: one.output_dir for one in runs})
