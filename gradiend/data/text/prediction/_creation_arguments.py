"""The arguments of a data creator, checked before any text is read."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any, Literal, TypeAlias, cast, get_args

from gradiend.data.core._splits import SplitRatios
from gradiend.data.text.filter_config import TextFilterConfig
from gradiend.data.text.prediction._matcher import SurfaceMatcher, is_unspaced
from gradiend.util._checks import require_flag, require_whole
from gradiend.util._keywords import one_of

logger = logging.getLogger(__name__)

TrainingFormat: TypeAlias = Literal["per_class", "unified", "minimal"]

RESERVED_IDS = frozenset({"masked", "label", "split"})
"""Class ids that would collide with a column of the per-class frames."""


def parse_format(value: str) -> TrainingFormat:
    """Turn a format name into a format; the errors are those of `one_of`."""
    return cast("TrainingFormat", one_of("format", value, get_args(TrainingFormat)))


def parse_classes(feature_targets: Sequence[TextFilterConfig] | None) -> list[TextFilterConfig]:
    """Copy and check the classes; several configs with one id become one class with the words of all.

    An id that is a column name is a ValueError, and so are configs with one id but several masks or weights.
    """
    if feature_targets is None:
        return []
    if isinstance(feature_targets, str | TextFilterConfig):
        raise TypeError("feature_targets is a list of TextFilterConfig, one for each class; wrap it in [...].")
    if isinstance(feature_targets, Mapping) or not isinstance(feature_targets, Iterable):
        raise TypeError(
            "feature_targets is a list of TextFilterConfig, one for each class, such as "
            f"[TextFilterConfig(['he', 'she'], id='3SG'), …]; got {type(feature_targets).__name__}."
        )
    by_id: dict[str, list[TextFilterConfig]] = {}
    for config in feature_targets:
        if not isinstance(config, TextFilterConfig):
            raise TypeError(
                f"feature_targets holds TextFilterConfig, but {config!r:.60} is a {type(config).__name__}: "
                "write TextFilterConfig(['he', 'she'], id='3SG') for each class."
            )
        by_id.setdefault(config.id, []).append(deepcopy(config))
    classes = [_as_one(own) for own in by_id.values()]
    for config in classes:
        if config.id in RESERVED_IDS:
            raise ValueError(f"A class cannot be called {config.id!r}: the frames have a column of that name.")
    partners_of(classes)
    _warn_of_shared_words(classes)
    words = [word for config in classes for word in config.words]
    if unspaced := [word for word in words if is_unspaced(word[0]) or is_unspaced(word[-1])]:
        logger.info(
            "Words in a script without spaces are found within longer words too: %s. Where that matters, give the "
            "longer words to a class of their own: the longest target that fits is the one that is found.",
            ", ".join(map(repr, unspaced[:10])),
        )
    return classes


def _as_one(configs: Sequence[TextFilterConfig]) -> TextFilterConfig:
    """Make one class of all configs with one id."""
    first = configs[0]
    if len(configs) == 1:
        return first
    options = [(config.mask, config.weight, config.min_left_context_words) for config in configs]
    if any(own != options[0] for own in options):
        raise ValueError(
            f"Several configs are called {first.id!r} but differ in mask or weight, or in min_left_context_words; a "
            "class has one of each: give them the same, or each its own id=."
        )
    logger.warning(
        "%d configs are called %r and make one class; give each its own id= for several.", len(configs), first.id
    )
    return TextFilterConfig(
        list(configs), id=first.id, mask=first.mask, weight=first.weight,
        min_left_context_words=first.min_left_context_words,
    )  # fmt: skip


def require_folder_names(ids: Sequence[str]) -> None:
    """Raise a ValueError if one of the ids cannot be the name of a folder."""
    for name in ids:
        if name in {".", ".."} or any(character in name for character in '/\\:*?"<>|\0'):
            raise ValueError(
                f"output_format='hf' writes a folder for each class, and {name!r} cannot be the name of one; "
                "choose another id, or output_format='csv'."
            )


def partners_of(classes: Sequence[TextFilterConfig]) -> dict[tuple[str, str], dict[str, str]]:
    """Return (class, other class) → word → its partner in the other class, in both directions of each pair.

    A pair that only one of the classes names holds for its partner too. A partner that is a word of no other class is
    a ValueError.
    """
    found: dict[tuple[str, str], dict[str, str]] = {}
    for config in classes:
        for word, partner in config.partners.items():
            others = [other for other in classes if other is not config and partner in other.words]
            if not others:
                raise ValueError(
                    f"{partner!r}, the partner of {word!r} of {config.id!r}, is a word of no other class: add a class "
                    "of the partners, such as config.reversed(id=…)."
                )
            for other in others:
                found.setdefault((config.id, other.id), {})[word] = partner
                if partner not in other.partners:
                    found.setdefault((other.id, config.id), {}).setdefault(partner, word)
    return found


def _warn_of_shared_words(classes: Sequence[TextFilterConfig]) -> None:
    # a lemma is one of its own forms, so words and lemmas are compared alike
    matcher = SurfaceMatcher([_by_surface(config) for config in classes])
    for word in dict.fromkeys(word for config in classes for word in config.words):
        shared = {
            target.class_index
            for one, other in combinations(matcher.targets_of(word), 2)
            if one.class_index != other.class_index
            and (one.tags is None or other.tags is None or not one.tags.exclude(other.tags))
            for target in (one, other)
        }
        if shared:
            names = " and ".join(repr(classes[index].id) for index in sorted(shared))
            logger.warning(
                "The word %r is a target of %s, and no tag tells them apart: its sentences give a row for each. "
                "Keep it in one of them, or give them spacy_tags that differ in one key.",
                word, names,
            )  # fmt: skip


def _by_surface(config: TextFilterConfig) -> TextFilterConfig:
    targets = [_by_surface(target) if isinstance(target, TextFilterConfig) else target for target in config.targets]
    return TextFilterConfig(targets, spacy_tags=config.spacy_tags, id=config.id)


@dataclass(frozen=True)
class TrainingRequest:
    """The parsed arguments of `generate_training_data`; a maximum below the minimum is a ValueError."""

    format: TrainingFormat
    """The format of the frames that are returned."""
    balance: Literal["classes", "words"] | None
    """What is cut to the size of the smallest, in proportion to the weights: classes, or also the words of a class."""
    ratios: SplitRatios
    """Shares of the splits."""
    max_size_per_class: int | None
    """How many rows a class has at most."""
    min_rows_per_class_for_split: int
    """How many rows each class must have."""
    split_by_document: bool
    """Whether all rows of a document are in one split."""
    keep_several_classes: bool
    """Whether sentences with words of several classes are kept."""
    split_by_target: bool = False
    """Whether all rows of a word are in one split."""
    min_rows_per_target_for_balance: int = 1
    """How many rows a word needs so that it is kept where words are balanced."""
    raise_on_incomplete_classes: bool = True
    """Whether a class without enough rows is an error; otherwise it is left out."""

    def __post_init__(self) -> None:
        for name in ("split_by_document", "keep_several_classes", "split_by_target", "raise_on_incomplete_classes"):
            require_flag(name, getattr(self, name))
        require_whole("min_rows_per_target_for_balance", self.min_rows_per_target_for_balance, 1)
        if self.min_rows_per_target_for_balance > 1 and self.balance != "words":
            raise ValueError(
                'min_rows_per_target_for_balance says which words are balanced: it needs balance="strict".'
            )
        if self.split_by_target and self.split_by_document:
            raise ValueError(
                "split_by_target keeps words in one split, and split_by_document documents; both together hardly leave "
                "anything to divide: choose one (with a document_column, split_by_document=False)."
            )
        limit, minimum = self.max_size_per_class, self.min_rows_per_class_for_split
        require_whole("max_size_per_class", limit, 1, none_means="for all rows")
        require_whole("min_rows_per_class_for_split", minimum, 0)
        if limit is not None and limit < minimum:
            raise ValueError(
                f"max_size_per_class={limit} can never reach min_rows_per_class_for_split={minimum}; "
                "raise the first or lower the second (0 switches it off)."
            )

    def inputs(self) -> dict[str, Any]:
        """Return all that the rows depend on, as JSON values: everything but the format."""
        return {name: value for name, value in asdict(self).items() if name != "format"}
