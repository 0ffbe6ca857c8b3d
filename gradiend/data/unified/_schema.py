"""The unified frame and the columns of the user: how they are called, and what must hold of their values.

Whatever a user hands in (a merged table, a frame per class, a file) becomes a frame with exactly the columns
`UNIFIED_COLUMNS`; nothing after this folder knows another layout.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any

import numpy as np
import pandas as pd

from gradiend.util import PLACEHOLDER
from gradiend.util._checks import require_ordered, require_whole_characters
from gradiend.util._keywords import nearest, normalize_split_name

UNIFIED_MASKED = "masked"
UNIFIED_SPLIT = "split"
UNIFIED_FACTUAL_CLASS = "factual_class"
UNIFIED_ALTERNATIVE_CLASS = "alternative_class"
UNIFIED_FACTUAL = "factual"
UNIFIED_ALTERNATIVE = "alternative"
UNIFIED_TRANSITION = "transition"

UNIFIED_COLUMNS = (
    UNIFIED_MASKED, UNIFIED_SPLIT, UNIFIED_FACTUAL_CLASS, UNIFIED_ALTERNATIVE_CLASS, UNIFIED_FACTUAL,
    UNIFIED_ALTERNATIVE, UNIFIED_TRANSITION,
)  # fmt: skip


def transition_id(factual_class: str, alternative_class: str) -> str:
    """Name the direction of a row: `"<factual_class>→<alternative_class>"` (U+2192, no spaces)."""
    return f"{factual_class}→{alternative_class}"


@dataclass(frozen=True)
class ColumnNames:
    """Names of the columns in the data that the user hands in.

    The split, document and alternative columns may be absent as long as they keep their default names; a column
    whose name was set must be there.
    """

    masked: str = "masked"
    """The text, with `[MASK]` where the word stood."""
    label: str = "label"
    """The word that stood in the place of `[MASK]`."""
    label_class: str = "label_class"
    """The class of the word that stood in the text; in a dict of frames, the key is the class."""
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

    def chosen(self, *columns: str) -> list[str]:
        """Those of some columns that have another name than by default, and so must be there."""
        given, usual = vars(self), vars(ColumnNames())
        return [given[name] for name in columns if given[name] != usual[name]]


def require_split(df: pd.DataFrame, split: str) -> pd.DataFrame:
    """Take the rows of one split of a unified frame, numbered from 0; the name is in any spelling.

    Raises ValueError, which names the splits that are there, if the split has no rows.
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


_OTHER_MASKS = re.compile(r"[\[<({]\|?mask(?:ed)?\|?[\]>)}]|\bMASK\b|<extra_id_\d+>|_{3,}", re.IGNORECASE)
_LISTED = 20


def listed(names: Iterable[object]) -> str:
    """Name at most 20 things, and count the rest."""
    shown = [repr(name) for name in names]
    rest = f" and {len(shown) - _LISTED} more" if len(shown) > _LISTED else ""
    return (", ".join(shown[:_LISTED]) or "none") + rest


def class_name(value: object) -> str:
    """Return the name of a class as text; a time at midnight is named by its date, also where others have an hour."""
    if isinstance(value, np.datetime64):
        value = pd.Timestamp(value)
    if isinstance(value, datetime) and not pd.isna(value) and value.tzinfo is None and value.time() == time():
        return value.date().isoformat()
    return str(value)


def parse_pair(pair: Sequence[str]) -> tuple[str, str]:
    """Check that a pair names two different classes; the order of a set, and with it the signs, would not be fixed."""
    if isinstance(pair, str):
        raise TypeError(f"Expected two class names such as ('she', 'he'), got the single string {pair!r}.")
    require_ordered("A pair of classes (target_classes)", pair)
    names = tuple(map(class_name, pair))
    if len(names) != 2 or names[0] == names[1]:
        raise ValueError(f"Expected two different class names (target_classes, class_pair), got {listed(names)}.")
    return names[0], names[1]


