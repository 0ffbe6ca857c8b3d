"""Formats of tables on disk: a value is the string that stands in the file, and no row may be shifted."""

from __future__ import annotations

import csv
import gzip
import itertools
import json
import sys
import zlib
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import pandas as pd

from gradiend.util._checks import home_hint, require_whole_characters
from gradiend.util._files import csv_file
from gradiend.util._imports import require_package

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
CSV_SUFFIXES = (".csv", ".csv.gz", ".tsv", ".tsv.gz")
JSON_SUFFIXES = (".jsonl", ".jsonl.gz")


@dataclass(frozen=True)
class TableFormat:
    """A kind of file that holds a table."""

    suffixes: tuple[str, ...]
    """Ends of the names of such files, in small letters; a file that is written has the first one."""
    read: Callable[[Path], pd.DataFrame]
    """Reads a file; None or NaN stands for a missing value."""
    write: Callable[[pd.DataFrame, Path], None] | None = None
    """Writes a frame without its index; None for a format that is only read."""
    needs: str | None = None
    """The package that reads and writes such files, where one is needed."""


def formats(*, written: bool = False) -> dict[str, TableFormat]:
    """Return the formats by name, with `written` only those that can be written."""
    return {name: known for name, known in TABLE_FORMATS.items() if known.write or not written}


def suffixes(*, written: bool = False) -> tuple[str, ...]:
    """Return the ends of names that mean a table: all that are read, or with `written` those of files to write."""
    return tuple(
        suffix for known in formats(written=written).values() for suffix in known.suffixes[: 1 if written else None]
    )


def one_of_suffixes(*, written: bool = False) -> str:
    """List the suffixes for a message: `.csv, .jsonl or .parquet`."""
    *others, last = suffixes(written=written)
    return f"{', '.join(others)} or {last}" if others else last


def format_of(path: Path, what: str = "Reading") -> TableFormat | None:
    """Return the format that the name of a file means, or None; a missing package that it needs is an ImportError."""
    name = path.name.lower()
    found = next((known for known in TABLE_FORMATS.values() if name.endswith(known.suffixes)), None)
    if found is not None and found.needs is not None:
        require_package(found.needs, f"{what} {path.name}", "data")
    return found


def is_table_path(value: str) -> bool:
    """Tell whether a string means a file, existing or not, and no data set."""
    return Path(value).is_file() or value.lower().endswith(suffixes())


def read_table(path: Path) -> pd.DataFrame:
    """Read a table in one of the `TABLE_FORMATS`.

    Values of CSV and TSV files are strings as they stand there: `007`, `1e5`, `true`, `NA` and `None` are words. Only
    an empty field is a missing value. JSON Lines and Parquet files say themselves what a value is. Raises
    FileNotFoundError; ValueError for another kind of file, an unreadable one, or a row with more or fewer fields than
    the header; ImportError for a Parquet file without pyarrow installed.
    """
    if not path.is_file():
        what = "is a folder; pass it as a string to load it as a data set" if path.is_dir() else "does not exist"
        raise FileNotFoundError(
            f"{str(path)!r} {what}. Expected the path of a {one_of_suffixes()} file (relative paths start at "
            f"{Path.cwd()}).{home_hint(path)}"
        )
    known = format_of(path)
    if known is None:
        raise ValueError(
            f"{path} cannot be read as a table: expected a {one_of_suffixes()} file, got {path.suffix or 'no suffix'}. "
            "Read it with pandas and pass the DataFrame."
        )
    return known.read(path)


def _read_json_lines(path: Path) -> pd.DataFrame:
    rows = list(json_rows(path))
    frame = pd.DataFrame(rows)
    for column in map(str, frame.select_dtypes("float")):
        # pandas has made 7.0 of the 7 in a column that also has a null or a fraction
        frame[column] = pd.Series([row.get(column) for row in rows], dtype=object)
    return frame


