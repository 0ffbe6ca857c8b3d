"""One table for all classes, with a column that says the class of the word."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import pandas as pd

from gradiend.data.unified.columns import ColumnNames
from gradiend.data.unified.contrast import ClassMerge, Contrast
from gradiend.data.unified.parts import Part
from gradiend.data.unified.unify import unify
from gradiend.data.unified.validate import class_column, require_columns


def merged_to_unified(
    df: pd.DataFrame,
    masked_col: str = ColumnNames.masked,
    split_col: str = ColumnNames.split,
    label_class_col: str = ColumnNames.label_class,
    label_col: str = ColumnNames.label,
    target_col: str | None = None,
    target_class_col: str | None = None,
    pair: Sequence[str] | None = None,
    *,
    max_counterfactuals_per_sentence: int = 1,
    random_state: int | None = None,
) -> pd.DataFrame:
    """Make the unified frame from one table.

    Args:
        df: One row per text.
        masked_col: Column of texts with `[MASK]` where the word stood.
        split_col: Column of splits; a table without it is training data.
        label_class_col: Column of the classes of the words.
        label_col: Column of the words.
        target_col: Column of alternative words. Without it they are sampled from the words of the pair's
            other class, as often as that class uses them, ignoring case.
        target_class_col: Column of the classes of the alternative words.
        pair: Two classes; rows of other classes are dropped. May be None where both target columns are given.
        max_counterfactuals_per_sentence: Distinct sampled alternatives, and so rows, per text at most.
        random_state: Seed of the sampling; None is the seed 0.

    Returns:
        A frame with the columns `UNIFIED_COLUMNS`, in the order of the rows. Alternatives of the table are used as
        they are, sampled ones written for their place (see `gradiend.data.unified.casing.write_in_place`).

    Raises:
        ValueError: No pair where one is needed, an unknown class, a missing column, or bad rows.
    """
    columns = ColumnNames(masked=masked_col, split=split_col, label_class=label_class_col, label=label_col)
    part = merged_part(df, columns, target_col, target_class_col)
    contrast = None if pair is None else Contrast.of_pair(pair)
    return unify([part], contrast, max_counterfactuals_per_sentence, random_state)


def merged_part(df: pd.DataFrame, columns: ColumnNames, target_col: str | None, target_class_col: str | None) -> Part:
    """Check the columns of a merged table and read its classes."""
    if target_col is None:
        target_class_col = None
    wanted = [columns.masked, columns.label, columns.label_class, target_col, target_class_col]
    require_columns(df, [column for column in wanted if column is not None])
    return Part(
        frame=df,
        masked_col=columns.masked,
        split_col=columns.split,
        word_col=columns.label,
        factual_class=class_column(df, columns.label_class),
        alternative_col=target_col,
        alternative_class=None if target_class_col is None else class_column(df, target_class_col),
        document_col=columns.document,
    )


def apply_class_merge_to_merged_df(
    df: pd.DataFrame,
    class_merge_map: Mapping[str, Sequence[str]],
    class_merge_transition_groups: Sequence[Collection[str]] | None = None,
    *,
    label_class_col: str = ColumnNames.label_class,
    alternative_class_col: str = ColumnNames.alternative_class,
    unmerged: Collection[str] = (),
) -> pd.DataFrame:
    """Rename the classes of a merged table to those that they are merged into.

    Args:
        df: One row per text, with its class and, where known, that of its alternative word.
        class_merge_map: Merged class → classes of the table.
        class_merge_transition_groups: Sets of classes of the table that are compared with each other only.
        label_class_col: Column of the classes.
        alternative_class_col: Column of the classes of the alternative words; may be absent.
        unmerged: Classes to keep although they are not merged.

    Returns:
        A copy without the rows of other classes, those outside all groups, and those that compare a merged class with
        itself; their order and index stay.

    Raises:
        TypeError: Not a map to lists of classes.
        ValueError: A class in two merged classes, or a missing column.
    """
    merge = ClassMerge.parse(class_merge_map, class_merge_transition_groups)
    names = {base: name for name, bases in merge.bases_of.items() for base in bases}
    names |= {name: name for name in unmerged if name not in names}
    contrast = Contrast(("", ""), names, merge.groups)
    factual = class_column(df, label_class_col)
    if alternative_class_col not in df.columns:
        kept = factual.isin([name for name in factual.unique() if contrast.includes(name)])
        return df[kept].assign(**{label_class_col: factual[kept].map(names)})
    alternative = class_column(df, alternative_class_col)
    allowed = [contrast.allows(*pair) for pair in zip(factual, alternative, strict=True)]
    kept = pd.Series(allowed, index=df.index, dtype=bool)
    classes = {label_class_col: factual[kept].map(names), alternative_class_col: alternative[kept].map(names)}
    return df[kept].assign(**classes)
