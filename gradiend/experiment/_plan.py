"""What a run would do, what it finds done, and what that takes: nothing is trained, measured or written."""

from __future__ import annotations

import dataclasses
import itertools
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from gradiend.experiment.run import ExperimentRun, Step, rows_from, trainer_of
from gradiend.experiment.sections import Experiment
from gradiend.objectives.loading import require_model
from gradiend.trainer.core._memory import MemoryEstimate
from gradiend.trainer.core._resume import kept_states
from gradiend.trainer.core.dataset import batches_of
from gradiend.trainer.core.training import total_steps
from gradiend.trainer.text import TextPredictionTrainer
from gradiend.util._leftovers import temporary_folder
from gradiend.util.paths import DATA_DIR, DECODER_DIR, DELTAS_DIR, REPORT, REWRITTEN_DIR

TO_DO = "to do"
TIMED_BATCHES = 3
"""Batches whose gradients are timed; the first, which also warms up, is left out."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a run would do; see `plan_run`."""

    steps: dict[str, str]
    """Step → what is found of it."""
    memory: MemoryEstimate | None
    """The memory of the training; None if it is done. Rows of raw text that are not made yet are sampled."""
    seconds: float | None
    """Rough seconds of the training with one seed on this machine; None if it is done, or if only the rows will tell
    how many steps there are."""
    seeds: int
    """How many seeds are tried at most."""

    def to_dict(self) -> dict[str, Any]:
        """The plan in the types of JSON."""
        memory = None if self.memory is None else self.memory.peak
        return {"steps": self.steps, "peak_memory_bytes": memory, "seconds_per_seed": self.seconds, "seeds": self.seeds}


def plan_run(experiment: Experiment, step: Step | None = None) -> Plan:
    """What `run_experiment` would do.

    Args:
        experiment: The experiment.
        step: See `run_experiment`.

    Raises:
        ValueError: Data, model and arguments that do not fit.
    """
    require_model(experiment.model)
    run = ExperimentRun(experiment)
    wanted = run.steps(step)
    found: dict[str, str] = dict.fromkeys(wanted, TO_DO)
    made = experiment.corpus is None or (run.directory / DATA_DIR).is_dir()
    trainer = _trainer(experiment, run.directory / DATA_DIR) if made else _trainer_of_sample(experiment)
    args, memory, seconds = experiment.train, None, None
    if made:
        found["data"] = _rows(trainer, experiment)
    trained = args.use_cache and "train" in found and trainer.has_model() and trainer.current.directory is not None
    if trained:
        found["train"] = f"done: {trainer.model_path}"
        _add_evaluations(found, experiment, trainer)
    elif "train" in found:
        memory = trainer.estimate_memory()
        # A sample does not tell how many steps an epoch has.
        seconds = _seconds_of_training(trainer) if made or args.max_steps >= 0 else None
        if args.resumes and (states := kept_states(run.directory)):
            found["train"] = f"{TO_DO}, from {states[-1]} if that is of the same training"
    for name, place in (("rewrite", REWRITTEN_DIR), ("delta", DELTAS_DIR), ("report", REPORT)):
        if name in found and trained and (run.directory / place).exists():
            found[name] = f"there: {run.directory / place}; made again if it is not of this GRADIEND and step"
    return Plan(found, memory, seconds, args.max_seeds)


def _trainer_of_sample(experiment: Experiment) -> TextPredictionTrainer:
    """The trainer of a few rows of raw text, which are not written; enough for two batches of each class."""
    assert experiment.corpus is not None
    few = max(100, 3 * experiment.train.train_batch_size)
    most = min(few, experiment.corpus.max_size_per_class or few)
    sample = dataclasses.replace(experiment.corpus, max_size_per_class=most, neutral_max_size=0)
    return trainer_of(experiment, *rows_from(sample))


def _trainer(experiment: Experiment, folder: Path) -> TextPredictionTrainer:
    """The trainer of rows that are there."""
    if experiment.corpus is None:
        return trainer_of(experiment)
    # Rows of other text or settings are made anew, but not where the experiment keeps its own.
    copy = temporary_folder(tempfile.gettempdir())
    try:
        shutil.copytree(folder, copy, dirs_exist_ok=True)
        return trainer_of(experiment, *rows_from(experiment.corpus, copy, use_cache=True))
    finally:
        shutil.rmtree(copy)


def _rows(trainer: TextPredictionTrainer, experiment: Experiment) -> str:
    counts = trainer.combined_data["split"].value_counts()
    rows = ", ".join(f"{split} {count}" for split, count in counts.items())
    made = "" if experiment.corpus is None else "; made again if text or settings have changed"
    return f"there: {rows} rows{made}"


def _add_evaluations(found: dict[str, str], experiment: Experiment, trainer: TextPredictionTrainer) -> None:
    if "evaluate" not in found:
        return
    asked, parts = experiment.evaluate, []
    if asked.encoder is not None:
        key: dict[str, Any] = {name: vars(asked.encoder)[name] for name in ("split", "source", "max_size")}
        parts.append("encodings " + ("done" if trainer.get_encodings(**key) is not None else TO_DO))
    if asked.decoder is not None:
        kept = len(list((Path(experiment.experiment_dir) / DECODER_DIR).glob("*.json")))
        parts.append(f"steps: {kept} measurements are kept and read again" if kept else f"steps {TO_DO}")
    found["evaluate"] = "; ".join(parts) or "nothing asked for"


def _seconds_of_training(trainer: TextPredictionTrainer) -> float:
    """Steps × the time of the gradients of a batch, which is most of the time of a step."""
    args, model = trainer.training_args, trainer.get_model()
    data = trainer.create_training_data(model, max_size=args.train_max_size)
    batches = trainer.create_gradient_training_dataset(data, model, bf16=args.bf16)
    took: list[float] = []
    start = time.perf_counter()
    for _ in itertools.islice(batches_of(batches, 0, args.seed), TIMED_BATCHES):
        took.append(time.perf_counter() - start)
        start = time.perf_counter()
    measured = took[1:] or took
    return total_steps(len(batches), args) * sum(measured) / len(measured)
