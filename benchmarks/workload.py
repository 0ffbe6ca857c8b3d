"""One workload through the public API, timed in this process; `benchmarks/suite.py` runs it in two environments.

    python benchmarks/workload.py WORKLOAD MODEL ROWS.csv NEUTRAL.csv WORK_DIRECTORY [--prune 0.01] [--long] [--steps 3]

It uses only what the documentation of the existing tool promises too, and prints one line of JSON: seconds (per step,
per row, or for the whole), and the peak of the process's memory above what it held after loading its libraries, in MiB.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoTokenizer, BertConfig, BertForMaskedLM

from gradiend import PrePruneConfig, TextPredictionTrainer, TrainingArguments
from gradiend.trainer import TrainingCallback

BATCH = 16
LEARNING_RATES = [0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5]
LONG_TEXT_WORDS = 400
"""More than fit into 256 tokens, so that every input is full."""


def peak_mib() -> float:
    """The largest resident set of this process so far."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("This system does not tell the peak of a process's memory.")


class Clock(TrainingCallback):
    """When each step ended, and how many operations there had been by then."""

    def __init__(self, counter: FlopCounterMode | None = None) -> None:
        self.ends: list[float] = []
        self.counter = counter
        self.operations: list[int] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Note the time."""
        finish()
        self.ends.append(time.perf_counter())
        if self.counter is not None:
            self.operations.append(self.counter.get_total_flops())

    def median_step(self) -> dict[str, float]:
        """Seconds of a step, and its operations if they are counted."""
        result = {"seconds": statistics.median(b - a for a, b in itertools.pairwise(self.ends))}
        if self.counter is not None:
            result["gflop"] = statistics.median(b - a for a, b in itertools.pairwise(self.operations)) / 1e9
        return result


def read_rows(path: str, words: int) -> pd.DataFrame:
    """The rows; with `words`, each among other texts of the file, so that it has as many words."""
    rows = pd.read_csv(path)
    if not words:
        return rows
    others = rows["masked"].str.replace("[MASK]", rows["label"].iloc[0], regex=False).tolist()
    texts = []
    for number, masked in enumerate(rows["masked"]):
        before, after, size = "", "", 0
        for step in range(1, len(others)):
            text = others[(number + step) % len(others)]
            size += len(text.split())
            before, after = (f"{text} {before}", after) if step % 2 else (before, f"{after} {text}")
            if size > words:
                break
        # The placeholder stays within the first 256 tokens for a tool that cuts texts off at the end.
        texts.append(" ".join([*before.split()[:60], masked, *after.split(), *before.split()[60:]]))
    return rows.assign(masked=texts)


@contextlib.contextmanager
def measured_model(path: str, *, bert_base: bool) -> Iterator[str]:
    """The path of the model to measure: as given, or one of BERT-base's size with random weights and its tokenizer."""
    if not bert_base:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="gradiend_bert_base_") as folder:
        words = AutoTokenizer.from_pretrained(path)
        BertForMaskedLM(BertConfig(vocab_size=len(words))).save_pretrained(folder)
        words.save_pretrained(folder)
        yield folder


def linear_flops(left: torch.Size, weight: torch.Size, *_: Any, **__: Any) -> int:
    """Operations of `left @ weight.T`, which torch's counter does not know of oneDNN's product."""
    return 2 * left.numel() * weight[0]


def count_operations() -> FlopCounterMode:
    """A context that counts floating-point operations of matrix products."""
    return FlopCounterMode(display=False, custom_mapping={torch.ops.mkldnn._linear_pointwise: linear_flops})


def counting(wanted: bool) -> AbstractContextManager[FlopCounterMode | None]:
    """`count_operations` if it is wanted; otherwise a context without a counter."""
    return count_operations() if wanted else contextlib.nullcontext()


def seconds(work: Any) -> float:
    """Wall time of one call, to the end of what it has started on a GPU."""
    finish()
    start = time.perf_counter()
    work()
    finish()
    return time.perf_counter() - start


