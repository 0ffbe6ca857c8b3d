"""What a table was made from, kept beside it: `use_cache` answers from the table only if nothing differs.

`util.fingerprint` is imported where it is used: it loads torch, which creating data has no need of.
"""

from __future__ import annotations

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from gradiend._version import __version__
from gradiend.data.core.table_files import output_hash, read_output
from gradiend.data.text.preprocess import TextPreprocessConfig
from gradiend.util.files import write_json

logger = logging.getLogger(__name__)

_FORMAT_VERSION = 1
_HASH = "table_sha256"
_SHOWN = 200


class MadeFrom:
    """Everything that a table depends on.

    Args:
        **inputs: By name; JSON values.
    """

    def __init__(self, **inputs: Any) -> None:
        self._inputs = {"gradiend": __version__, **inputs}

    def write(self, table: Path) -> None:
        """Write the record of a table that was just written."""
        from gradiend.util.fingerprint import FINGERPRINT  # noqa: PLC0415

        content = {"format_version": _FORMAT_VERSION, _HASH: output_hash(table), FINGERPRINT: self._inputs}
        write_json(_record(table), content)

    def read_table(self, table: Path) -> pd.DataFrame | None:
        """Read the table if it was made from the same; otherwise say in the log what differs, and return None."""
        reasons = self._differences(table)
        if reasons:
            logger.info("%s is made anew: %s.", table, "; ".join(reasons))
            return None
        logger.info("%s was made from the same data and arguments, and is used again.", table)
        return read_output(table)

    def _differences(self, table: Path) -> list[str]:
        from gradiend.util.fingerprint import read_cached  # noqa: PLC0415

        found, record = output_hash(table), _record(table)
        if found is None:
            return ["it does not exist yet"]
        content, reasons = read_cached(record, self._inputs)
        if content is None:
            return [reason if len(reason) <= _SHOWN else f"{reason[:_SHOWN]}…" for reason in reasons] or [
                f"nothing says what it was made from (no {record.name})"
            ]
        return [] if content.get(_HASH) == found else ["it was changed after it was made"]


def describe_preprocess(config: TextPreprocessConfig | None) -> dict[str, Any] | None:
    """A preprocessing configuration as JSON values; its filter must not be a function."""
    return None if config is None else asdict(config)


def _record(table: Path) -> Path:
    return table.with_name(f"{table.name}.made_from.json")
