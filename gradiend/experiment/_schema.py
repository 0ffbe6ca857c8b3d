"""The validator of experiments and the JSON schema of their files, made from the dataclasses by pydantic."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Iterator
from typing import Any, get_args, get_type_hints

from gradiend.experiment._fields import HIDDEN
from gradiend.experiment.sections import Experiment
from gradiend.util._argument_fields import field_sentences
from gradiend.util._imports import require_package

DIALECT = "https://json-schema.org/draft/2020-12/schema"


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


def made_schema() -> dict[str, Any]:
    """The JSON schema of an experiment's file, made anew; `scripts/write_schema.py` keeps it as a file."""
    adapter = validator()
    from pydantic.json_schema import GenerateJsonSchema  # noqa: PLC0415 - an optional package
    from pydantic_core import PydanticOmit  # noqa: PLC0415

    class Schema(GenerateJsonSchema):
        def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> Any:  # noqa: ARG002
            # A function or a tensor cannot stand in a file.
            raise PydanticOmit

        def default_schema(self, schema: Any) -> Any:
            # Defaults that are objects have no form in JSON; the sentences say them.
            made, default = self.generate_inner(schema["schema"]), schema.get("default", schema)
            plain = default is None or isinstance(default, (str, int, float, bool))
            return {**made, "default": default} if plain else made

    schema = adapter.json_schema(schema_generator=Schema)
    classes = {cls.__name__: cls for cls in _dataclasses(Experiment)}
    for name, part in [(Experiment.__name__, schema), *schema["$defs"].items()]:
        part["description"] = inspect.cleandoc(classes[name].__doc__ or "").splitlines()[0]
        for key, text in field_sentences(classes[name]).items():
            if key in part["properties"]:
                part["properties"][key]["description"] = text
    hints = get_type_hints(Experiment)
    for section, key in HIDDEN:
        schema["$defs"][hints[section].__name__]["properties"].pop(key)
    for part in (schema, *schema["$defs"].values()):
        for field in part["properties"].values():
            field.pop("title", None)
    return {"$schema": DIALECT, **schema, "title": "An experiment of gradiend"}


def _dataclasses(hint: Any) -> Iterator[type]:
    """Every dataclass in a type, itself included."""
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        yield hint
        for inner in get_type_hints(hint).values():
            yield from _dataclasses(inner)
    for inner in get_args(hint):
        yield from _dataclasses(inner)
