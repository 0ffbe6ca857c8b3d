"""`learning_rate="auto"` against seven fixed rates: correlation, steps to 0.95, class means, and what the search costs.

    python benchmarks/learning_rate.py MODELS DATA [--steps 120] [--only "he/she" …]

MODELS is a folder with minilm-mlm, german-bert-small and gpt-small-en, DATA one with english_gender.csv,
german_articles_gold.csv and english_novels.txt.gz. For every case, one training with "auto" and one with the rate that
it chose, as a number, are timed as whole calls of `train()` in this process, in seconds of its processor. The second
also feeds its batches to a GRADIEND of each fixed rate, with the same weights to begin with; that time is left out. All
measurements are on single examples of the test split, which neither training nor search has seen: correlation and class
means at the end, and the first step with a correlation of at least 0.95.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from gradiend import (
    PrePruneConfig,
    TextFilterConfig,
    TextPredictionDataCreator,
    TextPredictionTrainer,
    TextPreprocessConfig,
    TrainingArguments,
)
from gradiend.trainer.core._step import optimizer_for, training_pair
from gradiend.trainer.core.dataset import GradientBatches

RATES = [10.0**power for power in range(-6, 1)]
REACHED = 0.95
JUDGED = 16
"""Test examples of each class."""
CASES = {
    "he/she": ("minilm-mlm", "english_gender.csv", ("masculine", "feminine"), None),
    "der/die": ("german-bert-small", "german_articles_gold.csv", ("masc_nom", "fem_nom"), None),
    "I/we": ("gpt-small-en", "english_novels.txt.gz", ("1SG", "1PL"), (["I"], ["we"])),
    "is/was": ("gpt-small-en", "english_novels.txt.gz", ("present", "past"), (["is", "are"], ["was", "were"])),
}
"""Feature → model, data, classes, and the words of each class where the data is text."""


@dataclass
class Curve:
    """A GRADIEND of one rate, and what was measured of it."""

    network: Any
    optimizer: Any
    points: list[tuple[int, float, float]] = field(default_factory=list)
    """(step, |correlation|, the class mean that is nearer to 0, on the right side)."""

    @property
    def steps(self) -> float:
        """The first measured step with a correlation of at least `REACHED`; infinite if there is none."""
        return next((step for step, correlation, _ in self.points if correlation >= REACHED), math.inf)


class Lockstep(GradientBatches):
    """The batches of a training, which also train a GRADIEND of each rate."""

    def __init__(self, inner: Any, model: Any, args: TrainingArguments, rates: list[float], judged: Any) -> None:
        self.inner = inner
        self.args = args
        self.seconds = 0.0
        """Seconds that the other GRADIENDs took."""
        start = time.process_time()
        rows = judged.few(JUDGED)
        self.sources = torch.stack([row["source"].clone() for row in rows.gradients(model)])
        self.labels = rows.rows["label"].to_numpy()
        self.curves: dict[float, Curve] = {}
        for rate in rates:
            network = copy.deepcopy(model.gradiend)
            self.curves[rate] = Curve(network, optimizer_for(network, args.replace(learning_rate=rate)))
        self.taken = 0
        self.seconds += time.process_time() - start

    @property
    def store(self) -> Any:
        """The store of the batches."""
        return self.inner.store

    @store.setter
    def store(self, value: Any) -> None:
        self.inner.store = value

    def reads_again(self, batches: int) -> bool:
        """See `GradientBatches.reads_again`."""
        return self.inner.reads_again(batches)

    def __len__(self) -> int:
        """Number of batches per epoch."""
        return len(self.inner)

    def epoch(self, index: int, seed: int | None) -> Iterator[Mapping[str, Any]]:
        """The same batches."""
        for batch in self.inner.epoch(index, seed):
            start = time.process_time()
            self.taken += 1
            pair = training_pair(batch, self.args)
            for curve in self.curves.values():
                curve.optimizer.step(*pair)
            step = self.taken
            if step <= 20 or (step <= 60 and step % 2 == 0) or step % 5 == 0:
                self.measure()
            self.seconds += time.process_time() - start
            yield batch

    def measure(self) -> None:
        """Add a point to each curve."""
        first, second = self.labels > 0, self.labels < 0
        for curve in self.curves.values():
            with torch.no_grad():
                encoded = curve.network.forward_encoder(self.sources)[:, 0].cpu().double().numpy()
            spread = encoded.std() if np.isfinite(encoded).all() else 0.0
            correlation = np.corrcoef(encoded, self.labels)[0, 1] if spread > 0 else 0.0
            sign = -1.0 if correlation < 0 else 1.0
            means = sign * encoded[first].mean(), sign * encoded[second].mean()
            curve.points.append((self.taken, abs(correlation), min(means[0], -means[1])))


class WithOthers(TextPredictionTrainer):
    """A trainer whose batches train the other GRADIENDs too."""

    rates: list[float]
    lockstep: Lockstep

    def create_gradient_training_dataset(self, training_data: Any, model_with_gradiend: Any, **kwargs: Any) -> Any:
        """The batches of the training."""
        inner = super().create_gradient_training_dataset(training_data, model_with_gradiend, **kwargs)
        judged = self.create_eval_data(model_with_gradiend, split="test")
        self.lockstep = Lockstep(inner, model_with_gradiend, self.training_args, self.rates, judged)
        return self.lockstep


def read_rows(data: Path, classes: tuple[str, str], words: Any) -> pd.DataFrame:
    """The rows of a feature."""
    if words is None:
        table = pd.read_csv(data)
        return table[table["label_class"].isin(classes)]
    targets = [TextFilterConfig(forms, id=name) for forms, name in zip(words, classes, strict=True)]
    preprocess = TextPreprocessConfig(split_to_sentences=True, min_chars=30, max_chars=200)
    creator = TextPredictionDataCreator(str(data), preprocess=preprocess, feature_targets=targets)
    rows = creator.generate_training_data(max_size_per_class=1000, format="minimal")
    assert isinstance(rows, pd.DataFrame)
    return rows


def arguments(steps: int, prune: float | None, rate: float | str) -> TrainingArguments:
    """The arguments of a training."""
    config = None if prune is None else PrePruneConfig(n_samples=64, topk=prune)
    return TrainingArguments(
        train_batch_size=16, max_steps=steps, learning_rate=rate, max_seeds=1, encoder_eval_train_max_size=50,
        pre_prune_config=config,
    )  # fmt: skip


def timed(trainer: Any) -> float:
    """Seconds of the processor that a training takes."""
    start = time.process_time()
    trainer.train()
    return time.process_time() - start


def case(name: str, model: str, rows: pd.DataFrame, classes: tuple[str, str], steps: int, prune: float | None) -> None:
    """One case: train, and print its part of the table."""
    given: dict[str, Any] = {"data": rows, "target_classes": list(classes)}
    searched = TextPredictionTrainer(model, args=arguments(steps, prune, "auto"), **given)
    with_search = timed(searched)
    stats = searched.get_training_stats()
    assert stats is not None
    search = stats["training_stats"]["learning_rate_search"]
    chosen = search["best_lr"]
    auto_weights = searched.get_model().gradiend.state_dict()
    searched.unload_model()
    fixed = WithOthers(model, args=arguments(steps, prune, chosen), **given)
    fixed.rates = [*RATES, *([] if chosen in RATES else [chosen])]
    without = timed(fixed) - fixed.lockstep.seconds
    same = all(torch.equal(value, auto_weights[key]) for key, value in fixed.get_model().gradiend.state_dict().items())
    kind = "all entries" if prune is None else f"{prune:.0%} of the entries"
    print(f"\n{name}, {Path(model).name}, {kind} ({len(fixed.get_model())}), {steps} steps", flush=True)
    print(f"{'rate':>10}{'correlation':>13}{'steps to 0.95':>15}{'class mean':>12}{'converged':>11}{'seconds':>9}")
    curves = fixed.lockstep.curves
    for rate, is_auto in [*((rate, False) for rate in RATES), (chosen, True)]:
        curve = curves[rate]
        _, correlation, mean = curve.points[-1]
        reached = "never" if math.isinf(curve.steps) else f"{curve.steps:.0f}"
        seconds = f"{with_search:.1f}" if is_auto else ""
        shown = f"{rate:g}*" if is_auto else f"{rate:g}"
        verdict = "yes" if correlation >= REACHED else "no"
        print(f"{shown:>10}{correlation:13.3f}{reached:>15}{mean:12.3f}{verdict:>11}{seconds:>9}")
    seven, own = [curves[rate] for rate in RATES], curves[chosen]
    best = max(curve.points[-1][1] for curve in seven)
    second_steps = sorted(curve.steps for curve in seven)[1]
    second_mean = sorted((curve.points[-1][2] for curve in seven), reverse=True)[1]
    print(
        f"  auto: correlation {own.points[-1][1] - best:+.3f} of the best; steps {own.steps:.0f} (second best "
        f"{second_steps:.0f}); class mean {own.points[-1][2]:.3f} (second best {second_mean:.3f}); {with_search:.1f} s "
        f"= {with_search / without:.2f} × one training at {chosen:g} ({without:.1f} s); same weights: {same}; "
        f"{search['cost']}; {[(probe['lr'], probe['status']) for probe in search['probes']]}",
        flush=True,
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--only", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--kinds", nargs="+", default=["pruned", "all"], choices=["pruned", "all"])
    given = parser.parse_args()
    for (name, found), kind in itertools.product(CASES.items(), given.kinds):
        if name in given.only:
            model, data, classes, words = found
            rows = read_rows(given.data / data, classes, words)
            case(name, str(given.models / model), rows, classes, given.steps, 0.01 if kind == "pruned" else None)


if __name__ == "__main__":
    main()
