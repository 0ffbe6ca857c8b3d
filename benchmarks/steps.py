"""The step that `evaluate_decoder(lrs="auto")` finds, beside 33 steps on a grid, judged on fresh neutral texts.

    python benchmarks/steps.py MODEL CORPUS [--features number tense …] [--gender CSV] [--out CSV]

CORPUS is a text file, one paragraph a line, whose sentences give the rows of each feature and the neutral texts, in
random order, so that both samples are of the same texts: 700 to choose by, and others, of about 10 000 tokens, to
judge by. CSV has masked, label, label_class and split of he and she.
For each feature one GRADIEND is trained (1 % of the entries, 80 steps, lr 1e-4), and for each class three choices are
compared: "auto"; the documented grid with its accuracy rule; and, of 33 steps from 1e-4 to 10, the one with the highest
P(class) among those that are allowed on the fresh texts (one-sided 95 % lower bound of the likelihood ratio at least
0.99 − 0.002). Each line: P(class) before and after each choice; ratio ± standard error on the fresh texts, and whether
it is allowed there; P of "auto" as a ratio to the best of the 33; measurements that "auto" made.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gradiend import (
    PrePruneConfig,
    TextFilterConfig,
    TextPredictionDataCreator,
    TextPredictionTrainer,
    TextPreprocessConfig,
    TrainingArguments,
)
from gradiend.evaluator import LikelihoodPolicy

FEATURES: dict[str, dict[str, list[str]]] = {
    "number": {"singular": ["he", "she", "it"], "plural": ["they"]},
    "tense": {"past": ["was"], "present": ["is"]},
    "person": {"first": ["I"], "third": ["he", "she"]},
    "nearness": {"near": ["this"], "far": ["that"]},
    "ein": {"masculine": ["ein"], "feminine": ["eine"]},
    "der": {"der": ["der"], "die": ["die"]},
}
GRID = [float(f"{step:.4g}") for step in np.geomspace(1e-4, 10, 33)]
NEAR = 8, 3
"""Of the grid, steps below an eighth of the found one are left out, whose P is smaller, and those above three times the
found one, whose loss is some nine times as large as allowed."""
RATIO, RESOLUTION = 0.99, 0.002
FRESH_TOKENS = 10_000
N_NEUTRAL = 700
PREPROCESS = TextPreprocessConfig(split_to_sentences=True, min_chars=30, max_chars=200)


def read_feature(name: str, given: argparse.Namespace) -> tuple[pd.DataFrame, list[str], list[str]]:
    """(rows, classes, words of the classes)."""
    if name == "gender":
        return pd.read_csv(given.gender), ["masculine", "feminine"], ["he", "she", "him", "her", "his"]
    words = FEATURES[name]
    targets = [TextFilterConfig(targets=own, id=label) for label, own in words.items()]
    creator = TextPredictionDataCreator(given.corpus, preprocess=PREPROCESS, feature_targets=targets)
    rows = creator.generate_training_data(max_size_per_class=1200, format="minimal")
    assert isinstance(rows, pd.DataFrame)
    return rows, list(words), [word for own in words.values() for word in own]


def read_neutral(words: list[str], corpus: str) -> pd.DataFrame:
    """Sentences without the words, in random order."""
    targets = [TextFilterConfig(targets=words, id="words")]
    creator = TextPredictionDataCreator(corpus, preprocess=PREPROCESS, feature_targets=targets)
    return creator.generate_neutral_data().sample(frac=1, random_state=0, ignore_index=True).head(3000)


def judged(trainer: TextPredictionTrainer, steps: list[float], target: str, fresh: pd.DataFrame) -> dict[str, Any]:
    """The results of `evaluate_decoder` for given steps, whose neutral texts are scored whole unless all is clear."""
    strict = LikelihoodPolicy(RATIO - RESOLUTION, 1e-9)
    return trainer.evaluate_decoder(
        lrs=steps, target_class=target, selector=strict, neutral_df=fresh, use_cache=False, max_size_training_like=100
    )


def described(results: dict[str, Any], factor: float, step: float | None) -> tuple[str, bool]:
    """Ratio ± standard error of a step on the fresh texts, and whether it is allowed there."""
    if step is None:
        return "none", True
    entry = results["grid"][factor, step]
    found = entry["lms"]["likelihood_ratio"]
    allowed = "skipped" not in entry
    return f"{found['value']:.4f} ± {found['standard_error']:.4f}{'' if allowed else ' NOT ALLOWED'}", allowed


def compare(trainer: TextPredictionTrainer, target: str, neutral: pd.DataFrame, fresh: pd.DataFrame) -> dict[str, Any]:
    """One line of the table."""
    common: dict[str, Any] = {"target_class": target, "neutral_df": neutral, "use_cache": False}
    common["max_size_training_like"] = 100
    started = time.perf_counter()
    auto = trainer.evaluate_decoder(lrs="auto", **common)
    seconds = time.perf_counter() - started
    usual = trainer.evaluate_decoder(**common)
    factor = next(key[0] for key in auto["grid"] if key != "base")
    chosen = {"auto": auto[target]["learning_rate"], "usual": usual[target]["learning_rate"]}
    own = [step for step in chosen.values() if step is not None]
    middle = chosen["auto"] or 0.01
    near = [step for step in GRID if middle / NEAR[0] <= step <= middle * NEAR[1]]
    grid = judged(trainer, sorted({*near, *own}), target, fresh)
    allowed = {
        step: entry["probs"]
        for (_, step), entry in ((key, e) for key, e in grid["grid"].items() if key != "base")
        if "skipped" not in entry
    }
    p = {step: next(iter(probs.values())) for step, probs in allowed.items()}
    best = max((step for step in near if step in p), key=lambda step: p[step])
    line: dict[str, Any] = {"class": target, "base": auto[target].get("base_value")}
    for name, results in (("auto", auto), ("usual", usual)):
        text, ok = described(grid, factor, chosen[name])
        line |= {
            f"{name} lr": chosen[name],
            f"{name} P": results[target]["value"],
            f"{name} fresh": text,
            f"{name} allowed": ok,
        }
    line |= {
        "best lr": best,
        "best P": p[best],
        "ratio": (auto[target]["value"] or 0.0) / p[best],
        "usual ratio": (usual[target]["value"] or 0.0) / p[best],
        "measured": len(auto["grid"]) - 1,
        "seconds": seconds,
    }
    return line


def shown(line: dict[str, Any]) -> str:
    """One line of the table, as text."""
    choices = [
        f"{name} {line[f'{name} lr']!s:7} {line[f'{name} P'] or 0:.3f} [{line[f'{name} fresh']}]"
        for name in ("auto", "usual")
    ]
    return (
        f"{line['model']:18}{line['feature']:9}{line['class']:10} base {line['base']:.3f}  {'  '.join(choices)}  "
        f"best of 33 {line['best lr']:.4g} {line['best P']:.3f}  ratio {line['ratio']:.3f}  "
        f"{line['measured']} measured, {line['seconds']:.1f} s"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("corpus")
    parser.add_argument("--gender", help="CSV of he and she")
    parser.add_argument("--features", nargs="+", default=["gender", "number", "tense", "person", "nearness"])
    parser.add_argument("--steps", type=int, default=80, help="training steps")
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--out", help="CSV to which the lines are appended")
    given = parser.parse_args()
    lines = []
    for name in given.features:
        rows, classes, words = read_feature(name, given)
        texts = read_neutral(words, given.corpus)
        neutral, rest = texts.head(N_NEUTRAL), texts.iloc[N_NEUTRAL:].reset_index(drop=True)
        with tempfile.TemporaryDirectory() as directory:
            trainer = TextPredictionTrainer(
                model=given.model, data=rows, target_classes=classes, eval_neutral_data=neutral,
                args=TrainingArguments(
                    experiment_dir=str(Path(directory) / name), max_steps=given.steps,
                    learning_rate=given.learning_rate, train_batch_size=16, max_seeds=1, eval_steps=given.steps,
                    encoder_eval_train_max_size=100, pre_prune_config=PrePruneConfig(n_samples=64, topk=0.01),
                ),
            )  # fmt: skip
            trainer.train()
            tokenizer = trainer.get_model().tokenizer
            sizes = np.cumsum([len(ids) - 2 for ids in tokenizer(rest["text"].tolist())["input_ids"]])
            fresh = rest.head(int((sizes < FRESH_TOKENS).sum()) + 1)
            for target in classes:
                line = {"model": Path(given.model).name, "feature": name, **compare(trainer, target, neutral, fresh)}
                lines.append(line)
                print(shown(line), flush=True)
    if given.out:
        place = Path(given.out)
        pd.DataFrame(lines).to_csv(place, mode="a", header=not place.exists(), index=False)


if __name__ == "__main__":
    main()
