"""What bfloat16 autocast of the training gradients saves, and what it changes in the encodings.

    python benchmarks/bf16.py MODEL ROWS.csv [--rows-encoded 100]

Trains 20 steps with 1 % of the entries, with and without `bf16`, and encodes the same test rows with both.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile

import pandas as pd
from workload import BATCH, Clock

from gradiend import PrePruneConfig, TextPredictionTrainer, TrainingArguments, get_logger
from gradiend.evaluator import get_correlation

STEPS = 20


def main() -> None:
    """Print one line for each, and the difference."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("rows")
    parser.add_argument("--rows-encoded", type=int, default=100, help="test rows per class")
    given = parser.parse_args()
    get_logger("gradiend").setLevel("ERROR")
    encodings = []
    for bf16 in (False, True):
        with tempfile.TemporaryDirectory(prefix="gradiend_bf16_") as directory:
            args = TrainingArguments(
                output_dir=f"{directory}/model", train_batch_size=BATCH, max_steps=STEPS, learning_rate=1e-4, bf16=bf16,
                pre_prune_config=PrePruneConfig(n_samples=32, topk=0.01, source="diff"), do_eval=False, max_seeds=1,
            )  # fmt: skip
            trainer = TextPredictionTrainer(given.model, data=pd.read_csv(given.rows), args=args)
            clock = Clock()
            trainer.train(callbacks=[clock])
            model = trainer.get_model()
            encoded = trainer.create_eval_data(model, split="test", max_size=given.rows_encoded).encode(model)
        encodings.append(encoded["encoded"])
        step = statistics.median(after - before for before, after in zip(clock.ends, clock.ends[1:], strict=False))
        print(f"bf16={bf16!s:5}  {1e3 * step:7.1f} ms a step  correlation {get_correlation(encoded):.4f}")
    difference = (encodings[0] - encodings[1]).abs()
    print(f"difference of the encodings: mean {difference.mean():.4f}, largest {difference.max():.4f}")


if __name__ == "__main__":
    main()
