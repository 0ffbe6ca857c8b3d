"""The fields of an experiment's file, as its JSON schema says them, and the error of a file that does not fit.

Neither torch nor pydantic is loaded for this.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Keys = tuple[str, ...]
"""The keys that lead to a value: ("train", "max_steps")."""

HIDDEN: set[Keys] = {("train", "experiment_dir"), ("train", "output_dir"), ("data", "run_id")}
"""Fields that the top of the file replaces: everything of an experiment is in its `experiment_dir`."""
SCHEMA_FILE = "experiment.schema.json"
"""The schema, which `scripts/write_schema.py` makes from the dataclasses of `gradiend.experiment`."""
WORDS = {
    "integer": "whole number", "number": "number", "string": "text", "boolean": "true/false", "null": "null",
    "array": "list", "object": "keys with values",
}  # fmt: skip
"""Type in the schema → the kind of value in words."""
NAMED = "properties"
"""The key of a schema's object with named fields."""


class ExperimentError(ValueError):
    """A file or flags that do not describe an experiment; one line for each fault.

    Args:
        faults: The lines, each with the place, what was expected, and what was found.
    """

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = list(faults)
        super().__init__("\n".join(self.faults))


@dataclass(frozen=True)
class Field:
    """A field of the file."""

    keys: Keys
    schema: Mapping[str, Any]
    """The part of the schema that describes the value."""

    @property
    def flag(self) -> str:
        """The flag: `--train.max-steps`."""
        return flag_of(self.keys)

    @property
    def sentence(self) -> str:
        """What the field means."""
        return str(self.schema.get("description", ""))

    @property
    def default(self) -> Any:
        """The default; None if it is no single value."""
        return self.schema.get("default")

    @property
    def kind(self) -> str:
        """What the value is, in words: "whole number or null"."""
        return " or ".join(dict.fromkeys(_word(one) for one in _alternatives(self.schema)))


def experiment_schema() -> dict[str, Any]:
    """The JSON schema of an experiment's file, by which editors complete and check it."""
    content: dict[str, Any] = json.loads((Path(__file__).parent / SCHEMA_FILE).read_text(encoding="utf-8"))
    return content


@functools.cache
def fields() -> tuple[Field, ...]:
    """Every field of the file, in the order of the sections.

    A section is a field itself only if it may be left out (`null`).
    """
    return tuple(_leaves((), _schema()))


def flag_of(keys: Keys) -> str:
    """The flag of a field."""
    return "--" + ".".join(keys).replace("_", "-")


def fields_at(path: Keys) -> dict[str, Field]:
    """Name → field of the section at a path, which may lead through class names; {} if there is no section."""
    part: Mapping[str, Any] | None = _schema()
    for key in path:
        part = None if part is None else _below(part, key)
    section = None if part is None else section_of(part)
    return {} if section is None else {name: Field((*path, name), own) for name, own in section[NAMED].items()}


def section_of(schema: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The section in a part of the schema; None for a plain value."""
    return next((one for one in _alternatives(schema) if NAMED in one), None)


def class_names() -> frozenset[str]:
    """The names of the dataclasses that a file can hold."""
    return frozenset(_schema()["$defs"])


@functools.cache
def _schema() -> Mapping[str, Any]:
    return experiment_schema()


def _leaves(above: Keys, schema: Mapping[str, Any]) -> Iterator[Field]:
    for name, own in schema[NAMED].items():
        kinds = [one for one in _alternatives(own) if one.get("type") != "null"]
        section = kinds[0] if len(kinds) == 1 and NAMED in kinds[0] else None
        if section is None or len(kinds) < len(_alternatives(own)):
            yield Field((*above, name), own)
        if section is not None:
            yield from _leaves((*above, name), section)


def _below(schema: Mapping[str, Any], key: str) -> Mapping[str, Any] | None:
    for one in _alternatives(schema):
        if key in one.get(NAMED, ()):
            return one[NAMED][key]
        if isinstance(one.get("additionalProperties"), Mapping):
            return one["additionalProperties"]
    return None


def _alternatives(schema: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The kinds of value that a part allows, with references followed."""
    return [
        _schema()["$defs"][one["$ref"].rsplit("/", 1)[1]] if "$ref" in one else one
        for one in schema.get("anyOf", [schema])
    ]


def _word(schema: Mapping[str, Any]) -> str:
    choices = schema.get("enum", [schema["const"]] if "const" in schema else None)
    if choices is not None:
        return "|".join(map(str, choices))
    word = WORDS.get(schema.get("type", ""), "value")
    item = schema.get("items", {}).get("type")
    return f"list of {WORDS[item]}s" if word == "list" and item in ("integer", "number", "string") else word
