"""The order of the rows and columns of a matrix: as given, by name, as listed, by likeness, or in groups."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from gradiend.util._keywords import nearest

Matrix = NDArray[np.float64]

OTHER_GROUP = "Other"
ORDERS = ("input", "name", "cluster")


def chosen_order(names: Sequence[str], order: str | Sequence[str]) -> list[str]:
    """Return `names` in the order "input" (also for "cluster") or "name", or the names in a list, in its order."""
    if isinstance(order, str):
        if order not in ORDERS:
            raise ValueError(
                f"order must be 'input', 'name' or a list of models, or 'cluster'; got {order!r}."
                f"{nearest(order, ORDERS)}"
            )
        return sorted(names, key=str) if order == "name" else list(names)
    require_known("order", order, names)
    if len(set(order)) < len(order):
        raise ValueError(f"order names a model twice: {list(order)}.")
    return list(order)


def clustered(names: Sequence[str], distance: Matrix) -> list[str]:
    """Reorder `names` so that those at small distances stand together (average linkage)."""
    # At equal distances names stay in the order of the input; the leaves of scipy's linkage would not.
    clusters = [[position] for position in range(len(names))]
    while len(clusters) > 1:
        pairs = [(i, j) for i in range(len(clusters)) for j in range(i + 1, len(clusters))]
        first, second = min(pairs, key=lambda pair: distance[np.ix_(clusters[pair[0]], clusters[pair[1]])].mean())
        clusters[first] += clusters.pop(second)
    return [names[position] for position in clusters[0]] if clusters else []


def distances(matrix: Matrix) -> Matrix:
    """The root mean square distances of each two rows over the columns that both have; the largest if there is none."""
    known = ~np.isnan(matrix)
    filled = np.where(known, matrix, 0.0)
    both = known[:, None, :] & known[None, :, :]
    squares = np.where(both, (filled[:, None, :] - filled[None, :, :]) ** 2, 0.0).sum(-1)
    counts = both.sum(-1)
    found: Matrix = np.sqrt(np.divide(squares, counts, out=np.full(counts.shape, -1.0), where=counts > 0).clip(0))
    return np.where(counts > 0, found, found.max(initial=0.0))


def complete_groups(names: Sequence[str], groups: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Return `groups` without empty ones, and with a group of the names that are in no other group."""
    members = [name for group in groups.values() for name in group]
    require_known("pretty_groups", members, names)
    twice = sorted({name for name in members if members.count(name) > 1})
    if twice:
        raise ValueError(f"pretty_groups has {twice} in two groups; a model stands in one place.")
    complete = {title: list(group) for title, group in groups.items() if group}
    rest = [name for name in names if name not in members]
    return {**complete, **({OTHER_GROUP: [*complete.get(OTHER_GROUP, []), *rest]} if rest else {})}


def require_known(option: str, given: Iterable[str], names: Sequence[str]) -> None:
    """Raise ValueError for a name that is none of `names`."""
    for name in given:
        if name not in names:
            hint = nearest(str(name), [str(known) for known in names])
            raise ValueError(f"{option} names {name!r}, but the models are {list(names)}.{hint}")
