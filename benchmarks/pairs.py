"""All pairs of a paradigm in one suite: gradients, time and results against one pair, and against one by one.

    python benchmarks/pairs.py MODEL ROWS.csv [--classes a,b,c] [--steps 200] [--topk 0.01] [--check 3]
        [--other PYTHON --other-classes a,b,c --other-steps 20] [--output FOLDER]

Every training keeps `topk` of the entries, has one seed and batches of 8; time is that of `train()` and
`evaluate_encoder(split="test")`. One pair is the median of three, after one that warms up. `--check` pairs of the
suite are trained alone too. With --other, the pairs of `--other-classes` are trained here and by the interpreter
of an environment with the existing tool, one after the other, by the same script. --output keeps the suite's runs, a
table, and figures of what the GRADIENDs say of each other's texts and of how similar their weights are. Last, two pairs
are trained with two seeds and few and many steps: does similarity rank the same feature above the same seed?
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from gradiend import (
    PrePruneConfig,
    SymmetricTrainerSuite,
    TextPredictionTrainer,
    TrainingArguments,
    compute_similarity_matrix,
    plot_comparison_heatmap,
)
from gradiend.comparison import compute_dense_anchor_aligned_encoding_matrix

SCRIPT = """
import json, sys, time
import pandas as pd
from gradiend import PrePruneConfig, SymmetricTrainerSuite, TextPredictionTrainer, TrainingArguments
model, rows, folder, classes, steps, topk = json.loads(sys.argv[1])
args = TrainingArguments(
    experiment_dir=folder, train_batch_size=8, max_steps=steps, learning_rate=1e-4, max_seeds=1,
    pre_prune_config=PrePruneConfig(n_samples=16, topk=topk),
)
suite = SymmetricTrainerSuite(
    TextPredictionTrainer, model=model, data=pd.read_csv(rows), target_classes=classes, run_id="pairs", args=args
)
began = time.perf_counter()
suite.train()
trained = time.perf_counter()
results = suite.evaluate_encoder(split="test")
print("RESULT" + json.dumps({
    "train": trained - began, "encode": time.perf_counter() - trained,
    "correlation": {name: one["correlation"] for name, one in results.items()},
}))
"""


def parsed(argv: list[str] | None) -> argparse.Namespace:
    """The arguments of the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("model")
    parser.add_argument("rows", type=Path)
    parser.add_argument("--classes", type=lambda text: text.split(","), default=None)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--topk", type=float, default=0.01)
    parser.add_argument("--check", type=int, default=3)
    parser.add_argument("--other", default=None)
    parser.add_argument("--other-classes", type=lambda text: text.split(","), default=None)
    parser.add_argument("--other-steps", type=int, default=20)
    parser.add_argument("--output", type=Path, default=None)
    return parser.parse_args(argv)


