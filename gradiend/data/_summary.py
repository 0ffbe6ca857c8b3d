"""What is in the data: rows, words, lengths, leaks between splits, examples, and what was dropped."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gradiend.data.unified._parsed_tables import DOCUMENT
from gradiend.data.unified._schema import UNIFIED_FACTUAL, UNIFIED_FACTUAL_CLASS, UNIFIED_MASKED, UNIFIED_SPLIT
from gradiend.gradients import tokenize
from gradiend.util import PLACEHOLDER
from gradiend.util._argument_fields import plain
from gradiend.util._display import Shown, Table, shortened
from gradiend.util._keywords import split_order

_WORDS_SHOWN = 6
_FLAGGED_SHOWN = 20
_EXAMPLE_WIDTH = 90


@dataclass(frozen=True)
class WordSummary:
    """A word of a class, in one casing."""

    word: str
    """The word as it stands in the texts."""
    count: int
    """How many rows have the word."""
    tokens: tuple[str, ...] | None = None
    """The pieces of the word in the first of its texts; None without a tokenizer."""
    is_unknown: bool = False
    """Whether the tokenizer lacks a piece of the word."""

    @property
    def is_flagged(self) -> bool:
        """Whether a model sees several tokens, or an unknown one, in place of one token for the word."""
        return self.is_unknown or (self.tokens is not None and len(self.tokens) > 1)


@dataclass(frozen=True)
class Lengths:
    """Words per text, the masked word included."""

    minimum: int
    """The shortest text."""
    quartiles: tuple[float, float, float]
    """The lengths that a quarter, half and three quarters of the texts do not exceed."""
    maximum: int
    """The longest text."""


@dataclass(frozen=True)
class ClassSummary:
    """One class of the data."""

    name: str
    """Name of the class."""
    rows: Mapping[str, int]
    """Split → how many rows."""
    words: tuple[WordSummary, ...]
    """Words of the class, commonest first."""
    lengths: Lengths
    """How long the texts of the class are."""
    examples: tuple[tuple[str, str], ...]
    """Three texts of the class, spread over the data, and the word of each."""

    @property
    def n_rows(self) -> int:
        """How many rows the class has in all splits."""
        return sum(self.rows.values())


@dataclass(frozen=True)
class Overlap:
    """Texts or documents that two splits share, so that results on one split depend on the other."""

    kind: str
    """`"text"` (the same masked text) or `"document"`."""
    splits: tuple[str, str]
    """The two splits."""
    count: int
    """How many distinct texts or documents are in both."""
    example: str
    """One of these texts or documents."""


@dataclass(frozen=True, repr=False)
class DataSummary(Shown):
    """A data report, to print, to show in a notebook, or to take as a dict."""

    classes: tuple[ClassSummary, ...]
    """The classes, the target classes first."""
    overlaps: tuple[Overlap, ...]
    """What each two splits share; empty if they share nothing."""
    dropped: Mapping[str, int]
    """Reason → how many rows or sentences were left out."""
    n_beside_others: int = 0
    """How many rows of created data show a word of another class in their sentence, which may tell the class."""
    tokenizer: str | None = None
    """Name of the tokenizer that cut the words into tokens; None without a tokenizer."""
    has_documents: bool = False
    """Whether the data says which document a text is from."""

    @property
    def n_rows(self) -> int:
        """How many rows all classes have."""
        return sum(item.n_rows for item in self.classes)

    @property
    def flagged_words(self) -> dict[str, tuple[WordSummary, ...]]:
        """Class → its words that split into several tokens or are unknown; classes without any are left out."""
        flagged = {item.name: tuple(word for word in item.words if word.is_flagged) for item in self.classes}
        return {name: words for name, words in flagged.items() if words}

    def to_dict(self) -> dict[str, Any]:
        """The whole report as nested dicts and lists that JSON can hold."""
        return {"n_rows": self.n_rows, **plain(dataclasses.asdict(self))}

    def _tables(self) -> tuple[str, list[Table]]:
        splits: Counter[str] = Counter()
        for item in self.classes:
            splits.update(item.rows)
        shares = ", ".join(f"{split} {rows}" for split, rows in splits.items()) or "none"
        note = f"\n{beside_others(self.n_beside_others, self.n_rows)}" if self.n_beside_others else ""
        headline = f"{self.n_rows} rows of {len(self.classes)} classes; splits: {shares}.{note}"
        n_rows = [[item.name, *(item.rows.get(split, 0) for split in splits), item.n_rows] for item in self.classes]
        words = [[item.name, len(item.words), _commonest(item.words)] for item in self.classes]
        lengths = [
            [item.name, item.lengths.minimum, *item.lengths.quartiles, item.lengths.maximum] for item in self.classes
        ]
        shared = [
            [f"{item.splits[0]} and {item.splits[1]}", item.kind, item.count, shortened(item.example, _EXAMPLE_WIDTH)]
            for item in self.overlaps
        ]
        known = "" if shared else f"no text{' and no document' if self.has_documents else ''} is in two splits."
        dropped = list(self.dropped.items())
        examples = [
            [item.name, word, shortened(text, _EXAMPLE_WIDTH)] for item in self.classes for text, word in item.examples
        ]
        return headline, [
            Table("Rows", ["class", *splits, "all"], n_rows),
            Table("Words", ["class", "distinct", "commonest"], words),
            *self._flagged_table(),
            Table("Words per text", ["class", "shortest", "25 %", "50 %", "75 %", "longest"], lengths),
            Table("Shared by splits", ["splits", "what", "how many", "such as"], shared, known),
            Table("Dropped", ["what", "how many"], dropped, "" if dropped else "nothing."),
            Table("Examples", ["class", "word", "text"], examples),
        ]

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


def _commonest(words: Sequence[WordSummary]) -> str:
    rest = len(words) - _WORDS_SHOWN
    shown = ", ".join(f"{word.word} {word.count}" for word in words[:_WORDS_SHOWN])
    return shown + (f" and {rest} more" if rest > 0 else "")


def beside_others(count: int, n_rows: int) -> str:
    """Say how many rows show a word of another class, and how to leave such rows out."""
    return (
        f"{count} of {n_rows} rows are from sentences that also hold words of another class; "
        "generate_training_data(keep_several_classes=False) leaves them out."
    )


_EXAMPLES = 3


def summarise(
    rows: pd.DataFrame, *, classes: Sequence[str] | None = None, dropped: Mapping[str, int] | None = None,
    n_beside_others: int = 0, tokenizer: Any = None,
) -> DataSummary:  # fmt: skip
    """Describe the rows that a data set gives.

    `rows` has the columns masked, split, factual_class and factual, and optionally document, None where it is unknown.
    `classes` are shown in their order, also those without rows. `dropped` says for what reasons how many rows were left
    out before, and `n_beside_others` how many are from sentences that hold a word of another class too. `tokenizer`:
    see `resolve_tokenizer`; None shows no tokens.
    """
    rows = rows.reset_index(drop=True)
    resolved = None if tokenizer is None else resolve_tokenizer(tokenizer)
    names = list(dict.fromkeys([*(classes or ()), *rows[UNIFIED_FACTUAL_CLASS]]))
    splits = split_order(rows[UNIFIED_SPLIT])
    documents = rows[DOCUMENT] if DOCUMENT in rows.columns else pd.Series(None, index=rows.index, dtype=object)
    texts = rows[UNIFIED_MASKED].str.split().str.join(" ")
    split_of = rows[UNIFIED_SPLIT]
    shared = _overlaps("text", texts, split_of, splits) + _overlaps("document", documents.dropna(), split_of, splits)
    return DataSummary(
        classes=tuple(_of_class(name, rows[rows[UNIFIED_FACTUAL_CLASS] == name], splits, resolved) for name in names),
        overlaps=tuple(shared),
        dropped={reason: int(count) for reason, count in (dropped or {}).items() if count},
        n_beside_others=n_beside_others,
        tokenizer=None if resolved is None else _name_of(resolved),
        has_documents=bool(documents.notna().any()),
    )


def _name_of(tokenizer: Any) -> str:
    name = str(tokenizer.name_or_path) or type(tokenizer).__name__
    return Path(name).name if Path(name).is_absolute() else name


def _of_class(name: str, rows: pd.DataFrame, splits: Sequence[str], tokenizer: Any) -> ClassSummary:
    by_split = rows[UNIFIED_SPLIT].value_counts()
    texts = rows.drop_duplicates(UNIFIED_MASKED)
    return ClassSummary(
        name=name, rows={split: int(by_split.get(split, 0)) for split in splits}, words=_words(rows, tokenizer),
        lengths=_lengths(texts[UNIFIED_MASKED]), examples=_examples(texts),
    )  # fmt: skip


def _words(rows: pd.DataFrame, tokenizer: Any) -> tuple[WordSummary, ...]:
    grouped = rows.groupby(UNIFIED_FACTUAL, sort=True)[UNIFIED_MASKED].agg(["size", "first"])
    grouped = grouped.sort_values("size", ascending=False, kind="stable")
    words = []
    for word, count, masked in grouped.itertuples(name=None):
        tokens, is_unknown = (None, False) if tokenizer is None else tokens_of_word(tokenizer, masked, word)
        words.append(WordSummary(str(word), int(count), tokens, is_unknown))
    return tuple(words)


def _lengths(texts: pd.Series) -> Lengths:
    if texts.empty:
        return Lengths(0, (0.0, 0.0, 0.0), 0)
    counts = np.array([len(text.split()) for text in texts])
    low, middle, high = (float(value) for value in np.quantile(counts, (0.25, 0.5, 0.75)))
    return Lengths(int(counts.min()), (low, middle, high), int(counts.max()))


def _examples(texts: pd.DataFrame) -> tuple[tuple[str, str], ...]:
    numbers = sorted({int(number) for number in np.linspace(0, len(texts) - 1, _EXAMPLES)}) if len(texts) else []
    chosen = texts.iloc[numbers]
    return tuple(zip(chosen[UNIFIED_MASKED], chosen[UNIFIED_FACTUAL], strict=True))


def _overlaps(kind: str, values: pd.Series, split_of: pd.Series, splits: Sequence[str]) -> list[Overlap]:
    of_split = {split: dict.fromkeys(values[split_of.loc[values.index] == split]) for split in splits}
    found = []
    for first, second in combinations(splits, 2):
        shared = [value for value in of_split[second] if value in of_split[first]]
        if shared:
            found.append(Overlap(kind, (first, second), len(shared), str(shared[0])))
    return found


def resolve_tokenizer(tokenizer: Any) -> Any:
    """Return a tokenizer, also by its name or path; it must be fast, since only these know a token's characters."""
    from transformers import AutoTokenizer, PreTrainedTokenizerBase  # noqa: PLC0415

    if isinstance(tokenizer, str | Path):
        try:
            tokenizer = AutoTokenizer.from_pretrained(str(tokenizer))
        except (OSError, ValueError) as error:
            raise OSError(
                f"No tokenizer can be loaded from {str(tokenizer)!r}: give the folder or hub id of a model, or a "
                f"tokenizer. ({str(error).strip().splitlines()[0]})"
            ) from error
    if not (isinstance(tokenizer, PreTrainedTokenizerBase) and tokenizer.is_fast):
        raise TypeError(
            "The tokens of a word are found by the characters that they stand for, which only a fast tokenizer of "
            f"transformers says: pass one, or its name; got {type(tokenizer).__name__}."
        )
    return tokenizer


def tokens_of_word(tokenizer: Any, masked: str, word: str) -> tuple[tuple[str, ...], bool]:
    """Return the pieces of a word at the first placeholder of a text, and whether one of the pieces is unknown."""
    filled = masked.replace(PLACEHOLDER, word)
    start = masked.index(PLACEHOLDER)
    stop = start + len(word)
    encoded = tokenize(tokenizer, filled, return_offsets_mapping=True, add_special_tokens=False, verbose=False)
    inside = [
        (token, filled[max(begin, start) : min(end, stop)])
        for token, (begin, end) in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
        if begin < stop and end > start
    ]
    unknown = tokenizer.unk_token_id
    is_unknown = any(token == unknown for token, _ in inside) or not inside
    return tuple(piece for _, piece in inside), is_unknown
