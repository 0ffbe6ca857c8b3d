"""Fonts for names in scripts that matplotlib's own font does not have."""

from __future__ import annotations

import logging
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

logger = logging.getLogger(__name__)

_UNKNOWN = "\N{WHITE SQUARE}"


def cover_characters(figure: Figure) -> None:
    """Draw characters that the chosen font lacks with an installed font that has them, or as a square.

    Without this, matplotlib draws a box and warns once for each character.
    """
    from matplotlib import font_manager  # noqa: PLC0415 - optional
    from matplotlib.text import Text  # noqa: PLC0415 - optional

    missing: set[str] = set()
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        drawn = text.get_text()
        if drawn.isascii():
            continue
        own = _characters(font_manager.findfont(text.get_fontproperties()))
        lacking = {character for character in drawn if ord(character) not in own and not character.isspace()}
        if not lacking:
            continue
        fallbacks, without = _fallbacks(frozenset(lacking))
        text.set_fontfamily([*text.get_fontfamily(), *fallbacks])
        text.set_text("".join(_UNKNOWN if character in without else character for character in drawn))
        missing |= without
    if missing:
        logger.warning(
            "No installed font has %s: they are drawn as squares. Install one (such as Noto), or give display names.",
            " ".join(sorted(missing)),
        )


@cache
def _characters(path: str) -> frozenset[int]:
    from matplotlib.font_manager import get_font  # noqa: PLC0415 - optional

    return frozenset(get_font(path).get_charmap())


@cache
def _fallbacks(lacking: frozenset[str]) -> tuple[tuple[str, ...], frozenset[str]]:
    """Families of installed fonts for `lacking` characters, and those that no font has."""
    from matplotlib import font_manager  # noqa: PLC0415 - optional

    families: list[str] = []
    rest = set(lacking)
    for entry in font_manager.fontManager.ttflist:
        if not rest:
            break
        # "Last Resort" has a box for every character.
        if entry.name.startswith("Last Resort") or "LastResort" in entry.fname:
            continue
        covered = {character for character in rest if ord(character) in _characters(entry.fname)}
        if covered and entry.name not in families:
            families.append(entry.name)
            rest -= covered
    return tuple(families), frozenset(rest)
