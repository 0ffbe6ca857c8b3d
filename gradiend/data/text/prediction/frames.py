"""Masked examples as the frames that users get."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gradiend.data.text.filter_config import TextFilterConfig
from gradiend.data.text.prediction.alternatives import AlternativeSampler
from gradiend.data.text.prediction.examples import Examples
from gradiend.data.unified.parts import DOCUMENT
from gradiend.data.unified.schema import transition_id
from gradiend.util._keywords import one_of

TrainingFormat: TypeAlias = Literal["per_class", "unified", "minimal"]

RESERVED_IDS = frozenset({"masked", "label", "split"})
"""Class ids that would collide with a column of the per-class frames."""

_UNIFIED = (
    "masked",
    "split",
    "label_class",
    "label",
    "feature_class_id",
    "alternative",
    "alternative_class",
    "transition",
)
_MINIMAL = ("masked", "label", "label_class", "split")


@dataclass(frozen=True)
class SplitClass:
    """The kept examples of a class and the split of each."""

    config: TextFilterConfig
    examples: Examples
    parts: NDArray[np.int8]
    """The number of each example's part."""
    part_names: Sequence[str]
    """What the parts are called in the column split."""

    @property
    def splits(self) -> pd.Series:
        """The name of each example's part."""
        return pd.Series(pd.Series(self.part_names, dtype=str).array.take(self.parts))

    @property
    def sizes(self) -> dict[str, int]:
        """How many examples each part has."""
        counts = np.bincount(self.parts, minlength=len(self.part_names)).tolist()
        return dict(zip(self.part_names, counts, strict=True))


def parse_format(value: str) -> TrainingFormat:
    """Turn a format name into a format; raises as `one_of`."""
    one_of("format", value, get_args(TrainingFormat))
    return next(known for known in get_args(TrainingFormat) if known == value)


def per_class_frames(classes: Sequence[SplitClass]) -> dict[str, pd.DataFrame]:
    """Return class id to a frame with masked, label, split, and the label again under the class id."""
    frames = {}
    for item in classes:
        labels = item.examples.label
        columns = {"masked": item.examples.masked, "label": labels, "split": item.splits, item.config.id: labels}
        frames[item.config.id] = pd.DataFrame(columns)
    return frames


def minimal_frame(classes: Sequence[SplitClass]) -> pd.DataFrame:
    """Return one row an example: masked, label, label_class, split."""
    names = pd.Series([item.config.id for item in classes], dtype=str)
    columns = {
        "masked": _joined([item.examples.masked for item in classes]),
        "label": _joined([item.examples.label for item in classes]),
        "label_class": names.array.take(np.repeat(range(len(classes)), [len(item.examples) for item in classes])),
        "split": _joined([item.splits for item in classes]),
    }
    return pd.DataFrame(columns)


def reported_frame(classes: Sequence[SplitClass], *, with_documents: bool) -> pd.DataFrame:
    """Return `minimal_frame`, on request with the document of each example."""
    frame = minimal_frame(classes)
    if not with_documents:
        return frame
    return frame.assign(**{DOCUMENT: _document_names(classes)})


def per_class_from_unified(unified: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return what `per_class_frames` returned for the rows of a unified table."""
    frames = {}
    for name, rows in minimal_from_unified(unified).groupby("label_class", sort=False):
        frame = rows[["masked", "label", "split"]].reset_index(drop=True)
        frames[str(name)] = frame.assign(**{str(name): frame["label"]})
    return frames


def minimal_from_unified(unified: pd.DataFrame) -> pd.DataFrame:
    """Return what `minimal_frame` returned for the rows of a unified table."""
    return unified.drop_duplicates(["label_class", "masked"])[list(_MINIMAL)].reset_index(drop=True)


def reported_from_unified(unified: pd.DataFrame) -> pd.DataFrame:
    """Return what `reported_frame` returned for the rows of a unified table."""
    columns = [*_MINIMAL, *({DOCUMENT} & set(unified.columns))]
    frame = unified.drop_duplicates(["label_class", "masked"])[columns].reset_index(drop=True)
    return frame.assign(**{DOCUMENT: frame[DOCUMENT].replace("", None)}) if DOCUMENT in columns else frame


def unified_frame(classes: Sequence[SplitClass], rng: random.Random, *, with_documents: bool = False) -> pd.DataFrame:
    """Return one row for each example and other class, with a word of that class as alternative.

    With two classes that is one row an example; with k classes each example has k − 1 rows, so that any two
    classes can be picked afterwards with all their examples.

    Args:
        classes: At least two classes.
        rng: Source of the random choice of alternatives.
        with_documents: Add the document of each example; empty where it has none.

    Returns:
        A frame with masked, split, label_class, label, feature_class_id (the class id again), alternative,
        alternative_class and transition, on request document.
    """
    samplers = {item.config.id: AlternativeSampler(item.examples, item.config.mask, rng) for item in classes}
    rows = []
    for item in classes:
        name = item.config.id
        others = [other for other in samplers if other != name]
        columns = item.examples.masked, item.examples.label, item.splits
        for masked, label, split in zip(*(column.tolist() for column in columns), strict=True):
            for other in others:
                word = samplers[other].draw(masked, item.config.mask, label)
                rows.append((masked, split, name, label, name, word, other, transition_id(name, other)))
    frame = pd.DataFrame(rows, columns=list(_UNIFIED))
    if not with_documents:
        return frame
    names = _document_names(classes).fillna("").repeat(len(classes) - 1)
    return frame.assign(**{DOCUMENT: names.tolist()})


def _joined(columns: Sequence[pd.Series]) -> pd.Series:
    return pd.concat(columns, ignore_index=True)


def _document_names(classes: Sequence[SplitClass]) -> pd.Series:
    """The documents as the table on disk has them, so that a summary says the same with and without the cache."""
    documents = pd.Series([document for item in classes for document in item.examples.document], dtype=object)
    return documents.map(str).where(documents.notna(), None)
