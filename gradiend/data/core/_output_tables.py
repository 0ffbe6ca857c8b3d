"""Result tables on disk: found out to be writable before the work, written in one step after it."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import pandas as pd

from gradiend.data.core._datasets import find_saved
from gradiend.data.core._tables import csv_table
from gradiend.util._checks import require_path, require_text
from gradiend.util._files import replacing
from gradiend.util._imports import require_package
from gradiend.util._keywords import one_of

TableFormat: TypeAlias = Literal["csv", "parquet", "hf"]

WHOLE_TABLE = "table.csv"
"""The whole table, in a folder that holds it divided by classes."""


def parse_table_format(value: str) -> TableFormat:
    """Turn `"csv"`, `"parquet"` or `"hf"` into a format; anything else is a ValueError."""
    one_of("output_format", value, get_args(TableFormat))
    return next(known for known in get_args(TableFormat) if known == value)


def parse_folder(name: str, value: str | PathLike[str]) -> Path:
    """Turn the name of a folder into a path; a file of that name is a NotADirectoryError."""
    require_path(name, value)
    path = Path(value)
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(f"{name}={str(value)!r} is a file; name a folder, which is created if it is missing.")
    return path


def require_basenames(training: str, neutral: str) -> None:
    """Raise a TypeError or ValueError if two tables cannot have these names in one folder."""
    require_text("training_basename", training)
    require_text("neutral_basename", neutral)
    if training == neutral:
        raise ValueError(
            f"training_basename and neutral_basename are both {training!r}: one table would overwrite the other."
        )


def prepare_output(path: Path, table_format: TableFormat) -> Path:
    """Make sure that a table can be written to `path`, before the work that fills it, and make the folder around it.

    The name ends in `.csv` or `.parquet`; with the format `"hf"`, another name means a folder for `save_to_disk`.
    """
    if _is_table(path):
        if path.is_dir():
            raise ValueError(f"The output must be a file, but {str(path)!r} is a folder.")
        if path.suffix.lower() == ".parquet":
            require_package("pyarrow", f"Writing {path.name}", "data")
    elif table_format == "hf":
        require_package("datasets", f"Writing the data set {path.name}", "data")
        if path.is_file() or (path.is_dir() and any(path.iterdir()) and find_saved(path) is None):
            raise ValueError(f"{str(path)!r} is in the way and no saved data set; choose another output.")
    else:
        raise ValueError(f"The output must be a .csv or .parquet file, got {str(path)!r}.")
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


def write_output(path: Path, table: pd.DataFrame, by_class: Mapping[str, pd.DataFrame] | None = None) -> None:
    """Write a table of strings to where `prepare_output` said that it can be written.

    A folder holds a dictionary of the data sets `by_class`, or without them the table as one data set.
    """
    if _is_table(path):
        write_table(table, path)
        return
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as temporary:
        unfinished = Path(temporary) / "new"
        _save_to_disk(table if by_class is None else by_class, unfinished)
        table.to_csv(unfinished / WHOLE_TABLE, index=False, encoding="utf-8")
        if path.exists():
            shutil.move(path, Path(temporary) / "old")
        unfinished.replace(path)


def read_output(path: Path) -> pd.DataFrame:
    """Read the table that `write_output` wrote, with the same values."""
    if path.suffix.lower() == ".parquet":
        return pd.read_parquet(path)
    return csv_table(_file_of(path), missing="")


def output_hash(path: Path) -> str | None:
    """SHA-256 of the file with the table; None if there is none."""
    file = _file_of(path)
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else None


def _file_of(path: Path) -> Path:
    return path if _is_table(path) else path / WHOLE_TABLE


def _is_table(path: Path) -> bool:
    return path.suffix.lower() in {".csv", ".parquet"}


def _save_to_disk(tables: pd.DataFrame | Mapping[str, pd.DataFrame], folder: Path) -> None:
    import datasets  # noqa: PLC0415

    def dataset(frame: pd.DataFrame) -> datasets.Dataset:
        features = datasets.Features({str(column): datasets.Value("string") for column in frame.columns})
        return datasets.Dataset.from_dict({column: frame[column].tolist() for column in frame.columns}, features)

    if isinstance(tables, pd.DataFrame):
        # what is saved in no shard at all cannot be loaded again
        dataset(tables).save_to_disk(folder, num_shards=1 if tables.empty else None)
    else:
        datasets.DatasetDict({name: dataset(frame) for name, frame in tables.items()}).save_to_disk(folder)
