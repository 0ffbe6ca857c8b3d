"""Splits by document: all examples of a document, and all of a group, are in one split."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from gradiend.data.text.prediction.disjoint_sets import DisjointSets
from gradiend.data.text.prediction.examples import Examples
from gradiend.data.text.prediction.splits import SplitRatios


def assign_splits_by_document(
    classes: Sequence[Examples], ratios: SplitRatios, rng: random.Random
) -> list[NDArray[np.int8]]:
    """Choose the split of every example so that no document and no group (see `Examples`) is in two splits.

    Documents that share a group stay together. They are assigned from the largest to the smallest, each to the split
    where it brings the classes closest to their ratios; how close depends on how large they are. Examples whose
    document is None stay together by their groups alone.

    Args:
        classes: The examples of each class, with their documents.
        ratios: Shares of the parts.
        rng: Source of the random choice among equals.

    Returns:
        Of each class, the number of each example's part, in the order of `ratios.names`.
    """
    together: DisjointSets[tuple[str, object]] = DisjointSets()
    for examples in classes:
        for document, group in zip(examples.document, examples.group.tolist(), strict=True):
            if document is not None:
                together.join(("document", str(document)), ("group", group))
    roots = [[together.root(("group", group)) for group in examples.group.tolist()] for examples in classes]
    sizes: dict[tuple[str, object], Counter[int]] = {}
    for index, own in enumerate(roots):
        for root in own:
            sizes.setdefault(root, Counter())[index] += 1

    order = list(sizes)
    rng.shuffle(order)
    order.sort(key=lambda root: sizes[root].total(), reverse=True)
    wanted = {
        part: [share * len(examples) for examples in classes] for part, share in enumerate(ratios.shares) if share > 0
    }
    missing = {part: list(counts) for part, counts in wanted.items()}
    part_of: dict[tuple[str, object], int] = {}
    for root in order:
        # the fall of the squared distance from what is wanted, in units of it
        def gain(part: int, size: Mapping[int, int] = sizes[root]) -> float:
            return sum(n * (2 * missing[part][index] - n) / wanted[part][index] for index, n in size.items())

        best = max(missing, key=gain)
        part_of[root] = best
        for index, n in sizes[root].items():
            missing[best][index] -= n
    return [np.array([part_of[root] for root in own], np.int8) for own in roots]
