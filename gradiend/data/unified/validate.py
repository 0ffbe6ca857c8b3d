"""Bad input is refused here, before any work, with the place where it is wrong and the way out."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence

import numpy as np
import pandas as pd

from gradiend.util import PLACEHOLDER
from gradiend.util._checks import HALF_CHARACTER, lone_surrogate, require_ordered
from gradiend.util._keywords import nearest

_OTHER_MASKS = re.compile(r"[\[<({]\|?mask(?:ed)?\|?[\]>)}]|\bMASK\b|<extra_id_\d+>|_{3,}", re.IGNORECASE)
_LISTED = 20


def listed(names: Iterable[object]) -> str:
    """Name at most 20 things, and count the others."""
    shown = [repr(name) for name in names]
    rest = f" and {len(shown) - _LISTED} more" if len(shown) > _LISTED else ""
    return (", ".join(shown[:_LISTED]) or "none") + rest


def parse_pair(pair: Sequence[str]) -> tuple[str, str]:
    """Check that a pair names two different classes.

    Raises:
        TypeError: A single string, or a set, whose order and with it the signs would change from run to run.
        ValueError: Not two names, or the same name twice.
    """
    if isinstance(pair, str):
        raise TypeError(f"Expected two class names such as ('she', 'he'), got the single string {pair!r}.")
    require_ordered("A pair of classes (target_classes)", pair)
    names = tuple(str(name) for name in pair)
    if len(names) != 2 or names[0] == names[1]:
        raise ValueError(f"Expected two different class names, got {listed(names)}.")
    return names[0], names[1]


def require_classes(pair: Sequence[str], available: Collection[str]) -> None:
    """Check that the data has rows of both classes of a pair.

    Raises:
        ValueError: A class is missing; the message names it, those available and the nearest of them.
    """
    missing = [name for name in pair if name not in available]
    if not missing:
        return
    hint = nearest(missing[0], available)
    if len(available) == 1:
        hint += " Two classes are needed: the feature is what differs between them."
    raise ValueError(f"No rows of target class {missing[0]!r}; the data has: {listed(available)}.{hint}")


def require_columns(frame: pd.DataFrame, columns: Iterable[str], where: str = "") -> None:
    """Check that a table has the columns, each once.

    Args:
        frame: The table.
        columns: The names that are needed.
        where: Which table, for the message, such as `" of class 'she'"`.

    Raises:
        TypeError: No DataFrame.
        ValueError: A column is missing or ambiguous; the message names the ones present and the nearest of
            them.
    """
    if not isinstance(frame, pd.DataFrame):
        raise TypeError(
            f"Expected a DataFrame{where}, got {type(frame).__name__}; resolve_dataframe makes one of tables."
        )
    present = [str(name) for name in frame.columns]
    for column in columns:
        if column not in frame.columns:
            raise ValueError(
                f"The table{where} has no column {column!r}; it has: {listed(present)}."
                f"{nearest(column, present)} Rename the column, or say in the configuration how it is called."
            )
        if present.count(column) > 1:
            raise ValueError(f"The table{where} has {present.count(column)} columns called {column!r}.")


def require_values(values: pd.Series, what: str, where: str = "") -> pd.Series:
    """Check that no value is missing.

    Args:
        values: Words, texts, class or split names of consecutive rows.
        what: What they are, for the message.
        where: Which table, for the message.

    Returns:
        The values as strings.

    Raises:
        ValueError: Values are NaN, None or blank; the message counts them and names the first row. Values are lists or
            other containers, or have half a character (a lone surrogate).
    """
    _require_plain(values, what, where)
    texts = values.astype(str)
    missing = values.isna() | (texts.str.strip() == "")
    if missing.any():
        raise ValueError(
            f"{int(missing.sum())} of {len(values)} rows{where} have no {what} (NaN or empty), first row "
            f"{missing.idxmax()!r}. Fill them in or remove these rows."
        )
    return texts


def _require_plain(values: pd.Series, what: str, where: str, *, only_words: bool = False) -> None:
    """Refuse values of types whose text is not what the user means, and texts that no file can hold."""
    if isinstance(values.dtype, pd.StringDtype) and values.dtype.storage == "pyarrow":
        return  # Arrow holds whole characters only; a look at each value would take most of the time of reading
    for row, value in values.items():
        if isinstance(value, str):
            if (character := lone_surrogate(value)) is not None:
                raise ValueError(
                    f"Row {row!r}{where} has half a character ({character!r}, a lone surrogate) in its {what}: "
                    f"{value[:60]!r}. {HALF_CHARACTER}"
                )
        elif isinstance(value, _CONTAINERS) or (only_words and _is_retyped(value)):
            if isinstance(value, bytes | bytearray):
                way_out = "Decode it: value.decode()."
            elif isinstance(value, _CONTAINERS):
                way_out = "Give each word a row of its own."
            else:
                way_out = f"Write it as the text has it, such as {str(value).lower()!r}."
            raise ValueError(
                f"Row {row!r}{where} has {value!r:.60} ({type(value).__name__}) as its {what}; expected a string. "
                f"{way_out}"
            )


_CONTAINERS = (list, tuple, set, frozenset, dict, bytes, bytearray, np.ndarray)


def _is_retyped(value: object) -> bool:
    """Whether a value is a truth value or a fraction: a table may have made it of `true` or `007`."""
    return isinstance(value, bool | np.bool_) or (isinstance(value, float | np.floating) and not np.isnan(value))


def require_words(values: pd.Series, what: str, where: str = "") -> pd.Series:
    """`require_values` for words, which are strings or whole numbers; stripped.

    Raises:
        ValueError: As `require_values`, or truth values and fractions.
    """
    _require_plain(values, what, where, only_words=True)
    return require_values(values, what, where).str.strip()


def class_column(frame: pd.DataFrame, column: str, where: str = "") -> pd.Series:
    """Read a column of class names.

    Raises:
        ValueError: The column is missing, ambiguous or incomplete.
    """
    require_columns(frame, [column], where)
    return require_values(frame[column], f"class in {column!r}", where)


def require_placeholders(texts: pd.Series, where: str = "") -> None:
    """Check that every text says where its word stood.

    Raises:
        ValueError: Texts without `[MASK]`; the message counts them and shows the first.
    """
    without = ~texts.str.contains(PLACEHOLDER, regex=False).astype(bool)
    if not without.any():
        return
    first = without.idxmax()
    beginning = texts[without].iloc[0][:60]
    other = _OTHER_MASKS.search(" ".join(texts[without].head(100)))
    hint = (
        f"{other.group()!r} occurs there: replace it by {PLACEHOLDER}."
        if other
        else f"Write {PLACEHOLDER} in place of the word; the tokenizer's own mask token is put in later."
    )
    raise ValueError(
        f"{int(without.sum())} of {len(texts)} rows{where} have no {PLACEHOLDER} in their text, "
        f"first row {first!r}: {beginning!r}. {hint}"
    )
