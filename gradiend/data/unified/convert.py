"""The door: whatever the user hands in becomes the unified frame."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import pandas as pd

from gradiend.data.unified.columns import ColumnNames, explicit_alternatives
from gradiend.data.unified.contrast import ClassMerge, Contrast
from gradiend.data.unified.factual import factual_rows, identity_rows
from gradiend.data.unified.loading import resolve_dataframe
from gradiend.data.unified.merged import merged_part
from gradiend.data.unified.parts import DOCUMENT, Part
from gradiend.data.unified.per_class import per_class_parts
from gradiend.data.unified.schema import UNIFIED_FACTUAL_CLASS, UNIFIED_MASKED, UNIFIED_SPLIT
from gradiend.data.unified.unify import unify
from gradiend.data.unified.validate import class_column, require_classes, require_columns

RawData = pd.DataFrame | Mapping[str, pd.DataFrame] | str | Path
"""A table, a table per class, or the path of a file with a table."""

_DEFAULT_COLUMNS = ColumnNames()


def to_unified(
    data: RawData,
    *,
    pair: Sequence[str] | None,
    columns: ColumnNames = _DEFAULT_COLUMNS,
    max_counterfactuals_per_sentence: int = 1,
    seed: int | None = None,
    merge: ClassMerge | None = None,
    dropped: Counter[str] | None = None,
) -> pd.DataFrame:
    """Make the unified frame from any input.

    Args:
        data: A merged table, a table per class, or the path of a file with a merged table.
        pair: The two target classes; rows of others are dropped. May be None where every row has its
            alternative and the class of that.
        columns: How the columns are called.
        max_counterfactuals_per_sentence: Distinct sampled alternatives, and so rows, per text at most.
        seed: Seed of the sampling; None is the seed 0.
        merge: Classes of the data that count as one; the pair then names merged classes, or such as are not merged.
        dropped: Counts the rows that are dropped, by reason.

    Returns:
        A frame with the columns `UNIFIED_COLUMNS`, numbered from 0. With a pair, both classes occur as
        factual class.

    Raises:
        ValueError: No rows, a missing column, an unknown or missing class, bad rows, or an unreadable file.
        FileNotFoundError: There is no such file.
        TypeError: Another kind of data.
    """
    contrast = _contrast(pair, merge)
    parts = _parts(data, columns, contrast)
    if contrast is not None:
        present = _factual_classes(parts)
        contrast.require_bases(present)
        require_classes(contrast.pair, _named(present, contrast.target_of))
    unified = unify(parts, contrast, max_counterfactuals_per_sentence, seed, dropped)
    if contrast is not None:
        require_classes(contrast.pair, unified[UNIFIED_FACTUAL_CLASS].unique().tolist())
    return unified


def other_classes(
    data: RawData,
    *,
    pair: Sequence[str],
    columns: ColumnNames = _DEFAULT_COLUMNS,
    merge: ClassMerge | None = None,
    only: Collection[str] | None = None,
) -> pd.DataFrame:
    """Identity rows of the classes outside a pair: each word with itself as the alternative.

    Args:
        data: As for `to_unified`.
        pair: The two target classes.
        columns: How the columns are called.
        merge: Classes of the data that count as one; classes that are not merged have no rows then.
        only: Of these classes only; None takes all.

    Returns:
        A frame with the columns `UNIFIED_COLUMNS`, without rows if there are no other classes.

    Raises:
        ValueError: Bad rows.
    """
    parts = _parts(data, columns, _contrast(pair, merge))
    return identity_rows(parts, _names_of_others(_factual_classes(parts), pair, merge, only))


def documents_of(data: RawData, columns: ColumnNames = _DEFAULT_COLUMNS) -> pd.DataFrame | None:
    """The document of each text, or None where the data does not say.

    Args:
        data: As for `to_unified`.
        columns: How the columns are called.

    Returns:
        Columns masked, split and document, each text once in a split.

    Raises:
        ValueError: Bad rows.
    """
    tables = list(data.values()) if isinstance(data, Mapping) else [_table(data)]
    if not any(columns.document in table.columns for table in tables):
        return None
    parts = _parts(data, columns, None)
    rows = factual_rows(parts, {name: name for name in _factual_classes(parts)})
    return rows[[UNIFIED_MASKED, UNIFIED_SPLIT, DOCUMENT]].drop_duplicates([UNIFIED_MASKED, UNIFIED_SPLIT])


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


def _contrast(pair: Sequence[str] | None, merge: ClassMerge | None) -> Contrast | None:
    if pair is None:
        return None
    return Contrast.of_pair(pair) if merge is None else merge.contrast(pair)


def _names_of_others(
    present: Sequence[str], pair: Sequence[str], merge: ClassMerge | None, only: Collection[str] | None
) -> dict[str, str]:
    """Base class → its name, of the classes outside the pair."""
    if merge is None:
        names = {name: name for name in present}
    else:
        names = {base: name for name, bases in merge.bases_of.items() for base in bases if base in present}
    return {base: name for base, name in names.items() if name not in pair and (only is None or name in only)}


def _named(present: Sequence[str], target_of: Mapping[str, str]) -> list[str]:
    return list(dict.fromkeys(target_of.get(name, name) for name in present))


def _table(data: pd.DataFrame | str | Path) -> pd.DataFrame:
    frame = resolve_dataframe(data)
    if frame is None:
        raise TypeError("Expected a DataFrame, a dict of DataFrames or the path of a table, got None.")
    return frame


def _parts(data: RawData, columns: ColumnNames, contrast: Contrast | None) -> list[Part]:
    if isinstance(data, Mapping):
        parts = per_class_parts(data, columns, contrast)
        for part in parts:
            _require_named(part.frame, columns, part.where)
        return parts
    frame = _table(data)
    if frame.empty:
        raise ValueError("The data has no rows.")
    _require_named(frame, columns)
    word, word_class = explicit_alternatives(frame, columns)
    return [merged_part(frame, columns, word, word_class)]


def _require_named(frame: pd.DataFrame, columns: ColumnNames, where: str = "") -> None:
    # Without the split column all rows would silently count as training data.
    named = {columns.split: ColumnNames.split, columns.document: ColumnNames.document}
    require_columns(frame, [name for name, default in named.items() if name != default], where)


def _factual_classes(parts: list[Part]) -> list[str]:
    return list(dict.fromkeys(name for part in parts for name in part.factual_class.unique()))
