"""Checks of arguments of simple types, with errors that name the argument."""

from __future__ import annotations

import itertools
import math
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from numbers import Integral, Real
from os import PathLike
from typing import Any

from gradiend.util._files import LONGEST_NAME

AS_IN_ARGUMENTS = "for what the training arguments say"
"""The meaning of None for most evaluations."""


def require_whole(name: str, value: object, least: int | None, *, none_means: str | None = None) -> None:
    """Raise TypeError for a value that is no whole number, and ValueError for a number below `least`.

    `True` and `"10"` are no numbers. None is allowed only if `none_means` says what None means.
    """
    if value is None and none_means is not None:
        return
    expected = f"{name} must be a whole number" + ("" if least is None else f" of at least {least}")
    expected += f", or None {none_means}" if none_means else ""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{expected}; got {value!r:.60} ({type(value).__name__}).")
    if least is not None and value < least:
        raise ValueError(f"{expected}; got {value}.")


def require_number(name: str, value: object) -> None:
    """Raise TypeError for a value that is no number; `True` and `"0.5"` are no numbers."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number; got {value!r:.60} ({type(value).__name__}).")


def require_finite(name: str, value: object, least: float | None = None, most: float | None = None) -> None:
    """Raise TypeError for a value that is no number, and ValueError for a number that is infinite or out of limits."""
    require_number(name, value)
    number = float(value)  # type: ignore[arg-type]
    within = (least is None or number >= least) and (most is None or number <= most)
    if not math.isfinite(number) or not within:
        limits = [f"at least {least:g}"] if least is not None else []
        limits += [f"at most {most:g}"] if most is not None else []
        wanted = f" of {' and '.join(limits)}" if limits else ""
        raise ValueError(f"{name} must be a finite number{wanted}; got {value!r}.")


def numbers(name: str, value: Any) -> list[float]:
    """One or several finite numbers as a list of floats. Raises ValueError for other values and for an empty list."""
    values = list(value) if isinstance(value, Iterable) and not isinstance(value, str) else [value]
    # The test is for Real, because NumPy's scalars are numbers too.
    real = (isinstance(one, Real) and not isinstance(one, bool) and math.isfinite(one) for one in values)
    if not values or not all(real):
        raise ValueError(f"{name} must be one or several finite numbers; got {value!r}.")
    return [float(one) for one in values]


def require_text(name: str, value: object) -> None:
    """Raise TypeError for a value that is no string, and ValueError for a blank string or half a character in it."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string; got {value!r:.60} ({type(value).__name__}).")
    if not value.strip():
        raise ValueError(f"{name} must not be empty; got {value!r}.")
    require_whole_characters(name, value)


def require_flag(name: str, value: object) -> None:
    """Raise TypeError for a value that is neither True nor False."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False; got {value!r:.60} ({type(value).__name__}).")


def require_path(name: str, value: object) -> None:
    """Raise TypeError for a value that is no path, and ValueError for an empty or too long path, or one in `~`."""
    if not isinstance(value, str | PathLike):
        raise TypeError(f"{name} must be a path; got {value!r:.60} ({type(value).__name__}).")
    require_text(name, str(value) if isinstance(value, PathLike) else value)
    if any(len(os.fsencode(part)) > LONGEST_NAME for part in str(value).split(os.sep)):
        shown = f"{str(value)[:40]!r}…"
        raise ValueError(f"{name} has a part that is too long for the name of a file: {shown} Choose another place.")
    if "\0" in str(value):
        raise ValueError(f"{name} has a zero byte, which no path can have; got {value!r:.60}.")
    if hint := home_hint(value):
        # A folder called "~" in the working folder is never meant, and whoever removes it removes the home folder.
        raise ValueError(f"{name}={str(value)!r} begins with ~.{hint}")


def home_hint(path: str | PathLike[str]) -> str:
    """The end of a message about a path that begins with `~`; empty for any other path."""
    whole = os.path.expanduser(path)
    return "" if whole == os.fspath(path) else f" A shell reads ~, Python does not: give {whole!r}."


def frame_hint(value: object, otherwise: str) -> str:
    """The end of a message about a value that is no DataFrame of pandas: how to make one of it."""
    if callable(getattr(value, "to_pandas", None)):
        kind = type(value)
        return f" ({kind.__module__.partition('.')[0]}): give what its to_pandas() returns."
    return f". {otherwise}"


def require_mapping(name: str, value: object) -> None:
    """Raise TypeError for a value that is no mapping, such as a dict."""
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} must be a dict; got {value!r:.60} ({type(value).__name__}).")


def lone_surrogate(text: str) -> str | None:
    """The first half of a character in a text, which no file can hold; None if all characters are whole."""
    if text.isascii():
        return None
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return text[error.start]
    return None


def require_whole_characters(where: str, text: str, what: str = "") -> None:
    """Raise ValueError for a text with half a character in it; `where`, and `what` of it, say which text it is."""
    if (half := lone_surrogate(text)) is not None:
        raise ValueError(
            f"{where} has half a character ({half!r}, a lone surrogate){what}: {text[:60]!r}. Such texts come from "
            "cutting a text within an emoji: text.encode('utf-8', 'ignore').decode() removes the half."
        )


def require_ordered(name: str, values: object) -> None:
    """Raise TypeError for a set: the order of a set, and so the result, would change from run to run."""
    if isinstance(values, set | frozenset):
        raise TypeError(
            f"{name} is a set, which has no order: the result would differ from run to run. Give a list, such as "
            f"{sorted(map(str, values))[:5]!r}."
        )


def require_class_words(name: str, words: object) -> None:
    """Raise TypeError for a value that is no list of strings, and ValueError for an empty list or an empty word."""
    require_ordered(name, words)
    given = list(require_texts(name, words))
    if not given or not all(word.strip() for word in given):
        raise ValueError(f"{name} must be the words of a class, none of them empty; got {given!r}.")


def require_texts(name: str, values: object) -> Iterator[str]:
    """Yield the strings of a collection.

    A single string, or a frame, is a TypeError at once; an entry that is no string is one later.
    """
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise TypeError(f"{name} must be a list of strings; got {values!r:.60} ({type(values).__name__}).")
    # A frame gives the names of its columns. One exists only where pandas is loaded, which checks must not load.
    if (pandas := sys.modules.get("pandas")) is not None and isinstance(values, pandas.DataFrame):
        columns = ", ".join(repr(str(column)) for column in values.columns[:5])
        raise TypeError(f"{name} must be a list of strings; got a DataFrame. Give one of its columns: {columns}.")

    def checked(position: int, value: object) -> str:
        if not isinstance(value, str):
            raise TypeError(
                f"{name} must be a list of strings, but entry {position} is {value!r:.60} ({type(value).__name__})."
            )
        return value

    return itertools.starmap(checked, enumerate(values))
