"""What a table was made from, kept beside it: `use_cache` answers from the table only if nothing differs."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from gradiend._version import __version__
from gradiend.data.core.table_files import output_hash, read_output
from gradiend.data.text.preprocess import TextPreprocessConfig
from gradiend.util.files import read_json, write_json

logger = logging.getLogger(__name__)

_FORMAT_VERSION = 1
_SHOWN = 80


class MadeFrom:
    """Everything that a table depends on.

    Args:
        **inputs: By name; JSON values.
    """

    def __init__(self, **inputs: Any) -> None:
        self._inputs: dict[str, Any] = json.loads(json.dumps({"gradiend": __version__, **inputs}))

    def write(self, table: Path) -> None:
        """Write the record of a table that was just written."""
        content = {"format_version": _FORMAT_VERSION, "table_sha256": output_hash(table), "made_from": self._inputs}
        write_json(_record(table), content)

    def read_table(self, table: Path) -> pd.DataFrame | None:
        """Read the table if it was made from the same; otherwise say in the log what differs, and return None."""
        reason = self._difference(table)
        if reason is not None:
            logger.info("%s is made anew: %s.", table, reason)
            return None
        logger.info("%s was made from the same data and arguments, and is used again.", table)
        return read_output(table)

    def _difference(self, table: Path) -> str | None:
        found = output_hash(table)
        if found is None:
            return "it does not exist yet"
        record = _record(table)
        if not record.is_file():
            return f"nothing says what it was made from (no {record.name})"
        content = read_json(record)
        if not isinstance(content, dict) or content.get("format_version") != _FORMAT_VERSION:
            return f"{record.name} has another format"
        if content["table_sha256"] != found:
            return "it was changed after it was made"
        old: Mapping[str, Any] = content["made_from"]
        names = [name for name in {**old, **self._inputs} if old.get(name) != self._inputs.get(name)]
        if not names:
            return None
        return "; ".join(f"{name} was {_show(old.get(name))}, now {_show(self._inputs.get(name))}" for name in names)


def describe_preprocess(config: TextPreprocessConfig | None) -> dict[str, Any] | None:
    """A preprocessing configuration as JSON values; its filter must not be a function."""
    return None if config is None else asdict(config)


def _record(table: Path) -> Path:
    return table.with_name(f"{table.name}.made_from.json")


def _show(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
