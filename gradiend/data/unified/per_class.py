"""A table per class: the key says the class, a column named like it holds its words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pandas as pd

from gradiend.data.unified.columns import ColumnNames, explicit_alternatives, holds_values
from gradiend.data.unified.contrast import Contrast
from gradiend.data.unified.factual import factual_rows, identity_rows
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
from gradiend.data.unified.validate import class_column, listed, require_columns
from gradiend.util._checks import require_ordered
from gradiend.util._keywords import nearest

_WORD_COLUMNS = ("label", "token", "source")


def per_class_dict_to_unified(
    class_dfs: Mapping[str, pd.DataFrame],
    classes: str | Sequence[str] = "all",
    masked_col: str = "masked",
    split_col: str = "split",
    use_class_names_as_columns: bool = True,
    pair: Sequence[str] | None = None,
    include_identity_rows: bool = False,
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
        include_identity_rows: Keep the rows of classes outside the pair too, behind the others, with their own word and
            class as the alternative.
        max_counterfactuals_per_sentence: Distinct sampled alternatives, and so rows, per text at most.
        random_state: Seed of the sampling; None is the seed 0.

    Returns:
        A frame with the columns `UNIFIED_COLUMNS`, in the order of the dict and its rows. Alternatives of the tables
        are used as they are, sampled ones written for their place (see `gradiend.data.unified.casing.write_in_place`).

    Raises:
        ValueError: No pair where one is needed, an unknown class, a missing column, or bad rows.
        TypeError: A value is no DataFrame.
    """
    columns = ColumnNames(masked=masked_col, split=split_col, use_class_names_as_columns=use_class_names_as_columns)
    contrast = None if pair is None else Contrast.of_pair(pair)
    parts = per_class_parts(_select(class_dfs, classes), columns, contrast)
    unified = unify(parts, contrast, max_counterfactuals_per_sentence, random_state)
    if not include_identity_rows or contrast is None:
        return unified
    others = {name: name for part in parts for name in part.factual_class.unique() if name not in contrast.pair}
    return pd.concat([unified, identity_rows(parts, others)], ignore_index=True)


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
    parts = per_class_parts(_select(class_dfs, "all"), columns, None)
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


def all_subsets_to_mlm_df(
    class_dfs: Mapping[str, pd.DataFrame],
    masked_col: str = "masked",
    use_class_names_as_columns: bool = True,
) -> pd.DataFrame:
    """All texts of a table per class and the words that stood there, as an auxiliary head is trained on them.

    Args:
        class_dfs: Class name → table.
        masked_col: Column of texts with `[MASK]` where the word stood.
        use_class_names_as_columns: Whether a column named like the class holds its words.

    Returns:
        The distinct rows, with the columns masked and label.

    Raises:
        ValueError: No table, a missing column, or bad rows.
        TypeError: A value is no DataFrame.
    """
    columns = ColumnNames(masked=masked_col, use_class_names_as_columns=use_class_names_as_columns)
    parts = per_class_parts(class_dfs, columns, None)
    rows = factual_rows(parts, {name: name for part in parts for name in part.factual_class.unique()})
    rows = rows[[UNIFIED_MASKED, UNIFIED_FACTUAL]].drop_duplicates(ignore_index=True)
    return rows.set_axis(["masked", "label"], axis=1)


def per_class_parts(
    class_dfs: Mapping[str, pd.DataFrame], columns: ColumnNames, contrast: Contrast | None
) -> list[Part]:
    """Find out what the columns of each table mean; tables without rows are left out.

    A table whose rows have words of several classes to compare with gives a part for each.
    """
    if not isinstance(class_dfs, Mapping):
        raise TypeError(f"Expected a dict of class names and DataFrames, got {type(class_dfs).__name__}.")
    for name, frame in class_dfs.items():
        if not isinstance(frame, pd.DataFrame):
            raise TypeError(f"Expected a DataFrame for class {name!r}, got {type(frame).__name__}.")
    filled = [(str(name), frame) for name, frame in class_dfs.items() if len(frame)]
    if not filled:
        raise ValueError(f"The data has no rows; classes given: {listed(class_dfs)}.")
    return [part for name, frame in filled for part in _parts(name, frame, columns, contrast)]


def _select(class_dfs: Mapping[str, pd.DataFrame], classes: str | Sequence[str]) -> Mapping[str, pd.DataFrame]:
    if isinstance(classes, str):
        if classes == "all":
            return class_dfs
        classes = [classes]
    require_ordered("classes", classes)
    for name in classes:
        if name not in class_dfs:
            raise ValueError(f"There is no class {name!r}; available: {listed(class_dfs)}.{nearest(name, class_dfs)}")
    return {name: class_dfs[name] for name in classes}


def _parts(name: str, frame: pd.DataFrame, columns: ColumnNames, contrast: Contrast | None) -> list[Part]:
    where = f" of class {name!r}"
    require_columns(frame, [columns.masked], where)
    part = Part(
        frame=frame,
        masked_col=columns.masked,
        split_col=columns.split,
        word_col="source",
        factual_class=_constant(name, frame),
        document_col=columns.document,
        where=where,
    )
    if {"source", "target"} <= set(frame.columns):
        classes = _class_column(frame, "source_id", where)
        paired = replace(
            part,
            factual_class=part.factual_class if classes is None else classes,
            alternative_col="target",
            alternative_class=_class_column(frame, "target_id", where),
        )
        return [paired]
    part = replace(part, word_col=_word_column(name, frame, columns, where))
    alternative, alternative_class = explicit_alternatives(frame, columns, where)
    if alternative is not None:
        classes = _class_column(frame, alternative_class, where)
        return [replace(part, alternative_col=alternative, alternative_class=classes)]
    if contrast is None or not columns.use_class_names_as_columns:
        return [part]
    others = [other for other in contrast.partners(name) if holds_values(frame, other, where)]
    return _part_for_each(part, others) if others else [part]


def _part_for_each(part: Part, others: Sequence[str]) -> list[Part]:
    """For each class the rows with a word of it, and those without any word to compare with."""
    has_word = part.frame[list(others)].notna()
    chosen = [(other, has_word[other]) for other in others] + [(None, ~has_word.any(axis=1))]
    parts = []
    for other, rows in chosen:
        if rows.any():
            frame = part.frame[rows]
            classes = None if other is None else _constant(other, frame)
            parts.append(
                replace(
                    part,
                    frame=frame,
                    factual_class=part.factual_class[rows],
                    alternative_col=other,
                    alternative_class=classes,
                )
            )
    return parts


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
