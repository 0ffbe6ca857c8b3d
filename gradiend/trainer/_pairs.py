"""The pairs of a suite: two classes each, or a feature that is present or absent."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from gradiend.util._checks import require_ordered, require_texts
from gradiend.util._keywords import nearest, resolve_keywords


@dataclass(frozen=True)
class SuitePairDefinition:
    """One pair of a suite.

    Raises:
        ValueError: Not two distinct classes, or a positive class that is none of the two.
    """

    target_classes: Sequence[str]
    """The two classes; the first is encoded as +1."""
    positive_class: str | None = None
    """The class whose presence the GRADIEND encodes."""
    child_id: str | None = None
    """Id of the trainer. Default: made from the names of the classes."""
    label: str | None = None
    """Name in figures. Default: `A <-> B`."""
    class_merge_map: Mapping[str, Sequence[str]] | None = None
    """See `TextPredictionConfig.class_merge_map`."""
    class_merge_transition_groups: Sequence[Sequence[str]] | None = None
    """See `TextPredictionConfig.class_merge_transition_groups`."""

    def __post_init__(self) -> None:
        require_ordered("target_classes", self.target_classes)
        names = list(require_texts("target_classes", list(self.target_classes)))
        if len(set(names)) != 2 or len(names) != 2:
            raise ValueError(f"A pair of a suite needs two distinct classes; got {names}.")
        if self.positive_class not in (None, *names):
            raise ValueError(f"positive_class={self.positive_class!r} is none of the two classes {names}.")
        object.__setattr__(self, "target_classes", tuple(names))

    def require_known(self, classes: Sequence[str]) -> None:
        """Raise ValueError for a class that is none of the `classes`, unless the pair merges classes."""
        for name in self.target_classes if self.class_merge_map is None else ():
            if name not in classes:
                raise ValueError(
                    f"The pair {self.target_classes} has the unknown class {name!r}.{nearest(name, classes)}"
                )


@dataclass(frozen=True)
class PositiveFeatureDefinition:
    """A feature that is present in one class and absent in another."""

    positive_feature_class: str
    """The class with the feature."""
    negative_feature_class: str
    """The class without the feature."""
    feature_class_group: str | None = None
    """The group of features that the feature belongs to; either all definitions have a group, or none."""
    label: str | None = None
    """Name in figures. Default: made from the classes."""

    @property
    def pair(self) -> tuple[str, str]:
        """The two classes."""
        return self.positive_feature_class, self.negative_feature_class


D = TypeVar("D", SuitePairDefinition, PositiveFeatureDefinition)


def definition(kind: type[D], given: Any, argument: str) -> D:
    """A definition that a user gives, as one or as a dict of its fields; errors name the `argument`."""
    if isinstance(given, kind):
        return given
    if isinstance(given, Mapping):
        return kind(**resolve_keywords(kind.__name__, given, [field.name for field in fields(kind)]))
    raise TypeError(f"{argument} takes {kind.__name__}(…) or dicts; got {given!r:.60}.")


def safe(name: str) -> str:
    """The name with `_` in place of each character that a folder should not have in its name."""
    return re.sub(r"[^0-9A-Za-z_+-]", "_", name)


def pair_id(first: str, second: str) -> str:
    """The id of a pair."""
    return f"{safe(first)}__{safe(second)}"


def pair_label(first: str, second: str) -> str:
    """The name of a pair in figures."""
    return f"{first} <-> {second}"
