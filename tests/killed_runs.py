"""Runs the same experiment in processes that SIGKILL ends at different moments, and once more after each.

Called by test_killed_runs.py as `python killed_runs.py BASE FOLDER STRIDE`; prints JSON. A process of its own, since it
forks, which torch allows with one thread only.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
import traceback
from pathlib import Path

import torch
from test_caching import ARGUMENTS, LRS, NEUTRAL, rows

from gradiend import PrePruneConfig, TextPredictionTrainer, TrainingArguments
from gradiend.trainer import TrainingCallback


class Moments:
    """Counts writes, removals and training steps; the process dies at one of them."""

    def __init__(self) -> None:
        self.count, self.fatal = 0, None

    def pass_one(self) -> None:
        self.count += 1
        if self.count == self.fatal:
            os.kill(os.getpid(), signal.SIGKILL)


MOMENTS = Moments()


class Dies(TrainingCallback):
    """Each step is a moment. Trainings are counted."""

    trainings = 0

    def on_train_begin(self, *args, **kwargs):
        type(self).trainings += 1

    def on_step_end(self, *args, **kwargs):
        MOMENTS.pass_one()


def count_files() -> None:
    """The moment before and the moment after each change of a file is one."""

    def counted(owner, name):
        original = getattr(owner, name)

        def counting(*args, **kwargs):
            MOMENTS.pass_one()
            result = original(*args, **kwargs)
            MOMENTS.pass_one()
            return result

        setattr(owner, name, counting)

    for name in ("replace", "rename", "unlink"):
        counted(Path, name)
    for name in ("rmtree", "copytree"):
        counted(shutil, name)


def experiment(base: str, folder: Path) -> dict:
    """Train with two seeds on a pre-pruned map, evaluate encoder and decoder, all with use_cache."""
    args = TrainingArguments(
        experiment_dir=str(folder), use_cache=True, pre_prune_config=PrePruneConfig(topk=0.5, n_samples=4),
        **{**ARGUMENTS, "max_seeds": 2, "min_convergent_seeds": None},
    )  # fmt: skip
    trainer = TextPredictionTrainer(
        base, data=rows(), target_classes=["one", "many"], args=args, eval_neutral_data=NEUTRAL
    )
    trainer.train(callbacks=[Dies()])
    encoder = trainer.evaluate_encoder()
    decoder = trainer.evaluate_decoder(lrs=LRS)
    report = trainer.get_seed_report()
    stats = trainer.get_training_stats()
    return {
        "weights": [float(tensor.double().sum()) for tensor in trainer.get_model().gradiend.parameters()],
        "map": trainer.get_model().param_map_hash,
        "encoder": encoder,
        "decoder": {repr(key): entry for key, entry in decoder.pop("grid").items()} | decoder,
        "losses": stats["losses"],
        "scores": [run["selection_score"] for run in report["runs"]],
        "best": report["best_seed"],
        "trainings": Dies.trainings,
    }


def in_child(base: str, folder: Path, fatal: int | None) -> tuple[int | None, dict]:
    """(the signal that ended the child, what it found, with the number of moments)."""
    result = folder.with_suffix(".result")
    child = os.fork()
    if child == 0:
        try:
            MOMENTS.count, MOMENTS.fatal = 0, fatal
            found = experiment(base, folder)
            result.write_text(json.dumps({**found, "moments": MOMENTS.count}, default=float))
            os._exit(0)
        finally:
            traceback.print_exc()
            os._exit(1)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return os.WTERMSIG(status), {}
    return None, json.loads(result.read_text())


def main() -> None:
    base, home, stride = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    tempfile.tempdir = str(home / "temporary")
    Path(tempfile.tempdir).mkdir()
    torch.set_num_threads(1)
    shutil_rmtree = shutil.rmtree
    count_files()
    _, expected = in_child(base, home / "whole", None)
    runs = []
    last = expected["moments"]
    for fatal in [*range(1 + stride // 2, last, stride), last]:
        folder = home / f"killed_{fatal}"
        ended_by, _ = in_child(base, folder, fatal)
        _, found = in_child(base, folder, None)
        runs.append({"fatal": fatal, "signal": ended_by, "found": found})
        shutil_rmtree(folder)
    left = sum(path.stat().st_size for path in Path(tempfile.tempdir).rglob("*") if path.is_file())
    print(json.dumps({"expected": expected, "runs": runs, "left": left}))


if __name__ == "__main__":
    main()
