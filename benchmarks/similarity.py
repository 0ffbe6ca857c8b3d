"""Seconds of each measure of similarity between GRADIENDs over a model of the size of BERT-base, with random weights.

    python benchmarks/similarity.py [--models 2] [--share 0.1]

The GRADIENDs have an entry for each parameter of the layers of BERT-base (85 M) and, with --share below 1, keep that
share of them, each its own. Nothing is downloaded.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable
from typing import Any

import torch

from gradiend import ParamMappedGradiendModel, compute_grouped_similarity_matrices, compute_similarity_matrix

HIDDEN, MLP, LAYERS = 768, 3072, 12


def shapes() -> dict[str, tuple[int, ...]]:
    """The parameters of the twelve layers of BERT-base, by their names."""
    found: dict[str, tuple[int, ...]] = {}
    for layer in range(LAYERS):
        prefix = f"bert.encoder.layer.{layer}"
        sizes = {f"attention.self.{name}": (HIDDEN, HIDDEN) for name in ("query", "key", "value")}
        sizes |= {
            "attention.output.dense": (HIDDEN, HIDDEN),
            "intermediate.dense": (MLP, HIDDEN),
            "output.dense": (HIDDEN, MLP),
        }
        for name, (rows, columns) in sizes.items():
            found |= {f"{prefix}.{name}.weight": (rows, columns), f"{prefix}.{name}.bias": (rows,)}
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            found |= {f"{prefix}.{name}.weight": (HIDDEN,), f"{prefix}.{name}.bias": (HIDDEN,)}
    return found


def timed(label: str, call: Callable[..., Any], *models: Any, **options: Any) -> None:
    """Print how long a call takes, and how long its threads have computed."""
    start, computed = time.perf_counter(), time.process_time()
    call(*models, **options)
    seconds, computed = time.perf_counter() - start, time.process_time() - computed
    print(f"{label:40} {seconds:6.1f} s  {computed:6.1f} s of a core", flush=True)


def main() -> None:
    """Make the models, and time each measure once."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=2)
    parser.add_argument("--share", type=float, default=1.0, help="of the entries that each model keeps")
    options = parser.parse_args()
    specs = {name: {"shape": shape, "repr": "all"} for name, shape in shapes().items()}
    size = sum(int(torch.Size(shape).numel()) for shape in shapes().values())
    models = {}
    for number in range(options.models):
        torch.manual_seed(number)
        model = ParamMappedGradiendModel(size, 1, specs)
        models[f"model {number}"] = model if options.share == 1 else model.prune(topk=options.share)
    kept = ", ".join(f"{model.input_dim:,}" for model in models.values())
    print(f"{options.models} models of {kept} of {size:,} entries; PyTorch {torch.__version__}")
    for measure in ("cosine", "spearman"):
        timed(measure, compute_similarity_matrix, models, measure=measure)
    for measure in ("topk_overlap", "mass_overlap"):
        for topk in (1000, 0.01):
            timed(f"{measure}, topk={topk}", compute_similarity_matrix, models, measure=measure, topk=topk)
    for measure in ("cosine", "spearman"):
        for by in ("param", "layer", "component"):
            label = f"{measure}, grouped by {by}"
            timed(label, compute_grouped_similarity_matrices, models, measure=measure, group_by=by)
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB")


if __name__ == "__main__":
    main()
