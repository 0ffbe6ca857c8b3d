"""How the cost of a step, an encoding and a grid grows: with the map, the text length, the batch and the candidates.

    python benchmarks/scaling.py MODEL [--repeats 5]

Each line varies one thing and keeps the others at 32 tokens, 16 examples and 1 % of the entries. Medians.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer
from workload import seconds

from gradiend import GradiendModel, TrainingArguments
from gradiend.gradients import GradientEngine, TokenizedWord, batches_by_length
from gradiend.model._context import Side
from gradiend.model._parameter_map import ParameterMap
from gradiend.model._rewriting import temporarily_updated
from gradiend.model.core.backbone import select_parameters
from gradiend.objectives import objective_of
from gradiend.trainer.core._step import optimizer_for

LENGTH, BATCH, SHARE = 32, 16, 0.01
LENGTHS, BATCHES, SHARES, CANDIDATES = (16, 32, 64, 128, 256), (1, 4, 16, 64), (0.001, 0.01, 0.1, 1.0), (1, 4, 16)
SIDES = [Side.ALTERNATIVE, Side.DIFF]


def words(n: int, length: int, token: int) -> list[TokenizedWord]:
    """Random texts of one length, one token asked for in the middle of each."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(1000, 5000, (n, length), generator=generator)
    return [TokenizedWord(tuple(row), (length // 2,), (token,)) for row in ids.tolist()]


def share_of(mapping: ParameterMap, share: float) -> ParameterMap:
    """A random share of the entries."""
    return mapping.narrow(torch.rand(mapping.size, generator=torch.Generator().manual_seed(0)) < share)


def milliseconds(work: Callable[[], Any], repeats: int) -> float:
    """Median wall time, after one call to warm up."""
    times = [seconds(work) for _ in range(repeats + 1)]
    return 1e3 * statistics.median(times[1:])


def main() -> None:
    """Print four tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    model = AutoModelForMaskedLM.from_pretrained(given.model, dtype=torch.float32).eval()
    objective = objective_of(model, AutoTokenizer.from_pretrained(given.model))
    whole = select_parameters(model)

    def engine(share: float) -> GradientEngine:
        return GradientEngine(model, share_of(whole, share), objective)

    def line(what: str, at: GradientEngine, length: int, batch: int) -> None:
        factual, alternative = words(batch, length, 2002), words(batch, length, 2016)
        direction = torch.randn(1, at.mapping.size)
        step = milliseconds(lambda: at.gradients(factual, alternative, SIDES), given.repeats)
        encoding = milliseconds(lambda: at.directional_derivatives(factual, direction), given.repeats)
        print(f"{what:24} gradients {step:8.1f} ms a step   encodings {encoding / batch:7.2f} ms a row", flush=True)

    print(f"{torch.get_num_threads()} threads, {whole.size:,} entries in the backbone")
    for share in SHARES:
        current = engine(share)
        line(f"{share:.1%} of the entries", current, LENGTH, BATCH)
        n = current.mapping.size
        optimizer = optimizer_for(GradiendModel(n, 1), TrainingArguments())
        pair = torch.randn(n), torch.randn(n)
        step = milliseconds(partial(optimizer.step, *pair), given.repeats)
        print(f"{'':24} GRADIEND  {step:8.1f} ms a step")
    common = engine(SHARE)
    for length in LENGTHS:
        line(f"{length} tokens", common, length, BATCH)
    for batch in BATCHES:
        line(f"batch of {batch}", common, LENGTH, batch)
    update = torch.randn(common.mapping.size) * 1e-6
    measured = words(64, LENGTH, 2002)

    @torch.no_grad()
    def grid(n: int) -> None:
        for _ in range(n):
            with temporarily_updated(model, common.mapping, update):
                for _, batch in batches_by_length(measured, 32, objective.pad_token_id):
                    common.scorer.log_probs(batch)

    for n in CANDIDATES:
        print(f"{n:2} candidates            {milliseconds(partial(grid, n), given.repeats):8.1f} ms")


if __name__ == "__main__":
    main()
