"""How encodings are spread: over classes, words, transitions and splits."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gradiend.data.unified._schema import UNIFIED_FACTUAL, transition_id
from gradiend.util._bootstrap import Floats

EVAL_GROUP, DATA_SPLIT = "eval_group", "data_split"
"""Columns of encoded rows: the transition or kind of text of a row, and the split that the row is from."""
NO_SPLIT = ""
"""The value of `data_split` for texts that are in no split, such as neutral texts."""
SPREAD = ("min", "max", "q1", "q3", "std", "n")
"""The statistics of each group that `spread` gives."""
_SMALL = 1e-12
"""Added to a denominator, so that two means of 0 agree."""


def eval_groups(rows: pd.DataFrame) -> pd.Series:
    """The group of each row: the transition "A→B", "A (identity)" where a word has itself as its alternative, the type.

    The type stands where the row is neutral, or does not name its classes.
    """
    kind = rows["type"].astype(str)
    if not {"source_id", "target_id"} <= set(rows.columns):
        return kind
    pairs = rows[["source_id", "target_id"]]
    known = pairs.notna().all(axis=1) & ~kind.str.startswith("neutral")
    # Each pair of classes is named once.
    names = {
        (source, target): f"{source} (identity)" if source == target else transition_id(source, target)
        for source, target in pairs[known].drop_duplicates().itertuples(index=False)
    }
    return kind.where(~known, pd.Series(list(map(names.get, map(tuple, pairs.to_numpy()))), index=rows.index))


def spread(values: Floats, groups: NDArray[Any], name: str) -> dict[str, dict[Any, Any]]:
    """{min_by_<name>: {group: number}, …}: smallest, largest, quartiles, population std and number of the values."""
    grouped = pd.Series(values).groupby(groups)
    lowest, highest, quarter, most = grouped.min(), grouped.max(), grouped.quantile(0.25), grouped.quantile(0.75)
    columns: list[pd.Series] = [lowest, highest, quarter, most, grouped.std(ddof=0), grouped.size()]
    return {f"{measure}_by_{name}": column.to_dict() for measure, column in zip(SPREAD, columns, strict=True)}


def group_means(rows: pd.DataFrame, neutral: NDArray[np.bool_]) -> dict[str, Any]:
    """mean_by_eval_group of all rows, and mean_by_target {class: {word: mean}} of the rows that are not neutral."""
    found: dict[str, Any] = {"mean_by_eval_group": rows["encoded"].groupby(eval_groups(rows)).mean().to_dict()}
    if {"source_id", UNIFIED_FACTUAL} <= set(rows.columns):
        own = rows[~neutral].dropna(subset=["source_id", UNIFIED_FACTUAL])
        means = own["encoded"].groupby([own["source_id"].astype(str), own[UNIFIED_FACTUAL].astype(str)]).mean()
        found["mean_by_target"] = {str(name): part.droplevel(0).to_dict() for name, part in means.groupby(level=0)}
    return found


def split_generalization(rows: pd.DataFrame) -> dict[str, Any] | None:
    """How far the encodings of the target classes agree between splits; None unless there are rows of several splits.

    Args:
        rows: Rows with encoded, label, data_split and, optionally, source_id.

    Returns:
        splits, correlation_by_split, mean_by_split {class: {split: mean}}, comparisons (for each class and two splits a
        and b with means μa and μb: class, splits, shift μb − μa, agreement 1 − |μa − μb| / (|μa| + |μb|), and
        standardised_difference, the shift over the pooled standard deviation, None where nothing varies), and
        agreement {mean, worst} over the comparisons, None without any.
    """
    own = rows[(rows["label"] != 0) & (rows[DATA_SPLIT].fillna(NO_SPLIT) != NO_SPLIT)]
    splits = list(dict.fromkeys(own[DATA_SPLIT]))
    if len(splits) < 2:
        return None
    classes = (own["source_id"] if "source_id" in own.columns else own["label"]).astype(str)
    grouped = own["encoded"].groupby([classes, own[DATA_SPLIT]])
    means, variances = grouped.mean().unstack(), grouped.var(ddof=0).unstack()
    comparisons = [
        _compared(str(name), (a, b), means.loc[name], variances.loc[name])
        for name in means.index
        for a, b in combinations(splits, 2)
        if means.loc[name, [a, b]].notna().all()
    ]
    agreements = [one["agreement"] for one in comparisons]
    summary = {"mean": float(np.mean(agreements)), "worst": float(min(agreements))} if agreements else None
    by_split = own.groupby(DATA_SPLIT, sort=False)
    return {
        "splits": splits,
        "correlation_by_split": {name: _correlation(part["encoded"], part["label"]) for name, part in by_split},
        "mean_by_split": {str(name): row.dropna().to_dict() for name, row in means[splits].iterrows()},
        "comparisons": comparisons,
        "agreement": summary,
    }


def _compared(
    name: str, splits: tuple[str, str], means: Mapping[str, float], variances: Mapping[str, float]
) -> dict[str, Any]:
    a, b = (float(means[split]) for split in splits)
    pooled = float(np.sqrt((variances[splits[0]] + variances[splits[1]]) / 2))
    agreement = 1 - abs(a - b) / (abs(a) + abs(b) + _SMALL)
    difference = (b - a) / pooled if pooled > _SMALL else None
    shift = {"shift": b - a, "agreement": agreement, "standardised_difference": difference}
    return {"class": name, "splits": list(splits), **shift}


def _correlation(encoded: pd.Series, label: pd.Series) -> float | None:
    """The Pearson correlation; None where a column is constant."""
    if encoded.nunique() < 2 or label.nunique() < 2:
        return None
    return float(np.corrcoef(encoded, label)[0, 1])
