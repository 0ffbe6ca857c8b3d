"""Small tables for a terminal and for a notebook."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

from gradiend.util import PLACEHOLDER


@dataclass(frozen=True)
class Table:
    """A titled table; without rows only its note is shown."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[object]]
    note: str = ""


def shortened(text: str, width: int) -> str:
    """A text on one line, at most `width` long, with its placeholder if it has one."""
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
    """The table with aligned columns: numbers to the right, words to the left."""
    if not table.rows:
        return f"{table.title}: {table.note}"
    cells = [[_one_line(cell) for cell in row] for row in [table.header, *table.rows]]
    right = [all(isinstance(row[column], int | float) for row in table.rows) for column in range(len(table.header))]
    widths = [max(len(row[column]) for row in cells) for column in range(len(table.header))]
    lines = [
        "  ".join(
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in cells
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join([table.title, *("  " + line for line in lines), *(["  " + table.note] if table.note else [])])


def as_html(headline: str, tables: Sequence[Table]) -> str:
    """The tables for a notebook; whatever comes from the data is escaped."""
    parts = [f"<p>{html.escape(headline)}</p>"]
    for table in tables:
        parts.append(f"<h4>{html.escape(table.title)}</h4>")
        if table.rows:
            header = "".join(f"<th>{html.escape(name)}</th>" for name in table.header)
            rows = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in table.rows)
            parts.append(f"<table><thead><tr>{header}</tr></thead><tbody>{rows}</tbody></table>")
        if table.note:
            parts.append(f"<p>{html.escape(table.note)}</p>")
    return f'<div class="gradiend-data-summary">{"".join(parts)}</div>'


def _cell(value: object) -> str:
    side = "right" if isinstance(value, int | float) else "left"
    return f'<td style="text-align: {side}">{html.escape(_one_line(value))}</td>'


def _one_line(value: object) -> str:
    """Control characters in a corpus must not move the cursor of a terminal."""
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return "".join(character if character.isprintable() else " " for character in text)
