"""Do padding side and batch size change a number? Largest differences of encodings, probabilities and LMS.

    python benchmarks/padding_and_batches.py CHECKPOINT ROWS.csv NEUTRAL.csv

CHECKPOINT is a trained GRADIEND (<experiment_dir>/model); ROWS.csv has the columns masked, label, label_class and split
with the two classes it was trained on; NEUTRAL.csv has a column text.
"""

from __future__ import annotations

import argparse
import itertools

import numpy as np
import torch
from transformers import AutoTokenizer

from gradiend import TextPredictionTrainer, TrainingArguments
from gradiend.trainer.text import TextPredictionModelWithGradiend

SIDES, BATCH_SIZES = ("right", "left"), (1, 7, 32)


def measure(options: argparse.Namespace, side: str, batch_size: int) -> dict[str, np.ndarray]:
    """Everything that evaluations report, with a tokenizer that pads on `side`."""
    name = TextPredictionModelWithGradiend.from_pretrained(options.checkpoint).tokenizer.name_or_path
    tokenizer = AutoTokenizer.from_pretrained(name, padding_side=side)
    model = TextPredictionModelWithGradiend.from_pretrained(options.checkpoint, tokenizer=tokenizer)
    direction = model.feature_class_encoding_direction or {}
    trainer = TextPredictionTrainer(
        model=model,
        data=options.rows,
        eval_neutral_data=options.neutral,
        eval_neutral_max_rows=options.max_size,
        target_classes=sorted((name for name, sign in direction.items() if sign), key=lambda name: -direction[name]),
        args=TrainingArguments(eval_batch_size=batch_size, decoder_eval_max_size_training_like=options.max_size),
    )
    encodings = trainer.evaluate_encoder(max_size=options.max_size, return_df=True)["encoder_df"]["encoded"]
    grid = list(trainer.evaluate_decoder(lrs=[0.05])["grid"].values())
    return {
        "encodings": encodings.to_numpy(),
        "probabilities": np.array([p for e in grid for d in e["probs_by_dataset"].values() for p in d.values()]),
        "LMS": np.array([entry["lms"]["lms"] for entry in grid]),
        "gradient": gradient_of_padded_inputs(model, trainer, side),
    }


def gradient_of_padded_inputs(
    model: TextPredictionModelWithGradiend, trainer: TextPredictionTrainer, side: str
) -> np.ndarray:
    """The gradient of three texts of different length, padded by hand on `side`, in units of its norm."""
    rows = trainer.combined_data.head(3)
    inputs = [model.create_inputs(*pair) for pair in zip(rows["masked"], rows["factual"], strict=True)]
    length = max(len(item["input_ids"]) for item in inputs)
    fill = {"input_ids": model.objective.pad_token_id, "attention_mask": 0, "labels": -100}

    def padded(item: dict[str, torch.Tensor], key: str) -> torch.Tensor:
        padding = torch.full((length - len(item[key]),), fill[key])
        return torch.cat([padding, item[key]] if side == "left" else [item[key], padding])

    gradient = model({key: torch.stack([padded(item, key) for item in inputs]) for key in fill})
    return (gradient / gradient.norm()).numpy()


def main() -> None:
    """Measure every combination and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("rows")
    parser.add_argument("neutral")
    parser.add_argument("--max-size", type=int, default=100, help="rows per class, and neutral texts")
    options = parser.parse_args()
    reference = measure(options, "right", 32)
    print("sizes: " + ", ".join(f"{values.size} {name}" for name, values in reference.items()))
    print(f"{'padding':8} {'batch':>5}   largest difference from right, 32")
    for side, batch_size in itertools.product(SIDES, BATCH_SIZES):
        found = measure(options, side, batch_size)
        differences = {name: np.abs(found[name] - values).max() for name, values in reference.items()}
        print(f"{side:8} {batch_size:5}   " + "  ".join(f"{name} {value:.1e}" for name, value in differences.items()))


if __name__ == "__main__":
    main()
