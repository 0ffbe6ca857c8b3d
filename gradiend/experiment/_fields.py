"""The fields of an experiment's file, read from the dataclasses: flags, kinds of values, and the JSON schema."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Union, get_args, get_origin, get_type_hints

from gradiend.experiment.sections import Experiment
from gradiend.util._argument_fields import field_sentences
from gradiend.util._imports import require_package

Keys = tuple[str, ...]
"""The keys that lead to a value: ("train", "max_steps")."""

HIDDEN: set[Keys] = {("train", "experiment_dir"), ("train", "output_dir"), ("data", "run_id")}
"""Fields that the top of the file replaces: everything of an experiment is in its `experiment_dir`."""
SCHEMA = "https://json-schema.org/draft/2020-12/schema"
WORDS = {int: "whole number", float: "number", str: "text", bool: "true/false", type(None): "null", Any: "value"}
"""Type → the kind of value in words."""


@dataclasses.dataclass(frozen=True)
class Option:
    """A field of the file that is a flag as well."""

    keys: Keys
    kind: str
    """What the value is, in words: "whole number or null"."""
    help: str
    default: Any

    @property
    def flag(self) -> str:
        """The flag: `--train.max-steps`."""
        return flag_of(self.keys)


def flag_of(keys: Keys) -> str:
    """The flag of a field."""
    return "--" + ".".join(keys).replace("_", "-")


@functools.cache
def options() -> tuple[Option, ...]:
    """Every field of the file that can be written as one value, in the order of the sections."""
    return tuple(_options(Experiment, ()))


@functools.cache
def validator() -> Any:
    """The pydantic validator of experiments.

    Raises:
        ImportError: pydantic or ruamel.yaml is missing.
    """
    for package in ("pydantic", "ruamel.yaml"):
        require_package(package, "Reading an experiment", "cli")
    from pydantic import TypeAdapter  # noqa: PLC0415 - an optional package

    return TypeAdapter(Experiment)


def experiment_schema() -> dict[str, Any]:
    """The JSON schema of an experiment's file, by which editors complete and check it."""
    adapter = validator()
    from pydantic.json_schema import GenerateJsonSchema  # noqa: PLC0415 - an optional package
    from pydantic_core import PydanticOmit  # noqa: PLC0415

    class Schema(GenerateJsonSchema):
        def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> Any:  # noqa: ARG002
            # A function or a tensor cannot stand in a file.
            raise PydanticOmit

        def default_schema(self, schema: Any) -> Any:
            # Defaults that are objects have no form in JSON; the sentences say them.
            return self.generate_inner(schema["schema"])

    schema = adapter.json_schema(schema_generator=Schema)
    classes = {cls.__name__: cls for cls in _dataclasses(Experiment)}
    for name, part in [(Experiment.__name__, schema), *schema["$defs"].items()]:
        part["description"] = inspect.cleandoc(classes[name].__doc__ or "").splitlines()[0]
        for key, text in field_sentences(classes[name]).items():
            if key in part["properties"]:
                part["properties"][key]["description"] = text
    for *section, key in HIDDEN:
        schema["$defs"][class_at(tuple(section)).__name__]["properties"].pop(key)
    return {"$schema": SCHEMA, **schema, "title": "An experiment of gradiend"}


def dataclass_of(hint: Any) -> Any:
    """The dataclass that a field holds, if it holds one or null; None for other fields."""
    kinds = [one for one in _alternatives(hint) if one is not type(None)]
    return kinds[0] if len(kinds) == 1 and dataclasses.is_dataclass(kinds[0]) else None


def class_at(path: Keys) -> Any:
    """The dataclass at a path, which may lead through mappings; None if there is none."""
    hint: Any = Experiment
    for key in path:
        hint = _below(hint, key)
    return next((one for one in _alternatives(hint) if dataclasses.is_dataclass(one)), None)


def fields_at(path: Keys) -> dict[str, str]:
    """Name → sentence of the fields of the dataclass at a path, without hidden ones; {} if there is none."""
    cls = class_at(path)
    if cls is None:
        return {}
    sentences = field_sentences(cls)
    names = [item.name for item in dataclasses.fields(cls) if (*path, item.name) not in HIDDEN]
    return {name: sentences.get(name, "") for name in names}


@functools.cache
def class_names() -> frozenset[str]:
    """The names of the dataclasses that a file can hold."""
    return frozenset(cls.__name__ for cls in _dataclasses(Experiment))


def _dataclasses(hint: Any) -> Iterator[type]:
    """Every dataclass in a type, itself included."""
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        yield hint
        for inner in get_type_hints(hint).values():
            yield from _dataclasses(inner)
    for inner in get_args(hint):
        yield from _dataclasses(inner)


def _below(hint: Any, key: str) -> Any:
    for one in _alternatives(hint):
        if dataclasses.is_dataclass(one):
            return get_type_hints(one).get(key)
        if _is_kind_of(one, Mapping):
            return get_args(one)[1]
    return None


def _alternatives(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def _is_kind_of(hint: Any, kind: type) -> bool:
    origin = get_origin(hint)
    return isinstance(origin, type) and issubclass(origin, kind)


def _options(cls: type, above: Keys) -> Iterator[Option]:
    hints, sentences = get_type_hints(cls), field_sentences(cls)
    for item in dataclasses.fields(cls):
        keys, hint = (*above, item.name), hints[item.name]
        inner = dataclass_of(hint)
        if keys in HIDDEN:
            continue
        if inner is not None:
            yield from _options(inner, keys)
        elif (kind := _kind(hint)) is not None:
            default = item.default if item.default_factory is dataclasses.MISSING else item.default_factory()
            yield Option(keys, kind, sentences.get(item.name, ""), default)


def _kind(hint: Any) -> str | None:
    """What a value is, in words; None for values that a file cannot hold."""
    words = [word for one in _alternatives(hint) if (word := _word(one)) is not None]
    return " or ".join(words) if set(words) - {"null"} else None


def _word(hint: Any) -> str | None:
    if hint in WORDS:
        return WORDS[hint]
    if _is_kind_of(hint, Mapping):
        return "keys with values"
    if _is_kind_of(hint, Sequence):
        of = WORDS.get(get_args(hint)[0])
        return "list" if of is None else f"list of {of}s"
    if get_args(hint) and not isinstance(get_origin(hint), type):
        return "|".join(map(str, get_args(hint)))
    return None
