"""Gradients that were computed once and are needed again: by the next epoch, or by the next seed."""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Hashable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

FEWEST = 16
"""A store with room for fewer keys would write much and hardly ever be asked: it keeps nothing."""


class GradientStore:
    """Flat gradients by key, in a temporary file that is mapped into memory.

    A base model in evaluation mode gives the same gradient for the same batch whenever it is asked. What is kept here
    is read back with the same bits. The file is sparse, never larger than the limit, and has no name: it goes away with
    the object, or with the process, however that ends.

    Args:
        limit: Bytes at most. What does not fit is not kept; nothing at all with room for fewer than `FEWEST` keys.
        directory: Where the file lies. Default: the system's temporary directory.
    """

    def __init__(self, limit: int, directory: str | Path | None = None) -> None:
        self.limit = limit
        self._file = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115 - lives as long as the store
        weakref.finalize(self, self._file.close)
        self._rows: dict[Hashable, int] = {}
        self._values: Tensor | None = None

    def __len__(self) -> int:
        """Number of keys."""
        return len(self._rows)

    def get(self, key: Hashable) -> tuple[Tensor, ...] | None:
        """The gradients kept under `key`, views into the file; None if there are none."""
        row = self._rows.get(key)
        if row is None:
            return None
        assert self._values is not None
        return tuple(self._values[row])

    def keep(self, key: Hashable, gradients: Sequence[Tensor]) -> None:
        """Copy gradients, all of one length and type, under a new key, if there is room.

        Raises:
            ValueError: Gradients of another number, length or type than those before.
        """
        shape = (len(gradients), gradients[0].numel())
        if self._values is None:
            self._values = self._map(shape, gradients[0].dtype)
        if self._values.shape[1:] != shape or self._values.dtype != gradients[0].dtype:
            raise ValueError(
                f"This store holds {tuple(self._values.shape[1:])} numbers of {self._values.dtype} under a key; "
                f"got {shape} of {gradients[0].dtype}."
            )
        if key in self._rows or len(self._rows) == len(self._values):
            return
        row = len(self._rows)
        for place, gradient in zip(self._values[row], gradients, strict=True):
            place.copy_(gradient)
        self._rows[key] = row

    def close(self) -> None:
        """Forget everything; the file goes when what `get` has given goes."""
        self._rows.clear()
        self._values = None
        self._file.close()

    def _map(self, shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
        n_rows = self.limit // (shape[0] * shape[1] * dtype.itemsize)
        if n_rows < FEWEST:
            return torch.empty(0, *shape, dtype=dtype)
        held = np.memmap(self._file, np.uint8, "w+", shape=(n_rows * shape[0] * shape[1] * dtype.itemsize,))
        return torch.from_numpy(held).view(dtype).view(n_rows, *shape)
