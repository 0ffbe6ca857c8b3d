"""The top-k weights of several models as sets of indices, with their overlaps and the order of the models."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from gradiend.model.seed_group import SeedModelGroup
from gradiend.util._keywords import one_of
from gradiend.visualizer._arrangement import Matrix
from gradiend.visualizer._output import plot_keywords

DEFAULT_PART = "decoder-weight"


class RanksWeights(Protocol):
    """The part of a model that the top-k plots need."""

    def get_topk_weights(self, *, part: str, topk: Any) -> Iterable[int]:
        """Return the indices of the most important weights, in the unpruned space, so that models are comparable."""


Models = Mapping[str, RanksWeights | SeedModelGroup] | Sequence[RanksWeights | SeedModelGroup]

POLICIES = ("primary", "union", "intersection")
"""How the top-k weights of several seeds become one set."""


def named_models(models: Models, least: int = 1, most: int | None = None) -> dict[str, Any]:
    """Return `models` by name, `least` to `most`; models of a sequence are called `model 1`, `model 2`, …."""
    if isinstance(models, Mapping):
        named = dict(models)
    elif isinstance(models, Sequence) and not isinstance(models, str):
        named = {f"model {number}": model for number, model in enumerate(models, start=1)}
    else:
        raise TypeError(f"models must be a dict {{name: model}} or a list of models; got {type(models).__name__}.")
    if len(named) < least or (most is not None and len(named) > most):
        wanted = f"at least {least}" if most is None else f"{least} to {most}"
        more = "" if most is None or len(named) < least else " plot_topk_overlap_heatmap takes any number."
        raise ValueError(f"This plot compares {wanted} models; got {len(named)}.{more}")
    return named


def topk_sets(
    models: Mapping[str, Any], topk: float, part: str, seed_group_policy: str = "primary"
) -> dict[str, list[int]]:
    """Return the top-k indices of each model, or of the seeds of a group by a policy of `POLICIES`, ascending."""
    one_of("seed_group_policy", seed_group_policy, POLICIES)
    if topk <= 0:
        raise ValueError(f"topk must be a positive number of weights (or a share up to 1.0); got {topk}.")
    sets = {}
    for name, given in models.items():
        group = tuple(given) if isinstance(given, SeedModelGroup) else (given,)
        chosen = group[:1] if seed_group_policy == "primary" else group
        of_seeds = [{int(index) for index in model.get_topk_weights(part=part, topk=topk)} for model in chosen]
        together = set.intersection(*of_seeds) if seed_group_policy == "intersection" else set().union(*of_seeds)
        if not together and all(of_seeds):
            raise ValueError(
                f"No weight is among the top {topk} of all seeds of {name!r}: take a larger topk, or another "
                "seed_group_policy."
            )
        sets[name] = sorted(together)
    empty = [name for name, indices in sets.items() if not indices]
    if empty:
        raise ValueError(f"get_topk_weights(part={part!r}, topk={topk}) selects no weight of {empty}.")
    return sets


@plot_keywords
def compute_topk_sets(
    models: Models, topk: float = 100, part: str = DEFAULT_PART, seed_group_policy: str = "primary"
) -> tuple[dict[str, list[int]], list[int], list[int]]:
    """Compute the top-k weights of each model, the weights common to all models, and the weights of any model.

    Args:
        models: {name: model}; a model needs only `get_topk_weights(part=, topk=)`.
        topk: How many weights of each model, or which share of them.
        part: The part whose weights are ranked, e.g. decoder-weight.
        seed_group_policy: Of a SeedModelGroup, the set of its "primary" (best) model, or the "union" or "intersection"
            of the sets of its seeds.

    Returns:
        {name: indices}, their intersection, their union; indices ascending, in the unpruned space.

    Raises:
        TypeError: models is neither a mapping nor a sequence.
        ValueError: topk is not positive, or a model has no weight to select.
    """
    per_model = topk_sets(named_models(models, least=0), topk, part, seed_group_policy)
    sets = [set(indices) for indices in per_model.values()]
    common = set.intersection(*sets) if sets else set()
    return per_model, sorted(common), sorted(set().union(*sets))


def intersections(sets: Iterable[Sequence[int]]) -> Matrix:
    """Return |A ∩ B| for each pair of sets."""
    members = [set(indices) for indices in sets]
    return np.array([[len(a & b) for b in members] for a in members], dtype=np.float64)


def shares(counts: Matrix) -> Matrix:
    """Return |A ∩ B| / min(|A|, |B|) from counts: 1 if one set contains the other, also if their sizes differ."""
    sizes = np.diag(counts)
    share: Matrix = counts / np.minimum(sizes[:, None], sizes[None, :])
    return share


def combination_sizes(sets: Mapping[str, Sequence[int]]) -> dict[frozenset[str], int]:
    """Count the elements that only the sets of a combination have, for each combination with such elements."""
    owners: dict[int, list[str]] = {}
    for name, indices in sets.items():
        for index in indices:
            owners.setdefault(index, []).append(name)
    return dict(Counter(map(frozenset, owners.values())))
