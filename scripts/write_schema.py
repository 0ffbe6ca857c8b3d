"""Write the JSON schema of an experiment's file; run it after a change of its fields.

python scripts/write_schema.py
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import PydanticOmit

import gradiend
from gradiend.experiment import Experiment
from gradiend.experiment._fields import HIDDEN, SCHEMA_FILE
from gradiend.experiment._reading import validator
from gradiend.util._argument_fields import field_sentences
from gradiend.util._files import write_json

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def made_schema() -> dict[str, Any]:
    """The JSON schema of an experiment's file, which pydantic makes from the dataclasses."""

    class Schema(GenerateJsonSchema):
        def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> Any:  # noqa: ARG002
            # A function or a tensor cannot stand in a file.
            raise PydanticOmit

        def default_schema(self, schema: Any) -> Any:
            # Defaults that are objects have no form in JSON; the sentences say them.
            made, default = self.generate_inner(schema["schema"]), schema.get("default", schema)
            plain = default is None or isinstance(default, (str, int, float, bool))
            return {**made, "default": default} if plain else made

    schema = validator().json_schema(schema_generator=Schema)
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


def main() -> None:
    write_json(Path(gradiend.__file__).parent / "experiment" / SCHEMA_FILE, made_schema())


if __name__ == "__main__":
    main()
