"""Encoded examples as points with a text to read when they are hovered over."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

REQUIRED = ("encoded", "label")

TEXT_COLUMNS = ("text", "input_text", "masked", "masked_text")
"""Columns that hold a whole text, long enough to be shortened and wrapped."""

HOVER_COLUMNS = ("source_id", "target_id", "factual", "alternative", "type", *TEXT_COLUMNS)
"""Shown by default where the frame has them."""

MAX_COLORS = 40
"""Values of the colour column with a colour of their own; rarer ones share one."""

_LINE = 90
_TITLES = {"source_id": "factual class", "target_id": "alternative class"}
_GOLDEN_RATIO = 0.6180339887498949


@dataclass(frozen=True, eq=False)
class ScatterPoints:
    """One point an example."""

    x: NDArray[np.float64]
    """The position of the group, and the jitter around it."""
    y: NDArray[np.float64]
    """Encodings."""
    groups: tuple[str, ...]
    """Names of the positions 0, 1, …, as they are."""
    colors: tuple[str, ...]
    """The value of the colour column of each point, as text."""
    hover: tuple[str, ...]
    """HTML, everything from the frame escaped."""


def thinned(frame: pd.DataFrame, max_points: int | None, stratify_by: str | None) -> pd.DataFrame:
    """At most `max_points` rows in their order, evenly from the frame or from each value of `stratify_by`.

    Every value keeps a share of the points in proportion to its rows, and at least one point where they suffice.

    Raises:
        ValueError: max_points is below 1.
    """
    if max_points is not None and max_points < 1:
        raise ValueError(f"max_points must be at least 1; got {max_points}.")
    if max_points is None or len(frame) <= max_points:
        return frame
    if stratify_by is None:
        return frame.iloc[_evenly(len(frame), max_points)]
    codes, names = pd.factorize(frame[stratify_by].astype(str))
    members = [np.flatnonzero(codes == code) for code in range(len(names))]
    counts = _shares([len(rows) for rows in members], max_points)
    picked = [rows[_evenly(len(rows), count)] for rows, count in zip(members, counts, strict=True)]
    return frame.iloc[np.sort(np.concatenate(picked))]


def scatter_points(
    frame: pd.DataFrame,
    *,
    color_by: str,
    x_col: str | None,
    hover_cols: Sequence[str] | None,
    jitter: float,
    text_chars: int,
) -> ScatterPoints:
    """Points of a checked frame.

    Args:
        frame: See `checked_frame`.
        color_by: Column of the colour.
        x_col: Column of the groups side by side; None: transitions and kinds of neutral text.
        hover_cols: Columns to read; None: those of `HOVER_COLUMNS` that are there.
        jitter: Half width of a group, where 0.5 touches the next.
        text_chars: Characters of a value that are shown.
    """
    group = _transitions(frame) if x_col is None else frame[x_col].astype(str)
    codes, groups = pd.factorize(group)
    # Multiples of the golden ratio cover the width evenly without a random seed.
    spread = 2.0 * (np.arange(len(frame)) * _GOLDEN_RATIO % 1.0) - 1.0
    columns = [name for name in HOVER_COLUMNS if name in frame.columns] if hover_cols is None else list(hover_cols)
    return ScatterPoints(
        x=codes + jitter * spread,
        y=frame["encoded"].to_numpy(np.float64),
        groups=tuple(str(name) for name in groups),
        colors=_colors(_as_text(frame[color_by])),
        hover=_hover(frame, [name for name in columns if name not in REQUIRED], text_chars),
    )


def _transitions(frame: pd.DataFrame) -> pd.Series:
    """`a → b`, the neutral type, or the label: the finest grouping that the frame knows."""
    empty = pd.Series([None] * len(frame), index=frame.index, dtype=object)
    source, target = (frame[name] if name in frame.columns else empty for name in ("source_id", "target_id"))
    kind = frame["type"].astype(str) if "type" in frame.columns else empty.astype(str)
    neutral = kind.str.startswith("neutral")
    known = source.notna() & ~neutral
    name = source.astype(str).where(target.isna(), source.astype(str) + " → " + target.astype(str))
    label = "label " + pd.Series(_as_text(frame["label"]), index=frame.index)
    return name.where(known, kind.where(neutral, label))


def _colors(values: Sequence[str]) -> tuple[str, ...]:
    counts = Counter(values)
    common = {value for value, _ in counts.most_common(MAX_COLORS)}
    other = f"other ({len(counts) - len(common)} values)"
    return tuple(value if value in common else other for value in values)


def _hover(frame: pd.DataFrame, columns: Sequence[str], chars: int) -> tuple[str, ...]:
    parts = [
        "<b>encoding "
        + frame["encoded"].map("{:+.3f}".format)
        + "</b>, label "
        + pd.Series(_as_text(frame["label"]), index=frame.index)
    ]
    for column in columns:
        title = html.escape(_TITLES.get(column, column), quote=False)
        values = [title + ": " + hover_text(text, chars) if text else "" for text in _as_text(frame[column])]
        parts.append(pd.Series(values, index=frame.index))
    return tuple("<br>".join(filter(None, row)) for row in zip(*parts, strict=True))


def hover_text(text: str, chars: int) -> str:
    """`text` shortened to `chars` characters, wrapped, and escaped: it is untrusted, and plotly renders HTML."""
    text = " ".join(text.split())
    if len(text) > chars:
        text = text[: max(chars - 1, 0)] + "…"
    lines = [""]
    for word in text.split(" "):
        pieces = [word[start : start + _LINE] for start in range(0, len(word), _LINE)] or [""]
        for piece in pieces:
            if lines[-1] and len(lines[-1]) + 1 + len(piece) > _LINE:
                lines.append("")
            lines[-1] = f"{lines[-1]} {piece}" if lines[-1] else piece
    return "<br>".join(html.escape(line, quote=False) for line in lines)


def _as_text(column: pd.Series) -> list[str]:
    """Values as text, "" where there are none; whole numbers without a decimal point, signed labels with a sign."""
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        return ["" if pd.isna(value) else f"{float(value):g}".replace("-", "−") for value in column]
    return ["" if pd.isna(value) else str(value) for value in column]


def _evenly(length: int, count: int) -> NDArray[np.intp]:
    """`count` of the positions 0 … length − 1, evenly spaced, the first and the last included."""
    return np.unique(np.linspace(0, length - 1, count).round().astype(np.intp))


def _shares(sizes: Sequence[int], total: int) -> list[int]:
    """`total` shared out in proportion to `sizes` (largest remainders), each at least 1 where that is possible."""
    least = 1 if total >= len(sizes) else 0
    exact = np.asarray(sizes, dtype=np.float64) / sum(sizes) * total
    counts = np.maximum(np.floor(exact).astype(int), least)
    for position in np.argsort(np.floor(exact) - exact, kind="stable"):
        if counts.sum() < total:
            counts[position] += 1
    while counts.sum() > total:
        counts[int(np.argmax(counts))] -= 1
    return [int(count) for count in np.minimum(counts, sizes)]
