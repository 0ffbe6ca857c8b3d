"""The door: whatever the user hands in becomes the unified frame."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import pandas as pd

from gradiend.data.unified._contrast import ClassMerge, Contrast
from gradiend.data.unified._parsed_tables import (
    DOCUMENT,
    ParsedTable,
    explicit_alternatives,
    merged_table,
    per_class_tables,
)
from gradiend.data.unified._schema import (
    UNIFIED_FACTUAL_CLASS,
    UNIFIED_MASKED,
    UNIFIED_SPLIT,
    ColumnNames,
    class_column,
    require_classes,
    require_columns,
)
from gradiend.data.unified._source import resolve_dataframe
from gradiend.data.unified._unify import factual_rows, identity_rows, unify

RawData = pd.DataFrame | Mapping[str, pd.DataFrame] | str | Path
"""A table, a table per class, or the path of a file with a table."""

_DEFAULT_COLUMNS = ColumnNames()


def to_unified(
    data: RawData, *, pair: Sequence[str] | None, columns: ColumnNames = _DEFAULT_COLUMNS,
    max_counterfactuals_per_sentence: int = 1, seed: int | None = None, merge: ClassMerge | None = None,
    dropped: Counter[str] | None = None,
) -> pd.DataFrame:  # fmt: skip
    """Make the unified frame, numbered from 0, from a merged table, a table per class, or a file with a merged table.

    Args:
        data: The table, the tables by class, or the path.
        pair: The two target classes, both of which occur as factual class; rows of others are dropped. The pair may be
            None where every row has its alternative and the class of the alternative.
        columns: How the columns are called.
        max_counterfactuals_per_sentence: Distinct sampled alternatives, and so rows, per text at most.
        seed: Seed of the sampling; None is the seed 0.
        merge: Classes of the data that count as one; the pair then names merged classes, or classes that are not
            merged.
        dropped: Counts the rows that are dropped, by reason.

    Raises FileNotFoundError; TypeError for data of another kind; ValueError for no rows, a missing column or class, an
    unknown class, bad rows, or a file that cannot be read.
    """
    contrast = _contrast(pair, merge)
    tables = parsed_tables(data, columns, contrast)
    if contrast is not None:
        present = _factual_classes(tables)
        contrast.require_bases(present)
        require_classes(contrast.pair, {contrast.target_of.get(name, name): None for name in present})
    unified = unify(tables, contrast, max_counterfactuals_per_sentence, seed, dropped)
    if contrast is not None:
        require_classes(contrast.pair, unified[UNIFIED_FACTUAL_CLASS].unique().tolist())
    return unified


def other_classes(
    data: RawData, *, pair: Sequence[str], columns: ColumnNames = _DEFAULT_COLUMNS, merge: ClassMerge | None = None,
    only: Collection[str] | None = None,
) -> pd.DataFrame:  # fmt: skip
    """Make unified rows of the classes outside a pair (`only` some of them), each word with itself as alternative.

    With `merge`, classes that are not merged have no rows. The other arguments are those of `to_unified`.
    """
    tables = parsed_tables(data, columns, _contrast(pair, merge))
    present = _factual_classes(tables)
    if merge is None:
        names = {name: name for name in present}
    else:
        names = {base: name for name, bases in merge.bases_of.items() for base in bases if base in present}
    wanted = {base: name for base, name in names.items() if name not in pair and (only is None or name in only)}
    return identity_rows(tables, wanted)


def documents_of(data: RawData, columns: ColumnNames = _DEFAULT_COLUMNS) -> pd.DataFrame | None:
    """Return masked, split and document, each text once in a split; None where the data names no documents."""
    frames = list(data.values()) if isinstance(data, Mapping) else [_table(data)]
    if not any(columns.document in frame.columns for frame in frames):
        return None
    tables = parsed_tables(data, columns)
    rows = factual_rows(tables, {name: name for name in _factual_classes(tables)})
    return rows[[UNIFIED_MASKED, UNIFIED_SPLIT, DOCUMENT]].drop_duplicates([UNIFIED_MASKED, UNIFIED_SPLIT])


def classes_in(data: RawData, columns: ColumnNames = _DEFAULT_COLUMNS) -> list[str]:
    """Name the classes that have rows: in the order of a dict, alphabetically for one table."""
    if isinstance(data, Mapping):
        if not any(len(frame) for frame in data.values()):
            return []
        return _factual_classes(parsed_tables(data, columns))
    frame = _table(data)
    if frame.empty:
        return []
    return sorted(class_column(frame, columns.label_class).unique())


def _contrast(pair: Sequence[str] | None, merge: ClassMerge | None) -> Contrast | None:
    if pair is None:
        return None
    return Contrast.of_pair(pair) if merge is None else merge.contrast(pair)


def _table(data: pd.DataFrame | str | Path) -> pd.DataFrame:
    frame = resolve_dataframe(data)
    if frame is None:
        raise TypeError("Expected a DataFrame, a dict of DataFrames or the path of a table, got None.")
    return frame


def parsed_tables(data: RawData, columns: ColumnNames, contrast: Contrast | None = None) -> list[ParsedTable]:
    """Understand the columns of a table, or of a table per class, of which empty ones are left out."""
    # Without the split column all rows would silently count as training data.
    needed = columns.chosen("split", "document")
    if isinstance(data, Mapping):
        tables = per_class_tables(data, columns, contrast)
        for table in tables:
            require_columns(table.frame, needed, table.where)
        return tables
    frame = _table(data)
    if frame.empty:
        raise ValueError("The data has no rows.")
    require_columns(frame, needed)
    word, word_class = explicit_alternatives(frame, columns)
    return [merged_table(frame, columns, word, word_class)]


def _factual_classes(tables: list[ParsedTable]) -> list[str]:
    return list(dict.fromkeys(name for table in tables for name in table.factual_class.unique()))
