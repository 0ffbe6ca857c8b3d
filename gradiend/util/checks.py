"""Arguments of simple types, checked at the door."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from numbers import Integral, Real
from os import PathLike

AS_IN_ARGUMENTS = "for what the training arguments say"
"""What None means to most evaluations."""


def require_whole(name: str, value: object, least: int | None, *, none_means: str | None = None) -> None:
    """Refuse what is no whole number, or one below `least`.

    Args:
        name: Of the argument.
        value: What came.
        least: The smallest one that is allowed; None allows all.
        none_means: What None asks for; without it None is refused.

    Raises:
        TypeError: Another type; `True` and `"10"` are none.
        ValueError: A smaller number.
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
    """Refuse what is no number with a TypeError; `True` and `"0.5"` are none."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number; got {value!r:.60} ({type(value).__name__}).")


def require_text(name: str, value: object) -> None:
    """Refuse what is no string with a TypeError, and one without any visible character with a ValueError."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string; got {value!r:.60} ({type(value).__name__}).")
    if not value.strip():
        raise ValueError(f"{name} must not be empty; got {value!r}.")


def require_flag(name: str, value: object) -> None:
    """Refuse what is neither True nor False with a TypeError."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False; got {value!r:.60} ({type(value).__name__}).")


def require_path(name: str, value: object) -> None:
    """Refuse what is no path with a TypeError, and an empty one with a ValueError."""
    if not isinstance(value, str | PathLike):
        raise TypeError(f"{name} must be a path; got {value!r:.60} ({type(value).__name__}).")
    require_text(name, str(value) if isinstance(value, PathLike) else value)


def require_texts(name: str, values: object) -> Iterator[str]:
    """Yield the strings of a collection.

    Raises:
        TypeError: At once, if it is no collection or a single string; on the way, if an entry is no string.
    """
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise TypeError(f"{name} must be a list of strings; got {values!r:.60} ({type(values).__name__}).")
    return _checked(name, values)


def _checked(name: str, values: Iterable[object]) -> Iterator[str]:
    for position, value in enumerate(values):
        if not isinstance(value, str):
            raise TypeError(
                f"{name} must be a list of strings, but entry {position} is {value!r:.60} ({type(value).__name__})."
            )
        yield value
