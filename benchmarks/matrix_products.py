"""Float32 matrix products as PyTorch does them by itself, and as the library has them done: rates side by side.

    python benchmarks/matrix_products.py [--threads 1]

Forward product, and those of the two derivatives, with the shapes of a layer of width 384 and of BERT-base.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from functools import partial

import torch
from torch.nn.functional import linear
from workload import seconds

from gradiend.gradients._model_modes import OneDnnProducts, onednn_is_faster

REPEATS = 21
SHAPES = [(256, 384, 1536), (800, 384, 384), (800, 1536, 384), (1024, 768, 3072)]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    torch.set_num_threads(parser.parse_args().threads)
    print(f"oneDNN is used on this machine: {onednn_is_faster()}; {torch.get_num_threads()} threads; GFLOP/s")
    print(f"{'tokens, in, out':22}{'product':20}{'PyTorch':>9}{'oneDNN':>9}{'ratio':>8}{'difference':>12}")
    for tokens, width, out in SHAPES:
        x, weight, error = torch.randn(tokens, width), torch.randn(out, width), torch.randn(tokens, out)
        products: dict[str, Callable[[], torch.Tensor]] = {
            "forward": partial(linear, x, weight),
            "for the input": partial(torch.matmul, error, weight),
            "for the weight": partial(torch.matmul, error.T, x),
        }
        for name, product in products.items():
            plain, onednn = [], []
            for _ in range(REPEATS):
                plain.append(seconds(product))
                with OneDnnProducts():
                    onednn.append(seconds(product))
            rates = [2e-9 * tokens * width * out / statistics.median(taken[1:]) for taken in (plain, onednn)]
            with OneDnnProducts():
                found = product()
            apart = float((found - product()).norm() / found.norm())
            shape = f"{tokens}, {width}, {out}"
            print(f"{shape:22}{name:20}{rates[0]:9.0f}{rates[1]:9.0f}{rates[1] / rates[0]:7.2f}×{apart:12.0e}")


if __name__ == "__main__":
    main()