class Bench:
    """The trainings of one model and one table."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.given = given
        self.data = pd.read_csv(given.rows)
        self.classes = given.classes or sorted(self.data["label_class"].unique())

    def arguments(self, folder: str | None, **fields: Any) -> Any:
        """The arguments of every training."""
        given = self.given
        return TrainingArguments(**{
            "experiment_dir": folder, "train_batch_size": 8, "max_steps": given.steps, "learning_rate": 1e-4,
            "max_seeds": 1, "pre_prune_config": PrePruneConfig(n_samples=16, topk=given.topk), **fields,
        })  # fmt: skip

    def alone(self, pair: list[str]) -> tuple[float, Any]:
        """Seconds, and the trained trainer of one pair."""
        with tempfile.TemporaryDirectory() as folder:
            trainer = TextPredictionTrainer(
                self.given.model, data=self.data, target_classes=pair, args=self.arguments(folder), run_id="alone"
            )
            began = time.perf_counter()
            trainer.train()
            trainer.evaluate_encoder(split="test")
            return time.perf_counter() - began, trainer.get_model()

    def suite(
        self, folder: str | None, classes: list[str], chosen: list[list[str]] | None = None, **fields: Any
    ) -> Any:
        """The suite of all pairs of classes, or of the chosen pairs."""
        return SymmetricTrainerSuite(
            TextPredictionTrainer, model=self.given.model, data=self.data, target_classes=classes, target_pairs=chosen,
            run_id="pairs", args=self.arguments(folder, **fields),
        )  # fmt: skip


@contextlib.contextmanager
def counted() -> Iterator[list[int]]:
    """Counts backward passes."""
    passes, backward = [0], torch.Tensor.backward

    def count(*args: Any, **kwargs: Any) -> Any:
        passes[0] += 1
        return backward(*args, **kwargs)

    torch.Tensor.backward = count  # type: ignore[method-assign]
    try:
        yield passes
    finally:
        torch.Tensor.backward = backward  # type: ignore[method-assign]


def time_of_pairs(bench: Bench, folder: str) -> Any:
    """Time one pair and the suite, and return the suite."""
    suite = bench.suite(folder, bench.classes)
    pairs = [list(one.target_classes) for one in suite.get_trainers()]
    different = [pair for pair in pairs if _words(bench.data, pair[0]) != _words(bench.data, pair[1])]
    chosen = [different[place] for place in (0, len(different) // 2, len(different) - 1)]
    bench.alone(chosen[0])
    with counted() as passes:
        seconds = [bench.alone(pair)[0] for pair in chosen]
        of_one = passes[0] / len(chosen)
    one = statistics.median(seconds)
    print(f"one pair: {one:.2f} s (of {', '.join(f'{each:.2f}' for each in seconds)}), {of_one:.0f} backward passes")
    with counted() as passes:
        began = time.perf_counter()
        suite.train()
        trained = time.perf_counter()
        results = suite.evaluate_encoder(split="test")
        whole = time.perf_counter() - began
    print(
        f"suite: {len(pairs)} pairs, {len(suite.failures)} refused, {len(results)} trained in {whole:.1f} s "
        f"({trained - began:.1f} + {whole - (trained - began):.1f}), {passes[0]} backward passes: "
        f"{whole / one:.1f} times one pair, {len(results)} one by one"
    )
    for name, why in suite.failures.items():
        print(f"  refused: {name}: {why}")
    found = pd.Series({name: one["correlation"] for name, one in results.items()})
    print(f"correlation on the test split: median {found.median():.3f}, {int((found < 0.5).sum())} below 0.5")
    return suite


def _words(data: pd.DataFrame, name: str) -> set[str]:
    return set(data.loc[data["label_class"] == name, "label"].str.lower())


def same_as_alone(bench: Bench, suite: Any) -> None:
    """Compare pairs of the suite with the same pairs alone."""
    names = [name for name in suite if name not in suite.failures]
    for name in names[:: max(1, len(names) // max(1, bench.given.check))][: bench.given.check]:
        _, alone = bench.alone(suite[name].target_classes)
        one, other = (
            torch.cat([parameter.detach().reshape(-1) for parameter in model.gradiend.parameters()])
            for model in (suite[name].get_model(), alone)
        )
        same = one.shape == other.shape and float((one - other).norm() / other.norm())
        print(f"{name} alone: same entries {one.shape == other.shape}, weights differ by {same:.1e}")


def closed_forms(bench: Bench, suite: Any) -> None:
    """Time the closed form of one pair and of all."""
    pair = bench.suite(None, next(iter(suite.values())).target_classes, pre_prune_config=None)
    every = bench.suite(None, bench.classes, pre_prune_config=None)
    pair.closed_form(max_size=32)
    every.closed_form(max_size=1)
    seconds: dict[str, list[float]] = {"pair": [], "every": []}
    for _ in range(3):
        for name, one in (("pair", pair), ("every", every)):
            began = time.perf_counter()
            one.closed_form(max_size=32).similarity()
            seconds[name].append(time.perf_counter() - began)
    of_pair, of_every = (statistics.median(some) for some in seconds.values())
    print(
        f"closed form, 32 texts of a class: one pair {of_pair:.2f} s, all {len(every)} pairs of {len(bench.classes)} "
        f"classes {of_every:.2f} s: {of_every / of_pair:.1f} times"
    )


def features_and_seeds(bench: Bench, pairs: list[list[str]]) -> None:
    """Similarity of two pairs with two seeds, after few and after many steps."""
    for steps in (20, bench.given.steps):
        with tempfile.TemporaryDirectory() as folder:
            models: dict[str, Any] = {}
            for seed in (0, 1):
                suite = bench.suite(f"{folder}/{seed}", bench.classes, max_steps=steps, seed=seed, chosen=pairs)
                suite.train()
                models |= {f"{name} seed {seed}": suite[name].get_model() for name in suite}
            for part in ("encoder-weight", "decoder-weight"):
                found = compute_similarity_matrix(models, measure="cosine_signed", part=part)
                names, cells, nulls = found.row_names, found["matrix"], found.get("same_seed_null")
                for one, other in itertools.combinations(range(len(names)), 2):
                    null = None if nulls is None else nulls[one][other]
                    left = "" if null is None else f", of which the shared initial weights {null:+.3f}"
                    print(f"{steps} steps, {part}: {names[one]} ~ {names[other]}: {cells[one][other]:+.3f}{left}")


def figures(suite: Any, folder: Path) -> None:
    """What the GRADIENDs of the suite say of each other's texts, and how similar they are."""
    began = time.perf_counter()
    matrix = suite.compute_anchor_aligned_encoding_matrix()
    seconds = time.perf_counter() - began
    own = [row[place] for place, row in enumerate(matrix["matrix"])]
    print(
        f"anchor-aligned matrix of {len(suite) - len(suite.failures)} GRADIENDs in {seconds:.1f} s: diagonal from "
        f"{min(own):+.2f} to {max(own):+.2f}"
    )
    matrix.to_csv(folder / "anchor_aligned.csv")
    began = time.perf_counter()
    dense = compute_dense_anchor_aligned_encoding_matrix(
        {name: trainer for name, trainer in suite.items() if name not in suite.failures}, alignment="auto"
    )
    print(f"the same of all GRADIENDs for all texts in {time.perf_counter() - began:.1f} s")
    plot_comparison_heatmap(
        dense, output_path=str(folder / "all_texts.png"), show=False, annot=True, order="cluster"
    )  # fmt: skip
    plot_comparison_heatmap(matrix, output_path=str(folder / "anchor_aligned.png"), show=False, annot=True)
    suite.plot_similarity_heatmap(
        measure="cosine_signed", part="decoder-weight", order="cluster", annot=False, show=False,
        output_path=str(folder / "similarity.png"),
    )  # fmt: skip


