"""gradiend_context.json: what a GRADIEND reads, what it reproduces, and which class it encodes positive."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from gradiend.model.sides import Side
from gradiend.util.files import read_json, write_json
from gradiend.util.keywords import nearest

CONTEXT = "gradiend_context.json"

T = TypeVar("T")


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
        ValueError: A file without valid source, target or direction; the message names it.
    """
    path = Path(directory) / CONTEXT
    content = read_json(path)
    try:
        source = Side.parse("source", content["source"]).value
        target = None if content["target"] is None else Side.parse("target", content["target"]).value
        direction = content.get("feature_class_encoding_direction")
        direction = None if direction is None else parse_direction(direction)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} needs a valid source and target: {error}") from error
    return source, target, direction


def parse_direction(direction: Mapping[str, int]) -> dict[str, int]:
    """Class → +1, −1 or 0 as ints.

    Raises:
        ValueError: Another label.
        TypeError: Not a mapping.
    """
    if not isinstance(direction, Mapping):
        raise TypeError(f"The encoding direction must map classes to +1, −1 or 0; got {direction!r}.")
    wrong = {name: label for name, label in direction.items() if label not in (1, -1, 0)}
    if wrong:
        raise ValueError(f"The encoding direction of a class is +1, −1 or 0; got {wrong}.")
    return {name: int(label) for name, label in direction.items()}


def encoding_direction(feature_definition: Any) -> dict[str, int]:
    """Class → label: +1 for the first target class, −1 for the second, 0 for every other class.

    Args:
        feature_definition: Has `target_classes` (two names) and `all_classes` (names, or None).

    Raises:
        ValueError: Not two target classes.
    """
    signs = (1, -1)
    targets = list(feature_definition.target_classes or ())
    if len(targets) != len(signs):
        raise ValueError(f"The encoding direction needs exactly two target classes; got {targets}.")
    direction = dict.fromkeys(feature_definition.all_classes or targets, 0)
    return {**direction, **dict(zip(targets, signs, strict=True))}


def moving_factor(
    direction: Mapping[str, int] | None, target: str | None, name: str | None, *, strengthen: bool = True
) -> float:
    """The feature factor that strengthens (or weakens) a class: −label of the class, +label for target="alternative".

    With target diff or factual, decoding the label of a class gives the gradient that makes its word less likely
    (docs/method.md).

    Args:
        direction: Class → label, see `ModelWithGradiend.feature_class_encoding_direction`.
        target: What the decoder reproduces.
        name: The class.
        strengthen: Or weaken.

    Raises:
        ValueError: No direction, or no class that it tells apart.
    """
    if not direction:
        raise ValueError("The model does not know which class it encodes positive: train it, or set the direction.")
    targets = [known for known, label in direction.items() if label]
    if name not in targets:
        raise ValueError(
            f"{name!r} is no target class of this model; they are {', '.join(targets)}.{nearest(str(name), targets)}"
        )
    label = float(direction[str(name)])
    return label if (target == Side.ALTERNATIVE.value) == strengthen else -label


def one_goal(strengthen: T | None, weaken: T | None) -> tuple[T, bool] | None:
    """(class, whether it is strengthened) of a call that takes `strengthen` and `weaken`; None with neither.

    Raises:
        TypeError: Both.
    """
    if strengthen is not None and weaken is not None:
        raise TypeError(
            f"strengthen={strengthen!r} and weaken={weaken!r} are two rewrites: give one of them. (With two classes, "
            "strengthening one weakens the other.)"
        )
    return (strengthen, True) if strengthen is not None else None if weaken is None else (weaken, False)
