"""Rows of one split."""

from __future__ import annotations

import pandas as pd

from gradiend.data.unified.schema import UNIFIED_SPLIT
from gradiend.util._keywords import normalize_split_name


def require_split(df: pd.DataFrame, split: str) -> pd.DataFrame:
    """Take the rows of one split.

    Args:
        df: A unified frame.
        split: Name of the split, in any spelling that `normalize_split_name` knows.

    Returns:
        Its rows, numbered from 0; never empty.

    Raises:
        ValueError: The split has no rows; the message names the splits present.
    """
    wanted = normalize_split_name(split)
    rows = df[df[UNIFIED_SPLIT] == wanted]
    if rows.empty:
        sizes = df[UNIFIED_SPLIT].value_counts()
        present = ", ".join(f"{name} ({size} rows)" for name, size in sizes.items()) or "none"
        way_out = f"Mark rows as {wanted} in the split column"
        if wanted == "test":
            way_out += ", or measure others: evaluate_encoder(split='train'), evaluate_decoder(training_like_df=rows)"
        raise ValueError(
            f"The split {wanted!r} has no rows; splits present: {present}. {way_out}. "
            "A table without a split column counts as train as a whole."
        )
    return rows.reset_index(drop=True)
