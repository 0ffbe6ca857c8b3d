"""Tables as sources of texts: CSV, Parquet, and data sets of the package `datasets`."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from gradiend.data.core.line_files import file_identity
from gradiend.data.core.saved_datasets import decoded, label_names
from gradiend.data.core.table_files import csv_rows
from gradiend.data.core.text_source import Chunk, Columns, TextSource, make_chunk, shuffled
from gradiend.util._imports import require_package

if TYPE_CHECKING:
    from datasets import Dataset

ROWS = 1024
"""Rows of a chunk."""


class CsvFile(TextSource):
    """A CSV or TSV file (also `.gz`), always read from its beginning: a quoted field may span lines."""

    def __init__(self, path: Path, columns: Columns) -> None:
        self.name = f"The file {str(path)!r}"
        self.has_documents = columns.document is not None
        self._path = path
        self._columns = columns
        rows = csv_rows(path)
        try:
            _, header = next(rows)
        finally:
            rows.close()
        columns.require(header, self.name)
        self._at = [header.index(column) for column in columns.names]

    def chunks(self, rng: random.Random | None = None) -> Iterator[Chunk]:  # noqa: ARG002
        """Yield the rows in their order; only an empty field is a missing one."""
        rows = csv_rows(self._path)
        next(rows)
        number = 0
        while piece := [[fields[at] or None for at in self._at] for _, fields in islice(rows, ROWS)]:
            texts, *documents = (list(column) for column in zip(*piece, strict=True))
            same = self._columns.document == self._columns.text
            yield make_chunk((number, 0), texts, documents[0] if documents else texts if same else None)
            number += 1

    def identity(self) -> dict[str, Any]:
        """Path, size and time of the last change."""
        return file_identity(self._path)


class ParquetFile(TextSource):
    """A `.parquet` file: its row groups can be entered in any order."""

    def __init__(self, path: Path, columns: Columns) -> None:
        require_package("pyarrow", f"Reading {path.name}", "data")
        import pyarrow  # noqa: PLC0415
        from pyarrow import parquet  # noqa: PLC0415

        self.name = f"The file {str(path)!r}"
        self.has_documents = columns.document is not None
        self._path = path
        self._columns = columns
        try:
            columns.require(parquet.read_schema(path).names, self.name)
        except pyarrow.ArrowInvalid as error:
            raise ValueError(f"{str(path)!r} cannot be read as Parquet ({error}). Is it complete?") from error

    def chunks(self, rng: random.Random | None = None) -> Iterator[Chunk]:
        """Yield the row groups in the order that `rng` decides, the rows of each in their order."""
        from pyarrow import parquet  # noqa: PLC0415

        with parquet.ParquetFile(self._path) as table:
            for group in shuffled(table.num_row_groups, rng):
                batches = table.iter_batches(ROWS, row_groups=[group], columns=self._columns.names)
                for index, batch in enumerate(batches):
                    yield _chunk_of((group, index), batch.to_pandas(), self._columns)

    def identity(self) -> dict[str, Any]:
        """Path, size and time of the last change."""
        return file_identity(self._path)


class DatasetRows(TextSource):
    """A split of a data set of the package `datasets`: memory-mapped, entered anywhere."""

    def __init__(self, dataset: Dataset, name: str, columns: Columns) -> None:
        self.name = f"The data set {name!r}"
        self.has_documents = columns.document is not None
        self._columns = columns
        columns.require(dataset.column_names, self.name)
        self._files = dataset.cache_files
        self._dataset = dataset.select_columns(columns.names).with_format(None)
        self._labels = label_names(self._dataset)

    def chunks(self, rng: random.Random | None = None) -> Iterator[Chunk]:
        """Yield ranges of rows in the order that `rng` decides."""
        for index in shuffled(-(-len(self._dataset) // ROWS), rng):
            rows = dict(self._dataset[index * ROWS : (index + 1) * ROWS])
            rows |= {column: decoded(rows[column], names) for column, names in self._labels.items()}
            document = self._columns.document
            yield make_chunk((index, 0), rows[self._columns.text], None if document is None else rows[document])

    def identity(self) -> dict[str, Any]:
        """The files that hold the rows; of rows in memory, a fingerprint of them."""
        if not self._files:
            return {"rows": len(self._dataset), "fingerprint": self._dataset._fingerprint}
        return {"rows": len(self._dataset), "files": [file_identity(Path(file["filename"])) for file in self._files]}


def _chunk_of(index: tuple[int, int], frame: pd.DataFrame, columns: Columns) -> Chunk:
    documents = None if columns.document is None else frame[columns.document].tolist()
    return make_chunk(index, frame[columns.text].tolist(), documents)
