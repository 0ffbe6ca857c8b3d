"""From parsed tables to the unified frame: filter, check, fill in alternatives."""

from __future__ import annotations

import logging
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gradiend.data.unified._casing import capitalised, capitalised_by_place, own_spellings, write_in_place
from gradiend.data.unified._contrast import Contrast
from gradiend.data.unified._parsed_tables import DOCUMENT, ParsedTable, open_rows
from gradiend.data.unified._schema import (
    UNIFIED_ALTERNATIVE,
    UNIFIED_ALTERNATIVE_CLASS,
    UNIFIED_COLUMNS,
    UNIFIED_FACTUAL,
    UNIFIED_FACTUAL_CLASS,
    UNIFIED_MASKED,
    UNIFIED_SPLIT,
    UNIFIED_TRANSITION,
    listed,
    require_classes,
    transition_id,
)
from gradiend.util._checks import require_whole

logger = logging.getLogger(__name__)


def unify(
    tables: Sequence[ParsedTable], contrast: Contrast | None, max_counterfactuals_per_sentence: int = 1,
    random_state: int | None = None, dropped: Counter[str] | None = None,
) -> pd.DataFrame:  # fmt: skip
    """Make the unified frame, in the order of the tables and their rows; the arguments are those of `to_unified`.

    Without a contrast all rows are kept, and each must have its alternative and the class of the alternative.
    """
    require_whole("max_counterfactuals_per_sentence", max_counterfactuals_per_sentence, 1)
    dropped = Counter() if dropped is None else dropped
    columns = [column for table in tables for column in (table.factual_class, table.alternative_class)]
    available = list(dict.fromkeys(name for column in columns if column is not None for name in column.unique()))
    if contrast is not None:
        contrast.require_bases(available)
        require_classes(contrast.pair, {contrast.target_of.get(name, name): None for name in available})
    elif any(table.alternative_col is None or table.alternative_class is None for table in tables):
        raise ValueError(
            f"The data does not say which word of which class to compare with: give a pair of the classes "
            f"{listed(available)}, or a column with alternatives and one with their classes."
        )
    rows = pd.concat([open_rows(table, contrast, dropped) for table in tables], ignore_index=True)
    if contrast is None:
        return _close(rows)
    if rows.empty:
        both = [
            (table.factual_class, table.alternative_class) for table in tables if table.alternative_class is not None
        ]
        found = {transition_id(*pair) for columns in both for pair in zip(*columns, strict=True)}
        raise ValueError(
            f"No row compares {contrast.pair[0]!r} with {contrast.pair[1]!r}; the data has: {listed(sorted(found))}."
        )
    rows = _fill_alternatives(rows, contrast, max_counterfactuals_per_sentence, random_state or 0, dropped)
    targets = rows[UNIFIED_FACTUAL_CLASS].map(contrast.target_of)
    closed = rows.assign(**{UNIFIED_FACTUAL_CLASS: targets, UNIFIED_ALTERNATIVE_CLASS: targets.map(contrast.other)})
    return _close_merged(closed, dropped) if contrast.merges else _close(closed)


