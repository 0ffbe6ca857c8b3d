"""Masked examples as the frames that users get."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal, TypeAlias, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gradiend.data.text.filter_config import TextFilterConfig
from gradiend.data.text.prediction._masking import Examples
from gradiend.data.unified._casing import own_spellings, write_in_place
from gradiend.data.unified._parsed_tables import DOCUMENT
from gradiend.data.unified._schema import transition_id
from gradiend.util.keywords import one_of
from gradiend.util.placeholder import PLACEHOLDER

TrainingFormat: TypeAlias = Literal["per_class", "unified", "minimal"]

RESERVED_IDS = frozenset({"masked", "label", "split"})
"""Class ids that would collide with a column of the per-class frames."""

_OF_ROW = ["masked", "split", "label_class", "label", "feature_class_id"]
_UNIFIED = [*_OF_ROW, "alternative", "alternative_class", "transition"]
_MINIMAL = ("masked", "label", "label_class", "split")


@dataclass(frozen=True)
class SplitClass:
    """The kept examples of a class and the split of each."""

    config: TextFilterConfig
    examples: Examples
    split_numbers: NDArray[np.int8]
    """The number of each example's split."""
    split_names: Sequence[str]
    """What the splits are called in the column of splits."""

    @property
    def splits(self) -> pd.Series:
        """The name of each example's split."""
        return pd.Series(pd.Series(self.split_names, dtype=str).array.take(self.split_numbers))

    @property
    def sizes(self) -> dict[str, int]:
        """How many examples each split has."""
        counts = np.bincount(self.split_numbers, minlength=len(self.split_names)).tolist()
        return dict(zip(self.split_names, counts, strict=True))


def parse_format(value: str) -> TrainingFormat:
    """Turn a format name into a format; errors are those of `one_of`."""
    one_of("format", value, get_args(TrainingFormat))
    return next(known for known in get_args(TrainingFormat) if known == value)


def per_class_frames(classes: Sequence[SplitClass]) -> dict[str, pd.DataFrame]:
    """Return class id → a frame with masked, label, split, and the label again under the class id."""
    frames = {}
    for item in classes:
        labels = item.examples.label
        columns = {"masked": item.examples.masked, "label": labels, "split": item.splits, item.config.id: labels}
        frames[item.config.id] = pd.DataFrame(columns)
    return frames


def minimal_frame(classes: Sequence[SplitClass], *, with_documents: bool = False) -> pd.DataFrame:
    """Return one row an example: masked, label, label_class, split, and on request document."""
    names = pd.Series([item.config.id for item in classes], dtype=str)
    columns = {
        "masked": pd.concat([item.examples.masked for item in classes], ignore_index=True),
        "label": pd.concat([item.examples.label for item in classes], ignore_index=True),
        "label_class": names.array.take(np.repeat(range(len(classes)), [len(item.examples) for item in classes])),
        "split": pd.concat([item.splits for item in classes], ignore_index=True),
    }
    frame = pd.DataFrame(columns)
    return frame.assign(**{DOCUMENT: _document_names(classes)}) if with_documents else frame


def unified_frame(classes: Sequence[SplitClass], rng: random.Random, *, with_documents: bool = False) -> pd.DataFrame:
    """Return one row for each example and other class, with a word of that class as alternative.

    With two classes that is one row an example; with k classes each example has k − 1 rows, so that any two classes can
    be picked afterwards with all their examples. On request the last column is the document, empty where it is unknown.
    """
    samplers = {item.config.id: _AlternativeSampler(item.examples, item.config.mask, rng) for item in classes}
    rows = []
    for item in classes:
        name = item.config.id
        others = [other for other in samplers if other != name]
        columns = item.examples.masked, item.examples.label, item.splits
        for masked, label, split in zip(*(column.tolist() for column in columns), strict=True):
            for other in others:
                word = samplers[other].draw(masked, item.config.mask, label)
                rows.append((masked, split, name, label, name, word, other, transition_id(name, other)))
    frame = pd.DataFrame(rows, columns=_UNIFIED)
    if not with_documents:
        return frame
    names = _document_names(classes).fillna("").repeat(len(classes) - 1)
    return frame.assign(**{DOCUMENT: names.tolist()})


def from_unified(unified: pd.DataFrame, kind: TrainingFormat) -> dict[str, pd.DataFrame] | pd.DataFrame:
    """Return a unified table in another format: what `minimal_frame` or `per_class_frames` made of the same rows."""
    if kind == "unified":
        return unified
    minimal = unified.drop_duplicates(["label_class", "masked"])[list(_MINIMAL)].reset_index(drop=True)
    if kind == "minimal":
        return minimal
    frames = {}
    for name, rows in minimal.groupby("label_class", sort=False):
        frame = rows[["masked", "label", "split"]].reset_index(drop=True)
        frames[str(name)] = frame.assign(**{str(name): frame["label"]})
    return frames


def reported_from_unified(unified: pd.DataFrame) -> pd.DataFrame:
    """Return what `minimal_frame` made of the same rows, with documents where the table has them."""
    columns = [*_MINIMAL, *({DOCUMENT} & set(unified.columns))]
    frame = unified.drop_duplicates(["label_class", "masked"])[columns].reset_index(drop=True)
    return frame.assign(**{DOCUMENT: frame[DOCUMENT].replace("", None)}) if DOCUMENT in columns else frame


def _document_names(classes: Sequence[SplitClass]) -> pd.Series:
    """The documents as the table on disk has them, so that a summary says the same with and without the cache."""
    documents = pd.Series([document for item in classes for document in item.examples.document], dtype=object)
    return documents.map(str).where(documents.notna(), None)


class _AlternativeSampler:
    """Draws words of a class as often as they are its label, with a capital where their place asks for one."""

    def __init__(self, examples: Examples, mask: str, rng: random.Random) -> None:
        words = examples.words
        # only of a word with a capital does its place matter
        pairs = zip(examples.masked, words, strict=True)
        texts = [_with_placeholder(text, mask) if word != word.lower() else "" for text, word in pairs]
        frequency = Counter(own_spellings(texts, words))
        self._words = sorted(frequency)
        self._cumulative = list(accumulate(frequency[word] for word in self._words))
        self._rng = rng

    def draw(self, masked: str, mask: str, label: str) -> str:
        """Draw a word for the place of `label`, where the text has `mask`."""
        (word,) = self._rng.choices(self._words, cum_weights=self._cumulative)
        return write_in_place(word, _with_placeholder(masked, mask), label)


def _with_placeholder(masked: str, mask: str) -> str:
    """The text up to its first mask, and our placeholder instead: all that decides about the capital."""
    return masked.partition(mask)[0] + PLACEHOLDER
