"""A growing column of texts that takes little memory."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

_PIECE = 4096


class TextColumn:
    """Texts in pieces as pandas keeps them: where it has a compact form, the texts themselves are let go of."""

    def __init__(self) -> None:
        self._pieces: list[pd.Series] = []
        self._last: list[str] = []
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def extend(self, texts: Sequence[str]) -> None:
        """Add texts at the end."""
        self._last += texts
        self._size += len(texts)
        if len(self._last) >= _PIECE:
            self._close()

    def take_all(self) -> pd.Series:
        """Return the texts, and let go of them."""
        self._close()
        pieces, self._pieces = self._pieces, []
        return pd.concat(pieces, ignore_index=True)

    def _close(self) -> None:
        self._pieces.append(pd.Series(self._last, dtype=str))
        self._last = []
