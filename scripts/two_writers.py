"""Start two processes that train and evaluate in one folder, and compare both with runs that nothing disturbed.

    python scripts/two_writers.py [--starts 50] [--seed 0]

The second process begins at a random moment of the first. Every other pair has two different learning rates: then the
process whose model was replaced must say so (refused), and must not go on with the model of the other one.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from gradiend import ExperimentLocked, TextPredictionTrainer, TrainingArguments
from gradiend.demo import model_path
from gradiend.util._digest import hash_model_weights

RATES = (1e-3, 3e-3)
STEPS = [0.5, 5.0]
ROWS = pd.DataFrame(
    {
        "masked": ["The nurse said that [MASK] was tired .", "The boys said that [MASK] were tired ."] * 20,
        "label": ["she", "they"] * 20,
        "label_class": ["3SG", "3PL"] * 20,
        "split": (["train"] * 6 + ["validation"] * 2 + ["test"] * 2) * 4,
    }
)


def results(
    folder: Path, rate: float, also: Callable[[TextPredictionTrainer, dict[str, Any]], None] | None = None
) -> dict[str, Any]:
    """What a script finds that trains and evaluates; `also` is done with the trainer and the decoder's results."""
    args = TrainingArguments(
        experiment_dir=str(folder), use_cache=True, learning_rate=rate, max_steps=4, eval_steps=2, train_batch_size=4,
        params=["*layer.0*"], max_seeds=2, min_convergent_seeds=None,
    )  # fmt: skip
    trainer = TextPredictionTrainer(str(model_path()), data=ROWS, target_classes=["3SG", "3PL"], args=args)
    trainer.train()
    encoder = trainer.evaluate_encoder(return_df=True)
    decoder = trainer.evaluate_decoder(lrs=STEPS)
    if also is not None:
        also(trainer, decoder)
    stats = trainer.get_training_stats()
    assert stats is not None
    return {
        "weights": hash_model_weights(trainer.get_model().gradiend),
        "losses": stats["losses"],
        "encodings": encoder.pop("encoder_df").to_json(),
        "encoder": encoder,
        "decoder": {repr(key): entry for key, entry in decoder.pop("grid").items()} | decoder,
    }


def start(folder: Path, rate: float, after: float, result: Path) -> int:
    """Run `results` in a forked process, whose end is a file: what it found, a refusal, or a crash."""
    process = os.fork()
    if process:
        return process
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    time.sleep(after)
    try:
        found: Any = json.loads(json.dumps(results(folder, rate), default=float))
    except ExperimentLocked:
        found = "refused"
    except BaseException:  # noqa: BLE001 - the end of a process, which says what ended it
        found = traceback.format_exc()
    result.write_text(json.dumps(found))
    os._exit(0)


def ended(process: int, result: Path) -> Any:
    os.waitpid(process, 0)
    return json.loads(result.read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--starts", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    draw = random.Random(given.seed)
    crashes = refused = mixed = left = 0
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory)
        calm, seconds = {}, 0.0
        for rate in RATES:
            began = time.perf_counter()
            # In this process, whose forks then have everything loaded.
            calm[rate] = json.loads(json.dumps(results(home / f"calm{rate}", rate), default=float))
            seconds = time.perf_counter() - began
        for number in range(given.starts):
            folder, rates = home / "pair", (RATES[0], RATES[number % 2])
            offsets = (0.0, draw.uniform(0, seconds))
            ends = [home / "first", home / "second"]
            jobs = [start(folder, *one) for one in zip(rates, offsets, ends, strict=True)]
            pairs = [(rate, ended(job, end)) for rate, job, end in zip(rates, jobs, ends, strict=True)]
            # A third script finds in the folder what it would have made itself.
            pairs.append((rates[1], ended(start(folder, rates[1], 0, home / "third"), home / "third")))
            for rate, found in pairs:
                if isinstance(found, str) and found != "refused":
                    crashes += 1
                    print(found)
                refused += found == "refused"
                if isinstance(found, dict) and found != calm[rate]:
                    mixed += 1
                    print("mixed:", ", ".join(name for name in found if found[name] != calm[rate][name]))
            left += sum(path.name.startswith(".") for path in folder.rglob("*"))
            shutil.rmtree(folder)
    found = f"{crashes} crashes, {mixed} mixed results, {left} leftovers; {refused} refused"
    print(f"{given.starts} starts of two processes: {found}")
    sys.exit(bool(crashes or mixed or left))


if __name__ == "__main__":
    main()