@dataclass(frozen=True)
class _Vocabulary:
    """The distinct words of one or more classes, as they are written in the middle of a sentence."""

    words: NDArray[np.object_]
    """(v,) words in alphabetic order, so that the order of the rows never decides a draw."""
    counts: NDArray[np.int64]
    """(v,) how often each word occurs."""

    @classmethod
    def of(cls, spellings_by_class: Iterable[Sequence[str]]) -> _Vocabulary:
        """Count the words of each class, see `own_spellings`.

        Words of a class that differ in case only are one, in its commonest spelling; those of two classes are two
        (`sie`, `Sie`).
        """
        total: Counter[str] = Counter()
        for spellings in spellings_by_class:
            # Where two forms are equally common, the one in small letters comes first.
            forms = sorted(Counter(spellings).items(), key=lambda item: (item[1], item[0]), reverse=True)
            commonest: dict[str, str] = {}
            for form, count in forms:
                total[commonest.setdefault(form.lower(), form)] += count
        words = sorted(total, key=lambda word: (word.lower(), word))
        return cls(np.array(words, dtype=object), np.array([total[word] for word in words], dtype=np.int64))

    def places_of(self, masked: Sequence[str], factual: Sequence[str]) -> NDArray[np.int64]:
        """Return (n, 2) indices of the words that would spell a row's own word in its place; `len(words)` is none."""
        none = len(self.words)
        exact = {word: index for index, word in enumerate(self.words)}
        raised = {capitalised(word): index for index, word in enumerate(self.words) if capitalised(word) != word}
        own = np.full((len(factual), 2), none, dtype=np.int64)
        for row, (text, word) in enumerate(zip(masked, factual, strict=True)):
            own[row, 0] = exact.get(word, none)
            if word in raised and capitalised_by_place(text, word):
                own[row, 1] = raised[word]
        return own

    def sample(
        self, masked: Sequence[str], factual: Sequence[str], size: int, rng: np.random.Generator
    ) -> NDArray[np.int64]:
        """Draw up to `size` distinct words for each row, never the row's own word.

        A row's draws follow the words' frequencies without replacement. They are exact: an integer is drawn among the
        occurrences that are still allowed and then shifted over those that are not. The result has (n, m ≤ size)
        indices into `words`, -1 where no word was left.
        """
        unused = len(self.words)
        starts = np.cumsum(self.counts) - self.counts
        # A last entry of weight 0 stands for "no word".
        starts = np.append(starts, self.counts.sum())
        counts = np.append(self.counts, 0)
        taken = self.places_of(masked, factual)
        n_own = taken.shape[1]
        for _ in range(min(size, unused)):
            left = starts[-1] - counts[taken].sum(axis=1)
            drawn = rng.integers(0, np.maximum(left, 1))
            for column in np.sort(taken, axis=1).T:
                drawn += np.where(drawn >= starts[column], counts[column], 0)
            picked = np.searchsorted(starts[:-1], drawn, side="right") - 1
            taken = np.column_stack([taken, np.where(left > 0, picked, unused)])
        picks = taken[:, n_own:]
        return np.where(picks == unused, -1, picks)


def _fill_alternatives(
    rows: pd.DataFrame, contrast: Contrast, size: int, seed: int, dropped: Counter[str]
) -> pd.DataFrame:
    """Sample the alternatives of the rows that have none, from the words of the same split."""
    is_open = rows[UNIFIED_ALTERNATIVE].isna()
    if not is_open.any():
        return rows
    spellings = {
        # a word of any split may show that a capital comes from the place
        name: pd.Series(own_spellings(own[UNIFIED_MASKED].tolist(), own[UNIFIED_FACTUAL].tolist()), own[UNIFIED_SPLIT])
        for name, own in rows.groupby(UNIFIED_FACTUAL_CLASS, sort=False)
    }
    filled = [rows[~is_open]]
    for key, asked in rows[is_open].groupby([UNIFIED_FACTUAL_CLASS, UNIFIED_SPLIT], sort=False):
        base, split = map(str, key)
        vocabulary = _words_in(split, [spellings[name] for name in contrast.partners(base) if name in spellings])
        # Named streams: neither the order of classes nor another split changes a draw.
        rng = np.random.default_rng([seed, zlib.crc32(base.encode()), zlib.crc32(split.encode())])
        texts, words = asked[UNIFIED_MASKED].tolist(), asked[UNIFIED_FACTUAL].tolist()
        picks = vocabulary.sample(texts, words, size, rng)
        row, _ = np.nonzero(picks >= 0)
        drawn = vocabulary.words[picks[picks >= 0]].tolist()
        written = [write_in_place(word, texts[at], words[at]) for at, word in zip(row.tolist(), drawn, strict=True)]
        # Two words that differ only in their capital are the same at the start of a sentence.
        first = ~pd.DataFrame({"row": row, "word": written}).duplicated().to_numpy()
        answered = asked.iloc[row[first]].copy()
        answered[UNIFIED_ALTERNATIVE] = np.array(written, dtype=object)[first]
        filled.append(answered)
    result = pd.concat(filled).sort_index(kind="stable")
    _count_unanswered(rows, result, contrast, dropped)
    return result


def _words_in(split: str, spellings: Sequence[pd.Series]) -> _Vocabulary:
    """Count the words of classes in a split, so that only its words are drawn there, or in all if it has none."""
    inside = [own[own.index == split].tolist() for own in spellings]
    return _Vocabulary.of(inside if any(inside) else [own.tolist() for own in spellings])


