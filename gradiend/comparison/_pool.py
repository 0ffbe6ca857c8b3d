"""The pool: the rows of all compared features, each row once, and the features that each row belongs to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gradiend.comparison._features import Feature
from gradiend.data.unified import transition_id
from gradiend.evaluator.encoder import EncoderData
from gradiend.gradients import TokenizedWord
from gradiend.model._context import Side
from gradiend.util._checks import require_whole
from gradiend.util._keywords import nearest, normalize_split_name, one_of

SEED = 42
"""The seed by which rows are chosen, and labels are shuffled."""
NULLS = ("random", "shuffle")
N_NULLS = 40
"""How many null GRADIENDs each GRADIEND is compared with."""
LEAST_NULLS = 20
"""The least number of null GRADIENDs: fewer give no quantile of 95 %."""
KEY = ["input_text", "factual", "alternative", "source_id", "target_id"]
"""The columns that make a row: the text, its two words and their classes."""

VIEWS = {"factual": 1.0, "counterfactual": -1.0, "transition": 1.0}
"""View (what a text counts for) → the sign of its encoding there; the two classes of a text have opposite signs."""

Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Settings:
    """Which rows are encoded, and how null levels and intervals are made; the public functions describe the fields.

    Raises:
        TypeError, ValueError: A value that is of another kind, unknown or too small.
    """

    split: str
    max_size: int | None
    null: str | None = None
    n_null: int = N_NULLS
    n_resamples: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "split", normalize_split_name(self.split))
        require_whole("max_size", self.max_size, 1, none_means="for all rows")
        if self.null is not None:
            one_of("null", self.null, NULLS)
        require_whole("n_null", self.n_null, LEAST_NULLS)
        require_whole("n_resamples", self.n_resamples, 0)


@dataclass(frozen=True, eq=False)
class Pool:
    """N rows, tokenized once."""

    rows: pd.DataFrame
    """The columns of `KEY`."""
    words: dict[Side, list[TokenizedWord]]
    """The factual and the alternative word of every row."""
    owned: Flags
    """(N, features): whether a row is one of a feature's own."""

    def __len__(self) -> int:
        return len(self.rows)

    def seen(self, view: str) -> pd.Series:
        """What every row counts for in a view: a class, or its transition `factual class→alternative class`."""
        source, target = self.rows["source_id"], self.rows["target_id"]
        if view == "transition":
            return pd.Series(list(map(transition_id, source, target)), dtype=object)
        return source if view == "factual" else target

    def flags(self, view: str, names: Sequence[str]) -> Flags:
        """(N, names): which row counts for which name."""
        return self.seen(view).to_numpy()[:, None] == np.array(names, object)

    def sides(self, features: Sequence[Feature]) -> tuple[Flags, Flags]:
        """Two arrays (N, features): which own rows are texts of a feature's first class, and which of its second."""
        source = self.rows["source_id"].to_numpy()[:, None]
        first, second = (np.array([feature.classes[place] for feature in features], object) for place in (0, 1))
        return self.owned & (source == first), self.owned & (source == second)


def rows_of(feature: Feature, split: str, *, include_other_classes: bool = False) -> EncoderData:
    """The rows of a feature in a split, tokenized; TypeError for data that are no texts."""
    data = feature.trainer.create_eval_data(feature.models[0], split=split, include_other_classes=include_other_classes)
    if not isinstance(data, EncoderData):
        raise TypeError(f"The data of {feature.id!r} are no texts with words: they are {type(data).__name__}.")
    return data


def pool_of(features: Sequence[Feature], settings: Settings, *, include_other_classes: bool = False) -> Pool:
    """The rows of all features in a split, without duplicates, at most `max_size` of each factual class.

    Of more rows, some are chosen at random, always the same ones. With `include_other_classes`, texts of classes
    that are none of a feature's two are its own rows too. Nothing is read from encodings of earlier calls, and
    nothing is written. ValueError: there is no row.
    """
    split, max_size = settings.split, settings.max_size
    places: dict[tuple[str, ...], int] = {}
    words: dict[Side, list[TokenizedWord]] = {Side.FACTUAL: [], Side.ALTERNATIVE: []}
    owners: list[tuple[int, int]] = []
    for number, feature in enumerate(features):
        data = rows_of(feature, split, include_other_classes=include_other_classes)
        keys = data.rows[KEY].astype(str).itertuples(index=False, name=None)
        for key, factual, alternative in zip(keys, data.factual, data.alternative, strict=True):
            if key not in places:
                places[key] = len(places)
                words[Side.FACTUAL].append(factual)
                words[Side.ALTERNATIVE].append(alternative)
            owners.append((places[key], number))
    if not places:
        raise ValueError(f"No trainer has rows in the split {split!r}: give another split, such as 'validation'.")
    owned = np.zeros((len(places), len(features)), bool)
    owned[tuple(np.array(owners).T)] = True
    rows = pd.DataFrame(list(places), columns=KEY)
    if max_size is not None:
        shuffled = rows.sample(frac=1, random_state=SEED)
        kept = shuffled.groupby("source_id", sort=False).head(max_size).sort_index().index
        rows, owned = rows.loc[kept].reset_index(drop=True), owned[kept]
        words = {side: [some[place] for place in kept] for side, some in words.items()}
    return Pool(rows, words, owned)


def view_of(alignment: str, features: Sequence[Feature]) -> str:
    """The view of an alignment; for `auto`: counterfactual if all GRADIENDs read the alternative word, else factual."""
    if alignment != "auto":
        return alignment
    return "counterfactual" if all(feature.side is Side.ALTERNATIVE for feature in features) else "factual"


def chosen(what: str, wanted: Sequence[str] | None, features: Sequence[Feature], found: Sequence[str]) -> list[str]:
    """The names that a matrix shows: the wanted ones, else those found, the features' classes first.

    Raises TypeError for a string instead of a list, and ValueError unless each name is found and wanted once.
    """
    if wanted is None:
        classes = [name for feature in features for name in feature.classes]
        place = {name: number for number, name in enumerate(dict.fromkeys([*classes, *found]))}
        return sorted(dict.fromkeys(found), key=lambda name: place[name])
    if isinstance(wanted, str):
        raise TypeError(f"{what} must be a list of names; got {wanted!r}.")
    names = [str(name) for name in wanted]
    for name in names:
        if name not in set(found):
            raise ValueError(
                f"{what} has {name!r}, of which there are no rows; there are: {', '.join(dict.fromkeys(found))}."
                f"{nearest(name, list(found))}"
            )
    if not names or len(set(names)) < len(names):
        raise ValueError(f"{what} must be names, each once; got {names!r}.")
    return names
