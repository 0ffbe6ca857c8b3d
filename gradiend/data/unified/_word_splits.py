"""Splits that the data does not name: whole words, groups, or single texts go to one split each."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gradiend.data.core._splits import SplitRatios, apportion, root_of
from gradiend.data.unified._convert import parsed_tables
from gradiend.data.unified._parsed_tables import ParsedTable, holds_values
from gradiend.data.unified._schema import (
    ColumnNames,
    class_column,
    class_name,
    listed,
    require_columns,
    require_values,
)
from gradiend.util._checks import require_whole
from gradiend.util._keywords import one_of

logger = logging.getLogger(__name__)

HELD_OUT = "heldout"
"""The value of `split_col` that keeps every word in one split."""

SplitStrategy: TypeAlias = Literal["random", "balanced_cycle"]

Item: TypeAlias = tuple[str, Hashable]
"""A word, a text or a group, with its kind."""


@dataclass(frozen=True)
class Division:
    """How rows are divided into splits where no column says so."""

    ratios: SplitRatios
    """Shares of the splits, of the words (or groups, or texts) of each class."""
    whole_words: bool
    """Whether all rows of a word are in one split; otherwise all rows of a text."""
    group_col: str | None = None
    """Column whose values are kept in one split, in place of words."""
    group_key: Callable[[str], Hashable] | None = None
    """Word, or value of `group_col`, → the group that is kept in one split."""
    seed: int = 0
    """Seed of the order in which words are taken."""
    draw: int = 0
    """Number of the order, of those of one seed."""
    turn: int = 0
    """How many windows of test words the order is moved on; see `for_seed`."""

    def for_seed(self, index: int, strategy: str) -> Division:
        """Return the division of the seed number `index` (from 0) of several.

        `"random"` draws another order for each seed. `"balanced_cycle"` keeps one order, in a circle, and moves on by
        the number of test words: successive seeds test other words until all have had their turn, and over a whole
        number of rounds each word is tested equally often. Seed 0 has the division of a single training. Raises
        TypeError or ValueError for an index that is no whole number from 0, or an unknown strategy.
        """
        require_whole("index", index, 0)
        one_of("split_resplit_strategy", strategy, get_args(SplitStrategy))
        return replace(self, draw=index) if strategy == "random" else replace(self, turn=index)

    def group_of(self, value: str) -> Hashable:
        """Return the group of a word or a value of `group_col`; a group that cannot be compared is a TypeError."""
        group = value if self.group_key is None else self.group_key(value)
        if not isinstance(group, Hashable):
            raise TypeError(
                f"split_group_key must give a string, a number or a tuple; of {value!r} it gives {group!r:.60}."
            )
        return group

    @property
    def unit(self) -> str:
        """What goes to one split, in the plural."""
        if self.group_col is not None or self.group_key is not None:
            return "groups"
        return "words" if self.whole_words else "texts"


def divided(
    data: pd.DataFrame | Mapping[str, pd.DataFrame], columns: ColumnNames, division: Division, *,
    name_of: Callable[[str], str] = str, needed: Collection[str] | None = None,
) -> tuple[pd.DataFrame | dict[str, pd.DataFrame], int]:  # fmt: skip
    """Give every row its split, in the column that `columns` names; a column of that name is replaced.

    Words that always stand with the same alternative are pairs, which stay together. Where a word has several
    alternatives, these were sampled: they are taken out, so that others are sampled from the words of the split.

    The data is not changed. `name_of` maps a class of the data to the class that must be in every split, where classes
    are merged; `needed` are the classes that must be in every split, all by default. The result is (the data, after how
    many seeds a balanced cycle begins again).

    Raises ValueError for a class with fewer words (or groups, or texts) than there are splits; words that must stay
    together and leave a split without a class; a missing column, word or group.
    """
    tables = parsed_tables(data, columns)
    if division.whole_words:
        tables = _without_samples(tables, columns)
    items = [_items(table, division) for table in tables]
    parents: dict[Item, Item] = {}
    for table, own in zip(tables, items, strict=True):
        for one, other in _together(table, own, division, data, columns):
            parents[root_of(parents, one)] = root_of(parents, other)
    classes = [str(name) for table in tables for name in table.factual_class.map(name_of)]
    numbers, cycle = splits_of([item for own in items for item in own], classes, parents, division, needed)
    splits = np.array(division.ratios.names, dtype=object)[numbers]
    ends = np.cumsum([len(table.frame) for table in tables])[:-1]
    frames = [
        table.frame.assign(**{columns.split: own}) for table, own in zip(tables, np.split(splits, ends), strict=True)
    ]
    if not isinstance(data, Mapping):
        return frames[0], cycle
    filled = iter(frames)
    return {name: next(filled) if len(frame) else frame for name, frame in data.items()}, cycle


def _items(table: ParsedTable, division: Division) -> list[Item]:
    """Return for each row what is kept in one split."""
    if not division.whole_words:
        texts = require_values(table.frame[table.masked_col], f"text in {table.masked_col!r}", table.where)
        return [("text", text) for text in texts]
    if division.group_col is not None:
        require_columns(table.frame, [division.group_col], table.where)
        values = require_values(table.frame[division.group_col], f"group in {division.group_col!r}", table.where)
        return [("group", division.group_of(value)) for value in values]
    return [("word", word) for word in _words(table)]


def _words(table: ParsedTable, column: str | None = None) -> list[str]:
    column = table.word_col if column is None else column
    require_columns(table.frame, [column], table.where)
    return require_values(table.frame[column], f"word in {column!r}", table.where).str.strip().tolist()


def _together(
    table: ParsedTable, own: Sequence[Item], division: Division, data: Any, columns: ColumnNames
) -> Iterator[tuple[Item, Item]]:
    """Yield what must be in one split: a word in any case, its group, and the words that it is paired with."""
    if not division.whole_words or division.group_col is not None:
        return
    pairs: set[tuple[str, str]] = set()
    if table.alternative_col is not None:
        pairs = set(zip((str(word) for _, word in own), _words(table, table.alternative_col), strict=True))
    elif isinstance(data, Mapping) and columns.use_class_names_as_columns:
        named = [name for name in map(class_name, data) if name not in (table.word_col, table.factual_class.iloc[0])]
        for other in (name for name in named if holds_values(table.frame, name, table.where)):
            found = table.frame[other]
            known = (pair for pair in zip(own, found, strict=True) if not pd.isna(pair[1]))
            pairs |= {(str(word), str(partner).strip()) for (_, word), partner in known}
    for word in {str(word) for _, word in own} | {partner for _, partner in pairs}:
        yield ("word", word), ("word in any case", word.lower())
        if division.group_key is not None:
            yield ("word", word), ("group", division.group_of(word))
    for word, partner in pairs:
        yield ("word", word), ("word", partner)


def _without_samples(tables: Sequence[ParsedTable], columns: ColumnNames) -> list[ParsedTable]:
    """Take out alternatives that are no pairs, and rows that then say the same."""
    kept = []
    for table in tables:
        several = {} if table.alternative_col != columns.alternative else _several_alternatives(table, columns)
        if several:
            word, found = next(iter(several.items()))
            logger.info(
                "Alternatives%s are sampled anew, from words of the same split: %d words have several, like %r (%s).",
                table.where, len(several), word, listed(found),
            )  # fmt: skip
            same = pd.DataFrame({"text": table.frame[table.masked_col].to_numpy(), "word": _words(table)})
            first = ~same.assign(own=table.factual_class.to_numpy()).duplicated().to_numpy()
            frame, classes = table.frame[first].assign(**{columns.alternative: None}), table.factual_class[first]
            kept.append(
                replace(table, frame=frame, factual_class=classes, alternative_col=None, alternative_class=None)
            )
        else:
            kept.append(table)
    return kept


def _several_alternatives(table: ParsedTable, columns: ColumnNames) -> dict[str, list[str]]:
    """Return the words that stand with several alternatives of one class, and these alternatives."""
    classes = table.alternative_class
    if classes is None and columns.alternative_class in table.frame.columns:
        classes = class_column(table.frame, columns.alternative_class, table.where)
    alternatives: dict[tuple[str, str, str], dict[str, None]] = {}
    for own, word, other, alternative in zip(
        table.factual_class, _words(table), [""] * len(table.frame) if classes is None else classes,
        _words(table, table.alternative_col), strict=True,
    ):  # fmt: skip
        alternatives.setdefault((own, word.lower(), other), {})[alternative.lower()] = None
    return {key[1]: list(found) for key, found in alternatives.items() if len(found) > 1}


class _Unit(NamedTuple):
    """What goes to one split as a whole."""

    names: set[str]
    """Its words, texts or groups."""
    classes: set[str]
    """The classes that have rows of it."""


def splits_of(
    items: Sequence[Item], classes: Sequence[str], parents: dict[Item, Item], division: Division,
    needed: Collection[str] | None = None,
) -> tuple[NDArray[np.int64], int]:  # fmt: skip
    """Choose the split of each row, as a number in the order of `ratios.names`; also return the length of a cycle.

    For each row, `items` has what is kept in one split, and `classes` its class; `parents` joins items, see `root_of`,
    and `needed` are the classes that must be in every split, all by default. Raises ValueError for a class with fewer
    units of joined items than there are splits, and if joined items leave a split without a class.
    """
    units: dict[Item, _Unit] = {}
    for item, name in dict.fromkeys(zip(items, classes, strict=True)):
        unit = units.setdefault(root_of(parents, item), _Unit(set(), set()))
        unit.names.add(str(item[1]))
        unit.classes.add(name)
    # In the order of their first words, so that neither the order of the rows nor that of joining decides.
    order = sorted(units, key=lambda unit: min(units[unit].names))
    classes_of = [frozenset(units[unit].classes) for unit in order]
    members = {
        name: [min(unit.names) for unit in units.values() if name in unit.classes]
        for name in (sorted(set(classes)) if needed is None else needed)
    }
    _require_enough(members, division)
    split, cycle = _divide(classes_of, division)
    for name, own in members.items():
        present = {
            division.ratios.names[number] for number, held in zip(split, classes_of, strict=True) if name in held
        }
        if own and (missing := [name for name in _splits_with_rows(division) if name not in present]):
            raise ValueError(
                f"The {division.unit} that classes share leave the split {listed(missing)} without class {name!r}, "
                f"which has {len(own)} ({listed(sorted(own))}): collect more of them, or give fewer splits."
            )
    by_unit = dict(zip(order, split.tolist(), strict=True))
    return np.array([by_unit[root_of(parents, item)] for item in items], np.int64), cycle


def _splits_with_rows(division: Division) -> list[str]:
    return [name for name, share in zip(division.ratios.names, division.ratios.shares, strict=True) if share > 0]


def _require_enough(members: Mapping[str, Sequence[str]], division: Division) -> None:
    """Raise a ValueError if a class has fewer units, given by their names, than there are splits."""
    n_splits = len(_splits_with_rows(division))
    for name, own in members.items():
        if own and len(own) < n_splits:
            together = " Words that are paired stay together, and count as one." if division.whole_words else ""
            unit = division.unit if len(own) > 1 else division.unit[:-1]
            raise ValueError(
                f"Class {name!r} has {len(own)} {unit} to divide ({listed(sorted(own))}), fewer than the {n_splits} "
                f"splits, each of which needs one.{together} Collect more, leave a split out (its ratio 0), or use "
                "split_col=None, which divides texts."
            )


def _divide(classes_of: Sequence[frozenset[str]], division: Division) -> tuple[NDArray[np.int64], int]:
    """Choose the split of each unit, as a number in the order of `ratios.names`; also return the length of a cycle.

    Units of the same classes are taken together, those of several classes first: their sizes follow from what is still
    missing in their classes. Sizes depend on no seed, so that a cycle is even.
    """
    rng = np.random.default_rng([division.seed, division.draw])
    shares = division.ratios.shares
    names = sorted({name for own in classes_of for name in own})
    missing = {
        name: np.array(apportion(sum(name in own for own in classes_of), shares), dtype=np.float64) for name in names
    }
    split, cycle = np.zeros(len(classes_of), np.int64), 1
    for signature in sorted(set(classes_of), key=lambda own: (-len(own), sorted(own))):
        own = np.array([number for number, held in enumerate(classes_of) if held == signature])
        room = sum(np.maximum(missing[name], 0) / max(1.0, missing[name].sum()) for name in sorted(signature))
        total = float(np.sum(room))
        counts = apportion(len(own), shares if total == 0 else (np.asarray(room) / total).tolist())
        train, validation, test = counts
        window = test or validation
        order = np.roll(rng.permutation(own), -division.turn * window)
        cycle = math.lcm(cycle, len(own) // math.gcd(len(own), window))
        split[order] = np.repeat([2, 1, 0], [test, validation, train])
        for name in signature:
            missing[name] -= counts
    return split, cycle
