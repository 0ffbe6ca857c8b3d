"""The closed form (`init="class_means"`) against gradient training, on held-out examples, over seeds.

    python benchmarks/closed_form.py MODEL ROWS NEUTRAL FIRST_CLASS SECOND_CLASS [--words he,she they]
        [--hold-out WORD …]

ROWS is a CSV with masked, label, label_class and split, or with --words a text file whose sentences with these words
are the two classes; NEUTRAL is a CSV with text, or a text file whose sentences without any of the words are taken. The
GRADIEND has 1 % of the entries (pre-pruned once per run); AdamW has lr 1e-4, after the closed form 1e-5. Each line:
correlation and ROC-AUC on single test examples; correlation on test examples of the held-out word forms against the
other class; P of each class on the other's texts before → after the best rewrite that keeps 99 % of the LMS, of step
sizes a third apart; seconds, of the steps alone, or for the closed form of the whole `train()`.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from gradiend import (
    PrePruneConfig,
    TextFilterConfig,
    TextPredictionDataCreator,
    TextPredictionTrainer,
    TextPreprocessConfig,
    TrainingArguments,
)
from gradiend.evaluator import get_correlation
from gradiend.trainer import TrainingCallback
from gradiend.trainer.text import TextPredictionModelWithGradiend

MARKS = (50, 250, 1000)
LEARNING_RATES = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0]
"""The grid, which `largest_effect` refines."""


class SaveAt(TrainingCallback):
    """Saves the model after chosen steps, and the seconds since the training began."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.start = 0.0
        self.seconds: dict[int, float] = {}

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Start the clock."""
        self.start = time.perf_counter()

    def on_step_end(self, step: int, *_: Any, **state: Any) -> None:
        """Save if it is time."""
        if step in MARKS:
            self.seconds[step] = time.perf_counter() - self.start
            state["model"].save_pretrained(str(self.directory / str(step)))


def report(
    name: str,
    trainer: TextPredictionTrainer,
    model: TextPredictionModelWithGradiend,
    held_out: pd.DataFrame | None,
    seconds: float,
) -> None:
    """Evaluate a model and print its line."""
    encoder = trainer.evaluate_encoder(model_with_gradiend=model, split="test")
    forms = "      "
    if held_out is not None:
        forms = f"{held_out_correlation(model, held_out, trainer.target_classes):6.3f}"
    results = trainer.evaluate_decoder(model_with_gradiend=model, lrs=LEARNING_RATES)
    base = results["grid"]["base"]["probs"]
    effects = []
    for position, target in enumerate(trainer.target_classes):
        other = trainer.target_classes[1 - position]
        effects.append(f"{target} {base[other]:.3f} → {largest_effect(trainer, model, results, target):.3f}")
    separation = f"{encoder['correlation']:6.3f} {encoder['roc_auc']:7.4f}"
    print(f"{name:24} {separation} {forms}  {'  '.join(effects)}  {seconds:6.1f} s", flush=True)


def largest_effect(
    trainer: TextPredictionTrainer, model: TextPredictionModelWithGradiend, results: dict[str, Any], target: str
) -> float:
    """P of a class after the best rewrite, with step sizes between the one that the grid chose and the next as well."""
    if target not in results or results[target]["learning_rate"] is None:
        return float("nan")
    finer = [results[target]["learning_rate"] * 3 ** (part / 4) for part in (1, 2, 3)]
    refined = trainer.evaluate_decoder(model_with_gradiend=model, lrs=finer, target_class=target)
    values = [found[target]["value"] for found in (results, refined) if target in found]
    return max(value for value in values if value is not None)


def held_out_correlation(model: TextPredictionModelWithGradiend, rows: pd.DataFrame, classes: list[str]) -> float:
    """Correlation on rows with word forms that no training example had, either side."""
    encoded = [
        model.encode(masked, word, return_float=True)
        for masked, word in zip(rows["masked"], rows["alternative"], strict=True)
    ]
    label = rows["label_class"].map({classes[0]: 1.0, classes[1]: -1.0})
    return get_correlation(pd.DataFrame({"encoded": encoded, "label": label}))


def read_data(given: argparse.Namespace) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(rows of the two classes, neutral texts)."""
    preprocess = TextPreprocessConfig(split_to_sentences=True, min_chars=30, max_chars=200)
    if given.words:
        targets = [
            TextFilterConfig(words.split(","), id=name) for words, name in zip(given.words, given.classes, strict=True)
        ]
        creator = TextPredictionDataCreator(given.rows, preprocess=preprocess, feature_targets=targets)
        rows = creator.generate_training_data(max_size_per_class=1500, format="minimal")
        assert isinstance(rows, pd.DataFrame)
    else:
        rows = pd.read_csv(given.rows)
        rows = rows[rows["label_class"].isin(given.classes)]
    if given.neutral.endswith(".csv"):
        return rows, pd.read_csv(given.neutral).head(300)
    words = TextFilterConfig(sorted(rows["label"].str.lower().unique()), id="words")
    creator = TextPredictionDataCreator(given.neutral, preprocess=preprocess, feature_targets=[words])
    return rows, creator.generate_neutral_data(max_size=300)


