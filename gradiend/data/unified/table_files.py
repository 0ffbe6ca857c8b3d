"""Tables from disk."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pandas as pd

from gradiend.util.optional import require_package

TEXT_SUFFIXES = (".csv", ".csv.gz", ".jsonl", ".jsonl.gz")
SUPPORTED_SUFFIXES = (*TEXT_SUFFIXES, ".parquet")
_SUPPORTED = ".csv, .jsonl (both also .gz) or .parquet"


def is_table_path(value: str) -> bool:
    """Tell whether a string means a file, existing or not, and no data set."""
    return Path(value).is_file() or value.lower().endswith(SUPPORTED_SUFFIXES)


def read_table(path: Path) -> pd.DataFrame:
    """Read a table.

    In CSV files only empty fields are missing values: words such as `NA`, `null` or `None` stay words.

    Args:
        path: A `.csv`, `.jsonl` (one object a line), `.csv.gz`, `.jsonl.gz` or `.parquet` file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: Another kind of file, or an unreadable one.
        ImportError: A Parquet file without pyarrow installed.
    """
    if not path.is_file():
        what = "is a folder; pass it as a string to load it as a data set" if path.is_dir() else "does not exist"
        raise FileNotFoundError(
            f"{str(path)!r} {what}. Expected the path of a {_SUPPORTED} file (relative paths start at {Path.cwd()})."
        )
    name = path.name.lower()
    if not name.endswith(SUPPORTED_SUFFIXES):
        raise ValueError(
            f"{path} cannot be read as a table: expected a {_SUPPORTED} file, got {path.suffix or 'no suffix'}. "
            "Read it with pandas and pass the DataFrame."
        )
    try:
        if name.endswith((".csv", ".csv.gz")):
            # pandas would take the words "NA", "null", "None" for missing values.
            return pd.read_csv(path, keep_default_na=False, na_values=[""])
        if name.endswith((".jsonl", ".jsonl.gz")):
            return _read_json_lines(path)
        require_package("pyarrow", f"Reading {path.name}", "data")
        return pd.read_parquet(path, engine="pyarrow")
    except (ValueError, OSError) as error:
        kind = path.suffixes[0][1:] if path.suffix == ".gz" else path.suffix[1:]
        raise ValueError(
            f"{path} cannot be read as {kind}: {error}. "
            "Is it complete? It must be UTF-8; CSV has commas between the fields, JSON Lines one object a line."
        ) from error


def _read_json_lines(path: Path) -> pd.DataFrame:
    """Words stay words: `pandas.read_json` would make dates and numbers of some."""
    content = path.read_bytes()
    text = (gzip.decompress(content) if path.suffix.lower() == ".gz" else content).decode("utf-8-sig")
    rows = [json.loads(line) for line in text.split("\n") if line.strip()]
    if not all(isinstance(row, dict) for row in rows):
        raise ValueError("each line must be an object")
    return pd.DataFrame(rows)
