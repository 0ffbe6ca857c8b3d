"""The limits of this machine, measured now, and how close the passes of a training step come to them.

    python benchmarks/limits.py MODEL ROWS.csv [--long] [--prune 0.01] [--words 60] [--bert-base]

Prints one line of JSON: floating-point operations of the base model's passes of a step (counted by torch), the
matrix-multiply rate with the model's own shapes by the library that the engine uses, the memory bandwidth of
a + 2 b → c, the seconds that the traffic of the GRADIEND step takes at that, and the seconds of the passes (batch of
16), with their fraction of the rate.
With --bert-base, a model of the size of BERT-base with random weights stands for MODEL, whose tokenizer it takes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from gradiend_step import BANDWIDTH_SIZE, TRAFFIC
from torch.nn.functional import linear
from workload import BATCH, LONG_TEXT_WORDS, count_operations, measured_model, read_rows

from gradiend import TextPredictionTrainer, TrainingArguments
from gradiend.gradients import collate, fast_matrix_products
from gradiend.model._context import Side

REPEATS = 5


def median_seconds(work: Callable[[], Any]) -> float:
    """Median wall time, the first call left out."""
    times = []
    for _ in range(REPEATS + 1):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def matmul_rate(tokens: int, hidden: int, intermediate: int) -> float:
    """FLOP/s of the products of one layer: four of hidden × hidden, two of hidden × intermediate."""
    x, y = torch.randn(tokens, hidden), torch.randn(tokens, intermediate)
    square, wide = torch.randn(hidden, hidden), torch.randn(intermediate, hidden)

    def layer() -> None:
        for _ in range(4):
            linear(x, square)
        linear(x, wide)
        linear(y, wide.T)

    return 2 * tokens * (4 * hidden**2 + 2 * hidden * intermediate) / median_seconds(layer)


def limits(model_path: str, given: argparse.Namespace) -> None:
    """Print the line of one model."""
    trainer = TextPredictionTrainer(
        model_path,
        data=read_rows(given.rows, LONG_TEXT_WORDS if given.long else given.words),
        target_classes=["masculine", "feminine"],
        args=TrainingArguments(train_batch_size=BATCH),
    )
    model = trainer.get_model()
    factual, alternative = trainer.create_training_data(model).tokenized
    factual, alternative = factual[:BATCH], alternative[:BATCH]
    engine, sides = model.engine, [Side.ALTERNATIVE, Side.DIFF]
    with count_operations() as step_counter:
        engine.gradients(factual, alternative, sides)
    step_flops = step_counter.get_total_flops()
    batch = collate(list(factual), engine.objective.pad_token_id)
    tokens = batch.input_ids.numel()
    config = model.base_model.config
    with fast_matrix_products(model.base_model), torch.no_grad():
        rate = matmul_rate(tokens, config.hidden_size, config.intermediate_size)
    a, b, c = (torch.rand(BANDWIDTH_SIZE) for _ in range(3))
    bandwidth = 3 * 4 * BANDWIDTH_SIZE / median_seconds(lambda: torch.add(a, b, alpha=2.0, out=c))
    n = int(engine.mapping.size * given.prune)
    passes = median_seconds(lambda: engine.gradients(factual, alternative, sides))
    print(
        json.dumps(
            {
                "tokens": tokens,
                "real_tokens": int(batch.attention_mask.sum()),
                "step_gflop": step_flops / 1e9,
                "gflops": rate / 1e9,
                "gbytes": bandwidth / 1e9,
                "gradiend_step": TRAFFIC * 4 * n / bandwidth,
                "passes": passes,
                "passes_fraction": step_flops / rate / passes,
                "threads": torch.get_num_threads(),
            }
        )
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("rows")
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--prune", type=float, default=1.0)
    parser.add_argument("--words", type=int, default=0, help="words a text, taken from neighbouring rows")
    parser.add_argument("--bert-base", action="store_true")
    given = parser.parse_args()
    with measured_model(given.model, bert_base=given.bert_base) as path:
        limits(path, given)


if __name__ == "__main__":
    main()
