"""The look that all figures share: colours, markers, names that are safe to draw."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from gradiend.visualizer.fonts import drawable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap

OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""The Okabe–Ito palette without its yellow, which vanishes on white: told apart with every colour vision."""

_ADDED = ("#7000D0", "#004000", "#A0D070", "#A070FF", "#400040", "#704070", "#D00040", "#400070", "#0000FF")
DISTINCT = (*OKABE_ITO, *_ADDED)
"""Sixteen colours: to Okabe–Ito, those were added one by one that are farthest from all before them in L*a*b*, seen
with any kind of colour vision (Machado et al. 2009, full severity); each two are at least 16 apart, in tab20 1.2."""

NEUTRAL_COLORS = ("#7F7F7F", "#A8A8A8", "#595959", "#C4C4C4")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h", "*")
REFERENCE_COLOR = "#444444"
DEFAULT_CMAP = "tab20"

NAME_WIDTH = 24
_ELLIPSIS = "…"


def distinct_colors(count: int, cmap: str = DEFAULT_CMAP) -> list[str]:
    """`count` colours as hex: `DISTINCT` where it suffices and no other `cmap` than the default is asked for.

    Raises:
        ValueError: matplotlib knows no colormap `cmap`.
    """
    if cmap == DEFAULT_CMAP and count <= len(DISTINCT):
        return list(DISTINCT[:count])
    chosen = colormap(cmap)
    # A map of few colours is a list of distinct ones, to be taken in turn; a larger one is a scale.
    picks = [i % chosen.N if chosen.N <= 20 else (i + 0.5) / count for i in range(count)]
    return ["#" + "".join(f"{round(255 * part):02x}" for part in chosen(pick)[:3]) for pick in picks]


def colormap(name: str) -> Colormap:
    """matplotlib's colormap `name`.

    Raises:
        ValueError: There is none.
    """
    from matplotlib import colormaps  # noqa: PLC0415 - optional

    if name not in colormaps:
        raise ValueError(f"cmap={name!r} is not a colormap of matplotlib; try 'tab20', 'tab10' or 'viridis'.")
    return colormaps[name]


def text_color(background: tuple[float, ...]) -> str:
    """Black or white, whichever is read more easily on an RGB(A) colour of parts in 0..1."""
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in background[:3])
    # Equal contrast (WCAG 2) with black and white is at a relative luminance of 0.179.
    return "black" if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.179 else "white"


def shown(name: str, width: int = NAME_WIDTH, lines: int = 3) -> str:
    """A class name as it may be drawn: wrapped, shortened in the middle, never parsed as mathematics.

    Args:
        name: Any text; it is untrusted.
        width: Characters a line.
        lines: Lines at most; a longer name keeps its start and its end, where class names differ.
    """
    text = drawable(" ".join(name.split()))
    wrapped = _wrap(text, width)
    room = width * lines
    # Shortened until it fits when broken between words; below half of the room, it is broken anywhere.
    while not _fits(wrapped, width, lines) and room > width * lines // 2:
        wrapped = _wrap(_shortened(text, room), width)
        room -= 1
    if not _fits(wrapped, width, lines):
        text = _shortened(text, width * lines)
        wrapped = [text[start : start + width] for start in range(0, len(text), width)]
    drawn = "\n".join(wrapped)
    # A label that starts with "_" is left out of legends by matplotlib; a zero-width space is not seen.
    return escape("\u200b" + drawn if drawn.startswith("_") else drawn)


def escape(text: str) -> str:
    """`text` with every dollar sign literal: between two of them matplotlib would parse mathematics."""
    return text.replace("$", r"\$")


def signed(value: float, digits: str = "g") -> str:
    """A number with its sign and a true minus; zero has none."""
    text = f"{value:+{digits}}"
    return text[1:] if float(text) == 0 else text.replace("-", "−")


def tidy(ax: Axes) -> None:
    """Axes with two spines and a faint horizontal grid behind the data."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis="y", color="#DDDDDD", linewidth=0.7)
    ax.set_axisbelow(True)


def _wrap(text: str, width: int) -> list[str]:
    """Lines broken after spaces, underscores and hyphens; a longer piece stays whole."""
    lines = [""]
    for piece in re.findall(r"[^ _-]*[ _-]|[^ _-]+", text):
        if lines[-1] and len(lines[-1] + piece.rstrip()) > width:
            lines.append("")
        lines[-1] += piece
    return [line.strip() for line in lines]


def _fits(wrapped: list[str], width: int, lines: int) -> bool:
    return len(wrapped) <= lines and all(len(line) <= width for line in wrapped)


def _shortened(text: str, room: int) -> str:
    if len(text) <= room:
        return text
    head = (room - 1) // 2
    return text[:head] + _ELLIPSIS + text[len(text) - (room - 1 - head) :]
