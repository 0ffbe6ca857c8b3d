"""A table per class: the key says the class, a column named like it holds its words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pandas as pd

from gradiend.data.unified.columns import ColumnNames, explicit_alternatives, holds_values
from gradiend.data.unified.parts import Part, open_rows
from gradiend.data.unified.schema import (
    UNIFIED_ALTERNATIVE,
    UNIFIED_ALTERNATIVE_CLASS,
    UNIFIED_FACTUAL,
    UNIFIED_FACTUAL_CLASS,
    UNIFIED_MASKED,
    UNIFIED_SPLIT,
)
from gradiend.data.unified.unify import unify
from gradiend.data.unified.validate import class_column, listed, parse_pair, require_columns
from gradiend.util.keywords import nearest

_WORD_COLUMNS = ("label", "token", "source")


def per_class_dict_to_unified(
    class_dfs: Mapping[str, pd.DataFrame],
    classes: str | Sequence[str] = "all",
    masked_col: str = "masked",
    split_col: str = "split",
    use_class_names_as_columns: bool = True,
    pair: Sequence[str] | None = None,
    max_counterfactuals_per_sentence: int = 1,
    random_state: int | None = None,
) -> pd.DataFrame:
    """Make the unified frame from a table per class.

    The words of a class are in the column named like it, otherwise in `label`, `token` or `source`. The
    alternative is, in this order: `target` where a table has `source` and `target` (each row is a pair
    already, its classes in `source_id` and `target_id`); `alternative` (its class in `alternative_class`);
    the column named like the other class in the same row; a word sampled from the other class's table, as
    often as it occurs there, ignoring case.

    Args:
        class_dfs: Class name → table.
        classes: Which of them to use; `"all"` for every one.
        masked_col: Column of texts with `[MASK]` where the word stood.
        split_col: Column of splits; a table without it is training data.
        use_class_names_as_columns: Whether columns named like classes hold their words.
        pair: Two classes; rows of others are dropped. May be None where all rows are pairs already.
        max_counterfactuals_per_sentence: Distinct sampled alternatives, and so rows, per text at most.
        random_state: Seed of the sampling; None is the seed 0.

    Returns:
        A frame with the columns `UNIFIED_COLUMNS`, in the order of the dict and its rows; alternatives in the
        casing of the word.

    Raises:
        ValueError: No pair where one is needed, an unknown class, a missing column, or bad rows.
        TypeError: A value is no DataFrame.
    """
    chosen = _select(class_dfs, classes)
    columns = ColumnNames(masked=masked_col, split=split_col, use_class_names_as_columns=use_class_names_as_columns)
    return unify(per_class_parts(chosen, columns, pair), pair, max_counterfactuals_per_sentence, random_state)


def merge_per_class_dfs(
    class_dfs: Mapping[str, pd.DataFrame],
    masked_col: str = "masked",
    split_col: str = "split",
    use_class_names_as_columns: bool = True,
) -> pd.DataFrame:
    """Merge a table per class into one.

    Args:
        class_dfs: Class name → table.
        masked_col: Column of texts with `[MASK]` where the word stood.
        split_col: Column of splits; a table without it is training data.
        use_class_names_as_columns: Whether a column named like the class holds its words.

    Returns:
        A frame with the columns masked, label, label_class and split, and, where every row has its
        alternative, also alternative and alternative_class. Alternatives in columns named like other classes
        are not carried over.

    Raises:
        ValueError: No table, a missing column, or bad rows.
        TypeError: A value is no DataFrame.
    """
    columns = ColumnNames(masked=masked_col, split=split_col, use_class_names_as_columns=use_class_names_as_columns)
    parts = per_class_parts(_select(class_dfs, "all"), columns, pair=None)
    names = ColumnNames()
    renamed = {
        UNIFIED_MASKED: names.masked,
        UNIFIED_FACTUAL: names.label,
        UNIFIED_FACTUAL_CLASS: names.label_class,
        UNIFIED_SPLIT: names.split,
    }
    if all(part.alternative_class is not None for part in parts):
        renamed |= {
            UNIFIED_ALTERNATIVE: names.alternative,
            UNIFIED_ALTERNATIVE_CLASS: names.alternative_class,
        }
    rows = pd.concat([open_rows(part, None) for part in parts], ignore_index=True)
    return rows[list(renamed)].rename(columns=renamed)


def per_class_parts(
    class_dfs: Mapping[str, pd.DataFrame], columns: ColumnNames, pair: Sequence[str] | None
) -> list[Part]:
    """Find out what the columns of each table mean; tables without rows are left out."""
    for name, frame in class_dfs.items():
        if not isinstance(frame, pd.DataFrame):
            raise TypeError(f"Expected a DataFrame for class {name!r}, got {type(frame).__name__}.")
    chosen = parse_pair(pair) if pair is not None else None
    parts = [_part(str(name), frame, columns, chosen) for name, frame in class_dfs.items() if len(frame)]
    if not parts:
        raise ValueError(f"The data has no rows; classes given: {listed(class_dfs)}.")
    return parts


def _select(class_dfs: Mapping[str, pd.DataFrame], classes: str | Sequence[str]) -> Mapping[str, pd.DataFrame]:
    if isinstance(classes, str):
        if classes == "all":
            return class_dfs
        classes = [classes]
    for name in classes:
        if name not in class_dfs:
            raise ValueError(f"There is no class {name!r}; available: {listed(class_dfs)}.{nearest(name, class_dfs)}")
    return {name: class_dfs[name] for name in classes}


def _part(name: str, frame: pd.DataFrame, columns: ColumnNames, pair: tuple[str, str] | None) -> Part:
    where = f" of class {name!r}"
    require_columns(frame, [columns.masked], where)
    part = Part(
        frame=frame,
        masked_col=columns.masked,
        split_col=columns.split,
        word_col="source",
        factual_class=_constant(name, frame),
        where=where,
    )
    if {"source", "target"} <= set(frame.columns):
        classes = _class_column(frame, "source_id", where)
        return replace(
            part,
            factual_class=part.factual_class if classes is None else classes,
            alternative_col="target",
            alternative_class=_class_column(frame, "target_id", where),
        )
    part = replace(part, word_col=_word_column(name, frame, columns, where))
    alternative, alternative_class = explicit_alternatives(frame, columns, where)
    if alternative is not None:
        return replace(
            part,
            alternative_col=alternative,
            alternative_class=_class_column(frame, alternative_class, where),
        )
    if pair is None or name not in pair:
        return part
    other = pair[1] if name == pair[0] else pair[0]
    if columns.use_class_names_as_columns and holds_values(frame, other, where):
        return replace(part, alternative_col=other, alternative_class=_constant(other, frame))
    return part


def _word_column(name: str, frame: pd.DataFrame, columns: ColumnNames, where: str) -> str:
    candidates = [name] if columns.use_class_names_as_columns else []
    # A name that the user set is meant; only the default one has substitutes.
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