def require_classes(pair: Sequence[str], available: Collection[str]) -> None:
    """Raise a ValueError with the nearest class if the data has no rows of one of a pair."""
    missing = [name for name in pair if name not in available]
    if not missing:
        return
    hint = nearest(missing[0], available)
    if len(available) == 1:
        hint += " Two classes are needed: the feature is what differs between them."
    raise ValueError(f"No rows of target class {missing[0]!r}; the data has: {listed(available)}.{hint}")


def require_columns(frame: pd.DataFrame, columns: Iterable[str], where: str = "") -> None:
    """Check that a table has the columns, each once; `where` says which table, such as `" of class 'she'"`."""
    if not isinstance(frame, pd.DataFrame):
        raise TypeError(
            f"Expected a DataFrame{where}, got {type(frame).__name__}; resolve_dataframe makes one of tables."
        )
    require_one_level(frame, where)
    present = [str(name) for name in frame.columns]
    for column in columns:
        if column not in frame.columns:
            raise ValueError(
                f"The table{where} has no column {column!r}; it has: {listed(present)}."
                f"{nearest(column, present)} Rename the column, or say in the configuration how it is called."
            )
        if present.count(column) > 1:
            raise ValueError(f"The table{where} has {present.count(column)} columns called {column!r}.")


def require_one_level(frame: pd.DataFrame, where: str = "") -> None:
    """Raise a ValueError for a table whose columns have several levels, as a pivot table or an aggregation has."""
    if frame.columns.nlevels > 1:
        raise ValueError(
            f"The columns of the table{where} have {frame.columns.nlevels} levels, such as {frame.columns[0]!r}; "
            "expected names. Keep one level: frame.columns = frame.columns.get_level_values(0)."
        )


def require_values(values: pd.Series, what: str, where: str = "") -> pd.Series:
    """Return words, texts or names as strings; missing and blank values, containers and half characters are errors."""
    _require_plain(values, what, where)
    texts = values.astype(str)
    missing = values.isna() | (texts.str.strip() == "")
    if missing.any():
        raise ValueError(
            f"{int(missing.sum())} of {len(values)} rows{where} have no {what} (NaN or empty), first row "
            f"{_first(missing)!r}. Fill them in or remove these rows."
        )
    return texts


def _first(bad: pd.Series) -> object:
    """The index of the first bad row, as the user writes it: `0`, not `np.int64(0)`."""
    label = bad.idxmax()
    return label.item() if isinstance(label, np.generic) else label


def _require_plain(values: pd.Series, what: str, where: str, *, only_words: bool = False) -> None:
    """Refuse values of types whose text is not what the user means, and texts that no file can hold."""
    if isinstance(values.dtype, pd.StringDtype) and values.dtype.storage == "pyarrow":
        return  # Arrow holds whole characters only; a look at each value would take most of the time of reading
    for row, value in values.items():
        if isinstance(value, str):
            if not value.isascii():
                require_whole_characters(f"Row {row!r}{where}", value, f" in its {what}")
        elif isinstance(value, _CONTAINERS) or (only_words and _is_retyped(value)):
            if isinstance(value, bytes | bytearray):
                way_out = "Decode it: value.decode()."
            elif isinstance(value, _CONTAINERS):
                way_out = "Give each word a row of its own."
            else:
                way_out = f"Write it as the text has it, such as {class_name(value).lower()!r}."
            raise ValueError(
                f"Row {row!r}{where} has {value!r:.60} ({type(value).__name__}) as its {what}; expected a string. "
                f"{way_out}"
            )


_CONTAINERS = (list, tuple, set, frozenset, dict, bytes, bytearray, np.ndarray)


def _is_retyped(value: object) -> bool:
    """Tell whether a value is one that a table may have made of a word: of `true`, `007` or `May 2020`."""
    return isinstance(value, bool | np.bool_) or (isinstance(value, float | np.floating | date) and not pd.isna(value))


def require_words(values: pd.Series, what: str, where: str = "") -> pd.Series:
    """Do what `require_values` does for words, and strip them; truth values, fractions and dates are errors too."""
    _require_plain(values, what, where, only_words=True)
    words = require_values(values, what, where).str.strip()
    masks = words.str.contains(PLACEHOLDER, regex=False).astype(bool)
    if masks.any():
        raise ValueError(
            f"{int(masks.sum())} of {len(words)} rows{where} have {PLACEHOLDER} as their {what}, first row "
            f"{_first(masks)!r}: give the word that stands, or might stand, in its place."
        )
    return words


