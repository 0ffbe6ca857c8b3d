"""Files and data sets as sources of texts: plain text, JSON Lines, CSV, Parquet and the package `datasets`."""

from __future__ import annotations

import gzip
import random
import zlib
from collections import deque
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from gradiend.data.core._datasets import decoded, label_names
from gradiend.data.core._table_formats import csv_rows, json_object, json_rows, not_utf8
from gradiend.data.core._text_source import Chunk, Columns, TextSource, make_chunk, shuffled
from gradiend.util._imports import require_package

if TYPE_CHECKING:
    from datasets import Dataset

CHUNK_BYTES = 1 << 18
ROWS = 1024
"""How many rows of a table make a chunk."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class _File(TextSource):
    """A file, told from others by its path, size and last change."""

    def __init__(self, path: Path) -> None:
        self.name = f"The file {str(path)!r}"
        self._path = path

    def identity(self) -> dict[str, Any]:
        """Path, size and time of the last change."""
        return _identity_of(self._path)

    def files(self) -> list[Path]:
        """The file."""
        return [self._path]


def _identity_of(path: Path) -> dict[str, Any]:
    status = path.stat()
    return {"file": str(path.resolve()), "bytes": status.st_size, "changed_ns": status.st_mtime_ns}


class LineFile(_File):
    """A `.txt` or `.jsonl` file with one text a line; a file with `.gz` can only be read from its beginning."""

    def __init__(self, path: Path, columns: Columns | None) -> None:
        super().__init__(path)
        self._columns = columns
        self._is_compressed = path.suffix.lower() == ".gz"

    def chunks(self, rng: random.Random | None = None) -> Iterator[Chunk]:
        """Yield pieces of 256 KiB in the order that `rng` decides; pieces of a compressed file stay in their order."""
        try:
            if self._is_compressed:
                with gzip.open(self._path, "rb") as stream:
                    index = 0
                    while data := _read_lines(stream):
                        yield self._parse(index, data)
                        index += 1
                return
            with self._path.open("rb") as stream:
                n_chunks = -(-self._path.stat().st_size // CHUNK_BYTES)
                for index in shuffled(n_chunks, rng):
                    yield self._parse(index, _read_lines_from(stream, index * CHUNK_BYTES))
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(f"{str(self._path)!r} is damaged or no gzip file ({error}).") from error

    def _parse(self, index: int, data: bytes) -> Chunk:
        if index == 0:
            data = data.removeprefix(_BYTE_ORDER_MARK)
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise not_utf8(self._path, error) from error
        lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        if self._columns is None:
            return make_chunk((index, 0), lines)
        try:
            rows = [json_object(line, f"{self.name} has a line that") for line in lines if line.strip()]
        except ValueError:
            # The piece does not know its line numbers, so the file is read from its beginning for the message.
            deque(json_rows(self._path), maxlen=0)
            raise
        if rows and index == 0:
            self._columns.require({key: None for row in rows for key in row}, self.name)
        columns = [[row.get(name) for row in rows] for name in self._columns.names]
        return self._columns.chunk((index, 0), columns)


def _read_lines(stream: gzip.GzipFile) -> bytes:
    data = stream.read(CHUNK_BYTES)
    return data if data.endswith(b"\n") or not data else data + stream.readline()


def _read_lines_from(stream: BinaryIO, start: int) -> bytes:
    """Read the lines that begin in the piece of the file at `start`."""
    if start:
        stream.seek(start - 1)
        stream.readline()
    else:
        stream.seek(0)
    length = start + CHUNK_BYTES - stream.tell()
    if length <= 0:
        return b""
    data = stream.read(length)
    return data if data.endswith(b"\n") else data + stream.readline()


class CsvFile(_File):
    """A CSV or TSV file (also `.gz`), always read from its beginning: a quoted field may span lines."""

    def __init__(self, path: Path, columns: Columns) -> None:
        super().__init__(path)
        self._columns = columns
        rows = csv_rows(path)
        try:
            _, header = next(rows)
        finally:
            rows.close()
        columns.require(header, self.name)
        self._at = [header.index(column) for column in columns.names]

    def chunks(self, rng: random.Random | None = None) -> Iterator[Chunk]:  # noqa: ARG002
        """Yield the rows in their order; only an empty field is a missing value."""
        rows = csv_rows(self._path)
        next(rows)
        number = 0
        while piece := [[fields[at] or None for at in self._at] for _, fields in islice(rows, ROWS)]:
            yield self._columns.chunk((number, 0), [list(column) for column in zip(*piece, strict=True)])
            number += 1


class ParquetFile(_File):
    """A `.parquet` file, whose row groups can be read in any order."""

    def __init__(self, path: Path, columns: Columns) -> None:
        require_package("pyarrow", f"Reading {path.name}", "data")
        import pyarrow  # noqa: PLC0415
        from pyarrow import parquet  # noqa: PLC0415

        super().__init__(path)
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
                    frame = batch.to_pandas()
                    columns = [frame[name].tolist() for name in self._columns.names]
                    yield self._columns.chunk((group, index), columns)


class DatasetRows(TextSource):
    """A split of a data set of the package `datasets`, memory-mapped, whose rows can be read in any order."""

    def __init__(self, dataset: Dataset, name: str, columns: Columns) -> None:
        self.name = f"The data set {name!r}"
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
            yield self._columns.chunk((index, 0), [rows[name] for name in self._columns.names])

    def identity(self) -> dict[str, Any]:
        """The files that hold the rows, or a fingerprint of rows in memory."""
        if not self._files:
            return {"rows": len(self._dataset), "fingerprint": self._dataset._fingerprint}
        return {"rows": len(self._dataset), "files": list(map(_identity_of, self.files()))}

    def files(self) -> list[Path]:
        """The files that hold the rows; none for rows in memory."""
        return [Path(file["filename"]) for file in self._files]