def against_another(given: argparse.Namespace) -> None:
    """Time some pairs here and in the other environment."""
    results = {}
    for tool, python in (("here", sys.executable), ("existing tool", given.other)):
        with tempfile.TemporaryDirectory() as folder:
            asked = [
                str(Path(given.model).resolve()),
                str(given.rows.resolve()),
                folder,
                given.other_classes,
                given.other_steps,
                given.topk,
            ]
            done = subprocess.run(
                [python, "-c", SCRIPT, json.dumps(asked)], capture_output=True, text=True, check=False, cwd=folder
            )  # fmt: skip
        line = next((line for line in done.stdout.splitlines() if line.startswith("RESULT")), None)
        if line is None:
            print(f"{tool} failed: {done.stderr[-800:]}")
            return
        results[tool] = json.loads(line.removeprefix("RESULT"))
        print(f"{tool}, pairs of {', '.join(given.other_classes)}, {given.other_steps} steps: {results[tool]}")
    here, other = (sum(results[tool][part] for part in ("train", "encode")) for tool in results)
    print(f"{other:.1f} s there, {here:.1f} s here: {other / here:.1f} times")


def main(argv: list[str] | None = None) -> int:
    """Run the comparison."""
    given = parsed(argv)
    bench = Bench(given)
    with contextlib.ExitStack() as stack:
        folder = str(given.output or stack.enter_context(tempfile.TemporaryDirectory()))
        suite = time_of_pairs(bench, folder)
        same_as_alone(bench, suite)
        closed_forms(bench, suite)
        if given.output is not None:
            print(suite.table(given.output / "pairs.csv").drop(columns="reason").to_string())
            figures(suite, given.output)
        done = [list(suite[name].target_classes) for name in suite if name not in suite.failures]
        apart = next(pair for pair in reversed(done) if not set(pair) & set(done[0]))
        features_and_seeds(bench, [done[0], apart])
    if given.other is not None:
        against_another(given)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
