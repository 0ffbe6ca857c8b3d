"""The look that all figures share: colours, markers, names that are safe to draw, fonts, legends."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from gradiend.util._imports import require_package
from gradiend.visualizer.plot_style import drawn_arrows

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

logger = logging.getLogger(__name__)

OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""The Okabe–Ito palette, which every kind of colour vision tells apart, without its yellow, which vanishes on white."""

_ADDED = ("#7000D0", "#004000", "#A0D070", "#A070FF", "#400040", "#704070", "#D00040", "#400070", "#0000FF")
DISTINCT = (*OKABE_ITO, *_ADDED)
"""Sixteen colours. Those after Okabe–Ito were added one by one: each is the colour that is farthest from all before it
in L*a*b*, seen with any kind of colour vision (Machado et al. 2009, full severity). Each two of them are at least 16
apart; in tab20 the smallest distance is 1.2."""

NEUTRAL_COLORS = ("#7F7F7F", "#A8A8A8", "#595959", "#C4C4C4")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h", "*")
REFERENCE_COLOR = "#444444"
DEFAULT_CMAP = "tab20"
GOLDEN_RATIO = 0.6180339887498949
"""The fractional parts of multiples of this number cover an interval evenly: a jitter without a random seed."""

_NAME_WIDTH = 24
_ELLIPSIS = "…"
_UNKNOWN = "\N{WHITE SQUARE}"


def distinct_colors(count: int, cmap: str = DEFAULT_CMAP) -> list[str]:
    """Return `count` colours as hex, those of `DISTINCT` for the default `cmap` if there are enough."""
    if cmap == DEFAULT_CMAP and count <= len(DISTINCT):
        return list(DISTINCT[:count])
    chosen = colormap(cmap)
    # A map of few colours is a list of distinct colours, to be taken in turn; a larger map is a scale.
    picks = [i % chosen.N if chosen.N <= 20 else (i + 0.5) / count for i in range(count)]
    return ["#" + "".join(f"{round(255 * part):02x}" for part in chosen(pick)[:3]) for pick in picks]


def colormap(name: str) -> Colormap:
    """Return the colormap of matplotlib with this name, or raise a ValueError."""
    require_package("matplotlib", "A colormap", "plot")
    from matplotlib import colormaps  # noqa: PLC0415 - optional

    if name not in colormaps:
        raise ValueError(f"cmap={name!r} is not a colormap of matplotlib; try 'tab20', 'tab10' or 'viridis'.")
    return colormaps[name]


def text_color(background: Sequence[float]) -> str:
    """Return black or white, whichever is read more easily on an RGB(A) colour with parts in 0..1."""
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in background[:3])
    # Equal contrast (WCAG 2) with black and white is at a relative luminance of 0.179.
    return "black" if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.179 else "white"


def signed(value: float, digits: str = "g") -> str:
    """Write a number with its sign and a true minus; zero has no sign."""
    text = f"{value:+{digits}}"
    return text[1:] if float(text) == 0 else text.replace("-", "−")


