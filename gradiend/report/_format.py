"""How the page writes numbers, intervals and texts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

from gradiend.util import PLACEHOLDER
from gradiend.util import _progress as progress
from gradiend.util._display import UNKNOWN, shortened
from gradiend.util.paths import MODEL_DIR

THIN = "\u202f"
"""A narrow space at which no line is broken."""
_TEXT_WIDTH = 220
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Text:
    """A text around its placeholder: what stands before the word, the word, and what stands after it."""

    before: str
    word: str
    after: str

    @classmethod
    def of(cls, masked: str, word: str | None = None, width: int = _TEXT_WIDTH) -> Text:
        """Split a text at its first placeholder, where `word` (default: the placeholder) is shown."""
        before, found, after = shortened(masked, width).partition(PLACEHOLDER)
        return cls(before, (word or PLACEHOLDER) if found else "", after)


def is_number(value: Any) -> bool:
    """Whether a value is a number that can be written, also one of NumPy: no bool, no NaN, no infinity."""
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def number(value: Any, digits: int = 3) -> str:
    """A number with `digits` decimals; what rounds to zero has no sign."""
    if not is_number(value):
        return UNKNOWN
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", "−")


def probability(value: Any, digits: int = 3) -> str:
    """A probability with `digits` decimals, such as 0.001; "<0.001" for one that would round to 0."""
    is_tiny = is_number(value) and 0 < value < 0.5 * 10.0**-digits
    return f"<{10.0**-digits:.{digits}f}" if is_tiny else number(value, digits)


def signed(value: Any, digits: int = 2) -> str:
    """A number with its sign and `digits` decimals; what rounds to zero has no sign."""
    text = number(value, digits)
    return f"+{text}" if is_number(value) and value > 0 and float(text) else text


def step(value: Any) -> str:
    """A number of any size: three significant digits."""
    if not is_number(value):
        return UNKNOWN
    base, _, power = f"{value:.3g}".replace("-", "−").partition("e")
    return f"{base} × 10{str(int(power.replace('−', '-'))).translate(_SUPERSCRIPT)}" if power else base


def percent(value: Any, digits: int = 1) -> str:
    """A share in per cent, with a narrow space before the sign."""
    return f"{number(100 * value, 0 if value == 1 else digits)}{THIN}%" if is_number(value) else UNKNOWN


def count(value: Any) -> str:
    """A whole number in groups of three digits."""
    return f"{value:,}".replace(",", THIN) if is_number(value) else UNKNOWN


def interval(found: Any, digits: int = 3) -> str:
    """[low, high] of a pair, or of a dict with low and high; "" where there is no interval."""
    ends = (found.get("low"), found.get("high")) if isinstance(found, Mapping) else found
    if ends is None or not all(map(is_number, ends)):
        return ""
    return f"[{number(ends[0], digits)}, {number(ends[1], digits)}]"


def duration(seconds: Any) -> str:
    """Seconds in the unit that a person would choose, with a decimal below ten."""
    if not is_number(seconds):
        return UNKNOWN
    return f"{seconds:.1f}{THIN}s" if seconds < 10 else progress.duration(seconds).replace(" ", THIN)


def listed(names: Iterable[str], most: int = 6) -> str:
    """Names with commas; beyond `most` only their number."""
    found = list(names)
    rest = f" and {len(found) - most} more" if len(found) > most else ""
    return ", ".join(found[:most]) + rest


def model_name(path: str) -> str:
    """The name of a model; of a path only the last part, or two parts if the last is `model`, which says nothing."""
    place = Path(path)
    if not (place.is_absolute() or path.startswith(".") or place.is_dir()):
        return path
    return f"{place.parent.name}/{place.name}" if place.name == MODEL_DIR else place.name
