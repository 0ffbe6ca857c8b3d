"""Rows of texts and words → a data report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gradiend.data.summary.result import ClassSummary, DataSummary, Lengths, Overlap, WordSummary
from gradiend.data.summary.word_tokens import resolve_tokenizer, tokens_of_word
from gradiend.data.unified.parts import DOCUMENT
from gradiend.data.unified.schema import (
    UNIFIED_FACTUAL,
    UNIFIED_FACTUAL_CLASS,
    UNIFIED_MASKED,
    UNIFIED_SPLIT,
)

_EXAMPLES = 3
_SPLIT_ORDER = ("train", "validation", "test")


def summarise(
    rows: pd.DataFrame,
    *,
    classes: Sequence[str] | None = None,
    dropped: Mapping[str, int] | None = None,
    n_beside_others: int = 0,
    tokenizer: Any = None,
) -> DataSummary:
    """Describe the rows that a data set gives.

    Args:
        rows: Columns masked, split, factual_class and factual; document is optional, None where unknown.
        classes: The classes, in the order in which they are shown; a class without rows is shown too. Default: those
            in the rows.
        dropped: Reason → how many rows were left out before.
        n_beside_others: How many rows are from sentences that hold a word of another class too.
        tokenizer: A fast tokenizer, or its name or path, to tell the tokens of the words; None tells none.

    Raises:
        OSError: There is no tokenizer of that name.
        TypeError: A tokenizer without character offsets.
    """
    rows = rows.reset_index(drop=True)
    resolved = None if tokenizer is None else resolve_tokenizer(tokenizer)
    names = list(dict.fromkeys([*(classes or ()), *rows[UNIFIED_FACTUAL_CLASS]]))
    present = rows[UNIFIED_SPLIT].unique()
    known = [split for split in _SPLIT_ORDER if split in present]
    splits = [*known, *sorted(set(present) - set(known))]
    documents = rows[DOCUMENT] if DOCUMENT in rows.columns else pd.Series(None, index=rows.index, dtype=object)
    texts = rows[UNIFIED_MASKED].str.split().str.join(" ")
    return DataSummary(
        classes=tuple(
            _class_summary(name, rows[rows[UNIFIED_FACTUAL_CLASS] == name], splits, resolved) for name in names
        ),
        overlaps=(
            *_overlaps("text", texts, rows[UNIFIED_SPLIT], splits),
            *_overlaps("document", documents.dropna(), rows[UNIFIED_SPLIT], splits),
        ),
        dropped={reason: int(count) for reason, count in (dropped or {}).items() if count},
        n_beside_others=n_beside_others,
        tokenizer=None if resolved is None else _name_of(resolved),
        has_documents=bool(documents.notna().any()),
    )


def _name_of(tokenizer: Any) -> str:
    name = str(tokenizer.name_or_path) or type(tokenizer).__name__
    return Path(name).name if Path(name).is_absolute() else name


def _class_summary(name: str, rows: pd.DataFrame, splits: Sequence[str], tokenizer: Any) -> ClassSummary:
    by_split = rows[UNIFIED_SPLIT].value_counts()
    texts = rows.drop_duplicates(UNIFIED_MASKED)
    return ClassSummary(
        name=name,
        rows={split: int(by_split.get(split, 0)) for split in splits},
        words=_words(rows, tokenizer),
        lengths=_lengths(texts[UNIFIED_MASKED]),
        examples=_examples(texts),
    )


def _words(rows: pd.DataFrame, tokenizer: Any) -> tuple[WordSummary, ...]:
    grouped = rows.groupby(UNIFIED_FACTUAL, sort=True)[UNIFIED_MASKED].agg(["size", "first"])
    grouped = grouped.sort_values("size", ascending=False, kind="stable")
    words = []
    for word, count, masked in grouped.itertuples(name=None):
        tokens, is_unknown = (None, False) if tokenizer is None else tokens_of_word(tokenizer, masked, word)
        words.append(WordSummary(str(word), int(count), tokens, is_unknown))
    return tuple(words)


def _lengths(texts: pd.Series) -> Lengths:
    if texts.empty:
        return Lengths(0, (0.0, 0.0, 0.0), 0)
    counts = np.array([len(text.split()) for text in texts])
    low, middle, high = (float(value) for value in np.quantile(counts, (0.25, 0.5, 0.75)))
    return Lengths(int(counts.min()), (low, middle, high), int(counts.max()))


def _examples(texts: pd.DataFrame) -> tuple[tuple[str, str], ...]:
    numbers = sorted({int(number) for number in np.linspace(0, len(texts) - 1, _EXAMPLES)}) if len(texts) else []
    chosen = texts.iloc[numbers]
    return tuple(zip(chosen[UNIFIED_MASKED], chosen[UNIFIED_FACTUAL], strict=True))


def _overlaps(kind: str, values: pd.Series, split_of: pd.Series, splits: Sequence[str]) -> list[Overlap]:
    of_split = {split: dict.fromkeys(values[split_of.loc[values.index] == split]) for split in splits}
    found = []
    for first, second in combinations(splits, 2):
        shared = [value for value in of_split[second] if value in of_split[first]]
        if shared:
            found.append(Overlap(kind, (first, second), len(shared), str(shared[0])))
    return found
