"""Tables from memory or from disk."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from gradiend.util.optional import require_package

SUPPORTED_SUFFIXES = (".csv", ".parquet")


def resolve_dataframe(value: pd.DataFrame | str | Path | None, *, max_rows: int | None = None) -> pd.DataFrame | None:
    """Turn a frame or the path of a table into a frame.

    In CSV files only empty fields are missing values: words such as `NA`, `null` or `None` stay words.

    Args:
        value: A frame, the path of an existing `.csv` or `.parquet` file, or None.
        max_rows: Keep at most the first `max_rows` rows; None keeps all.

    Returns:
        None for None; the same object for a frame that is not cut; otherwise the (first rows of the) table.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: Another kind of file, an unreadable one, or a negative `max_rows`.
        TypeError: Anything else than a frame or a path.
        ImportError: A Parquet file without pyarrow installed.
    """
    if max_rows is not None and max_rows < 0:
        raise ValueError(f"max_rows must be None or at least 0, got {max_rows}.")
    if value is None:
        return None
    if isinstance(value, pd.DataFrame):
        frame = value
    elif isinstance(value, str | Path):
        frame = _read(Path(value))
    else:
        raise TypeError(f"Expected a DataFrame or the path of a table, got {type(value).__name__}.")
    return frame if max_rows is None or len(frame) <= max_rows else frame.head(max_rows)


def _read(path: Path) -> pd.DataFrame:
    supported = " or ".join(SUPPORTED_SUFFIXES)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise FileNotFoundError(
            f"{str(path)!r} {what}; expected the path of a {supported} file (relative paths start at {Path.cwd()})."
        )
    suffix = path.suffix.lower()
    if suffix not in SUPPORTED_SUFFIXES:
        raise ValueError(
            f"{path} cannot be read as a table: expected a {supported} file, got {suffix or 'no suffix'}. "
            "Read it with pandas and pass the DataFrame."
        )
    try:
        if suffix == ".csv":
            # pandas would take the words "NA", "null", "None" for missing values.
            return pd.read_csv(path, keep_default_na=False, na_values=[""])
        require_package("pyarrow", f"Reading {path.name}", "data")
        return pd.read_parquet(path, engine="pyarrow")
    except ValueError as error:
        raise ValueError(
            f"{path} cannot be read as {suffix[1:]}: {error}. "
            "Is it complete? A CSV file must be UTF-8 with commas between the fields."
        ) from error
