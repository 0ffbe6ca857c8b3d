"""One table from memory, from disk, or from a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from gradiend.data.core.saved_datasets import is_data_set, splits_of
from gradiend.data.core.table_files import is_table_path, read_table
from gradiend.data.unified.hub_tables import load_hub_table
from gradiend.util._checks import require_whole


def resolve_dataframe(
    value: Any,
    split: str = "train",
    max_rows: int | None = None,
    *,
    trust_remote_code: bool = False,
) -> pd.DataFrame | None:
    """Turn a frame, the path of a table or a data set into a frame.

    Args:
        value: A frame, a `Dataset` or `DatasetDict`, the path of a `.csv`, `.tsv`, `.jsonl` or `.parquet` file (see
            `read_table`), or as a string the folder or hub id of a data set (see `load_hub_dataset`); None gives None.
        split: Which split of a data set.
        max_rows: Keep at most the first `max_rows` rows; None keeps all.
        trust_remote_code: Let a data set of the hub run its own loading script.

    Returns:
        None for None; the same object for a frame that is not cut; otherwise the (first rows of the) table.

    Raises:
        FileNotFoundError: There is no such file or data set.
        ValueError: Another kind of file, an unreadable one, an unknown split, or a negative `max_rows`.
        TypeError: Anything else than a frame, a path or a name; `max_rows` is no whole number.
        ImportError: A package that reads this kind of data is not installed.
    """
    require_whole("max_rows", max_rows, 0, none_means="for all")
    if value is None:
        return None
    if isinstance(value, pd.DataFrame):
        frame = value
    elif is_data_set(value):
        frame = load_hub_table(value, split=None if len(splits_of(value)) == 1 else split)
    elif isinstance(value, str) and not is_table_path(value):
        frame = load_hub_table(value, split=split, trust_remote_code=trust_remote_code)
    elif isinstance(value, str | Path):
        frame = read_table(Path(value))
    else:
        raise TypeError(f"Expected a DataFrame, the path of a table or a data set, got {type(value).__name__}.")
    return frame if max_rows is None or len(frame) <= max_rows else frame.head(max_rows)
