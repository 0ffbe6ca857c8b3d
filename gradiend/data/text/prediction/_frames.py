"""Masked examples become the frames that users get: balanced by class or word, divided into splits, in a format."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gradiend.data.core._splits import SplitRatios, assign_splits, assign_splits_by_document, balanced_counts, root_of
from gradiend.data.text.prediction._creation_arguments import TrainingFormat, TrainingRequest
from gradiend.data.text.prediction._matcher import letters_of
from gradiend.data.unified._casing import own_spellings, write_in_place
from gradiend.data.unified._parsed_tables import DOCUMENT
from gradiend.data.unified._schema import transition_id
from gradiend.data.unified._word_splits import Division, Item, splits_of
from gradiend.util import PLACEHOLDER

_UNIFIED = [
    "masked", "split", "label_class", "label", "feature_class_id", "alternative", "alternative_class", "transition",
]  # fmt: skip
_OF_CLASS = ["masked", "label", "split"]
_MINIMAL = ["masked", "label", "label_class", "split"]


def balanced(
    rows_of: Mapping[str, pd.DataFrame], weights: Sequence[float], request: TrainingRequest
) -> dict[str, pd.DataFrame]:
    """Keep the first rows of each class, or of each word, as many as the request says; errors: see `equal_words`."""
    if request.balance == "words":
        kept = equal_words(rows_of, weights, request.min_rows_per_target_for_balance)
    else:
        sizes = [len(rows) for rows in rows_of.values()]
        sizes = sizes if request.balance is None else balanced_counts(sizes, weights)
        kept = [rows.head(size) for rows, size in zip(rows_of.values(), sizes, strict=True)]
    return dict(zip(rows_of, kept, strict=True))


def with_splits(
    rows_of: Mapping[str, pd.DataFrame], partners: Mapping[tuple[str, str], Mapping[str, str]],
    request: TrainingRequest, rng: random.Random,
) -> dict[str, pd.DataFrame]:  # fmt: skip
    """Give each row its split, as the request says; errors: see `assign_splits_by_word`."""
    ratios, groups = request.ratios, [rows["group"].to_numpy() for rows in rows_of.values()]
    numbers: Sequence[NDArray[np.int64] | NDArray[np.int8]]
    if request.split_by_target:
        numbers = assign_splits_by_word(rows_of, partners, ratios, rng.getrandbits(32))
    elif request.split_by_document:
        documents = [rows[DOCUMENT].tolist() for rows in rows_of.values()]
        numbers = assign_splits_by_document(documents, groups, ratios, rng)
    else:
        numbers = assign_splits(groups, ratios, rng)
    names = pd.Series(ratios.names, dtype=str).array
    return {
        name: rows.assign(split=names.take(np.asarray(own, np.int64)))
        for (name, rows), own in zip(rows_of.items(), numbers, strict=True)
    }


def assign_splits_by_word(
    rows_of: Mapping[str, pd.DataFrame], partners: Mapping[tuple[str, str], Mapping[str, str]], ratios: SplitRatios,
    seed: int,
) -> list[NDArray[np.int64]]:  # fmt: skip
    """Choose for each class the split of every row, as a number in the order of `ratios.names`.

    All rows of a word (a column of the examples) are in one split, with those of its partner; the ratios are of the
    words of each class. Raises ValueError for a class with fewer words than there are splits.
    """
    items: list[Item] = [("word", word.lower()) for rows in rows_of.values() for word in rows["word"]]
    classes = [name for name, rows in rows_of.items() for _ in range(len(rows))]
    parents: dict[Item, Item] = {}
    for words in partners.values():
        for word, partner in words.items():
            parents[root_of(parents, ("word", word.lower()))] = root_of(parents, ("word", partner.lower()))
    numbers, _ = splits_of(items, classes, parents, Division(ratios, whole_words=True, seed=seed))
    return np.split(numbers, np.cumsum([len(rows) for rows in rows_of.values()])[:-1])


def equal_words(rows_of: Mapping[str, pd.DataFrame], weights: Sequence[float], minimum: int) -> list[pd.DataFrame]:
    """Keep as many rows of each word of a class as of any other, with classes in proportion to the weights.

    Words with fewer than `minimum` rows are left out, since the rarest decides for all; a ValueError if none is left.
    """
    kept, rarest, n_words = [], [], []
    for name, rows in rows_of.items():
        words = rows["word"].str.lower()
        sizes = words.value_counts()
        often = sizes[sizes >= minimum]
        if often.empty:
            raise ValueError(
                f"No word of class {name!r} has min_rows_per_target_for_balance={minimum} rows; the most common has "
                f"{int(sizes.max())}. Lower the minimum, or use more base data."
            )
        kept.append(rows[words.isin(often.index)])
        rarest.append(int(often.min()))
        n_words.append(len(often))
    unit = min(least * number / weight for least, number, weight in zip(rarest, n_words, weights, strict=True))
    caps = [
        max(1, min(least, math.floor(unit * weight / number + 1e-9)))
        for least, number, weight in zip(rarest, n_words, weights, strict=True)
    ]
    return [rows.groupby(rows["word"].str.lower()).head(cap) for rows, cap in zip(kept, caps, strict=True)]


@dataclass(frozen=True)
class Wording:
    """How words of classes stand in the frames."""

    masks: Mapping[str, str]
    """Class → the text that stands in place of its words."""
    partners: Mapping[tuple[str, str], Mapping[str, str]]
    """(class, other class) → word → its partner in the other class."""

    def partner(self, name: str, other: str, masked: str, label: str) -> str | None:
        """Write the partner of a label of a class in its place; None where it has none in the other class."""
        words = self._known.get((name, other))
        found = None if words is None else words.get(letters_of(label))
        return None if found is None else write_in_place(found, _with_placeholder(masked, self.masks[name]), label)

    @cached_property
    def _known(self) -> dict[tuple[str, str], dict[str, str]]:
        return {
            key: {letters_of(word): partner for word, partner in words.items()} for key, words in self.partners.items()
        }


def per_class_frames(classes: Mapping[str, pd.DataFrame], wording: Wording) -> dict[str, pd.DataFrame]:
    """Return class id → a frame with masked, label, split, and the label again in a column named like the class.

    A class that has partners in another class has them in a column named like the other class.
    """
    frames = {name: rows[_OF_CLASS].assign(**{name: rows["label"]}) for name, rows in classes.items()}
    for name, other in wording.partners:
        if name in frames and other in frames:
            rows = zip(frames[name]["masked"], frames[name]["label"], strict=True)
            frames[name][other] = [wording.partner(name, other, masked, label) for masked, label in rows]
    return frames


def minimal_frame(classes: Mapping[str, pd.DataFrame], *, with_documents: bool = False) -> pd.DataFrame:
    """Return one row an example: masked, label, label_class, split, and on request document."""
    named = [rows.assign(label_class=name) for name, rows in classes.items()]
    rows = pd.concat(named, ignore_index=True)
    return rows[_MINIMAL].assign(**{DOCUMENT: _names_of(rows[DOCUMENT])}) if with_documents else rows[_MINIMAL]


def unified_frame(
    classes: Mapping[str, pd.DataFrame], wording: Wording, rng: random.Random, *, by_split: bool = False,
    with_documents: bool = False,
) -> pd.DataFrame:  # fmt: skip
    """Return one row for each example and other class, with a word of that class as alternative.

    With two classes that is one row an example; with k classes each example has k − 1 rows, so that any two classes can
    be picked afterwards with all their examples. On request the last column is the document, empty where it is unknown.
    A word with a partner in the other class has it as alternative; `by_split` draws the others from words of the split.
    """
    samplers = {
        (name, split): _AlternativeSampler(own, wording.masks[name], rng)
        for name, rows in classes.items()
        for split, own in (rows.groupby("split", sort=True) if by_split else [("", rows)])
    }
    unified = []
    for name, rows in classes.items():
        others = [other for other in classes if other != name]
        for masked, label, split in zip(*(rows[column].tolist() for column in _OF_CLASS), strict=True):
            for other in others:
                word = wording.partner(name, other, masked, label)
                if word is None:
                    word = samplers[other, split if by_split else ""].draw(masked, wording.masks[name], label)
                unified.append((masked, split, name, label, name, word, other, transition_id(name, other)))
    frame = pd.DataFrame(unified, columns=_UNIFIED)
    if not with_documents:
        return frame
    documents = pd.concat([rows[DOCUMENT] for rows in classes.values()])
    return frame.assign(**{DOCUMENT: _names_of(documents).fillna("").repeat(len(classes) - 1).tolist()})


def from_unified(
    unified: pd.DataFrame, kind: TrainingFormat, wording: Wording
) -> dict[str, pd.DataFrame] | pd.DataFrame:
    """Return a unified table in another format: what `minimal_frame` or `per_class_frames` made of the same rows."""
    if kind == "unified":
        return unified
    minimal = reported_from_unified(unified)[_MINIMAL]
    if kind == "minimal":
        return minimal
    groups = minimal.groupby("label_class", sort=False)
    return per_class_frames({str(name): rows.reset_index(drop=True) for name, rows in groups}, wording)


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
