"""Two processes against one: time with the whole model in each, and memory with shards (FSDP2).

    python benchmarks/processes.py MODEL ROWS.csv NEUTRAL.csv [--repeats 3] [--memory]

Time: a training step (batches of 32, 1 % of the entries, gradients computed and not kept), encodings of rows and a grid
of steps; the runs with one and two processes of one thread each alternate, and the medians are compared. Memory: what
a training of a random BERT-base (all entries, batches of one example, 32 tokens) takes above the libraries at its peak,
of two processes the larger one.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
from workload import LEARNING_RATES, Clock, measured_model, peak_mib, read_rows, seconds

from gradiend import PrePruneConfig, TextPredictionTrainer, TrainingArguments

BATCH = 32
PHASES = ("training step", "encodings", "grid")


def times(model: str, rows: pd.DataFrame, neutral: pd.DataFrame, directory: str) -> dict[str, float]:
    """Seconds of each phase in this process."""
    args = TrainingArguments(
        experiment_dir=directory, train_batch_size=BATCH, max_steps=12, max_seeds=1, learning_rate=1e-4,
        pre_prune_config=PrePruneConfig(n_samples=32, topk=0.01, batch_size=16), do_eval=False, kept_gradients_size=0,
        decoder_eval_max_size_training_like=64,
    )  # fmt: skip
    classes = list(dict.fromkeys(rows["label_class"]))
    trainer = TextPredictionTrainer(
        model=model, data=rows, target_classes=classes, args=args, eval_neutral_data=neutral
    )
    clock = Clock()
    trainer.train(callbacks=[clock])
    encoded = seconds(lambda: trainer.evaluate_encoder(max_size=256, plot=False))
    grid = seconds(lambda: trainer.evaluate_decoder(lrs=LEARNING_RATES[:5], feature_factors=[1.0], plot=False))
    return dict(zip(PHASES, (clock.median_step()["seconds"], encoded, grid), strict=True))


def memory(model: str, rows: pd.DataFrame, directory: str, *, fsdp: bool) -> dict[str, float]:
    """The peak of this process above its libraries, in MiB."""
    before = peak_mib()
    classes = list(dict.fromkeys(rows["label_class"]))
    args = TrainingArguments(
        experiment_dir=directory, train_batch_size=1, max_steps=4, max_seeds=1, learning_rate=1e-4, do_eval=False,
        kept_gradients_size=0, fsdp=fsdp,
    )  # fmt: skip
    TextPredictionTrainer(model=model, data=rows, target_classes=classes, args=args).train()
    return {"peak": peak_mib() - before}


def launched(count: int, *arguments: str) -> dict[str, float]:
    """What the processes of one run measured: of each number, the largest."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "MPLBACKEND": "Agg"}
    with tempfile.TemporaryDirectory() as folder:
        runner = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"] if count > 1 else []
        command = [sys.executable, *runner, __file__, *arguments, "--child", folder]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        found = [json.loads(path.read_text()) for path in Path(folder).glob("process_*.json")]
    if done.returncode or len(found) != count:
        sys.exit(done.stderr[-4000:])
    return {name: max(one[name] for one in found) for name in found[0]}


def child(options: argparse.Namespace) -> dict[str, float]:
    """What this process measures."""
    rows = read_rows(options.rows, 0)
    place = str(Path(options.child) / "run")
    if not options.memory:
        return times(options.model, rows, pd.read_csv(options.neutral).head(60), place)
    words = rows["masked"].map(lambda text: len(text.split()))
    some = rows[words.between(20, 24)].groupby(["split", "label_class"]).head(20)
    return memory(options.model, some, place, fsdp=options.fsdp)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("model", "rows", "neutral"):
        parser.add_argument(name)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--fsdp", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        rank = os.environ.get("RANK", "0")
        Path(options.child, f"process_{rank}.json").write_text(json.dumps(child(options)))
        return
    given = (options.model, options.rows, options.neutral)
    if options.memory:
        with measured_model(options.model, bert_base=True) as base:
            one = launched(1, base, *given[1:], "--memory")["peak"]
            two = launched(2, base, *given[1:], "--memory", "--fsdp")["peak"]
        print(f"peak above the libraries: one process {one:.0f} MiB, the larger of two {two:.0f} MiB: {two / one:.2f}")
        return
    found: dict[int, list[dict[str, Any]]] = {1: [], 2: []}
    for _ in range(options.repeats):
        for count, results in found.items():
            results.append(launched(count, *given))
    for phase in PHASES:
        one, two = (statistics.median(result[phase] for result in found[count]) for count in found)
        print(f"{phase:15} one process {one:8.3f} s   two {two:8.3f} s   {one / two:.2f}×")


if __name__ == "__main__":
    main()
