"""What makes a feature class: the words whose presence puts a sentence into it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(init=False)
class TextFilterConfig:
    """A feature class by its surface forms.

    A sentence belongs to the class if it has one of the words as a whole word, in any case.

    Args:
        targets: The words; a single string is taken as one word. Several tokens in one target are fine
            (`"at least"`).
        target: The same for one word; give either `targets` or `target`.
        id: Name of the class; the first target if omitted.
        mask: What stands in the place of the word.
        weight: Relative class size, see the field.

    Raises:
        ValueError: Both or none of `targets` and `target`, an empty word, an empty id or mask, or a
            weight that is not a positive number.
        TypeError: A target is no string.
    """

    targets: list[str]
    """The words of the class."""
    id: str
    """Name of the class: column name and class label."""
    mask: str
    """Stands in a masked text for the word; training expects `[MASK]` for every tokenizer."""
    weight: float
    """Rows of this class relative to the others, where classes are balanced: 2.0 gives twice as many."""

    def __init__(
        self,
        targets: Sequence[str] | None = None,
        target: str | None = None,
        *,
        id: str | None = None,
        mask: str = "[MASK]",
        weight: float = 1.0,
    ) -> None:
        if targets is not None and target is not None:
            raise ValueError("Give either targets=[...] or target='...', not both.")
        if target is not None:
            targets = [target]
        self.targets = _parse_targets(targets)
        self.id = self.targets[0] if id is None else id
        self.mask = mask
        self.weight = weight
        if not self.id.strip():
            raise ValueError("The id of a class must not be empty; omit it to use the first target.")
        if not mask.strip():
            raise ValueError("The mask must not be empty; the default is '[MASK]'.")
        if not (math.isfinite(weight) and weight > 0):
            raise ValueError(f"The weight of class {self.id!r} must be a positive number, got {weight}.")


def _parse_targets(targets: Sequence[str] | None) -> list[str]:
    if targets is None:
        raise ValueError("A class needs words: give targets=['he', 'she'] or target='they'.")
    words = [targets] if isinstance(targets, str) else list(targets)
    if not words:
        raise ValueError("A class needs at least one target, got an empty list.")
    for word in words:
        if not isinstance(word, str):
            raise TypeError(f"Targets are words, but {word!r} is of type {type(word).__name__}.")
        if not word.strip():
            raise ValueError(f"A target must not be empty, got {words}.")
    return [word.strip() for word in words]
