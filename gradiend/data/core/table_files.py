"""Result tables as files: found out to be writable before the work, written in one step after it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import pandas as pd

from gradiend.util.files import replacing
from gradiend.util.optional import require_package

TableFormat: TypeAlias = Literal["csv", "parquet"]


def parse_table_format(value: str) -> TableFormat:
    """Turn `"csv"` or `"parquet"` into a format; anything else is a ValueError."""
    for known in get_args(TableFormat):
        if value == known:
            return known
    raise ValueError(f"Unknown output_format {value!r}; expected 'csv' or 'parquet'.")


def prepare_table_file(path: Path) -> Path:
    """Make sure that a table can be written to `path`, before the work that fills it.

    Args:
        path: A file name ending in `.csv` or `.parquet`; its folder is created if missing.

    Returns:
        The same path.

    Raises:
        ValueError: The suffix is another one, or the path is a folder.
        OSError: The folder cannot be created or written to.
        ImportError: Parquet without pyarrow.
    """
    if path.suffix.lower() not in {".csv", ".parquet"}:
        raise ValueError(f"The output must be a .csv or .parquet file, got {str(path)!r}.")
    if path.is_dir():
        raise ValueError(f"The output must be a file, but {str(path)!r} is a folder.")
    if path.suffix.lower() == ".parquet":
        require_package("pyarrow", f"Writing {path.name}", "data")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise OSError(f"Cannot write to the folder {str(path.parent)!r} ({error}); choose another output.") from error
    return path


def write_table(frame: pd.DataFrame, path: Path) -> None:
    """Write a frame without its index; readers see the old file or the whole new one, never a part."""
    with replacing(path) as unfinished:
        if path.suffix.lower() == ".parquet":
            frame.to_parquet(unfinished, index=False)
        else:
            frame.to_csv(unfinished, index=False, encoding="utf-8")
