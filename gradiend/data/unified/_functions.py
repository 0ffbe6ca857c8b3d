"""Functions that users call on tables of their own."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd

from gradiend.data.unified._contrast import ClassMerge, Contrast
from gradiend.data.unified._parsed_tables import merged_table, open_rows, per_class_tables
from gradiend.data.unified._schema import (
    UNIFIED_ALTERNATIVE,
    UNIFIED_ALTERNATIVE_CLASS,
    UNIFIED_FACTUAL,
    UNIFIED_FACTUAL_CLASS,
    UNIFIED_MASKED,
    UNIFIED_SPLIT,
    ColumnNames,
    class_column,
    listed,
    require_columns,
    require_values,
)
from gradiend.data.unified._unify import factual_rows, identity_rows, unify
from gradiend.util._checks import require_number, require_ordered, require_texts, require_whole
from gradiend.util._keywords import known_keywords, nearest


def merged_to_unified(
    df: pd.DataFrame, masked_col: str = ColumnNames.masked, split_col: str = ColumnNames.split,
    label_class_col: str = ColumnNames.label_class, label_col: str = ColumnNames.label, target_col: str | None = None,
    target_class_col: str | None = None, pair: Sequence[str] | None = None, *,
    max_counterfactuals_per_sentence: int = 1, random_state: int | None = None,
) -> pd.DataFrame:  # fmt: skip
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
        pair: Two classes; rows of other classes are dropped. The pair may be None where both target columns are given.
        max_counterfactuals_per_sentence: Distinct sampled alternatives, and so rows, per text at most.
        random_state: Seed of the sampling; None is the seed 0.

    Returns:
        A frame with the columns `UNIFIED_COLUMNS`, in the order of the rows. Alternatives of the table are used as
        they are; a sampled word has a capital where its place asks for one.

    Raises ValueError for a missing pair or column, an unknown class, or bad rows.
    """
    columns = ColumnNames(masked=masked_col, split=split_col, label_class=label_class_col, label=label_col)
    table = merged_table(df, columns, target_col, target_class_col)
    contrast = None if pair is None else Contrast.of_pair(pair)
    return unify([table], contrast, max_counterfactuals_per_sentence, random_state)


