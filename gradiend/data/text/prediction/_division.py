"""Which of the collected rows are kept, so that classes or words are balanced, and the split of each."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gradiend.data.core._splits import SplitRatios, assign_splits, assign_splits_by_document, balanced_counts, root_of
from gradiend.data.text.prediction._creation_arguments import TrainingRequest
from gradiend.data.unified._parsed_tables import DOCUMENT
from gradiend.data.unified._word_splits import Division, Item, splits_of


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