def main() -> None:
    """Print the table of one feature."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("rows")
    parser.add_argument("neutral")
    parser.add_argument("classes", nargs=2)
    parser.add_argument("--words", nargs=2, help="the words of each class, where ROWS is a text file")
    parser.add_argument("--hold-out", nargs="+", default=[], help="word forms that training shall not see")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--init-samples", type=int, default=128)
    given = parser.parse_args()
    rows, neutral = read_data(given)
    hidden = rows["label"].str.lower().isin([word.lower() for word in given.hold_out])
    held_out = None
    if given.hold_out:
        others = rows[~rows["label_class"].isin(rows[hidden]["label_class"])]
        word_of_others = others["label"].str.lower().mode()[0]
        mine = rows[hidden & (rows["split"] == "test")].head(100)
        theirs = others[others["split"] == "test"].head(len(mine))
        held_out = pd.concat(
            [mine.assign(alternative=word_of_others), theirs.assign(alternative=given.hold_out[0])], ignore_index=True
        )
    runs: list[tuple[Literal["class_means", "random"], int, int]] = [
        ("class_means", 1, 0),
        ("class_means", 1, 50),
        ("random", given.seeds, MARKS[-1]),
    ]
    for kind, seeds, steps in runs:
        for seed in range(seeds):
            with tempfile.TemporaryDirectory(prefix="gradiend_closed_form_") as directory:
                args = TrainingArguments(
                    experiment_dir=directory,
                    train_batch_size=given.batch_size,
                    init=kind,
                    init_samples=given.init_samples,
                    max_steps=steps,
                    learning_rate=1e-5 if kind == "class_means" else 1e-4,
                    do_eval=False,
                    encoder_eval_max_size=150,
                    decoder_eval_max_size_training_like=100,
                    max_seeds=1,
                    seed=seed,
                    pre_prune_config=PrePruneConfig(n_samples=64, topk=0.01, source="diff"),
                )
                trainer = TextPredictionTrainer(
                    given.model, data=rows[~hidden], target_classes=given.classes, eval_neutral_data=neutral, args=args
                )
                clock = SaveAt(Path(directory))
                start = time.perf_counter()
                trainer.train(callbacks=[clock])
                whole = time.perf_counter() - start
                if kind == "class_means":
                    report(f"class means + {steps} steps", trainer, trainer.get_model(), held_out, whole)
                for mark, seconds in clock.seconds.items() if kind == "random" else ():
                    model = trainer.load_model(str(Path(directory) / str(mark)))
                    # Which class encodes positive is settled when a training ends.
                    if (
                        trainer.evaluate_encoder(model_with_gradiend=model, split="train", max_size=20)["correlation"]
                        < 0
                    ):
                        model.invert_encoding(update_direction=False)
                    report(f"{mark} steps, seed {seed}", trainer, model, held_out, seconds)


if __name__ == "__main__":
    main()
