"""gradiend_context.json: what a GRADIEND reads, what it reproduces, and which class it encodes positive.

The label of a text is that of its factual word's class. From version 0.2.0 on, the existing tool labels texts by the
alternative word's class where the source is alternative, and its files do not say so; see `labels_by_alternative`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from gradiend.model.sides import Side
from gradiend.util._files import read_json, write_json
from gradiend.util.keywords import nearest, nearest_first

CONTEXT = "gradiend_context.json"
LABELS_OF = "labels_of"
"""Key of the context: the word whose class labels a text, factual or alternative."""
MARKS_OF_0_2 = frozenset({"prediction_objective", "decoder_sequence_cloze_rhs_window"})
"""Metadata in config.json that versions 0.2.x of the existing tool write, and 0.1.0 does not."""

T = TypeVar("T")


def write_gradiend_context(
    directory: str | Path,
    source: str,
    target: str | None,
    direction: Mapping[str, int] | None = None,
    *,
    labels_of: Side = Side.FACTUAL,
) -> str:
    """Write the context file and return its path.

    Args:
        directory: The checkpoint.
        source: What the encoder reads.
        target: What the decoder reproduces.
        direction: Class → +1, −1 or 0.
        labels_of: The word whose class labels a text: factual or alternative.
    """
    content: dict[str, Any] = {
        "source": str(source),
        "target": None if target is None else str(target),
        LABELS_OF: labels_of.value,
    }
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
    content = _read_object(path)
    try:
        source = Side.parse("source", content["source"]).value
        target = None if content["target"] is None else Side.parse("target", content["target"]).value
        direction = content.get("feature_class_encoding_direction")
        direction = None if direction is None else parse_direction(direction)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} needs a valid source and target: {error}") from error
    return source, target, direction


def labels_by_alternative(directory: str | Path, metadata: Mapping[str, Any]) -> bool | None:
    """Whether the texts that a GRADIEND with source alternative was trained on were labelled by the alternative word.

    Args:
        directory: The checkpoint.
        metadata: Of its config.json.

    Returns:
        What the context says; without that, True for a checkpoint of the existing tool's 0.2.x, and None where nothing
        tells: versions that write no mark label by the factual word.

    Raises:
        FileNotFoundError: No context file.
        ValueError: Labels of another kind; the message names the file.
    """
    path = Path(directory) / CONTEXT
    labels = _read_object(path).get(LABELS_OF)
    if labels is None:
        return True if MARKS_OF_0_2 & metadata.keys() else None
    try:
        return parse_labels(labels) is Side.ALTERNATIVE
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def parse_labels(labels_of: str) -> Side:
    """The word whose class labels a text. Raises ValueError for another than factual and alternative."""
    if labels_of not in (Side.FACTUAL, Side.ALTERNATIVE):
        raise ValueError(f"{LABELS_OF} must be 'factual' or 'alternative'; got {labels_of!r}.")
    return Side(labels_of)


def _read_object(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(
            f"The checkpoint {path.parent} has no {CONTEXT}, which says what its encoder reads and which class is "
            "positive: it was copied or deleted in part. Copy it whole; or, if you know what it was trained with, "
            "write the file with gradiend.model.utils.write_gradiend_context(directory, source, target, direction)."
        )
    content = read_json(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold a JSON object, not {type(content).__name__}.")
    return content


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
            f"{name!r} is no target class of this model; they are "
            f"{', '.join(nearest_first(str(name), targets))}.{nearest(str(name), targets)}"
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
