"""How objects show themselves: tables that become text in a shell and HTML in a notebook, from the same rows."""

from __future__ import annotations

import copy
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import Any

from tqdm.utils import disp_len
from typing_extensions import Self

from gradiend.util import PLACEHOLDER

UNSHOWABLE = (AttributeError, LookupError, TypeError, ValueError, OSError, RuntimeError)
"""The errors of objects that are not whole: half-made, edited by hand, or with files that are gone or damaged."""
WIDTH = 80
"""The columns of a shell within which long texts are broken."""
LEAST_WIDTH = 24
"""The least width of a column whose texts are broken."""
UNKNOWN = "–"
"""What stands for a number that was not measured."""


@dataclass(frozen=True)
class Table:
    """A titled table; without rows only its note is shown, and without a header the rows are names and values."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[object]]
    note: str = ""
    wraps: bool = False
    """Whether long texts of the last column go on in the next line, as those of names and values do."""


class Shown:
    """An object that shows itself by tables. Showing is cheap and never raises: an object that is not whole is named.

    A subclass gives the tables; it loads nothing for them.
    """

    def _tables(self) -> tuple[str, Sequence[Table]]:
        """(what the object is, in a line or two, the tables)."""
        raise NotImplementedError

    def __repr__(self) -> str:
        try:
            headline, tables = self._tables()
            text = "\n".join(map(one_line, headline.splitlines()))
            return text + "".join(("\n\n" if table.title else "\n") + as_text(table) for table in tables)
        except UNSHOWABLE:
            return dict.__repr__(self) if isinstance(self, dict) else object.__repr__(self)

    def _repr_html_(self) -> str | None:
        try:
            return as_html(*self._tables())
        except UNSHOWABLE:
            return None


class Result(Shown, dict[str, Any]):
    """A dict of results that shows itself; in every other way it is that dict.

    A copy shows itself too. A pickle holds the plain dict, so that reading it does not need this package.
    """

    def copy(self) -> Self:
        """A shallow copy of the same type."""
        return type(self)(self)

    __copy__ = copy

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return type(self)(copy.deepcopy(dict(self), memo))

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self),)


def facts(title: str, known: Mapping[str, object | None]) -> Table:
    """A table of names and values; a name without a value is left out."""
    return Table(title, (), [(name, str(value)) for name, value in known.items() if value not in (None, "")])


def number(value: float | None, form: str = ".3f") -> str:
    """A number as text, in a format of Python; a dash for None."""
    return UNKNOWN if value is None else format(value, form)


def with_interval(value: float | None, interval: Any, form: str = ".3f") -> str:
    """A number with its interval, which is (low, high), a dict with both, or None."""
    ends = (interval["low"], interval["high"]) if isinstance(interval, Mapping) else interval
    return number(value, form) + ("" if ends is None else f" [{', '.join(format(end, form) for end in ends)}]")


def shortened(text: str, width: int) -> str:
    """Cut a text to one line of at most `width` characters, around its placeholder if there is one."""
    text = " ".join(text.split())
    if len(text) <= width:
        return text
    middle = max(text.find(PLACEHOLDER), 0) + len(PLACEHOLDER) // 2
    start = min(max(middle - width // 2, 0), len(text) - width)
    cut = text[start : start + width]
    if start:
        cut = "…" + cut[1:]
    return cut[:-1] + "…" if start + width < len(text) else cut


def as_text(table: Table) -> str:
    """Write the table with aligned columns: numbers to the right, words to the left."""
    lines = _aligned(table) if table.rows else []
    notes = [one_line(note) for note in table.note.splitlines()]
    if not lines and table.title:
        return f"{table.title}: {' '.join(notes)}"
    lines += [line for note in notes for line in _broken(note, WIDTH - 2, "  ")]
    return "\n".join([*([table.title] if table.title else []), *("  " + line for line in lines)])


def _broken(text: str, width: int, indent: str = "") -> list[str]:
    """The lines of a text; words and paths stay whole, so that they can be copied."""
    return wrap(text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _padding(text: str, width: int) -> str:
    """The spaces that fill up the width; a Chinese, Japanese or Korean character takes two columns of a terminal."""
    return " " * (width - disp_len(text))


def _aligned(table: Table) -> list[str]:
    cells = [[one_line(cell) for cell in row] for row in [*([table.header] if table.header else []), *table.rows]]
    columns = range(len(cells[0]))
    right = _to_the_right(table)
    widths = [max(disp_len(row[column]) for row in cells) for column in columns]
    if table.wraps or not table.header:
        before = sum(width + 2 for width in widths[:-1])
        widths[-1] = min(widths[-1], max(WIDTH - 2 - before, LEAST_WIDTH))
        cells = [[*row[:-1], f"\n{' ' * before}".join(_broken(row[-1], widths[-1]))] for row in cells]
    lines = [
        "  ".join(
            _padding(cell, width) + cell if to_right else cell + _padding(cell, width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in cells
    ]
    if table.header:
        lines.insert(1, "  ".join("-" * width for width in widths))
    return [part for line in lines for part in line.split("\n")]


def as_html(headline: str, tables: Sequence[Table]) -> str:
    """Write the tables for a notebook; all text is escaped, because texts and names of classes are anybody's."""
    pieces = [f"<p>{_escaped(line)}</p>" for line in headline.splitlines()]
    for table in tables:
        if table.title:
            pieces.append(f"<h4>{_escaped(table.title)}</h4>")
        if table.rows:
            sides = ["right" if is_right else "left" for is_right in _to_the_right(table)]
            head = f"<thead>{_html_row('th', table.header, sides)}</thead>" if table.header else ""
            rows = "".join(_html_row("td", row, sides) for row in table.rows)
            pieces.append(f"<table>{head}<tbody>{rows}</tbody></table>")
        pieces.extend(f"<p>{_escaped(line)}</p>" for line in table.note.splitlines())
    return f'<div class="gradiend">{"".join(pieces)}</div>'


def _html_row(tag: str, row: Sequence[object], sides: Sequence[str]) -> str:
    cells = [
        f'<{tag} style="text-align: {side}">{_escaped(value)}</{tag}>' for value, side in zip(row, sides, strict=True)
    ]
    return f"<tr>{''.join(cells)}</tr>"


def _escaped(value: object) -> str:
    return html.escape(one_line(value))


def _to_the_right(table: Table) -> list[bool]:
    """Whether each column has numbers only."""
    return [all(isinstance(value, int | float) for value in column) for column in zip(*table.rows, strict=True)]


def one_line(value: object) -> str:
    """Write a value without control characters, which could move the cursor of a terminal."""
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return "".join(character if character.isprintable() else " " for character in text)
