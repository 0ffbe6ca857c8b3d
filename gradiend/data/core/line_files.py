"""Plain text and JSON Lines, one text a line: entered anywhere, unless compressed."""

from __future__ import annotations

import gzip
import random
import zlib
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from gradiend.data.core.table_files import json_object, json_rows, not_utf8
from gradiend.data.core.text_source import Chunk, Columns, TextSource, make_chunk, shuffled

CHUNK_BYTES = 1 << 18
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class LineFile(TextSource):
    """A `.txt` or `.jsonl` file, or one of them with `.gz`.

    Args:
        path: An existing file.
        columns: The keys of the texts (and documents) in JSON Lines; None for plain text.
    """

    def __init__(self, path: Path, columns: Columns | None) -> None:
        self.name = f"The file {str(path)!r}"
        self.has_documents = columns is not None and columns.document is not None
        self._path = path
        self._columns = columns
        self._is_compressed = path.suffix.lower() == ".gz"

    def chunks(self, rng: random.Random | None = None) -> Iterator[Chunk]:
        """Yield pieces of 256 KiB, in any order that `rng` decides; of a compressed file, in its own."""
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

    def identity(self) -> dict[str, Any]:
        """Path, size and time of the last change."""
        return file_identity(self._path)

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
            # The file is entered anywhere, so the number of the line is only known by reading it from its beginning.
            deque(json_rows(self._path), maxlen=0)
            raise
        if rows and index == 0:
            self._columns.require({key: None for row in rows for key in row}, self.name)
        document = self._columns.document
        documents = None if document is None else [row.get(document) for row in rows]
        return make_chunk((index, 0), [row.get(self._columns.text) for row in rows], documents)


def file_identity(path: Path) -> dict[str, Any]:
    """Path, size and time of the last change of a file."""
    status = path.stat()
    return {"file": str(path.resolve()), "bytes": status.st_size, "changed_ns": status.st_mtime_ns}


def _read_lines(stream: gzip.GzipFile) -> bytes:
    data = stream.read(CHUNK_BYTES)
    return data if data.endswith(b"\n") or not data else data + stream.readline()


def _read_lines_from(stream: BinaryIO, start: int) -> bytes:
    """The lines that begin in the piece of the file that begins at `start`."""
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
