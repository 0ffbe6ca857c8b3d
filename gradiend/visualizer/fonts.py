"""Fonts for names in scripts that matplotlib's own font does not have."""

from __future__ import annotations

import logging
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

logger = logging.getLogger(__name__)

_UNKNOWN = "\N{WHITE SQUARE}"


def drawable(text: str) -> str:
    """`text` with a square for each character that no installed font has; says so once in the log."""
    if _is_plain(text):
        return text
    return "".join(character if _family(character) is not None else _UNKNOWN for character in text)


def cover_characters(figure: Figure) -> None:
    """Draw characters that the default font lacks with installed fonts that have them.

    Without this, matplotlib draws a box and warns once for each character.
    """
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
    """Whether every font has all of it; control characters, which are ASCII too, are in none."""
    return text.isascii() and text.replace("\n", "").isprintable()


@cache
def _family(character: str) -> str | None:
    """The font family to add for `character`: "" where the default font has it, None where none does."""
    from matplotlib import font_manager  # noqa: PLC0415 - optional

    default = font_manager.findfont(font_manager.FontProperties())
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
