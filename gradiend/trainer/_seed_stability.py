"""Whether seeds agree: the weights with the highest importance in each seed's model, and how much they overlap."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gradiend.model._checkpoint_files import read_config
from gradiend.model.param_mapped import ParamMappedGradiendModel
from gradiend.util._bootstrap import LEVEL, N_RESAMPLES, interval_of_mean, resampled_weights
from gradiend.util._processes import processes
from gradiend.visualizer.topk._overlaps import RanksWeights, intersections, shares, topk_sets

FEWEST = 2
"""Seeds that a comparison needs."""
Interval = tuple[float, float]


@dataclass(frozen=True)
class SavedGradiend:
    """The GRADIEND of a checkpoint, which is read, without its base model, when its weights are ranked."""

    directory: str

    def get_topk_weights(self, *, part: str, topk: Any) -> list[int]:
        """See `ModelWithGradiend.get_topk_weights`."""
        gradiend = ParamMappedGradiendModel.from_pretrained(self.directory)
        local = gradiend.get_topk_weights(part, topk)
        return gradiend.whole_map.base_indices()[torch.tensor(local)].tolist()


def saved_stability(directories: Mapping[int, str], topk: int | float, part: str) -> dict[str, Any]:
    """`topk_stability` of the checkpoints of seeds (seed → directory), which the first process alone reads."""
    models = {seed: SavedGradiend(directory) for seed, directory in directories.items()}

    def compared() -> dict[str, Any]:
        # All seeds have the map of the training; the result alone may be pruned after it, so the largest is that map.
        sizes = [read_config(Path(directory))["architecture"]["input_dim"] for directory in directories.values()]
        return topk_stability(models, topk, part, max(sizes))

    return processes().agreed(compared)


def topk_stability(models: Mapping[int, RanksWeights], topk: int | float, part: str, n_weights: int) -> dict[str, Any]:
    """How much the top-k weights of seeds overlap: the block `topk_stability` of the report of seeds.

    The overlap of two sets is `|A ∩ B| / min(|A|, |B|)`, their Jaccard index `|A ∩ B| / |A ∪ B|`. The interval of the
    mean overlap is a bootstrap over pairs of seeds. It is a rough one, because pairs share seeds; None: there is one
    pair, or all overlap equally. Standard deviations are those of a population. The verdict: `stability_verdict`.

    `models` are seed → model, at least two; the top-k is taken of `n_weights` weights.
    """
    names = {f"seed_{seed}": model for seed, model in models.items()}
    sets = topk_sets(names, topk, part)
    counts = intersections(sets.values())
    sizes = np.diag(counts)
    pairs = list(itertools.combinations(range(len(sets)), 2))
    first, second = np.array(pairs).T
    common, share = counts[first, second], shares(counts)[first, second]
    jaccard = common / (sizes[first] + sizes[second] - common)
    seen = np.array(list(Counter(itertools.chain.from_iterable(sets.values())).values()))
    in_all = int((seen == len(sets)).sum())
    # Rounding may leave the range of a share.
    drawn = interval_of_mean(share, resampled_weights(range(len(pairs))))
    interval = None if drawn is None else (max(drawn[0], 0.0), min(drawn[1], 1.0))
    # Two random sets have |A|·|B| / n weights in common on average, and this is divided by the smaller size.
    random = float(np.maximum(sizes[first], sizes[second]).mean() / n_weights)
    verdict, limit = stability_verdict(interval or ((share.mean(),) * 2 if len(pairs) > 1 else None), random)
    known = None
    if interval is not None:
        known = {"low": interval[0], "high": interval[1], "level": LEVEL, "n_resamples": N_RESAMPLES}
    seeds, ids = list(models), list(sets)
    return {
        "computed": True, "num_runs": len(sets), "run_ids": ids, "seeds": seeds, "part": part, "topk": topk,
        "topk_size_by_run": {name: len(indices) for name, indices in sets.items()},
        "mean_topk_size": float(sizes.mean()), "union_size": len(seen), "intersection_size": in_all,
        "parameters_seen_once": int((seen == 1).sum()), "parameters_seen_in_all_runs": in_all,
        "mean_presence_fraction": float(seen.mean() / len(sets)),
        "mean_pairwise_overlap_fraction": float(share.mean()),
        "mean_pairwise_overlap_interval": known,
        "random_overlap_fraction": random, "stable_from": limit, "verdict": verdict,
        "min_pairwise_overlap_fraction": float(share.min()), "max_pairwise_overlap_fraction": float(share.max()),
        "pairwise_overlap_std": float(share.std()),
        "mean_pairwise_jaccard": float(jaccard.mean()), "pairwise_jaccard_std": float(jaccard.std()),
        "pairwise_overlap_rows": [
            {
                "run_a": ids[a], "run_b": ids[b], "seed_a": seeds[a], "seed_b": seeds[b],
                "intersection": int(common[row]), "overlap_fraction": float(share[row]), "jaccard": float(jaccard[row]),
            }
            for row, (a, b) in enumerate(pairs)
        ],
    }  # fmt: skip


def stability_verdict(interval: Interval | None, random: float) -> tuple[str, float]:
    """Whether seeds use the same weights: "stable", "unstable" or "unclear", and the overlap that decides.

    That overlap is halfway between `random`, which random sets of the same sizes have, and 1. Seeds are stable if the
    whole interval of the mean overlap is there or above, unstable if all of it is below; else it is unclear, and so it
    is without an interval (two seeds), or where random sets are equal (the top-k is all weights).
    """
    limit = (1 + random) / 2
    if interval is None or random >= 1:
        return "unclear", limit
    low, high = interval
    return "stable" if low >= limit else "unstable" if high < limit else "unclear", limit


def overlaps_with(seed: int, stability: Mapping[str, Any]) -> dict[int, float]:
    """Seed → the share of the top-k weights that it has in common with `seed`; {} if these were not compared."""
    found = {seed: 1.0} if seed in stability.get("seeds", ()) else {}
    for row in stability.get("pairwise_overlap_rows", ()):
        if seed in (row["seed_a"], row["seed_b"]):
            other = row["seed_b"] if row["seed_a"] == seed else row["seed_a"]
            found[other] = row["overlap_fraction"]
    return found