def _count_unanswered(rows: pd.DataFrame, answered: pd.DataFrame, contrast: Contrast, dropped: Counter[str]) -> None:
    """Count the rows for which no alternative was left; a target class may not lose all of its rows."""
    lost = rows.loc[~rows.index.isin(answered.index)]
    if lost.empty:
        return
    targets = lost[UNIFIED_FACTUAL_CLASS].map(contrast.target_of)
    kept = set(answered[UNIFIED_FACTUAL_CLASS].map(contrast.target_of))
    for name in contrast.pair:
        if name in kept or name not in set(targets):
            continue
        other, word = contrast.other(name), lost.loc[targets == name, UNIFIED_FACTUAL].iloc[0]
        if not rows[UNIFIED_FACTUAL_CLASS].map(contrast.target_of).eq(other).any():
            raise ValueError(f"Alternatives for {name!r} are sampled from the words of {other!r}, which has no rows.")
        raise ValueError(
            f"{int((targets == name).sum())} rows of {name!r} have no alternative: {word!r} is also the only word of "
            f"{other!r}. Classes with the same words cannot be told apart by them; choose another pair."
        )
    dropped["without another word to compare with"] += len(lost)
    logger.warning(
        "%d of %d rows are dropped: the other class has no other word for them in their split (%s).",
        len(lost), len(rows), listed(lost[UNIFIED_FACTUAL].str.lower().unique()),
    )  # fmt: skip


def _close(rows: pd.DataFrame) -> pd.DataFrame:
    same = rows[UNIFIED_FACTUAL] == rows[UNIFIED_ALTERNATIVE]
    if same.any():
        first = rows[same].iloc[0]
        raise ValueError(
            f"{int(same.sum())} rows have the same factual and alternative word, first {first[UNIFIED_FACTUAL]!r} in "
            f"{first[UNIFIED_MASKED][:60]!r}: they say nothing about {first[UNIFIED_FACTUAL_CLASS]!r} against "
            f"{first[UNIFIED_ALTERNATIVE_CLASS]!r}. Remove or correct them."
        )
    return with_transitions(rows)


def _close_merged(rows: pd.DataFrame, dropped: Counter[str]) -> pd.DataFrame:
    """Close rows of merged classes: drop rows with the same word on both sides, and rows that are there twice."""
    same = rows[UNIFIED_FACTUAL] == rows[UNIFIED_ALTERNATIVE]
    repeated = rows.duplicated(list(UNIFIED_COLUMNS[:-1])) & ~same
    dropped["with the same word on both sides"] += int(same.sum())
    dropped["repeated once classes were merged"] += int(repeated.sum())
    return with_transitions(rows[~same & ~repeated])


def with_transitions(rows: pd.DataFrame) -> pd.DataFrame:
    """Number rows from 0, add the transition, and give all columns one dtype."""
    rows = rows.reset_index(drop=True)
    classes = rows[[UNIFIED_FACTUAL_CLASS, UNIFIED_ALTERNATIVE_CLASS]].drop_duplicates()
    names = {(a, b): transition_id(a, b) for a, b in classes.itertuples(index=False)}
    # lists, since going through a column of strings itself takes ten times as long
    sides = (rows[column].tolist() for column in (UNIFIED_FACTUAL_CLASS, UNIFIED_ALTERNATIVE_CLASS))
    rows[UNIFIED_TRANSITION] = [names[key] for key in zip(*sides, strict=True)]
    # All values are strings; this gives them the dtype that this version of pandas reads strings as.
    return rows[list(UNIFIED_COLUMNS)].astype(str)


_ROW = [UNIFIED_MASKED, UNIFIED_SPLIT, UNIFIED_FACTUAL_CLASS, UNIFIED_FACTUAL]


def factual_rows(tables: Sequence[ParsedTable], names: Mapping[str, str]) -> pd.DataFrame:
    """Collect the texts of some classes, each once for a word; `names` maps these classes to their new names.

    The columns are masked, split, factual_class, factual and document (None where it is unknown).
    """
    chosen = []
    for table in tables:
        inside = table.factual_class.isin(names)
        frame, classes = table.frame[inside], table.factual_class[inside]
        chosen.append(replace(table, frame=frame, factual_class=classes, alternative_col=None, alternative_class=None))
    rows = pd.concat([open_rows(table, None) for table in chosen], ignore_index=True)
    rows[UNIFIED_FACTUAL_CLASS] = rows[UNIFIED_FACTUAL_CLASS].map(names)
    return rows[[*_ROW, DOCUMENT]].drop_duplicates(_ROW, ignore_index=True)


def identity_rows(tables: Sequence[ParsedTable], names: Mapping[str, str]) -> pd.DataFrame:
    """Make unified rows of `factual_rows`, each with its own word and class as the alternative."""
    rows = factual_rows(tables, names)
    own = {UNIFIED_ALTERNATIVE_CLASS: rows[UNIFIED_FACTUAL_CLASS], UNIFIED_ALTERNATIVE: rows[UNIFIED_FACTUAL]}
    return with_transitions(rows.assign(**own))