def class_column(frame: pd.DataFrame, column: str, where: str = "") -> pd.Series:
    """Read a column of class names, which must be there once and complete."""
    require_columns(frame, [column], where)
    values = frame[column]
    times = [isinstance(one, datetime | timedelta) and not pd.isna(one) for one in values]
    if any(times):
        names = [class_name(one) if is_time else one for one, is_time in zip(values, times, strict=True)]
        values = pd.Series(names, values.index, dtype=object)
    return require_values(values, f"class in {column!r}", where)


def rows_by_split(frame: pd.DataFrame) -> dict[str, dict[str, int]]:
    """Split → class → number of rows of the unified frame."""
    return {
        str(split): {
            str(name): int(count) for name, count in own[UNIFIED_FACTUAL_CLASS].value_counts(sort=False).items()
        }
        for split, own in frame.groupby(UNIFIED_SPLIT, sort=False)
    }


def require_placeholders(texts: pd.Series, where: str = "") -> None:
    """Check that every text has a `[MASK]`, which says where its word stood."""
    without = ~texts.str.contains(PLACEHOLDER, regex=False).astype(bool)
    if not without.any():
        return
    first = _first(without)
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


def usual_placeholder(texts: pd.Series, own: str, where: str = "", *, usual_too: bool = False) -> pd.Series:
    """Put `[MASK]` in place of `own`, the placeholder that the author of the texts uses.

    Values that are no text stay as they are. With `usual_too`, a text may have `[MASK]` instead. Raises ValueError for
    a text without the placeholder, or with both; `where` says in messages whose texts they are.
    """
    if own == PLACEHOLDER:
        return texts
    is_text = texts.map(lambda text: isinstance(text, str)).astype(bool)
    given = texts[is_text]
    has_own, has_usual = (given.str.contains(one, regex=False).astype(bool) for one in (own, PLACEHOLDER))
    for wrong, what in (
        (has_own & has_usual, f"both {own} (mask_placeholder) and {PLACEHOLDER}: write one of them."),
        (~has_own & ~(has_usual & usual_too), f"no {own}, which mask_placeholder says stands for the word."),
    ):
        if wrong.any():
            first = given[wrong]
            raise ValueError(
                f"{len(first)} of {len(texts)} texts{where} have {what} First: row {first.index[0]!r}, "
                f"{first.iloc[0][:60]!r}."
            )
    written = [text.replace(own, PLACEHOLDER) if isinstance(text, str) else text for text in texts]
    # A changed text is none of the categories of its column.
    dtype = object if isinstance(texts.dtype, pd.CategoricalDtype) else texts.dtype
    return pd.Series(written, texts.index, dtype)


def usual_frame(
    frame: pd.DataFrame, column: str, own: str, where: str = "", *, usual_too: bool = False
) -> pd.DataFrame:
    """Return a frame in which a column has what `usual_placeholder` makes of its texts; the given frame stays."""
    if own == PLACEHOLDER or column not in frame:
        return frame
    require_one_level(frame, where)
    return frame.assign(**{column: usual_placeholder(frame[column], own, where, usual_too=usual_too)})


def usual_data(
    data: pd.DataFrame | Mapping[str, pd.DataFrame], column: str, own: str
) -> pd.DataFrame | Mapping[str, pd.DataFrame]:
    """Do what `usual_frame` does for a table, or for the table of each class."""
    if isinstance(data, pd.DataFrame):
        return usual_frame(data, column, own)
    return {name: usual_frame(frame, column, own, f" of {name!r}") for name, frame in data.items()}


def usual_texts(texts: Sequence[Any], own: str, name: str) -> list[Any]:
    """Do what `usual_placeholder` does for the texts of the argument `name` of a call, which may have `[MASK]` too."""
    return usual_placeholder(pd.Series(list(texts), dtype=object), own, f" of {name}", usual_too=True).tolist()
