"""What three seeds cost against one, with the gradients of a batch kept between them.

    python benchmarks/seeds.py MODEL ROWS.csv [--steps 50] [--eval-size 50] [--repeats 3]

The GRADIEND is pre-pruned to 1 %, batches are of 16; the validation split is encoded every half of the training, and
after it to compare the seeds. Runs with one and with three seeds alternate in one process; medians of the whole
`train()`, pre-pruning and saving included.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile

from workload import BATCH, read_rows, seconds

from gradiend import PrePruneConfig, TextPredictionTrainer, TrainingArguments


def main() -> None:
    """Print both times and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("rows")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--eval-size", type=int, default=50, help="rows per class that are encoded")
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    rows = read_rows(given.rows, 0)

    def train(seeds: int) -> float:
        with tempfile.TemporaryDirectory(prefix="gradiend_seeds_") as directory:
            args = TrainingArguments(
                experiment_dir=directory,
                train_batch_size=BATCH,
                max_steps=given.steps,
                eval_steps=given.steps // 2,
                learning_rate=1e-4,
                max_seeds=seeds,
                min_convergent_seeds=None,
                encoder_eval_train_max_size=given.eval_size,
                seed_selection_eval_max_size=given.eval_size,
                pre_prune_config=PrePruneConfig(n_samples=16, topk=0.01),
            )
            trainer = TextPredictionTrainer(given.model, data=rows, target_classes=["masculine", "feminine"], args=args)
            return seconds(trainer.train)

    times: dict[int, list[float]] = {1: [], 3: []}
    for _ in range(given.repeats):
        for seeds, found in times.items():
            found.append(train(seeds))
    one, three = (statistics.median(found) for found in times.values())
    print(f"one seed {one:.1f} s, three seeds {three:.1f} s: {three / one:.2f}×")


if __name__ == "__main__":
    main()
