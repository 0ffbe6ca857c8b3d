"""Tables whose columns are understood, and their rows after the checks."""

from __future__ import annotations

import logging
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from gradiend.data.unified._contrast import Contrast
from gradiend.data.unified._schema import (
    UNIFIED_ALTERNATIVE,
    UNIFIED_ALTERNATIVE_CLASS,
    UNIFIED_FACTUAL,
    UNIFIED_FACTUAL_CLASS,
    UNIFIED_MASKED,
    UNIFIED_SPLIT,
    ColumnNames,
    class_column,
    class_name,
    listed,
    require_columns,
    require_placeholders,
    require_values,
    require_words,
)
from gradiend.util._checks import frame_hint
from gradiend.util._keywords import normalize_split_name

logger = logging.getLogger(__name__)

DOCUMENT = "document"
OUTSIDE_GROUPS = "outside the transition groups"


def of_other_class(name: str) -> str:
    """Return the reason why rows of a class that is no target are left out."""
    return f"of class {name!r}, which is no target"


@dataclass(frozen=True)
class ParsedTable:
    """A table and the meaning of its columns."""

    frame: pd.DataFrame
    """One row per text."""
    masked_col: str
    """Column of the texts."""
    split_col: str
    """Column of the splits, which the table may lack."""
    word_col: str
    """Column of the words that stand in the texts."""
    factual_class: pd.Series
    """The class of each word, on the index of the table."""
    alternative_col: str | None = None
    """Column of the words to compare with; None where these are sampled."""
    alternative_class: pd.Series | None = None
    """The class of each word to compare with; None for the other class of the pair."""
    document_col: str = "document"
    """Column of the documents that the texts are from, which the table may lack."""
    where: str = ""
    """Name of the table in messages."""


def open_rows(table: ParsedTable, contrast: Contrast | None, dropped: Counter[str] | None = None) -> pd.DataFrame:
    """Take and check the rows that a contrast compares (None: all rows); `dropped` counts the others by reason.

    The result has the unified columns except the transition, with the classes of the data; alternatives and their
    classes are None where they are unknown.
    """
    factual_class, alternative_class, frame = table.factual_class, table.alternative_class, table.frame
    optional = [table.alternative_col, table.document_col if table.document_col in frame.columns else None]
    require_columns(frame, [table.masked_col, table.word_col, *filter(None, optional)], table.where)
    if contrast is not None:
        inside = _compared(table, contrast, Counter() if dropped is None else dropped)
        frame, factual_class = frame[inside], factual_class[inside]
        alternative_class = None if alternative_class is None else alternative_class[inside]
    texts = require_values(frame[table.masked_col], f"text in {table.masked_col!r}", table.where)
    require_placeholders(texts, table.where)
    columns = {
        UNIFIED_MASKED: texts, UNIFIED_SPLIT: _splits(frame, table), UNIFIED_FACTUAL_CLASS: factual_class,
        UNIFIED_ALTERNATIVE_CLASS: alternative_class, UNIFIED_FACTUAL: _words(frame, table.word_col, table),
        UNIFIED_ALTERNATIVE: _words(frame, table.alternative_col, table) if table.alternative_col else None,
        DOCUMENT: frame[table.document_col] if table.document_col in frame.columns else None,
    }  # fmt: skip
    return pd.DataFrame(
        {name: None if column is None else column.to_numpy(dtype=object) for name, column in columns.items()},
        index=range(len(frame)),
        dtype=object,
    )


def _compared(table: ParsedTable, contrast: Contrast, dropped: Counter[str]) -> pd.Series:
    """Tell for each row whether a contrast compares it, and count the other rows by reason."""
    factual = table.factual_class
    is_target = factual.isin(contrast.target_of)
    for name, count in factual[~is_target].value_counts(sort=False).items():
        dropped[of_other_class(str(name))] += int(count)
        for target in contrast.target_of:
            if loosely(str(name)) == loosely(target):
                logger.warning(
                    "%d rows%s of class %r are left out: the name differs from the target class %r only in capitals or "
                    "spaces. If one class is meant, write it in one way.", count, table.where, name, target,
                )  # fmt: skip
    if table.alternative_class is None:
        known = factual.isin([name for name in factual.unique() if contrast.includes(name)])
        dropped[OUTSIDE_GROUPS] += int((is_target & ~known).sum())
        return known
    alternative = table.alternative_class
    targets = is_target & alternative.isin(contrast.target_of)
    inner = targets & (factual.map(contrast.target_of) == alternative.map(contrast.target_of))
    pairs = pd.Series(list(zip(factual, alternative, strict=True)), index=factual.index, dtype=object)
    allowed = pairs.isin([pair for pair in pairs.unique() if contrast.allows(*pair)])
    dropped["compared with another class than the target classes"] += int((is_target & ~targets).sum())
    dropped["comparing a class with itself"] += int(inner.sum())
    dropped[OUTSIDE_GROUPS] += int((targets & ~inner & ~allowed).sum())
    return allowed


def loosely(name: str) -> str:
    """A form that names have in common if a person would read them as the same name."""
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())


def _words(frame: pd.DataFrame, column: str, table: ParsedTable) -> pd.Series:
    return require_words(frame[column], f"word in {column!r}", table.where)