def tidy(ax: Axes, *, zero_line: bool = False) -> None:
    """Leave two spines and put a faint horizontal grid behind the data, on request also a line at 0."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis="y", color="#DDDDDD", linewidth=0.7)
    ax.set_axisbelow(True)
    if zero_line:
        ax.axhline(0.0, color="#999999", linewidth=0.8, zorder=1)


# Names


def shown(name: str, width: int = _NAME_WIDTH, lines: int = 3) -> str:
    """Write a class name, which is untrusted, in at most `lines` of `width` characters, never parsed as mathematics.

    A longer name keeps its start and its end, where class names differ.
    """
    text = drawable(" ".join(name.split()))
    wrapped = _wrap(text, width)
    room = width * lines
    # The name is shortened until it fits when broken between words; below half of the room, it is broken anywhere.
    while not _fits(wrapped, width, lines) and room > width * lines // 2:
        wrapped = _wrap(without_middle(text, room), width)
        room -= 1
    if not _fits(wrapped, width, lines):
        text = without_middle(text, width * lines)
        wrapped = [text[start : start + width] for start in range(0, len(text), width)]
    drawn = "\n".join(wrapped)
    # matplotlib leaves a label that starts with "_" out of legends; a zero-width space is not seen.
    drawn = "\u200b" + drawn if drawn.startswith("_") else drawn
    # Between two dollar signs matplotlib would parse mathematics; an arrow may be mathematics.
    return drawn_arrows(drawn.replace("$", r"\$"))


def _wrap(text: str, width: int) -> list[str]:
    """Break `text` after spaces, underscores and hyphens; a longer piece stays whole."""
    lines = [""]
    for piece in re.findall(r"[^ _-]*[ _-]|[^ _-]+", text):
        if lines[-1] and len(lines[-1] + piece.rstrip()) > width:
            lines.append("")
        lines[-1] += piece
    return [line.strip() for line in lines]


def _fits(wrapped: list[str], width: int, lines: int) -> bool:
    return len(wrapped) <= lines and all(len(line) <= width for line in wrapped)


def without_middle(text: str, room: int) -> str:
    """Leave out the middle of `text` if it has more than `room` characters."""
    if len(text) <= room:
        return text
    head = (room - 1) // 2
    return text[:head] + _ELLIPSIS + text[len(text) - (room - 1 - head) :]


# Fonts for scripts that the font of matplotlib does not have


def drawable(text: str) -> str:
    """Put a square for each character of `text` that no installed font has; the log names each such character once."""
    if _is_plain(text):
        return text
    return "".join(character if _family(character) is not None else _UNKNOWN for character in text)


def cover_characters(figure: Figure) -> None:
    """Draw characters that the default font lacks, for which matplotlib warns, with installed fonts that have them."""
    from matplotlib.text import Text  # noqa: PLC0415 - optional

    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        content = text.get_text()
        if _is_plain(content):
            continue
        families = dict.fromkeys(filter(None, map(_family, content)))
        if families:
            text.set_fontfamily([*text.get_fontfamily(), *families])
        if drawable(content) != content:
            text.set_text(drawable(content))


def _is_plain(text: str) -> bool:
    """Tell whether every font has all characters of `text`; no font has control characters, although they are ASCII."""
    return text.isascii() and text.replace("\n", "").isprintable()


def _family(character: str) -> str | None:
    """Return the font family to add for `character`: "" if the default font has it, None if no font has it."""
    from matplotlib import font_manager  # noqa: PLC0415 - optional

    return _family_beside(font_manager.findfont(font_manager.FontProperties()), character)


@cache
def _family_beside(default: str, character: str) -> str | None:
    from matplotlib import font_manager  # noqa: PLC0415 - optional

    if character.isspace() or ord(character) in _characters(default):
        return ""
    for entry in font_manager.fontManager.ttflist:
        # "Last Resort" has a box for every character.
        if "lastresort" not in entry.name.replace(" ", "").lower() and ord(character) in _characters(entry.fname):
            return entry.name
    logger.warning("No installed font has %r, which is drawn as a square: install one, such as Noto.", character)
    return None


@cache
def _characters(path: str) -> frozenset[int]:
    from matplotlib.font_manager import get_font  # noqa: PLC0415 - optional

    return frozenset(get_font(path).get_charmap())


# Legends


def add_legend(
    ax: Axes, handles: Sequence[Artist], *, loc: str | None = None, bbox_to_anchor: tuple[float, ...] | None = None,
    ncol: int | None = None, outside: str = "outside right upper", outside_ncol: int = 1, fontsize: float | None = None,
) -> None:  # fmt: skip
    """Add a legend in `ax` if `loc` or an anchor is a place there, otherwise beside all panels, at `outside`."""
    if not handles:
        return
    common: dict[str, Any] = {"handles": handles, "fontsize": fontsize or 9}
    if loc is None and bbox_to_anchor is None:
        common |= {"loc": outside, "ncols": ncol or outside_ncol, "frameon": False}
        ax.figure.legend(**common)
    else:
        ax.legend(**common, **{"loc": loc or "best", "bbox_to_anchor": bbox_to_anchor, "ncols": ncol or 1})
