"""How the user's own columns are called."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from gradiend.data.unified.validate import require_columns


@dataclass(frozen=True)
class ColumnNames:
    """Names of the columns in the data that the user hands in.

    The split, document and alternative columns may be absent as long as they keep their default names;
    a name that was set is expected to be there.
    """

    masked: str = "masked"
    """The text, with `[MASK]` where the word stood."""
    label: str = "label"
    """The word that stood there."""
    label_class: str = "label_class"
    """The class of that word; in a dict of frames the key says it."""
    split: str = "split"
    """The split of the row; a table without this column is training data."""
    alternative: str = "alternative"
    """The word to compare with."""
    alternative_class: str = "alternative_class"
    """The class of the word to compare with."""
    document: str = "document"
    """The document that the text is from."""
    use_class_names_as_columns: bool = True
    """In a dict of frames, whether a column named like a class holds the words of that class."""


def holds_values(frame: pd.DataFrame, column: str, where: str = "") -> bool:
    """Whether a table has the column and a value in it; concatenating tables leaves empty ones."""
    if column not in frame.columns:
        return False
    require_columns(frame, [column], where)
    return bool(frame[column].notna().any())


def explicit_alternatives(frame: pd.DataFrame, columns: ColumnNames, where: str = "") -> tuple[str | None, str | None]:
    """Find the optional columns of the alternative and of its class.

    Args:
        frame: The table.
        columns: How the user calls the columns.
        where: Which table, for messages.

    Returns:
        The two names, None for a column that is not there; both None without alternatives.

    Raises:
        ValueError: A column whose name was set is not there.
    """
    named = (columns.alternative, columns.alternative_class)
    defaults = (ColumnNames.alternative, ColumnNames.alternative_class)
    require_columns(frame, [name for name, default in zip(named, defaults, strict=True) if name != default], where)
    word, word_class = (name if holds_values(frame, name, where) else None for name in named)
    return (word, word_class) if word else (None, None)