def apply_class_merge_to_merged_df(
    df: pd.DataFrame, class_merge_map: Mapping[str, Sequence[str]],
    class_merge_transition_groups: Sequence[Collection[str]] | None = None, *,
    label_class_col: str = ColumnNames.label_class, alternative_class_col: str = ColumnNames.alternative_class,
    unmerged: Collection[str] = (),
) -> pd.DataFrame:  # fmt: skip
    """Rename the classes of a merged table to those that they are merged into.

    Args:
        df: One row per text, with its class and, where known, the class of its alternative word.
        class_merge_map: Merged class → classes of the table.
        class_merge_transition_groups: Sets of classes of the table that are compared with each other only.
        label_class_col: Column of the classes.
        alternative_class_col: Column of the classes of the alternative words; may be absent.
        unmerged: Classes to keep although they are not merged.

    Returns:
        A copy without rows of other classes, rows outside all groups, and rows that compare a merged class with itself;
        the order and the index of the rows stay.

    Raises:
        TypeError: `class_merge_map` does not map to lists of classes.
        ValueError: A class is in two merged classes, or a column is missing.
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


def per_class_dict_to_unified(
    class_dfs: Mapping[str, pd.DataFrame], classes: str | Sequence[str] = "all", masked_col: str = "masked",
    split_col: str = "split", use_class_names_as_columns: bool = True, pair: Sequence[str] | None = None,
    include_identity_rows: bool = False, max_counterfactuals_per_sentence: int = 1, random_state: int | None = None,
) -> pd.DataFrame:  # fmt: skip
    """Make the unified frame from a table per class.

    The words of a class are in the column that has the name of the class, otherwise in `label`, `token` or `source`.
    The alternative is, in this order: `target` where a table has `source` and `target` (each row is a pair already,
    with its classes in `source_id` and `target_id`); `alternative` (with its class in `alternative_class`); the column
    named like the other class in the same row; a word sampled from the other class's table, as often as it occurs
    there, ignoring case.

    Args:
        class_dfs: Class name → table.
        classes: Names of the classes to use; `"all"` for every class.
        masked_col, split_col: See `merged_to_unified`.
        use_class_names_as_columns: Whether columns named like classes hold their words.
        pair: Two classes; rows of other classes are dropped. The pair may be None where all rows are pairs already.
        include_identity_rows: Keep the rows of classes outside the pair too, after all other rows, with their own word
            and class as the alternative.
        max_counterfactuals_per_sentence, random_state: See `merged_to_unified`.

    Returns:
        A frame with the columns `UNIFIED_COLUMNS`, in the order of the dict and its rows. Alternatives of the tables
        are used as they are; a sampled word has a capital where its place asks for one.

    Raises:
        ValueError: A pair is needed and missing, a class is unknown, a column is missing, or rows are bad.
        TypeError: A value of the dict is no DataFrame.
    """
    columns = ColumnNames(masked=masked_col, split=split_col, use_class_names_as_columns=use_class_names_as_columns)
    contrast = None if pair is None else Contrast.of_pair(pair)
    tables = per_class_tables(_select(class_dfs, classes), columns, contrast)
    unified = unify(tables, contrast, max_counterfactuals_per_sentence, random_state)
    if not include_identity_rows or contrast is None:
        return unified
    others = {name: name for table in tables for name in table.factual_class.unique() if name not in contrast.pair}
    return pd.concat([unified, identity_rows(tables, others)], ignore_index=True)


def merge_per_class_dfs(
    class_dfs: Mapping[str, pd.DataFrame], masked_col: str = "masked", split_col: str = "split",
    use_class_names_as_columns: bool = True,
) -> pd.DataFrame:  # fmt: skip
    """Merge a table per class into one; the arguments and errors are those of `per_class_dict_to_unified`.

    Returns:
        A frame with the columns masked, label, label_class and split, and, where every row has its alternative, also
        alternative and alternative_class. Alternatives in columns named like other classes are not carried over.
    """
    columns = ColumnNames(masked=masked_col, split=split_col, use_class_names_as_columns=use_class_names_as_columns)
    tables = per_class_tables(class_dfs, columns, None)
    own = {UNIFIED_FACTUAL: ColumnNames.label, UNIFIED_FACTUAL_CLASS: ColumnNames.label_class}
    renamed = {UNIFIED_MASKED: ColumnNames.masked, **own, UNIFIED_SPLIT: ColumnNames.split}
    if all(table.alternative_class is not None for table in tables):
        renamed |= {
            UNIFIED_ALTERNATIVE: ColumnNames.alternative,
            UNIFIED_ALTERNATIVE_CLASS: ColumnNames.alternative_class,
        }
    rows = pd.concat([open_rows(table, None) for table in tables], ignore_index=True)
    return rows[list(renamed)].rename(columns=renamed)


def all_subsets_to_mlm_df(
    class_dfs: Mapping[str, pd.DataFrame], masked_col: str = "masked", use_class_names_as_columns: bool = True
) -> pd.DataFrame:
    """Collect all texts of a table per class and the words that stood there, for the training of an auxiliary head.

    The arguments and errors are those of `per_class_dict_to_unified`; the result has the distinct rows, with the
    columns masked and label.
    """
    columns = ColumnNames(masked=masked_col, use_class_names_as_columns=use_class_names_as_columns)
    tables = per_class_tables(class_dfs, columns, None)
    rows = factual_rows(tables, {name: name for table in tables for name in table.factual_class.unique()})
    rows = rows[[UNIFIED_MASKED, UNIFIED_FACTUAL]].drop_duplicates(ignore_index=True)
    return rows.set_axis(["masked", "label"], axis=1)


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


@known_keywords("hold_out_words")
def hold_out_words(
    rows: pd.DataFrame, words: Sequence[str] | None = None, *, share: float = 0.2, seed: int = 0,
    word_col: str = "label", class_col: str = "label_class", alternative_col: str = "alternative",
    split_col: str = "split",
) -> pd.DataFrame:  # fmt: skip
    """Move every row with one of some words to the test split, so that training never sees these words.

    A high correlation may only show that the encoder knows the words of the training; on held-out words it cannot.
    `evaluate_encoder` reports the correlation on held-out words under held_out_words.

    Args:
        rows: One row per text, of any number of classes. The frame stays as it is.
        words: The words to hold out, in any case. Default: some words of each class, drawn by `seed`.
        share: Share of the distinct words of each class, rounded: at least one word of a class with several words, and
            never all of its words.
        seed: Seed of the choice.
        word_col: Column of the word that stood in the text.
        class_col: Column of its class.
        alternative_col: Column of the word of the other class; may be absent.
        split_col: Column of the split.

    Returns a copy with another `split_col`.

    Raises:
        TypeError: An argument is of another type, or unknown.
        ValueError: A column or value is missing, a word does not occur, or a class would keep no word to train on.
    """
    if not isinstance(rows, pd.DataFrame):
        raise TypeError(f"rows must be a DataFrame; got {type(rows).__name__}.")
    optional = [alternative_col] if alternative_col in rows.columns else []
    require_columns(rows, [word_col, class_col, split_col, *optional])
    require_number("share", share)
    if not 0 < share < 1:
        raise ValueError(f"share must lie between 0 and 1; got {share!r}.")
    require_whole("seed", seed, 0)
    forms = require_values(rows[word_col], f"word in {word_col!r}").map(_form)
    classes = class_column(rows, class_col)
    by_class = {str(name): sorted(set(group)) for name, group in forms.groupby(classes)}
    chosen = _drawn(by_class, share, seed) if words is None else set(map(_form, require_texts("words", words)))
    for word in sorted(chosen - set(forms)):
        raise ValueError(f"No row has the word {word!r}.{nearest(word, sorted(set(forms)))}")
    for name, known in by_class.items():
        if not set(known) - chosen:
            raise ValueError(f"Holding out {', '.join(sorted(chosen))} leaves class {name!r} no word to train on.")
    held = forms.isin(chosen)
    if optional:
        held |= rows[alternative_col].map(lambda word: _form(str(word)), na_action="ignore").isin(chosen)
    split = rows[split_col]
    if isinstance(split.dtype, pd.CategoricalDtype):
        split = split.astype(split.cat.categories.dtype)  # "test" may be no category
    return rows.assign(**{split_col: split.mask(held, "test")})


def _form(word: str) -> str:
    """Return what all spellings of a word have in common: capitals and spaces around it do not matter."""
    return word.strip().lower()


def _drawn(by_class: dict[str, list[str]], share: float, seed: int) -> set[str]:
    generator = np.random.default_rng(seed)
    chosen: set[str] = set()
    for words in by_class.values():
        if len(words) > 1:
            number = min(len(words) - 1, max(1, round(share * len(words))))
            chosen.update(generator.choice(words, number, replace=False).tolist())
    if not chosen:
        raise ValueError("No class has several words, so none can be held out: each would have nothing to train on.")
    return chosen