def _read_parquet(path: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(path, engine="pyarrow")
    except (ValueError, OSError) as error:
        raise _unreadable(path, f"{error}. Is it complete?") from error


def csv_table(path: Path, missing: str | None = None) -> pd.DataFrame:
    """Read a CSV or TSV file into a frame of strings; an empty field becomes `missing`."""
    rows = csv_rows(path)
    _, header = next(rows)
    return pd.DataFrame([[field or missing for field in fields] for _, fields in rows], columns=header)


def csv_rows(path: Path, delimiter: str | None = None) -> Generator[tuple[int, list[str]], None, None]:
    """Yield (line at which a row begins, its fields) for the header and the rows of a CSV or TSV file, also `.gz`.

    Empty lines are left out. Rows of another length than the header, stray quotation marks, damaged files and other
    encodings than UTF-8 are ValueErrors.
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    between = delimiter or next((_DELIMITERS[suffix] for suffix in suffixes[::-1] if suffix in _DELIMITERS), ",")
    header: list[str] | None = None
    with _open_text(path) as lines:
        reader = csv.reader(lines, delimiter=between, strict=True)
        while True:
            line = reader.line_num + 1
            try:
                fields = _next_row(reader)
                if header is None and fields is not None:
                    _require_delimiter(path, fields, between)
            except csv.Error as error:
                raise _unreadable(
                    path,
                    f"line {line}: {error}. A field that begins with a quotation mark ends with one, and those in it "
                    'are doubled ("Is ""it"" true?"). Is the file complete?',
                ) from error
            except UnicodeDecodeError as error:
                raise not_utf8(path, error) from error
            except (EOFError, OSError, zlib.error) as error:
                raise _unreadable(path, f"{error}. Is it complete?") from error
            if fields is None:
                break
            if not fields or (len(fields) == 1 and not fields[0].strip() and (header is None or len(header) > 1)):
                continue
            if header is not None and len(fields) != len(header):
                named = {",": "commas", "\t": "tabulators"}.get(between, f"{between!r} in them")
                raise _unreadable(
                    path,
                    f"line {line} has {len(fields)} fields, the header {len(header)} ({', '.join(header)}): quote "
                    f'texts that have {named} ("…"). The line begins with {between.join(fields)!r:.80}.',
                )
            if header is None:
                # pandas writes its row numbers as a column without a name, and reads that column under this name
                header = fields = [name or f"Unnamed: {number}" for number, name in enumerate(fields)]
            yield line, fields
    if header is None:
        raise _unreadable(path, "it is empty; expected a header row")


def _require_delimiter(path: Path, header: Sequence[str], delimiter: str) -> None:
    """Raise a ValueError for a header with one name, if another delimiter divides header and rows."""
    if len(header) != 1:
        return
    marks = [mark for mark in (";", "\t", "|", ",") if mark != delimiter and mark in header[0].strip()]
    other = next((mark for mark in marks if _divides(path, mark)), None)
    if other is not None:
        raise _unreadable(
            path,
            f"its columns are divided by {other!r} and not by {delimiter!r}. Save it so, or read it with pandas "
            f"(sep={other!r}, dtype=str, keep_default_na=False) and pass the DataFrame. If it has one column, quote "
            "the name of the column.",
        )


def _divides(path: Path, mark: str) -> bool:
    """Whether `mark` divides the header into several names and the first row into as many fields."""
    with _open_text(path) as lines:
        reader = csv.reader(lines, delimiter=mark, strict=True)
        rows = filter(None, iter(lambda: _next_row(reader), None))
        try:
            lengths = [len(row) for row in itertools.islice(rows, 2)]
        except csv.Error:
            return False
    return len(lengths) == 2 and lengths[0] == lengths[1] > 1


def json_object(line: str, where: str) -> dict[str, Any]:
    """Parse a line of a JSON Lines file; `where` names the file and line in the ValueError for what is no object."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} is no JSON ({error}): {line!r:.60}. Expected one object a line.") from error
    if not isinstance(row, dict):
        raise ValueError(f'{where} is {line!r:.60}; expected an object such as {{"text": …}}.')
    for value in row.values():
        if isinstance(value, str):
            require_whole_characters(where, value)
    return row


def not_utf8(path: Path, error: UnicodeError) -> ValueError:
    """Return the error for a file in another encoding."""
    return ValueError(f"{str(path)!r} is not UTF-8 ({error}); save it as UTF-8 and try again.")


def json_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a JSON Lines file; `pandas.read_json` would make dates and numbers of some words."""
    try:
        with _open_text(path) as stream:
            # Only a line feed ends a row: other line separators may stand in a JSON string.
            for number, line in enumerate(stream.read().split("\n"), start=1):
                if line.strip():
                    yield json_object(line, f"{str(path)!r} cannot be read as jsonl: line {number}")
    except UnicodeDecodeError as error:
        raise not_utf8(path, error) from error
    except (EOFError, OSError, zlib.error) as error:
        raise _unreadable(path, f"{error}. Is it complete?") from error


def _unreadable(path: Path, why: str) -> ValueError:
    kind = next((suffix[1:] for suffix in path.suffixes[::-1] if suffix.lower() != ".gz"), "table")
    return ValueError(f"{str(path)!r} cannot be read as {kind.lower()}: {why}")


def _open_text(path: Path) -> TextIOWrapper:
    opened = gzip.open if path.suffix.lower() == ".gz" else open
    return opened(path, "rt", encoding="utf-8-sig", newline="")


def _next_row(reader: Any) -> list[str] | None:
    """The next row, however long its fields are; the limit is the interpreter's, so it is put back."""
    limit = csv.field_size_limit(sys.maxsize)
    try:
        return next(reader, None)
    finally:
        csv.field_size_limit(limit)


TABLE_FORMATS: dict[str, TableFormat] = {
    "csv": TableFormat(CSV_SUFFIXES, csv_table, lambda frame, path: csv_file(path, frame)),
    "jsonl": TableFormat(JSON_SUFFIXES, _read_json_lines),
    "parquet": TableFormat(
        (".parquet",), _read_parquet, lambda frame, path: frame.to_parquet(path, index=False), needs="pyarrow"
    ),
}
"""Name → format. All that reads or writes tables asks here, so one more entry is one more format everywhere."""
