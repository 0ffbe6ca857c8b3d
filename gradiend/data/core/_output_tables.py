"""Result tables on disk: checked before the work, written in one step after the work, and used again."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import pandas as pd

from gradiend._version import __version__
from gradiend.data.core._datasets import find_saved
from gradiend.data.core._table_formats import format_of, formats, one_of_suffixes, read_table, suffixes
from gradiend.util._argument_fields import plain
from gradiend.util._cache import Cache, Fingerprint
from gradiend.util._checks import require_path
from gradiend.util._files import made_aside, replacing
from gradiend.util._imports import require_package
from gradiend.util._keywords import one_of
from gradiend.util._lock import writing
from gradiend.util.paths import MADE_FROM

logger = logging.getLogger(__name__)

FOLDER = "hf"
"""The output format that is no file: a folder as `save_to_disk` writes it."""
WHOLE_TABLE = "table.csv"
"""The whole table, in a folder that holds it divided by classes."""
_RECORD_FORMAT = 3
_SHOWN = 200


def parse_output_format(value: str) -> str:
    """Return the name of a format that tables are written in, or `"hf"`; anything else is a ValueError."""
    return one_of("output_format", value, [*formats(written=True), FOLDER])


def output_name(basename: str, output_format: str) -> str:
    """Return the name of the file, or of the folder, with a table of an output format."""
    return basename if output_format == FOLDER else basename + formats(written=True)[output_format].suffixes[0]


def parse_folder(name: str, value: str | PathLike[str]) -> Path:
    """Turn the name of a folder into a path; a file of that name is a NotADirectoryError."""
    require_path(name, value)
    path = Path(value)
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(f"{name}={str(value)!r} is a file; name a folder, which is created if it is missing.")
    return path


def prepare_output(path: Path, output_format: str) -> Path:
    """Make sure that a table can be written to `path`, before the work that fills it, and make the folder around it.

    The name ends like that of a format that can be written; with the format `"hf"`, another name means a folder.
    """
    if _is_file(path):
        if path.is_dir():
            raise ValueError(f"The output must be a file, but {str(path)!r} is a folder.")
        format_of(path, "Writing")
    elif output_format == FOLDER:
        require_package("datasets", f"Writing the data set {path.name}", "data")
        if path.is_file() or (path.is_dir() and any(path.iterdir()) and find_saved(path) is None):
            raise ValueError(f"{str(path)!r} is in the way and no saved data set; choose another output.")
    else:
        raise ValueError(f"The output must be a {one_of_suffixes(written=True)} file, got {str(path)!r}.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise OSError(f"Cannot write to the folder {str(path.parent)!r} ({error}); choose another output.") from error
    return path


def refuse_to_replace(path: Path, read: Iterable[Path]) -> None:
    """Raise a ValueError if a table would be written over a file that is read, or a folder with such a file in it."""
    written = path.resolve()
    for file in read:
        if written == file.resolve() or written in file.resolve().parents:
            raise ValueError(f"{str(path)!r} is where the texts are read from, and would be lost: give another output.")


def write_table(frame: pd.DataFrame, path: Path) -> None:
    """Write a frame without its index; readers see the old file or the whole new one, never a part."""
    known = format_of(path, "Writing")
    assert known is not None
    assert known.write is not None
    with replacing(path) as unfinished:
        known.write(frame, unfinished)


@dataclass(frozen=True)
class Output:
    """Where a table of strings goes, and what it depends on: a later call is answered from it if nothing differs."""

    path: Path | None
    """A file or folder as `prepare_output` returns it; None keeps nothing."""
    made_from: Fingerprint | None
    """What the table depends on, as values of JSON or NumPy by name; None keeps no record, so that no later call uses
    the table."""

    def locked(self) -> AbstractContextManager[None]:
        """Hold the lock of the folder in a with-block, if a later call may be answered from the table."""
        return writing(None if self.path is None or self.made_from is None else self.path.parent)

    def read(self) -> tuple[pd.DataFrame, dict[str, Any]] | None:
        """Return the table of an earlier call and what that call counted, if the table would come out the same now.

        Otherwise the log says what differs.
        """
        if self.path is None or self.made_from is None:
            return None
        record = self._record(self.path)
        exists = _table_file(self.path).is_file()
        content, reasons = record.read() if exists else (None, ["it does not exist yet"])
        if content is not None and "tally" in content:
            logger.info("%s was made from the same data and arguments, and is used again.", self.path)
            return read_table(_table_file(self.path)).fillna("").astype(str), content["tally"]
        unknown = [f"nothing says what it was made from (no {record.path.name})"]
        shown = [reason if len(reason) <= _SHOWN else f"{reason[:_SHOWN]}…" for reason in reasons or unknown]
        logger.info("%s is made anew: %s.", self.path, "; ".join(shown))
        return None

    def write(
        self, table: pd.DataFrame, tally: Mapping[str, Any], by_class: Mapping[str, pd.DataFrame] | None = None
    ) -> None:
        """Write a table and its record; do nothing where there is no path.

        A folder holds a dictionary of the data sets `by_class`, or without them the table as one data set.
        """
        if self.path is None:
            return
        if _is_file(self.path):
            write_table(table, self.path)
        else:
            _write_folder(self.path, table, by_class)
        if self.made_from is not None:
            self._record(self.path).write({"tally": tally})

    def write_beside(self, ending: str, table: pd.DataFrame | None) -> Path | None:
        """Write a further table beside this one, in a file whose name has an `ending`, and return its path.

        None removes the file of an earlier call. Where the table of this output goes nowhere, nothing is written.
        """
        if self.path is None:
            return None
        file = self.path
        suffix = next((one for one in suffixes(written=True) if file.name.lower().endswith(one)), "")
        file = file.with_name(f"{file.name[: len(file.name) - len(suffix)]}{ending}{suffix or '.csv'}")
        if table is None:
            file.unlink(missing_ok=True)
            return None
        write_table(table, file)
        return file

    def _record(self, path: Path) -> Cache:
        from gradiend.util._bits import digest_files  # noqa: PLC0415 - loads torch

        # Arguments may be numbers of NumPy, which JSON does not know.
        parts = plain({"gradiend": __version__, "record": _RECORD_FORMAT, **(self.made_from or {})})
        file = _table_file(path)
        return Cache(path.with_name(f"{path.name}.{MADE_FROM}"), parts, lambda: digest_files([file], file.parent))


def _is_file(path: Path) -> bool:
    return path.name.lower().endswith(suffixes(written=True))


def _table_file(path: Path) -> Path:
    return path if _is_file(path) else path / WHOLE_TABLE


def _write_folder(path: Path, table: pd.DataFrame, by_class: Mapping[str, pd.DataFrame] | None) -> None:
    import datasets  # noqa: PLC0415

    def dataset(frame: pd.DataFrame) -> datasets.Dataset:
        features = datasets.Features({str(column): datasets.Value("string") for column in frame.columns})
        return datasets.Dataset.from_dict({column: frame[column].tolist() for column in frame.columns}, features)

    with made_aside(path) as unfinished:
        if by_class is None:
            # a data set that is saved in no shard cannot be loaded again
            dataset(table).save_to_disk(unfinished, num_shards=1 if table.empty else None)
        else:
            datasets.DatasetDict({name: dataset(frame) for name, frame in by_class.items()}).save_to_disk(unfinished)
        write_table(table, unfinished / WHOLE_TABLE)
        if path.exists():
            shutil.move(path, unfinished.with_name("old"))
        unfinished.replace(path)
