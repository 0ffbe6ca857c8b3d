"""The door: whatever the user hands in becomes the unified frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from gradiend.data.unified.columns import ColumnNames, explicit_alternatives
from gradiend.data.unified.loading import resolve_dataframe
from gradiend.data.unified.merged import merged_part
from gradiend.data.unified.parts import Part
from gradiend.data.unified.per_class import per_class_parts
from gradiend.data.unified.schema import UNIFIED_FACTUAL_CLASS
from gradiend.data.unified.unify import unify
from gradiend.data.unified.validate import class_column, parse_pair, require_classes, require_columns

RawData = pd.DataFrame | Mapping[str, pd.DataFrame] | str | Path
"""A table, a table per class, or the path of a CSV or Parquet file."""

_DEFAULT_COLUMNS = ColumnNames()


def to_unified(
    data: RawData,
    *,
    pair: Sequence[str] | None,
    columns: ColumnNames = _DEFAULT_COLUMNS,
    max_counterfactuals_per_sentence: int = 1,
    seed: int | None = None,
) -> pd.DataFrame:
    """Make the unified frame from any input.

    Args:
        data: A merged table, a table per class, or the path of a file with a merged table.
        pair: The two target classes; rows of others are dropped. May be None where every row has its
            alternative and the class of that.
        columns: How the columns are called.
        max_counterfactuals_per_sentence: Distinct sampled alternatives, and so rows, per text at most.
        seed: Seed of the sampling; None is the seed 0.

    Returns:
        A frame with the columns `UNIFIED_COLUMNS`, numbered from 0. With a pair, both classes occur as
        factual class.

    Raises:
        ValueError: No rows, a missing column, an unknown or missing class, bad rows, or an unreadable file.
        FileNotFoundError: There is no such file.
        TypeError: Another kind of data.
    """
    parts = _parts(data, columns, pair)
    if pair is not None:
        pair = parse_pair(pair)
        require_classes(pair, _factual_classes(parts))
    unified = unify(parts, pair, max_counterfactuals_per_sentence, seed)
    if pair is not None:
        require_classes(pair, unified[UNIFIED_FACTUAL_CLASS].unique().tolist())
    return unified


def classes_in(data: RawData, columns: ColumnNames = _DEFAULT_COLUMNS) -> list[str]:
    """Name the classes whose words stand in the texts.

    Args:
        data: As for `to_unified`.
        columns: How the columns are called.

    Returns:
        The classes that have rows: in the order of a dict, alphabetically for one table; none for data
        without rows.

    Raises:
        ValueError: The column of classes is missing or incomplete.
    """
    if isinstance(data, Mapping):
        if not any(len(frame) for frame in data.values()):
            return []
        return _factual_classes(_parts(data, columns, None))
    frame = _table(data)
    if frame.empty:
        return []
    return sorted(class_column(frame, columns.label_class).unique())


def _table(data: pd.DataFrame | str | Path) -> pd.DataFrame:
    frame = resolve_dataframe(data)
    if frame is None:
        raise TypeError("Expected a DataFrame, a dict of DataFrames or the path of a table, got None.")
    return frame


def _parts(data: RawData, columns: ColumnNames, pair: Sequence[str] | None) -> list[Part]:
    if isinstance(data, Mapping):
        parts = per_class_parts(data, columns, pair)
        for part in parts:
            _require_named_split(part.frame, columns, part.where)
        return parts
    frame = _table(data)
    if frame.empty:
        raise ValueError("The data has no rows.")
    _require_named_split(frame, columns)
    word, word_class = explicit_alternatives(frame, columns)
    return [merged_part(frame, columns, word, word_class)]


def _require_named_split(frame: pd.DataFrame, columns: ColumnNames, where: str = "") -> None:
    # Without the column all rows would silently count as training data.
    if columns.split != ColumnNames.split:
        require_columns(frame, [columns.split], where)


def _factual_classes(parts: list[Part]) -> list[str]:
    return list(dict.fromkeys(name for part in parts for name in part.factual_class.unique()))
