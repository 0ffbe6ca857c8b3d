"""Splits by document: all examples of a document, and all of one text, are in one split."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Hashable, Mapping

from gradiend.data.text.prediction.examples import Examples
from gradiend.data.text.prediction.splits import SplitRatios


def assign_splits_by_document(
    examples_by_class: Mapping[str, Examples], ratios: SplitRatios, rng: random.Random
) -> dict[str, list[str]]:
    """Choose the split of every example so that no document and no text is in two splits.

    Documents that share a text, up to its words of the classes, stay together. Such groups are assigned from the
    largest to the smallest, each to the split where it brings the classes closest to their ratios; how close depends on
    how large they are.

    Args:
        examples_by_class: Class to its examples.
        ratios: Shares of the parts.
        rng: Source of the random choice among equals.

    Returns:
        Class to split names, aligned with its examples.
    """
    groups = _Groups()
    for examples in examples_by_class.values():
        for document, text in zip(examples.document, examples.frame, strict=True):
            groups.join(("document", document), ("text", text))
    sizes: dict[Hashable, Counter[str]] = {}
    for name, examples in examples_by_class.items():
        for text in examples.frame:
            sizes.setdefault(groups.root(("text", text)), Counter())[name] += 1

    order = list(sizes)
    rng.shuffle(order)
    order.sort(key=lambda root: sizes[root].total(), reverse=True)
    wanted = {
        split: {name: share * len(examples) for name, examples in examples_by_class.items()}
        for split, share in zip(ratios.names, ratios.shares, strict=True)
        if share > 0
    }
    missing = {split: dict(counts) for split, counts in wanted.items()}
    split_of: dict[Hashable, str] = {}
    for root in order:
        # the fall of the squared distance from what is wanted, in units of it
        def gain(split: str, size: Mapping[str, int] = sizes[root]) -> float:
            return sum(n * (2 * missing[split][name] - n) / wanted[split][name] for name, n in size.items())

        best = max(missing, key=gain)
        split_of[root] = best
        for name, n in sizes[root].items():
            missing[best][name] -= n
    return {
        name: [split_of[groups.root(("text", text))] for text in examples.frame]
        for name, examples in examples_by_class.items()
    }


class _Groups:
    """Disjoint sets of things that belong together."""

    def __init__(self) -> None:
        self._parents: dict[Hashable, Hashable] = {}

    def root(self, item: Hashable) -> Hashable:
        """The one that stands for the group of an item."""
        path = []
        while (parent := self._parents.setdefault(item, item)) != item:
            path.append(item)
            item = parent
        for passed in path:
            self._parents[passed] = item
        return item

    def join(self, first: Hashable, second: Hashable) -> None:
        """Put the groups of two items together."""
        self._parents[self.root(first)] = self.root(second)
