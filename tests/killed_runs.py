"""Runs the same experiment in processes that SIGKILL ends, at moments and at times, and once more after each.

Called by test_killed_runs.py as `python killed_runs.py BASE FOLDER MOMENTS TIMES`; prints JSON. A process of its own,
since it forks, which torch allows with one thread only. A moment is right before or right after a change of a file, or
the end of a training step. A time is any instruction.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from test_caching import ARGUMENTS, LRS, NEUTRAL, rows
from transformers import AutoModelForMaskedLM

from gradiend import PrePruneConfig, TextPredictionTrainer, TrainingArguments, read_delta
from gradiend.evaluator import LMSThresholdPolicy
from gradiend.model._checkpoint import is_checkpoint
from gradiend.trainer import TrainingCallback
from gradiend.trainer.text import TextPredictionModelWithGradiend

STEPS = Path("steps.txt")
"""The file beside an experiment that has a byte for each training step that any process has taken."""
SEEDS, STEPS_OF_A_SEED = 2, 6


class Moments:
    """Counts moments; the process dies at one of them."""

    def __init__(self) -> None:
        self.count, self.fatal = 0, None

    def pass_one(self) -> None:
        self.count += 1
        if self.count == self.fatal:
            os.kill(os.getpid(), signal.SIGKILL)


MOMENTS = Moments()


class Dies(TrainingCallback):
    """Each step is a moment, and is noted."""

    only_watches = True

    def on_step_end(self, *args, **kwargs):
        with STEPS.open("ab") as file:
            file.write(b".")
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

    for name in ("replace", "rename", "unlink", "mkdir"):
        counted(Path, name)
    for name in ("rmtree", "copytree"):
        counted(shutil, name)


def experiment(base: str) -> dict[str, Any]:
    """Train two seeds on a pre-pruned map, evaluate encoder and decoder, save a rewritten model and a delta."""
    args = TrainingArguments(
        experiment_dir="run", use_cache=True, pre_prune_config=PrePruneConfig(topk=0.5, n_samples=4), save_steps=1,
        **{**ARGUMENTS, "max_steps": STEPS_OF_A_SEED, "max_seeds": SEEDS, "min_convergent_seeds": None},
    )  # fmt: skip
    trainer = TextPredictionTrainer(
        base, data=rows(), target_classes=["one", "many"], args=args, eval_neutral_data=NEUTRAL
    )
    trainer.train(callbacks=[Dies()])
    encoder = trainer.evaluate_encoder()
    decoder = trainer.evaluate_decoder(lrs=LRS, selector=LMSThresholdPolicy(0.0))
    trainer.rewrite_base_model(decoder, strengthen="one", output_dir="run/rewritten")
    trainer.export_delta(decoder, strengthen="many")
    report, stats = trainer.get_seed_report(), trainer.get_training_stats()
    return {
        "encoder": encoder,
        "decoder": {repr(key): entry for key, entry in decoder.pop("grid").items()} | decoder,
        "losses": stats["losses"],
        "scores": [run["selection_score"] for run in report["runs"]],
        "best": report["best_seed"],
        "files": contents(Path("run")),
    }


def contents(folder: Path) -> dict[str, str]:
    """File → digest of what it says; times, and whether a seed was found done, do not count. No file is left out."""
    found = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".png"):
        text = path.read_bytes()
        if path.name in {"training.json", "seed_report.json"}:
            content = json.loads(text)
            for one in (content, *content.get("runs", ())):
                for name in ("time", "checksum", "used_cache", "trained"):
                    one.pop(name, None)
            text = json.dumps(content).encode()
        found[str(path.relative_to(folder))] = hashlib.sha256(text).hexdigest()
    return found


def readable(base: str) -> dict[str, Any]:
    """Load everything in the folder that says it is whole."""
    del base
    for config in Path("run").rglob("config.json"):
        # A file on its way lies in a hidden folder.
        if any(part.startswith(".") for part in config.parts):
            continue
        if is_checkpoint(config.parent):
            TextPredictionModelWithGradiend.from_pretrained(str(config.parent))
        else:
            AutoModelForMaskedLM.from_pretrained(config.parent)
    for delta in Path("run").rglob("deltas/*.safetensors"):
        read_delta(delta)
    return {}


def in_child(
    work: Callable[[str], dict[str, Any]], base: str, folder: Path, fatal: int | None = None, after: float | None = None
) -> tuple[int | None, dict[str, Any]]:
    """(the signal that ended the child, what it found, with the number of moments)."""
    folder.mkdir(exist_ok=True)
    result = folder.with_suffix(".result")
    child = os.fork()
    if child == 0:
        try:
            os.chdir(folder)
            MOMENTS.count, MOMENTS.fatal = 0, fatal
            began = time.monotonic()
            found = work(base)
            found |= {"moments": MOMENTS.count, "seconds": time.monotonic() - began}
            result.write_text(json.dumps(found, default=float))
            os._exit(0)
        finally:
            traceback.print_exc()
            os._exit(1)
    if after is not None:
        time.sleep(after)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return os.WTERMSIG(status), {}
    if status:
        sys.exit(f"A run failed after the death at {fatal or after}.")
    return None, json.loads(result.read_text())


def main() -> None:
    base, home, moments, times = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    tempfile.tempdir = str(home / "temporary")
    Path(tempfile.tempdir).mkdir()
    torch.set_num_threads(1)
    remove = shutil.rmtree
    count_files()
    _, expected = in_child(experiment, base, home / "whole")
    last, draw = expected["moments"], random.Random(0)
    deaths: list[dict[str, Any]] = [{"fatal": 1 + round(n * (last - 1) / max(1, moments - 1))} for n in range(moments)]
    deaths += [{"after": draw.uniform(0.05, 0.9) * expected["seconds"]} for _ in range(times)]
    runs = []
    for number, death in enumerate(deaths):
        folder = home / f"killed_{number}"
        ended_by, _ = in_child(experiment, base, folder, **death)
        in_child(readable, base, folder)
        _, found = in_child(experiment, base, folder)
        runs.append({**death, "signal": ended_by, "steps": (folder / STEPS).stat().st_size, "found": found})
        remove(folder)
    left = [str(path.relative_to(home)) for path in Path(tempfile.tempdir).rglob("*")]
    print(json.dumps({"expected": expected, "runs": runs, "left": left}))


if __name__ == "__main__":
    main()
