"""One column of texts out of a file: CSV, Parquet or plain text, each but Parquet also gzip-compressed."""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from gradiend.util.optional import require_package

_SUPPORTED = ".csv, .csv.gz, .parquet, .txt (one text a line), .txt.gz"


def read_text_file(path: Path, text_column: str) -> list[object]:
    """Read the texts of a file, as they stand in it.

    Args:
        path: An existing file; its suffix says the kind.
        text_column: Column with the texts; a plain text file has none and ignores it.

    Returns:
        One entry a row or line; missing entries are NaN or None.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is a folder, of an unknown kind, empty, not UTF-8, or lacks the column.
        ImportError: Parquet without pyarrow.
    """
    if path.is_dir():
        raise ValueError(
            f"Expected a file with texts, but {str(path)!r} is a folder; name a file in it ({_SUPPORTED})."
        )
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no file {str(path)!r}. A string is taken as a path; to use it as a text, pass a list of texts."
        )
    name = path.name.lower()
    try:
        if name.endswith((".csv", ".csv.gz")):
            return _read_csv(path, text_column)
        if name.endswith(".parquet"):
            return _read_parquet(path, text_column)
        if name.endswith((".txt", ".txt.gz")):
            return _read_lines(path)
    except UnicodeDecodeError as error:
        raise ValueError(f"{str(path)!r} is not UTF-8 ({error}); save it as UTF-8 and try again.") from error
    raise ValueError(f"Cannot tell what kind of file {str(path)!r} is; expected one of {_SUPPORTED}.")


def require_column(columns: Iterable[object], text_column: str, where: str) -> None:
    """Raise a ValueError that names the present columns if `text_column` is not among them."""
    present = [str(column) for column in columns]
    if text_column not in present:
        raise ValueError(
            f"{where} has no column {text_column!r}; it has: {', '.join(present) or 'none'}. "
            "Name the column with the texts by text_column=."
        )


def _read_csv(path: Path, text_column: str) -> list[object]:
    try:
        header = pd.read_csv(path, nrows=0, encoding="utf-8-sig")
    except pd.errors.EmptyDataError as error:
        raise ValueError(f"{str(path)!r} is empty; expected a CSV file with a header row.") from error
    require_column(header.columns, text_column, f"The file {str(path)!r}")
    # "NA", "null" and "None" are texts here, only an empty field is a missing one
    frame = pd.read_csv(
        path, usecols=[text_column], dtype=str, encoding="utf-8-sig", keep_default_na=False, na_values=[""]
    )
    return frame[text_column].tolist()


def _read_parquet(path: Path, text_column: str) -> list[object]:
    require_package("pyarrow", f"Reading {path.name}", "data")
    from pyarrow import parquet  # noqa: PLC0415

    require_column(parquet.read_schema(path).names, text_column, f"The file {str(path)!r}")
    return pd.read_parquet(path, columns=[text_column])[text_column].tolist()


def _read_lines(path: Path) -> list[object]:
    if path.suffix.lower() == ".gz":
        with gzip.open(path, "rt", encoding="utf-8-sig") as stream:
            return list(stream)
    with path.open(encoding="utf-8-sig") as stream:
        return list(stream)
