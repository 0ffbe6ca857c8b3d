"""Pairwise overlaps of sets as a matrix, and the order of its rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from gradiend.util._keywords import nearest

Matrix = NDArray[np.float64]

OTHER_GROUP = "Other"


def intersections(sets: Sequence[Sequence[int]]) -> Matrix:
    """|A ∩ B| for each pair of sets."""
    members = [set(indices) for indices in sets]
    return np.array([[len(a & b) for b in members] for a in members], dtype=np.float64)


def shares(counts: Matrix) -> Matrix:
    """|A ∩ B| / min(|A|, |B|) from counts: 1 where one set contains the other, also where sizes differ."""
    sizes = np.diag(counts)
    share: Matrix = counts / np.minimum(sizes[:, None], sizes[None, :])
    return share


def combination_sizes(sets: Mapping[str, Sequence[int]]) -> dict[frozenset[str], int]:
    """How many elements exactly these sets have, for each combination that has any."""
    owners: dict[int, list[str]] = {}
    for name, indices in sets.items():
        for index in indices:
            owners.setdefault(index, []).append(name)
    return dict(Counter(map(frozenset, owners.values())))


def chosen_order(names: Sequence[str], order: str | Sequence[str]) -> list[str]:
    """`names` in the order "input" or "name", or those that a list names, in its order.

    Raises:
        ValueError: Another word, or a list with an unknown or repeated name.
    """
    if isinstance(order, str):
        if order not in ("input", "name"):
            raise ValueError(f"order must be 'input', 'name' or a list of models; got {order!r}.")
        return sorted(names, key=str) if order == "name" else list(names)
    unknown = [name for name in order if name not in names]
    if unknown:
        raise ValueError(
            f"order names {unknown[0]!r}, but the models are {list(names)}.{_suggestion(unknown[0], names)}"
        )
    if len(set(order)) < len(order):
        raise ValueError(f"order names a model twice: {list(order)}.")
    return list(order)


def clustered(names: Sequence[str], share: Matrix) -> list[str]:
    """`names` reordered so that models that overlap stand together (average linkage on 1 − share)."""
    distance = 1.0 - share
    clusters = [[position] for position in range(len(names))]
    while len(clusters) > 1:
        pairs = [(i, j) for i in range(len(clusters)) for j in range(i + 1, len(clusters))]
        first, second = min(pairs, key=lambda pair: distance[np.ix_(clusters[pair[0]], clusters[pair[1]])].mean())
        clusters[first] += clusters.pop(second)
    return [names[position] for position in clusters[0]] if clusters else []


def complete_groups(names: Sequence[str], groups: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """`groups` without empty ones, and the names in none of them as a group of their own.

    Raises:
        ValueError: A group names an unknown model, or one that another group has.
    """
    members = [name for group in groups.values() for name in group]
    for name in members:
        if name not in names:
            raise ValueError(
                f"pretty_groups names {name!r}, but the models are {list(names)}.{_suggestion(name, names)}"
            )
    twice = sorted({name for name in members if members.count(name) > 1})
    if twice:
        raise ValueError(f"pretty_groups has {twice} in two groups; a model stands in one place.")
    complete = {title: list(group) for title, group in groups.items() if group}
    rest = [name for name in names if name not in members]
    return {**complete, **({OTHER_GROUP: [*complete.get(OTHER_GROUP, []), *rest]} if rest else {})}


def _suggestion(name: object, names: Sequence[object]) -> str:
    return nearest(str(name), [str(known) for known in names])
