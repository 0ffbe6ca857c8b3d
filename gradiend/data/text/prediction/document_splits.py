"""Splits by document: all examples of a document, and all of one text, are in one split."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from gradiend.data.text.prediction.disjoint_sets import DisjointSets
from gradiend.data.text.prediction.examples import Examples
from gradiend.data.text.prediction.splits import SplitRatios


def assign_splits_by_document(
    classes: Sequence[Examples], ratios: SplitRatios, rng: random.Random
) -> list[NDArray[np.int8]]:
    """Choose the split of every example so that no document and no text is in two splits.

    Documents that share a text that is masked for several classes stay together. Such groups are assigned from the
    largest to the smallest, each to the split where it brings the classes closest to their ratios; how close depends on
    how large they are.

    Args:
        classes: The examples of each class, with their documents.
        ratios: Shares of the parts.
        rng: Source of the random choice among equals.

    Returns:
        Of each class, the number of each example's part, in the order of `ratios.names`.
    """
    groups: DisjointSets[tuple[str, object]] = DisjointSets()
    texts = [examples.group.tolist() for examples in classes]
    for examples, own in zip(classes, texts, strict=True):
        for document, text in zip(examples.document, own, strict=True):
            groups.join(("document", document), ("text", text))
    sizes: dict[Hashable, Counter[int]] = {}
    for index, own in enumerate(texts):
        for text in own:
            sizes.setdefault(groups.root(("text", text)), Counter())[index] += 1

    order = list(sizes)
    rng.shuffle(order)
    order.sort(key=lambda root: sizes[root].total(), reverse=True)
    wanted = {
        part: [share * len(examples) for examples in classes] for part, share in enumerate(ratios.shares) if share > 0
    }
    missing = {part: list(counts) for part, counts in wanted.items()}
    part_of: dict[Hashable, int] = {}
    for root in order:
        # the fall of the squared distance from what is wanted, in units of it
        def gain(part: int, size: Mapping[int, int] = sizes[root]) -> float:
            return sum(n * (2 * missing[part][index] - n) / wanted[part][index] for index, n in size.items())

        best = max(missing, key=gain)
        part_of[root] = best
        for index, n in sizes[root].items():
            missing[best][index] -= n
    return [np.array([part_of[groups.root(("text", text))] for text in own], np.int8) for own in texts]
