"""A data report and its parts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gradiend.data.summary.tables import Table, as_html, as_text, shortened

_WORDS_SHOWN = 6
_FLAGGED_SHOWN = 20
_EXAMPLE_WIDTH = 90


@dataclass(frozen=True)
class WordSummary:
    """A word of a class, in one casing."""

    word: str
    """As it stands in the texts."""
    count: int
    """Rows with it."""
    tokens: tuple[str, ...] | None = None
    """Its pieces in the first of its texts; None without a tokenizer."""
    is_unknown: bool = False
    """Whether the tokenizer lacks a part of it."""

    @property
    def is_flagged(self) -> bool:
        """Whether a model sees several tokens, or an unknown one, in place of one token for the word."""
        return self.is_unknown or (self.tokens is not None and len(self.tokens) > 1)


@dataclass(frozen=True)
class Lengths:
    """Words per text, the masked one included."""

    minimum: int
    """The shortest text."""
    quartiles: tuple[float, float, float]
    """A quarter, half and three quarters of the texts are at most so long."""
    maximum: int
    """The longest text."""


@dataclass(frozen=True)
class ClassSummary:
    """One class of the data."""

    name: str
    """The class."""
    rows: Mapping[str, int]
    """Split → rows."""
    words: tuple[WordSummary, ...]
    """Its words, commonest first."""
    lengths: Lengths
    """Of its texts."""
    examples: tuple[tuple[str, str], ...]
    """Three texts, spread over the data, and the word of each."""

    @property
    def n_rows(self) -> int:
        """Rows in all splits."""
        return sum(self.rows.values())


@dataclass(frozen=True)
class Overlap:
    """What two splits share, so that one says something about the other."""

    kind: str
    """`"text"` (the same masked text) or `"document"`."""
    splits: tuple[str, str]
    """The two splits."""
    count: int
    """Distinct texts or documents in both."""
    example: str
    """One of them."""


@dataclass(frozen=True)
class DataSummary:
    """A data report: print it, show it in a notebook, or take it as a dict."""

    classes: tuple[ClassSummary, ...]
    """The classes, the target classes first."""
    overlaps: tuple[Overlap, ...]
    """What splits share; empty if nothing."""
    dropped: Mapping[str, int]
    """Reason → rows or sentences that were left out."""
    n_beside_others: int = 0
    """Rows of created data whose sentence holds a word of another class too, which tells the class."""
    tokenizer: str | None = None
    """Whose tokens the words have; None without."""
    has_documents: bool = False
    """Whether the data says which document a text is from."""

    @property
    def n_rows(self) -> int:
        """Rows of all classes."""
        return sum(item.n_rows for item in self.classes)

    @property
    def flagged_words(self) -> dict[str, tuple[WordSummary, ...]]:
        """Class → its words that split into several tokens or are unknown; classes without any are left out."""
        flagged = {item.name: tuple(word for word in item.words if word.is_flagged) for item in self.classes}
        return {name: words for name, words in flagged.items() if words}

    def to_dict(self) -> dict[str, Any]:
        """The whole report as nested dicts and lists that JSON can hold."""
        return {"n_rows": self.n_rows, **_plain(dataclasses.asdict(self))}

    def __str__(self) -> str:
        return "\n\n".join([self._headline(), *map(as_text, self._tables())])

    def _repr_html_(self) -> str:
        return as_html(self._headline(), self._tables())

    def _headline(self) -> str:
        splits: dict[str, int] = {}
        for item in self.classes:
            for split, rows in item.rows.items():
                splits[split] = splits.get(split, 0) + rows
        shares = ", ".join(f"{split} {rows}" for split, rows in splits.items()) or "none"
        note = f"\n{beside_others(self.n_beside_others, self.n_rows)}" if self.n_beside_others else ""
        return f"{self.n_rows} rows of {len(self.classes)} classes; splits: {shares}.{note}"

    def _tables(self) -> list[Table]:
        tables = [self._rows_table(), self._words_table(), *self._flagged_table(), self._lengths_table()]
        return [*tables, self._overlaps_table(), self._dropped_table(), self._examples_table()]

    def _rows_table(self) -> Table:
        splits = list(dict.fromkeys(split for item in self.classes for split in item.rows))
        rows = [[item.name, *(item.rows.get(split, 0) for split in splits), item.n_rows] for item in self.classes]
        return Table("Rows", ["class", *splits, "all"], rows)

    def _words_table(self) -> Table:
        rows = []
        for item in self.classes:
            shown = ", ".join(f"{word.word} {word.count}" for word in item.words[:_WORDS_SHOWN])
            rest = len(item.words) - _WORDS_SHOWN
            rows.append([item.name, len(item.words), shown + (f" and {rest} more" if rest > 0 else "")])
        return Table("Words", ["class", "distinct", "commonest"], rows)

    def _flagged_table(self) -> list[Table]:
        if self.tokenizer is None:
            return []
        rows: list[list[object]] = [
            [name, word.word, word.count, "unknown" if word.is_unknown else len(word.tokens or ()),
             " · ".join(word.tokens or ())]
            for name, words in self.flagged_words.items()
            for word in words
        ]  # fmt: skip
        note = "" if rows else "none."
        if len(rows) > _FLAGGED_SHOWN:
            note = f"and {len(rows) - _FLAGGED_SHOWN} more words"
        title = f"Words that are not one token of {self.tokenizer}"
        return [Table(title, ["class", "word", "rows", "tokens", "pieces"], rows[:_FLAGGED_SHOWN], note)]

    def _lengths_table(self) -> Table:
        rows = [
            [item.name, item.lengths.minimum, *item.lengths.quartiles, item.lengths.maximum] for item in self.classes
        ]
        return Table("Words per text", ["class", "shortest", "25 %", "50 %", "75 %", "longest"], rows)

    def _overlaps_table(self) -> Table:
        rows = [
            [f"{item.splits[0]} and {item.splits[1]}", item.kind, item.count, shortened(item.example, _EXAMPLE_WIDTH)]
            for item in self.overlaps
        ]
        known = "no text" if not self.has_documents else "no text and no document"
        note = "" if rows else f"{known} is in two splits."
        return Table("Shared by splits", ["splits", "what", "how many", "such as"], rows, note)

    def _dropped_table(self) -> Table:
        rows = [[reason, count] for reason, count in self.dropped.items()]
        return Table("Dropped", ["what", "how many"], rows, "" if rows else "nothing.")

    def _examples_table(self) -> Table:
        rows = [
            [item.name, word, shortened(text, _EXAMPLE_WIDTH)] for item in self.classes for text, word in item.examples
        ]
        return Table("Examples", ["class", "word", "text"], rows)


def beside_others(count: int, n_rows: int) -> str:
    """Say how many rows show a word of another class, and how to do without them."""
    return (
        f"{count} of {n_rows} rows are from sentences that also hold words of another class; "
        "generate_training_data(keep_several_classes=False) leaves them out."
    )


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
