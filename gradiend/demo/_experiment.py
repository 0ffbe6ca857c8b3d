"""The experiment of `gradiend demo`: number of the third person, from sentences of the embedded model's language."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gradiend.demo import model_path, sentences
from gradiend.experiment._template import new_file

CLASSES = {"3SG": ["he", "she", "it"], "3PL": ["they"]}
BALANCE_TEXTS = (
    "That evening [MASK] went home.", "After the rain [MASK] walked along the river.", "In the end [MASK] won.",
    "When the door opened, [MASK] looked up.", "For a long time [MASK] said nothing.", "At noon [MASK] had a rest.",
    "Before the war [MASK] lived in the south.", "Without a word [MASK] left the room.", "Then [MASK] began to sing.",
    "By the next morning [MASK] knew the truth.", "On the way [MASK] met a friend.", "Late at night [MASK] came back.",
)  # fmt: skip
"""Texts that fit both classes; the goal "balance" makes the model prefer neither."""
SENTENCES = (
    "After [MASK] came home, the guard went to the tower.",
    "The doctors came home. Then [MASK] ate some soup.",
)
"""Texts whose most likely words the report shows."""


def write_experiment(output: str | Path, *, model: str | None = None, seed: int = 0) -> str:
    """Write `experiment.yaml` and `sentences.txt` into a folder, in which the experiment then works.

    `model` is the name or path of a masked or causal model (default: the embedded one), `seed` the first seed of the
    training. Returns the path of the file, for `gradiend.experiment.read_experiment`.
    """
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sentences.txt").write_text("\n".join(sentences()) + "\n", encoding="utf-8")
    values: dict[tuple[str, ...], Any] = {
        ("model",): model or str(model_path()),
        ("experiment_dir",): str(folder),
        ("corpus", "base_data"): str(folder / "sentences.txt"),
        ("corpus", "feature_targets"): CLASSES,
        ("corpus", "max_size_per_class"): 800,
        ("corpus", "neutral_max_size"): 800,
        ("data", "decoder_eval_targets"): CLASSES,
        ("data", "balance_texts"): list(BALANCE_TEXTS),
        ("train", "train_batch_size"): 16,
        ("train", "max_steps"): 200,
        ("train", "learning_rate"): 1e-3,
        ("train", "eval_steps"): 20,
        ("train", "encoder_eval_train_max_size"): 40,
        ("train", "seed"): seed,
        ("evaluate", "decoder", "lrs"): "auto",
        ("rewrite",): {},
        ("report", "sentences"): list(SENTENCES),
    }
    file = folder / "experiment.yaml"
    file.write_text(new_file(values, usual=False), encoding="utf-8")
    return str(file)
