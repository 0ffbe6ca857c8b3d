"""The classes of a data creator, checked before any text is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gradiend.data.text.filter_config import TextFilterConfig
from gradiend.data.text.prediction.filter_engine import require_distinct_ids
from gradiend.data.text.prediction.frames import RESERVED_IDS
from gradiend.data.text.prediction.surface_matcher import SurfaceMatcher


def parse_classes(feature_targets: Sequence[TextFilterConfig] | None) -> list[TextFilterConfig]:
    """Copy and check the classes.

    Args:
        feature_targets: The classes; None means none.

    Returns:
        Copies, so that later changes to the caller's objects change nothing.

    Raises:
        TypeError: Not a sequence of `TextFilterConfig`.
        ValueError: An id twice, an id that is a column name, or a word in two classes.
    """
    if feature_targets is None:
        return []
    if isinstance(feature_targets, str | TextFilterConfig):
        raise TypeError("feature_targets is a list of TextFilterConfig, one for each class; wrap it in [...].")
    for config in feature_targets:
        if not isinstance(config, TextFilterConfig):
            raise TypeError(f"feature_targets holds TextFilterConfig, but {config!r:.60} is a {type(config).__name__}.")
    classes = [replace(config) for config in feature_targets]
    require_distinct_ids(classes)
    for config in classes:
        if config.id in RESERVED_IDS:
            raise ValueError(f"A class cannot be called {config.id!r}: the frames have a column of that name.")
    _require_disjoint_words(classes)
    return classes


def _require_disjoint_words(classes: Sequence[TextFilterConfig]) -> None:
    matcher = SurfaceMatcher(classes)
    for config in classes:
        for word in config.targets:
            owners = sorted({target.class_index for target in matcher.targets_of(word)})
            if len(owners) > 1:
                names = " and ".join(repr(classes[index].id) for index in owners)
                raise ValueError(
                    f"The word {word!r} is a target of {names}; its sentences could not be told apart. "
                    "Keep it in one of them."
                )
