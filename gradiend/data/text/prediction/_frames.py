"""Masked examples as the frames that users get."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from itertools import accumulate
from typing import Literal, TypeAlias, cast, get_args

import pandas as pd

from gradiend.data.unified._casing import own_spellings, write_in_place
from gradiend.data.unified._parsed_tables import DOCUMENT
from gradiend.data.unified._schema import transition_id
from gradiend.util import PLACEHOLDER
from gradiend.util._keywords import one_of

TrainingFormat: TypeAlias = Literal["per_class", "unified", "minimal"]

RESERVED_IDS = frozenset({"masked", "label", "split"})
"""Class ids that would collide with a column of the per-class frames."""

_UNIFIED = [
    "masked", "split", "label_class", "label", "feature_class_id", "alternative", "alternative_class", "transition",
]  # fmt: skip
_OF_CLASS = ["masked", "label", "split"]
_MINIMAL = ["masked", "label", "label_class", "split"]


def parse_format(value: str) -> TrainingFormat:
    """Turn a format name into a format; the errors are those of `one_of`."""
    return cast("TrainingFormat", one_of("format", value, get_args(TrainingFormat)))


def per_class_frames(classes: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Return class id → a frame with masked, label, split, and the label again in a column named like the class."""
    return {name: rows[_OF_CLASS].assign(**{name: rows["label"]}) for name, rows in classes.items()}


def minimal_frame(classes: Mapping[str, pd.DataFrame], *, with_documents: bool = False) -> pd.DataFrame:
    """Return one row an example: masked, label, label_class, split, and on request document."""
    named = [rows.assign(label_class=name) for name, rows in classes.items()]
    rows = pd.concat(named, ignore_index=True)
    return rows[_MINIMAL].assign(**{DOCUMENT: _names_of(rows[DOCUMENT])}) if with_documents else rows[_MINIMAL]


def unified_frame(
    classes: Mapping[str, pd.DataFrame], masks: Mapping[str, str], rng: random.Random, *, with_documents: bool = False
) -> pd.DataFrame:
    """Return one row for each example and other class, with a word of that class as alternative.

    With two classes that is one row an example; with k classes each example has k − 1 rows, so that any two classes can
    be picked afterwards with all their examples. On request the last column is the document, empty where it is unknown.
    """
    samplers = {name: _AlternativeSampler(rows, masks[name], rng) for name, rows in classes.items()}
    unified = []
    for name, rows in classes.items():
        others = [other for other in samplers if other != name]
        for masked, label, split in zip(*(rows[column].tolist() for column in _OF_CLASS), strict=True):
            for other in others:
                word = samplers[other].draw(masked, masks[name], label)
                unified.append((masked, split, name, label, name, word, other, transition_id(name, other)))
    frame = pd.DataFrame(unified, columns=_UNIFIED)
    if not with_documents:
        return frame
    documents = pd.concat([rows[DOCUMENT] for rows in classes.values()])
    return frame.assign(**{DOCUMENT: _names_of(documents).fillna("").repeat(len(classes) - 1).tolist()})


def from_unified(unified: pd.DataFrame, kind: TrainingFormat) -> dict[str, pd.DataFrame] | pd.DataFrame:
    """Return a unified table in another format: what `minimal_frame` or `per_class_frames` made of the same rows."""
    if kind == "unified":
        return unified
    minimal = unified.drop_duplicates(["label_class", "masked"])[_MINIMAL].reset_index(drop=True)
    if kind == "minimal":
        return minimal
    groups = minimal.groupby("label_class", sort=False)
    return per_class_frames({str(name): rows.reset_index(drop=True) for name, rows in groups})


def reported_from_unified(unified: pd.DataFrame) -> pd.DataFrame:
    """Return what `minimal_frame` made of the same rows, with documents where the table has them."""
    columns = [*_MINIMAL, *({DOCUMENT} & set(unified.columns))]
    frame = unified.drop_duplicates(["label_class", "masked"])[columns].reset_index(drop=True)
    return frame.assign(**{DOCUMENT: frame[DOCUMENT].replace("", None)}) if DOCUMENT in columns else frame


def _names_of(documents: pd.Series) -> pd.Series:
    """Name documents as the table on disk does, so that a summary is the same with and without the cache."""
    return documents.map(str).where(documents.notna(), None)


class _AlternativeSampler:
    """Draws words of a class as often as they are labels, with a capital where their place asks for a capital."""

    def __init__(self, rows: pd.DataFrame, mask: str, rng: random.Random) -> None:
        words = rows["word"].tolist()
        # the place matters only for a word with a capital
        pairs = zip(rows["masked"].tolist(), words, strict=True)
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
    """Return the text up to its first mask, and a placeholder: no other part decides about the capital."""
    return masked.partition(mask)[0] + PLACEHOLDER
