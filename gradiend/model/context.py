"""gradiend_context.json: what a GRADIEND reads, what it reproduces, and which class it encodes positive."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gradiend.model.sides import Side
from gradiend.util.files import read_json, write_json

CONTEXT = "gradiend_context.json"


def write_gradiend_context(
    directory: str | Path, source: str, target: str | None, direction: Mapping[str, int] | None = None
) -> str:
    """Write the context file and return its path."""
    content: dict[str, Any] = {"source": str(source), "target": None if target is None else str(target)}
    if direction is not None:
        content["feature_class_encoding_direction"] = dict(direction)
    path = Path(directory) / CONTEXT
    write_json(path, content)
    return str(path)


def read_gradiend_context(directory: str | Path) -> tuple[str, str | None, dict[str, int] | None]:
    """(source, target, class → +1/−1/0 or None) of a checkpoint.

    Raises:
        FileNotFoundError: No context file.
        ValueError: A file without valid source and target; the message names it.
    """
    path = Path(directory) / CONTEXT
    content = read_json(path)
    try:
        source = Side.parse("source", content["source"]).value
        target = None if content["target"] is None else Side.parse("target", content["target"]).value
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} needs a valid source and target: {error}") from error
    return source, target, content.get("feature_class_encoding_direction")
