"""The result of every comparison: the documented dict of a matrix, which shows itself and becomes a frame."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from gradiend.util._display import Result, Table, number
from gradiend.util._files import write_csv


class ComparisonResult(Result):
    """A matrix with its names, and everything that is known of its cells.

    `matrix` is a list of rows; `rows` and `columns` name them, or `model_ids` names both. A cell that was not measured
    is NaN. `interval`, where it was estimated, has [low, high] or None for each cell; `null_level` has a number or None
    for each cell, or one number for all.
    """

    @property
    def row_names(self) -> list[str]:
        """The names of the rows."""
        return [str(name) for name in self.get("rows") or self["model_ids"]]

    @property
    def column_names(self) -> list[str]:
        """The names of the columns."""
        return [str(name) for name in self.get("columns") or self["model_ids"]]

    def to_frame(self) -> pd.DataFrame:
        """The matrix as a frame, one row and one column for each name."""
        return pd.DataFrame(self["matrix"], index=self.row_names, columns=self.column_names)

    def to_csv(self, path: str | Path) -> str:
        """Write the matrix to a CSV file, which replaces an earlier one only when it is whole. Returns the path."""
        write_csv(path, self.to_frame(), index=True)
        return str(path)

    def _tables(self) -> tuple[str, Sequence[Table]]:
        rows: list[list[Any]] = [
            [name, *(number(cell, "+.3f") for cell in cells)]
            for name, cells in zip(self.row_names, self["matrix"], strict=True)
        ]
        headline = f"Comparison by {self['measure']}: {len(rows)} × {len(self.column_names)}"
        return headline, [Table("", ["", *self.column_names], rows)]
