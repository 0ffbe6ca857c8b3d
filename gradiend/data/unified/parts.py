"""A table whose columns are understood, and its rows after the checks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from gradiend.data.unified.contrast import Contrast
from gradiend.data.unified.schema import (
    UNIFIED_ALTERNATIVE,
    UNIFIED_ALTERNATIVE_CLASS,
    UNIFIED_FACTUAL,
    UNIFIED_FACTUAL_CLASS,
    UNIFIED_MASKED,
    UNIFIED_SPLIT,
)
from gradiend.data.unified.validate import require_columns, require_placeholders, require_values, require_words
from gradiend.util._keywords import normalize_split_name

DOCUMENT = "document"
OTHER_ALTERNATIVE = "compared with another class than the target classes"
SAME_TARGET = "comparing a class with itself"
OUTSIDE_GROUPS = "outside the transition groups"


def of_other_class(name: str) -> str:
    """The reason why rows of a class that is no target are left out."""
    return f"of class {name!r}, which is no target"


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
    document_col: str = "document"
    """The documents that the texts are from; may be absent."""
    where: str = ""
    """Which table this is, for messages."""


def classes_of(parts: Sequence[Part]) -> list[str]:
    """Name the classes that occur, factual or alternative, in the order of their first rows."""
    columns = [part.factual_class for part in parts]
    columns += [part.alternative_class for part in parts if part.alternative_class is not None]
    return list(dict.fromkeys(name for column in columns for name in column.unique()))


def open_rows(part: Part, contrast: Contrast | None, dropped: Counter[str] | None = None) -> pd.DataFrame:
    """Take and check the rows that a contrast compares; alternatives and their classes stay None where unknown.

    Args:
        part: The table.
        contrast: What is compared; None takes all rows.
        dropped: Counts the other rows by reason.

    Returns:
        The unified columns but the transition, with the classes of the data.

    Raises:
        ValueError: A missing column, or bad rows among those taken.
    """
    factual_class, alternative_class, frame = part.factual_class, part.alternative_class, part.frame
    needed = [part.masked_col, part.word_col]
    require_columns(frame, [*needed, part.alternative_col] if part.alternative_col else needed, part.where)
    if contrast is not None:
        inside = _compared(part, contrast, Counter() if dropped is None else dropped)
        frame, factual_class = frame[inside], factual_class[inside]
        alternative_class = None if alternative_class is None else alternative_class[inside]
    texts = require_values(frame[part.masked_col], f"text in {part.masked_col!r}", part.where)
    require_placeholders(texts, part.where)
    columns = {
        UNIFIED_MASKED: texts,
        UNIFIED_SPLIT: _splits(frame, part),
        UNIFIED_FACTUAL_CLASS: factual_class,
        UNIFIED_ALTERNATIVE_CLASS: alternative_class,
        UNIFIED_FACTUAL: _words(frame, part.word_col, part.where),
        UNIFIED_ALTERNATIVE: _words(frame, part.alternative_col, part.where) if part.alternative_col else None,
        DOCUMENT: frame[part.document_col] if part.document_col in frame.columns else None,
    }
    return pd.DataFrame(
        {name: None if column is None else column.to_numpy(dtype=object) for name, column in columns.items()},
        index=range(len(frame)),
        dtype=object,
    )


def _compared(part: Part, contrast: Contrast, dropped: Counter[str]) -> pd.Series:
    """Which rows a contrast compares; the others are counted."""
    factual = part.factual_class
    is_target = factual.isin(contrast.target_of)
    for name, count in factual[~is_target].value_counts(sort=False).items():
        dropped[of_other_class(str(name))] += int(count)
    if part.alternative_class is None:
        known = factual.isin([name for name in factual.unique() if contrast.includes(name)])
        dropped[OUTSIDE_GROUPS] += int((is_target & ~known).sum())
        return known
    alternative = part.alternative_class
    targets = is_target & alternative.isin(contrast.target_of)
    inner = targets & (factual.map(contrast.target_of) == alternative.map(contrast.target_of))
    pairs = pd.Series(list(zip(factual, alternative, strict=True)), index=factual.index, dtype=object)
    allowed = pairs.isin([pair for pair in pairs.unique() if contrast.allows(*pair)])
    dropped[OTHER_ALTERNATIVE] += int((is_target & ~targets).sum())
    dropped[SAME_TARGET] += int(inner.sum())
    dropped[OUTSIDE_GROUPS] += int((targets & ~inner & ~allowed).sum())
    return allowed


def _splits(frame: pd.DataFrame, part: Part) -> pd.Series:
    if part.split_col not in frame.columns:
        return pd.Series("train", index=frame.index, dtype=object)
    require_columns(frame, [part.split_col], part.where)
    names = require_values(frame[part.split_col], f"split in {part.split_col!r}", part.where)
    return names.map({name: normalize_split_name(name) for name in names.unique()})


def _words(frame: pd.DataFrame, column: str, where: str) -> pd.Series:
    return require_words(frame[column], f"word in {column!r}", where)
