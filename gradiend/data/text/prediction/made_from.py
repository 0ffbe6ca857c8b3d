"""Where a table goes, and what it was made from: `use_cache` answers from it only if nothing differs.

`util.fingerprint` is imported where it is used: it loads torch, which creating data has no need of.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from gradiend._version import __version__
from gradiend.data.core._output_tables import output_hash, read_output, write_output
from gradiend.data.text._preprocess import TextPreprocessConfig
from gradiend.data.text.prediction._report import Tally
from gradiend.util.files import write_json

logger = logging.getLogger(__name__)

_FORMAT_VERSION = 1
_HASH = "table_sha256"
_TALLY = "tally"
_SHOWN = 200


class MadeFrom:
    """Everything that a table depends on.

    Args:
        **inputs: By name; JSON values.
    """

    def __init__(self, **inputs: Any) -> None:
        self._inputs = {"gradiend": __version__, **inputs}

    def write(self, table: Path, tally: Tally) -> None:
        """Write the record of a table that was just written."""
        from gradiend.util.fingerprint import FINGERPRINT  # noqa: PLC0415

        content = {"format_version": _FORMAT_VERSION, _HASH: output_hash(table), _TALLY: asdict(tally)}
        write_json(_record(table), {**content, FINGERPRINT: self._inputs})

    def read(self, table: Path) -> KeptTable | None:
        """Read the table if it was made from the same; otherwise say in the log what differs, and return None."""
        from gradiend.util.fingerprint import read_cached  # noqa: PLC0415

        found, record = output_hash(table), _record(table)
        content, reasons = (None, ["it does not exist yet"]) if found is None else read_cached(record, self._inputs)
        if content is not None and content.get(_HASH) == found and _TALLY in content:
            logger.info("%s was made from the same data and arguments, and is used again.", table)
            return KeptTable(read_output(table), Tally(**content[_TALLY]))
        if content is not None:
            reasons = ["it was changed after it was made"]
        shown = [reason if len(reason) <= _SHOWN else f"{reason[:_SHOWN]}…" for reason in reasons]
        logger.info(
            "%s is made anew: %s.", table, "; ".join(shown) or f"nothing says what it was made from (no {record.name})"
        )
        return None


@dataclass(frozen=True)
class KeptTable:
    """The table of an earlier call."""

    table: pd.DataFrame
    tally: Tally
    """What that call counted."""


@dataclass(frozen=True)
class Output:
    """Where the table of a call goes."""

    path: Path | None
    """A file or folder as `prepare_output` returns it; None keeps nothing."""
    made_from: MadeFrom | None
    """What the table depends on, where later calls may be answered from it."""

    def read(self) -> KeptTable | None:
        """The table of an earlier call, if it would come out the same now."""
        return None if self.path is None or self.made_from is None else self.made_from.read(self.path)

    def write(self, table: pd.DataFrame, tally: Tally, by_class: Mapping[str, pd.DataFrame] | None = None) -> None:
        """Write a table as `write_output` does, and its record; nothing where there is no path."""
        if self.path is None:
            return
        write_output(self.path, table, by_class)
        if self.made_from is not None:
            self.made_from.write(self.path, tally)


def describe_preprocess(config: TextPreprocessConfig | None) -> dict[str, Any] | None:
    """A preprocessing configuration as JSON values; its filter must not be a function."""
    return None if config is None else asdict(config)


def _record(table: Path) -> Path:
    return table.with_name(f"{table.name}.made_from.json")