def _splits(frame: pd.DataFrame, table: ParsedTable) -> pd.Series:
    if table.split_col not in frame.columns:
        return pd.Series("train", index=frame.index, dtype=object)
    require_columns(frame, [table.split_col], table.where)
    names = require_values(frame[table.split_col], f"split in {table.split_col!r}", table.where)
    return names.map({name: normalize_split_name(name) for name in names.unique()})


_WORD_COLUMNS = ("label", "token", "source")


def holds_values(frame: pd.DataFrame, column: str, where: str = "") -> bool:
    """Tell whether a table has the column with a value in it, since concatenating tables leaves empty columns."""
    if column not in frame.columns:
        return False
    require_columns(frame, [column], where)
    return bool(frame[column].notna().any())


def explicit_alternatives(frame: pd.DataFrame, columns: ColumnNames, where: str = "") -> tuple[str | None, str | None]:
    """Find the optional columns of the alternative and of its class; both are None without alternatives."""
    require_columns(frame, columns.chosen("alternative", "alternative_class"), where)
    named = (columns.alternative, columns.alternative_class)
    word, word_class = (name if holds_values(frame, name, where) else None for name in named)
    return (word, word_class) if word else (None, None)


def merged_table(
    df: pd.DataFrame, columns: ColumnNames, target_col: str | None, target_class_col: str | None
) -> ParsedTable:
    """Check the columns of a merged table and read its classes."""
    if target_col is None:
        target_class_col = None
    wanted = [columns.masked, columns.label, columns.label_class, target_col, target_class_col]
    require_columns(df, [column for column in wanted if column is not None])
    return ParsedTable(
        frame=df, masked_col=columns.masked, split_col=columns.split, word_col=columns.label,
        factual_class=class_column(df, columns.label_class), alternative_col=target_col,
        alternative_class=None if target_class_col is None else class_column(df, target_class_col),
        document_col=columns.document,
    )  # fmt: skip


def per_class_tables(
    class_dfs: Mapping[str, pd.DataFrame], columns: ColumnNames, contrast: Contrast | None
) -> list[ParsedTable]:
    """Find out what the columns of each table mean; words of several other classes give a table for each."""
    if not isinstance(class_dfs, Mapping):
        raise TypeError(f"Expected a dict of class names and DataFrames, got {type(class_dfs).__name__}.")
    for name, frame in class_dfs.items():
        if not isinstance(frame, pd.DataFrame):
            raise TypeError(
                f"Expected a DataFrame for class {name!r}, got {type(frame).__name__}"
                + frame_hint(frame, "A dict has a table for each class; pandas.DataFrame(…) makes one of lists.")
            )
    filled = [(class_name(name), frame) for name, frame in class_dfs.items() if len(frame)]
    if not filled:
        raise ValueError(f"The data has no rows; classes given: {listed(class_dfs)}.")
    return [table for name, frame in filled for table in _parsed(name, frame, columns, contrast)]


def _parsed(name: str, frame: pd.DataFrame, columns: ColumnNames, contrast: Contrast | None) -> list[ParsedTable]:
    where = f" of class {name!r}"
    require_columns(frame, [columns.masked], where)
    own = _constant(name, frame)
    table = ParsedTable(frame, columns.masked, columns.split, "source", own, document_col=columns.document, where=where)
    if {"source", "target"} <= set(frame.columns):
        classes = _class_column(frame, "source_id", where)
        targets = _class_column(frame, "target_id", where)
        own = own if classes is None else classes
        return [replace(table, factual_class=own, alternative_col="target", alternative_class=targets)]
    table = replace(table, word_col=_word_column(name, frame, columns, where))
    alternative, alternative_class = explicit_alternatives(frame, columns, where)
    if alternative is not None:
        classes = _class_column(frame, alternative_class, where)
        return [replace(table, alternative_col=alternative, alternative_class=classes)]
    if contrast is None or not columns.use_class_names_as_columns:
        return [table]
    others = [other for other in contrast.partners(name) if holds_values(frame, other, where)]
    return _table_for_each(table, others) if others else [table]


def _table_for_each(table: ParsedTable, others: Sequence[str]) -> list[ParsedTable]:
    """Make a table for each class that has a word in some rows, and one for rows without a word to compare with."""
    has_word = table.frame[list(others)].notna()
    chosen = [(other, has_word[other]) for other in others] + [(None, ~has_word.any(axis=1))]
    tables = []
    for other, rows in chosen:
        if rows.any():
            frame = table.frame[rows]
            own, classes = table.factual_class[rows], None if other is None else _constant(other, frame)
            one = replace(table, frame=frame, factual_class=own, alternative_col=other, alternative_class=classes)
            tables.append(one)
    return tables


def _word_column(name: str, frame: pd.DataFrame, columns: ColumnNames, where: str) -> str:
    candidates = [name] if columns.use_class_names_as_columns else []
    # A name that the user set is the only one; only the default name has substitutes.
    candidates += _WORD_COLUMNS if columns.label == ColumnNames.label else [columns.label]
    for column in candidates:
        if column in frame.columns:
            return column
    raise ValueError(
        f"The table{where} has no column with its words: expected one of {listed(candidates)}; "
        f"it has: {listed(frame.columns)}."
    )


def _constant(name: str, frame: pd.DataFrame) -> pd.Series:
    return pd.Series(name, index=frame.index, dtype=object)


def _class_column(frame: pd.DataFrame, column: str | None, where: str) -> pd.Series | None:
    return None if column is None or column not in frame.columns else class_column(frame, column, where)
