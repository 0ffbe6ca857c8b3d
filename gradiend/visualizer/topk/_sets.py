"""The top-k weights of several models as sets of indices, with their overlaps and the order of the models."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gradiend.util._keywords import nearest
from gradiend.visualizer._output import plot_keywords

Matrix = NDArray[np.float64]

DEFAULT_PART = "decoder-weight"
OTHER_GROUP = "Other"


class RanksWeights(Protocol):
    """The part of a model that the top-k plots need."""

    def get_topk_weights(self, *, part: str, topk: Any) -> Iterable[int]:
        """Return the indices of the most important weights, in the unpruned space, so that models are comparable."""


Models = Mapping[str, RanksWeights] | Sequence[RanksWeights]


def named_models(models: Models, least: int = 1, most: int | None = None) -> dict[str, RanksWeights]:
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


def topk_sets(models: Mapping[str, RanksWeights], topk: float, part: str) -> dict[str, list[int]]:
    """Return the top-k indices of each model, ascending."""
    if topk <= 0:
        raise ValueError(f"topk must be a positive number of weights (or a share up to 1.0); got {topk}.")
    sets = {
        name: sorted({int(index) for index in model.get_topk_weights(part=part, topk=topk)})
        for name, model in models.items()
    }
    empty = [name for name, indices in sets.items() if not indices]
    if empty:
        raise ValueError(f"get_topk_weights(part={part!r}, topk={topk}) selects no weight of {empty}.")
    return sets


@plot_keywords
def compute_topk_sets(
    models: Models, topk: float = 100, part: str = DEFAULT_PART
) -> tuple[dict[str, list[int]], list[int], list[int]]:
    """Compute the top-k weights of each model, the weights common to all models, and the weights of any model.

    Args:
        models: {name: model}; a model needs only `get_topk_weights(part=, topk=)`.
        topk: How many weights of each model, or which share of them.
        part: The part whose weights are ranked, e.g. decoder-weight.

    Returns:
        {name: indices}, their intersection, their union; indices ascending, in the unpruned space.

    Raises:
        TypeError: models is neither a mapping nor a sequence.
        ValueError: topk is not positive, or a model has no weight to select.
    """
    per_model = topk_sets(named_models(models, least=0), topk, part)
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


def chosen_order(names: Sequence[str], order: str | Sequence[str]) -> list[str]:
    """Return `names` in the order "input" or "name", or the names in a list, in its order."""
    if isinstance(order, str):
        if order not in ("input", "name"):
            raise ValueError(f"order must be 'input', 'name' or a list of models; got {order!r}.")
        return sorted(names, key=str) if order == "name" else list(names)
    _require_known("order", order, names)
    if len(set(order)) < len(order):
        raise ValueError(f"order names a model twice: {list(order)}.")
    return list(order)


def clustered(names: Sequence[str], share: Matrix) -> list[str]:
    """Reorder `names` so that models that overlap stand together (average linkage on 1 − share)."""
    # At equal distances models stay in the order of the input; the leaves of scipy's linkage would not.
    distance = 1.0 - share
    clusters = [[position] for position in range(len(names))]
    while len(clusters) > 1:
        pairs = [(i, j) for i in range(len(clusters)) for j in range(i + 1, len(clusters))]
        first, second = min(pairs, key=lambda pair: distance[np.ix_(clusters[pair[0]], clusters[pair[1]])].mean())
        clusters[first] += clusters.pop(second)
    return [names[position] for position in clusters[0]] if clusters else []


def complete_groups(names: Sequence[str], groups: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Return `groups` without empty ones, and with a group of the names that are in no other group."""
    members = [name for group in groups.values() for name in group]
    _require_known("pretty_groups", members, names)
    twice = sorted({name for name in members if members.count(name) > 1})
    if twice:
        raise ValueError(f"pretty_groups has {twice} in two groups; a model stands in one place.")
    complete = {title: list(group) for title, group in groups.items() if group}
    rest = [name for name in names if name not in members]
    return {**complete, **({OTHER_GROUP: [*complete.get(OTHER_GROUP, []), *rest]} if rest else {})}


def _require_known(option: str, given: Iterable[str], names: Sequence[str]) -> None:
    for name in given:
        if name not in names:
            hint = nearest(str(name), [str(known) for known in names])
            raise ValueError(f"{option} names {name!r}, but the models are {list(names)}.{hint}")
