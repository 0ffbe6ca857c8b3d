"""Things that belong together because of others."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

Thing = TypeVar("Thing", bound=Hashable)


class DisjointSets(Generic[Thing]):
    """Groups that grow together."""

    def __init__(self) -> None:
        self._parents: dict[Thing, Thing] = {}

    def __iter__(self) -> Iterator[Thing]:
        """All things, in the order in which they came."""
        return iter(self._parents)

    def root(self, item: Thing) -> Thing:
        """The one that stands for the group of an item."""
        path = []
        while (parent := self._parents.setdefault(item, item)) != item:
            path.append(item)
            item = parent
        for passed in path:
            self._parents[passed] = item
        return item

    def join(self, first: Thing, second: Thing) -> None:
        """Put the groups of two items together."""
        self._parents[self.root(first)] = self.root(second)
