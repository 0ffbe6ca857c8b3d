"""The GRADIEND step against the memory bandwidth of the machine, measured in the same run.

    python benchmarks/gradiend_step.py [--sizes 226000 22600000] [--repeats 9] [--compile]

One latent, float32, AdamW: a step reads or writes about 22 n numbers. The bandwidth is that of a + 2 b → c on vectors
far larger than the caches, with as many threads. Median of the repeats, step and bandwidth in turn.
"""

from __future__ import annotations

import argparse
import statistics

import torch
from workload import seconds

from gradiend import GradiendModel, TrainingArguments
from gradiend.trainer.core._step import optimizer_for

TRAFFIC = 22
BANDWIDTH_SIZE = 20_000_000


def step_and_bandwidth(n: int, repeats: int, *, compiled: bool, device: str = "cpu") -> tuple[float, float]:
    """(seconds of a GRADIEND step, bytes a second of a + 2 b → c)."""
    arguments = TrainingArguments(learning_rate=1e-4, torch_compile=compiled)
    optimizer = optimizer_for(GradiendModel(n, 1, device=device), arguments)
    # The median entry of a BERT gradient is about 1e-5, that of the target 1e-3.
    source, target = torch.randn(n, device=device) * 1e-5, torch.randn(n, device=device) * 1e-3
    a, b, c = (torch.rand(BANDWIDTH_SIZE, device=device) for _ in range(3))
    steps, bandwidths = [], []
    for _ in range(repeats + 2):
        steps.append(seconds(lambda: optimizer.step(source, target)))
        bandwidths.append(3 * 4 * BANDWIDTH_SIZE / seconds(lambda: torch.add(a, b, alpha=2.0, out=c)))
    return statistics.median(steps[2:]), statistics.median(bandwidths[2:])


def main() -> None:
    """Print a line a size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[226_000, 2_260_000, 22_600_000, 108_900_000])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--compile", action="store_true", help="with torch_compile=True")
    arguments = parser.parse_args()
    print(f"{torch.get_num_threads()} threads")
    for n in arguments.sizes:
        step, bandwidth = step_and_bandwidth(n, arguments.repeats, compiled=arguments.compile)
        achieved = TRAFFIC * 4 * n / step
        print(
            f"n = {n:>11,}: {1e3 * step:8.2f} ms a step, {achieved / 1e9:5.1f} GB/s of {bandwidth / 1e9:5.1f} GB/s = "
            f"{achieved / bandwidth:.0%}"
        )


if __name__ == "__main__":
    main()
