"""The door for texts: a list, a frame, a file, a data set of the hub or of a folder, each as a source of chunks."""

from __future__ import annotations

import gzip
import random
import zlib
from collections import deque
from collections.abc import Iterator
from itertools import islice
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias, cast

import pandas as pd

from gradiend.data.core._datasets import (
    decoded,
    is_data_set,
    label_names,
    load_hub_dataset,
    looks_like_hub_id,
    split_of,
)
from gradiend.data.core._table_formats import (
    CSV_SUFFIXES,
    JSON_SUFFIXES,
    csv_rows,
    format_of,
    json_object,
    json_rows,
    not_utf8,
    suffixes,
)
from gradiend.data.core._text_source import Chunk, Columns, MemoryTexts, TextSource, make_chunk, shuffled
from gradiend.util._checks import frame_hint, require_path, require_text, require_whole
from gradiend.util._imports import require_package
from gradiend.util._keywords import known_keywords

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

BaseData: TypeAlias = "list[str] | pd.DataFrame | Dataset | DatasetDict | str | PathLike[str]"
"""Texts, a frame or data set with a text column, the path of a file or of a data set's folder, or a hub id."""

_LINES = (".txt", ".txt.gz")


@known_keywords("resolve_base_data")
def resolve_base_data(
    source: BaseData, text_column: str = "text", max_size: int | None = None, split: str = "train",
    seed: int | None = 42, hf_config: str | None = None, trust_remote_code: bool = False,
) -> list[str]:  # fmt: skip
    """Load texts, shuffle them with `seed` and keep the first `max_size`.

    Texts are stripped; missing and empty ones are dropped.

    Args:
        source: A list of texts; a DataFrame; a `Dataset` or `DatasetDict`; the path of a `.csv`, `.tsv`, `.parquet`,
            `.jsonl` or `.txt` file (one text a line), all but Parquet also with `.gz`; the folder of a data set; or the
            id of a data set on the Hugging Face hub.
        text_column: Column with the texts in a table; a plain text file has none and ignores it.
        max_size: Keep at most so many texts; None keeps all.
        split: Split of a data set.
        seed: Seed of the shuffle; None shuffles differently each time.
        hf_config: Config of a data set that has several.
        trust_remote_code: Let a data set of the hub run its own code; see `load_hub_dataset`.

    Raises:
        TypeError: `source`, one of the texts or an argument is of another type, or an argument is unknown.
        FileNotFoundError: The file, folder or data set does not exist.
        ValueError: The column, split or config is missing (the message lists those that are there), `max_size` is below
            1, or the file is of another kind, damaged or not UTF-8.
        ConnectionError: The hub cannot be reached.
        ImportError: pyarrow is needed for Parquet, or datasets for a data set, and is not installed.
    """
    require_whole("max_size", max_size, 1, none_means="for all")
    require_whole("seed", seed, None, none_means="for another order each time")
    opened = open_source(
        source, Columns(text_column), split=split, hf_config=hf_config, trust_remote_code=trust_remote_code
    )
    texts = [text for chunk in opened.chunks() for text in chunk.texts]
    random.Random(None if seed is None else int(seed)).shuffle(texts)
    return texts if max_size is None else texts[:max_size]


def open_source(
    source: BaseData, columns: Columns, *, split: str = "train", hf_config: str | None = None,
    trust_remote_code: bool = False,
) -> TextSource:  # fmt: skip
    """Find out what `source` is and that it can be read; arguments and errors are those of `resolve_base_data`."""
    require_text("text_column", columns.text)
    require_text("split", split)
    opened: TextSource
    if isinstance(source, pd.DataFrame):
        return _texts_of(source, columns, "The DataFrame", "DataFrame")
    if isinstance(source, list):
        _require_no_document(columns, "a list of texts")
        return MemoryTexts(make_chunk((0, 0), source), "list")
    if is_data_set(source):
        held = split_of(cast("Dataset", source), split, "The data set")
        opened = DatasetRows(held, "in memory", columns)
        opened.check()
        return opened
    if not isinstance(source, str | PathLike):
        raise TypeError(
            "Expected a list of texts, a DataFrame, a Dataset, the path of a file or folder, or a hub id; got "
            f"{type(source).__name__}" + frame_hint(source, "Turn another collection of texts into a list first.")
        )
    require_path("base_data", source)
    path = Path(source)
    is_hub_id = isinstance(source, str) and looks_like_hub_id(source)
    names_a_file = path.is_file() or str(source).lower().endswith((*suffixes(), *_LINES))
    if path.is_dir() or (is_hub_id and not names_a_file):
        dataset = load_hub_dataset(source, hf_config, split=split, trust_remote_code=trust_remote_code)
        opened = DatasetRows(cast("Dataset", dataset), str(source), columns)
    else:
        opened = _open_file(path, columns)
    opened.check()
    return opened


def _open_file(path: Path, columns: Columns) -> TextSource:
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no file or folder {str(path)!r}, and it is no hub id. Is it a text? Then pass a list of texts."
        )
    name = path.name.lower()
    if name.endswith(CSV_SUFFIXES):
        return CsvFile(path, columns)
    if name.endswith(".parquet"):
        return ParquetFile(path, columns)
    if name.endswith(JSON_SUFFIXES):
        return LineFile(path, columns)
    if name.endswith(_LINES):
        _require_no_document(columns, f"the text file {str(path)!r}")
        return LineFile(path, None)
    if known := format_of(path):
        return _texts_of(known.read(path), columns, f"The file {str(path)!r}", path.name)
    raise ValueError(
        f"Cannot tell what kind of file {str(path)!r} is; expected one of {', '.join((*suffixes(), *_LINES))} (text "
        "files have one text a line)."
    )


def _texts_of(frame: pd.DataFrame, columns: Columns, where: str, name: str) -> MemoryTexts:
    columns.require(frame.columns, where)
    return MemoryTexts(columns.chunk((0, 0), [frame[column].tolist() for column in columns.names]), name)


def _require_no_document(columns: Columns, where: str) -> None:
    if columns.document is not None:
        raise ValueError(
            f"document_column={columns.document!r} names a column, but {where} has none. Leave it out: each text "
            "(before it is cut into sentences) is then a document."
        )


# The sources


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
