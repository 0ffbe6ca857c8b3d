"""A table whose columns are understood, and its rows after the checks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from gradiend.data.unified.schema import (
    UNIFIED_ALTERNATIVE,
    UNIFIED_ALTERNATIVE_CLASS,
    UNIFIED_FACTUAL,
    UNIFIED_FACTUAL_CLASS,
    UNIFIED_MASKED,
    UNIFIED_SPLIT,
)
from gradiend.data.unified.validate import require_columns, require_placeholders, require_values
from gradiend.util.splits import normalize_split_name


@dataclass(frozen=True)
class Part:
    """A table and what its columns mean."""

    frame: pd.DataFrame
    """One row per text."""
    masked_col: str
    """The texts."""
    split_col: str
    """The splits; may be absent from the table."""
    word_col: str
    """The words that stand in the texts."""
    factual_class: pd.Series
    """The class of each word, on the index of the table."""
    alternative_col: str | None = None
    """The words to compare with; None where they are to be sampled."""
    alternative_class: pd.Series | None = None
    """The class of each of these; None for the other class of the pair."""
    where: str = ""
    """Which table this is, for messages."""


def classes_of(parts: Sequence[Part]) -> list[str]:
    """Name the classes that occur, factual or alternative, in the order of their first rows."""
    columns = [part.factual_class for part in parts]
    columns += [part.alternative_class for part in parts if part.alternative_class is not None]
    return list(dict.fromkeys(name for column in columns for name in column.unique()))


def open_rows(part: Part, pair: tuple[str, str] | None) -> pd.DataFrame:
    """Take and check the rows whose classes are in the pair; unknown alternatives stay None."""
    factual_class, alternative_class, frame = part.factual_class, part.alternative_class, part.frame
    needed = [part.masked_col, part.word_col]
    require_columns(frame, [*needed, part.alternative_col] if part.alternative_col else needed, part.where)
    if pair is not None:
        if alternative_class is None:
            alternative_class = factual_class.map({pair[0]: pair[1], pair[1]: pair[0]})
        inside = factual_class.isin(pair) & alternative_class.isin(pair) & (factual_class != alternative_class)
        frame, factual_class, alternative_class = (
            frame[inside],
            factual_class[inside],
            alternative_class[inside],
        )
    texts = require_values(frame[part.masked_col], f"text in {part.masked_col!r}", part.where)
    require_placeholders(texts, part.where)
    columns = {
        UNIFIED_MASKED: texts,
        UNIFIED_SPLIT: _splits(frame, part),
        UNIFIED_FACTUAL_CLASS: factual_class,
        UNIFIED_ALTERNATIVE_CLASS: alternative_class,
        UNIFIED_FACTUAL: _words(frame, part.word_col, part.where),
        UNIFIED_ALTERNATIVE: _words(frame, part.alternative_col, part.where) if part.alternative_col else None,
    }
    return pd.DataFrame(
        {name: None if column is None else column.to_numpy(dtype=object) for name, column in columns.items()},
        index=range(len(frame)),
        dtype=object,
    )


def _splits(frame: pd.DataFrame, part: Part) -> pd.Series:
    if part.split_col not in frame.columns:
        return pd.Series("train", index=frame.index, dtype=object)
    require_columns(frame, [part.split_col], part.where)
    names = require_values(frame[part.split_col], f"split in {part.split_col!r}", part.where)
    return names.map({name: normalize_split_name(name) for name in names.unique()})


def _words(frame: pd.DataFrame, column: str, where: str) -> pd.Series:
    return require_values(frame[column], f"word in {column!r}", where).str.strip()
