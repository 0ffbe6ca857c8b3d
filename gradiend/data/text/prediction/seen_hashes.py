"""A growing set of 64-bit hashes, many at a time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_FREE = 0


class SeenHashes:
    """Tells which hashes are new; eight bytes a slot, at most two thirds of the slots used."""

    def __init__(self) -> None:
        self._slots = np.zeros(1 << 12, np.int64)
        self._size = 0

    def add(self, hashes: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Add hashes.

        Args:
            hashes: (n,), whose low bits are as random as the others.

        Returns:
            (n,), True for the first of each hash that was not there.
        """
        is_new = np.zeros(len(hashes), bool)
        distinct, first = np.unique(hashes, return_index=True)
        distinct[distinct == _FREE] = 1
        while 3 * (self._size + len(distinct)) > 2 * len(self._slots):
            self._grow()
        is_new[first] = self._insert(distinct)
        self._size += int(is_new.sum())
        return is_new

    def _grow(self) -> None:
        kept = self._slots[self._slots != _FREE]
        self._slots = np.zeros(2 * len(self._slots), np.int64)
        self._insert(kept)

    def _insert(self, keys: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Put each key, none twice, into the next free slot after its own; return which were not there."""
        last = len(self._slots) - 1
        is_new = np.zeros(len(keys), bool)
        waiting, slot = np.arange(len(keys)), keys & last
        while len(waiting):
            wanted = keys[waiting]
            is_free = self._slots[slot] == _FREE
            # where several keys want one slot, one of them gets it
            self._slots[slot[is_free]] = wanted[is_free]
            has_slot = self._slots[slot] == wanted
            is_new[waiting[has_slot & is_free]] = True
            waiting, slot = waiting[~has_slot], (slot[~has_slot] + 1) & last
        return is_new
