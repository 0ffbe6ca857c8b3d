"""gradiend_context.json: what a GRADIEND reads, what it reproduces, and which class it encodes positive.

The label of a text is the label of its factual word's class. From version 0.2.0 on, the existing tool labels texts by
the class of the alternative word if the source is alternative, without a note in its files; see
`labels_by_alternative`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

from gradiend.model._checkpoint_files import list_again
from gradiend.util._files import read_checked_json, write_checked_json
from gradiend.util._keywords import known_keywords, nearest, nearest_first, one_of
from gradiend.util.paths import CONTEXT


class Side(str, Enum):
    """The gradient of an example: g_f of the factual word, g_a of the alternative word, or g_f − g_a."""

    FACTUAL = "factual"
    ALTERNATIVE = "alternative"
    DIFF = "diff"

    @classmethod
    def parse(cls, name: str, value: str | Side) -> Side:
        """The side called `value`; "counterfactual" means alternative. The errors are those of `one_of`."""
        if isinstance(value, Side):
            return value
        return cls(one_of(name, "alternative" if value == "counterfactual" else value, [side.value for side in cls]))

    def __str__(self) -> str:
        return self.value


LABELS_OF = "labels_of"
"""The key of the context for the word whose class labels a text, factual or alternative."""
MARKS_OF_0_2 = frozenset({"prediction_objective", "decoder_sequence_cloze_rhs_window"})
"""Keys in config.json that versions 0.2.x of the existing tool write, and version 0.1.0 does not."""

T = TypeVar("T")


@known_keywords("write_gradiend_context", suggest=False)
def write_gradiend_context(
    directory: str | Path, source: str, target: str | None, direction: Mapping[str, int] | None = None, *,
    labels_of: str = "factual",
) -> str:  # fmt: skip
    """Write the context file and return its path.

    Args:
        directory: The checkpoint.
        source: The gradient that the encoder reads: factual, alternative or diff.
        target: The gradient that the decoder reproduces: factual, alternative, diff, or None (it is not trained).
        direction: Class → +1, −1 or 0.
        labels_of: The word whose class labels a text: factual or alternative.

    Raises TypeError for a direction that is no mapping, and ValueError for any other value that is not listed here.
    """
    content: dict[str, Any] = {
        "source": Side.parse("source", source).value,
        "target": None if target is None else Side.parse("target", target).value,
        LABELS_OF: parse_labels(labels_of).value,
    }
    if direction is not None:
        content["feature_class_encoding_direction"] = parse_direction(direction)
    path = Path(directory) / CONTEXT
    write_checked_json(path, content)
    list_again(Path(directory), CONTEXT)
    return str(path)


@known_keywords("read_gradiend_context", suggest=False)
def read_gradiend_context(directory: str | Path) -> tuple[str, str | None, dict[str, int] | None]:
    """(source, target, class → +1/−1/0 or None) of a checkpoint.

    Raises:
        FileNotFoundError: There is no context file.
        ValueError: The file has no valid source, target or direction; the message names the file.
    """
    path = Path(directory) / CONTEXT
    content = _read_context(path)
    try:
        source = Side.parse("source", content["source"]).value
        target = None if content["target"] is None else Side.parse("target", content["target"]).value
        direction = content.get("feature_class_encoding_direction")
        direction = None if direction is None else parse_direction(direction)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} needs a valid source and target: {error}") from error
    return source, target, direction


def labels_by_alternative(directory: str | Path, metadata: Mapping[str, Any]) -> bool | None:
    """Whether the training of a GRADIEND with source alternative labelled its texts by the alternative word.

    Without a note in the context, this is True if the metadata has a mark of the existing tool's versions 0.2.x, and
    None otherwise: versions that write no mark label texts by the factual word.
    """
    path = Path(directory) / CONTEXT
    labels = _read_context(path).get(LABELS_OF)
    if labels is None:
        return True if MARKS_OF_0_2 & metadata.keys() else None
    try:
        return parse_labels(labels) is Side.ALTERNATIVE
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def parse_labels(labels_of: str) -> Side:
    """The side of the word whose class labels a text. Raises ValueError unless it is factual or alternative."""
    if labels_of not in (Side.FACTUAL, Side.ALTERNATIVE):
        raise ValueError(f"{LABELS_OF} must be 'factual' or 'alternative'; got {labels_of!r}.")
    return Side(labels_of)


def _read_context(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(
            f"The checkpoint {path.parent} has no {CONTEXT}, which says what its encoder reads and which class is "
            "positive: it was copied or deleted in part. Copy it whole; or, if you know what it was trained with, "
            "write the file with gradiend.model.utils.write_gradiend_context(directory, source, target, direction)."
        )
    return read_checked_json(path)


def parse_direction(direction: Mapping[str, int]) -> dict[str, int]:
    """Class → +1, −1 or 0 as ints. Raises ValueError for another label, and TypeError unless it is a mapping."""
    if not isinstance(direction, Mapping):
        raise TypeError(f"The encoding direction must map classes to +1, −1 or 0; got {direction!r}.")
    wrong = {name: label for name, label in direction.items() if label not in (1, -1, 0)}
    if wrong:
        raise ValueError(f"The encoding direction of a class is +1, −1 or 0; got {wrong}.")
    return {name: int(label) for name, label in direction.items()}


def encoding_direction(feature_definition: Any) -> dict[str, int]:
    """Class → label: +1 for the first of the two `target_classes`, −1 for the second, 0 for the rest of `all_classes`.

    Raises TypeError for an object without them, and ValueError unless there are two target classes.
    """
    if not hasattr(feature_definition, "target_classes") or not hasattr(feature_definition, "all_classes"):
        raise TypeError(
            "feature_definition must have target_classes and all_classes, as a trainer has; got "
            f"{feature_definition!r:.60}."
        )
    targets = list(feature_definition.target_classes or ())
    if len(targets) != 2:
        raise ValueError(f"The encoding direction needs exactly two target classes; got {targets}.")
    direction = dict.fromkeys(feature_definition.all_classes or targets, 0)
    return {**direction, targets[0]: 1, targets[1]: -1}


def moving_factor(
    direction: Mapping[str, int] | None, target: str | None, name: str | None, *, strengthen: bool
) -> float:
    """The feature factor that strengthens (or weakens) a class: −label of the class, +label for target="alternative".

    With target diff or factual, the decoded label of a class is the gradient that makes the word of the class less
    likely (docs/method.md). Raises ValueError without a direction, and for a class that is no target class.
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
    """(class, whether to strengthen the class) of a call with `strengthen` or `weaken`; None with neither argument.

    Raises TypeError if both arguments are given.
    """
    if strengthen is not None and weaken is not None:
        raise TypeError(
            f"strengthen={strengthen!r} and weaken={weaken!r} are two rewrites: give one of them. (With two classes, "
            "strengthening one weakens the other.)"
        )
    if strengthen is not None:
        return strengthen, True
    return None if weaken is None else (weaken, False)
