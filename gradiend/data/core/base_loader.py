"""Raw texts from whatever holds them, in one seeded order."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from typing import TypeAlias

import pandas as pd

from gradiend.data.core.text_files import read_text_file, require_column

BaseData: TypeAlias = "list[str] | pd.DataFrame | str | PathLike[str]"
"""Texts, a frame with a text column, or the path of a file."""


def resolve_base_data(
    source: BaseData, text_column: str = "text", max_size: int | None = None, *, seed: int | None = 42
) -> list[str]:
    """Load texts, shuffle them with `seed` and keep the first `max_size`.

    Texts are stripped; missing and empty ones are dropped.

    Args:
        source: A list of texts, a DataFrame, or the path of a `.csv`, `.parquet` or `.txt` file (one
            text a line); `.csv.gz` and `.txt.gz` too.
        text_column: Column with the texts in a frame, CSV or Parquet file.
        max_size: Keep at most so many texts; None keeps all.
        seed: Seed of the shuffle; None shuffles differently each time.

    Returns:
        The texts; empty if there are none.

    Raises:
        TypeError: `source` or one of the texts is of another type.
        FileNotFoundError: The file does not exist.
        ValueError: The column is missing (the present ones are named), `max_size` is below 1, or the file
            is of another kind or not UTF-8.
        ImportError: Parquet without pyarrow.
    """
    if max_size is not None and max_size < 1:
        raise ValueError(f"max_size must be at least 1, or None for all texts; got {max_size}.")
    texts = _clean(_entries(source, text_column))
    random.Random(seed).shuffle(texts)
    return texts if max_size is None else texts[:max_size]


def _entries(source: BaseData, text_column: str) -> list[object]:
    if isinstance(source, pd.DataFrame):
        require_column(source.columns, text_column, "The DataFrame")
        return source[text_column].tolist()
    if isinstance(source, list):
        return list(source)
    if isinstance(source, str | PathLike):
        return read_text_file(Path(source), text_column)
    raise TypeError(
        f"Expected a list of texts, a DataFrame or the path of a file, got {type(source).__name__}. "
        "Turn another collection of texts into a list first."
    )


def _clean(entries: Iterable[object]) -> list[str]:
    texts = []
    for position, entry in enumerate(entries):
        if isinstance(entry, str):
            text = entry.strip()
            if text:
                texts.append(text)
        elif not (entry is None or entry is pd.NA or (isinstance(entry, float) and math.isnan(entry))):
            raise TypeError(
                f"Expected texts, but entry {position} is {entry!r:.60} of type {type(entry).__name__}. "
                "Is it the right column?"
            )
    return texts