def finish() -> None:
    """Wait for the GPU, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workload", choices=["train", "encode", "grid", "prune", "seeds", "save", "load"])
    parser.add_argument("model")
    parser.add_argument("rows")
    parser.add_argument("neutral")
    parser.add_argument("directory")
    parser.add_argument("--prune", type=float)
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--size", type=int, default=20, help="rows per class that are encoded or measured")
    parser.add_argument("--neutral-texts", type=int, default=30, help="neutral texts of the grid")
    parser.add_argument("--rates", type=int, default=len(LEARNING_RATES), help="learning rates of the grid")
    parser.add_argument("--auto", action="store_true", help="find the steps, of the factor that strengthens each class")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--count", action="store_true", help="also count the operations, in all, a step or a row")
    return parser.parse_args()


def main() -> None:
    """Run one workload and print its line."""
    given = parse_arguments()
    if given.threads:
        torch.set_num_threads(given.threads)
    held = peak_mib()
    rows = read_rows(given.rows, LONG_TEXT_WORDS if given.long else 0)
    neutral = pd.read_csv(given.neutral).head(max(200, given.neutral_texts))
    several = given.workload == "seeds"
    args = TrainingArguments(
        experiment_dir=given.directory,
        train_batch_size=BATCH,
        max_steps=given.steps,
        learning_rate=1e-4,
        do_eval=several,
        max_seeds=3 if several else 1,
        min_convergent_seeds=None if several else 1,
        encoder_eval_train_max_size=given.size,
        seed_selection_eval_max_size=given.size,
        pre_prune_config=None if given.prune is None else PrePruneConfig(n_samples=16, topk=given.prune),
    )
    trainer = TextPredictionTrainer(
        given.model, data=rows, target_classes=["masculine", "feminine"], eval_neutral_data=neutral, args=args
    )
    result: dict[str, float] = {}

    def whole(work: Callable[[], object]) -> float:
        with counting(given.count) as counter:
            taken = seconds(work)
        if counter is not None:
            result["gflop"] = counter.get_total_flops() / 1e9
        return taken

    if given.workload == "prune":
        trainer.get_model()
        result["seconds"] = whole(trainer.pre_prune)
    elif given.workload == "seeds":
        result["seconds"] = whole(trainer.train)
    elif given.workload == "train":
        with counting(given.count) as counter:
            clock = Clock(counter)
            trainer.train(callbacks=[clock])
        result = clock.median_step()
    else:
        trainer.train()
    if given.workload == "encode":
        taken = whole(lambda: result.update(n=len(encoded(trainer, given.size))))
        result["seconds"] = taken / result["n"]
        if given.count:
            result["gflop"] /= result["n"]
    elif given.workload == "grid":
        steps: dict[str, Any] = {"lrs": LEARNING_RATES[-given.rates :], "feature_factors": [1.0, -1.0]}
        if given.auto:
            steps = {"lrs": "auto"}
        result["seconds"] = whole(
            lambda: trainer.evaluate_decoder(
                **steps,
                max_size_training_like=given.size,
                max_size_neutral=given.neutral_texts,
            )
        )
    elif given.workload in ("save", "load"):
        model, path = trainer.get_model(), str(Path(given.directory) / "copy")
        result["seconds"] = seconds(lambda: model.save_pretrained(path))
        if given.workload == "load":
            result["seconds"] = seconds(lambda: trainer.load_model(path))
    print(json.dumps({**result, "peak": peak_mib() - held, "threads": torch.get_num_threads()}))


def encoded(trainer: Any, size: int) -> pd.DataFrame:
    """Encodings of `size` rows per class of the test split, and of neutral texts."""
    return trainer.evaluate_encoder(split="test", max_size=size, return_df=True)["encoder_df"]


if __name__ == "__main__":
    main()
