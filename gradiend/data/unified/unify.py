"""From understood tables to the unified frame: filter, check, fill in alternatives."""

from __future__ import annotations

import logging
import zlib
from collections import Counter
from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd

from gradiend.data.unified.alternatives import Vocabulary, sample_alternatives
from gradiend.data.unified.casing import own_spellings, write_in_place
from gradiend.data.unified.contrast import Contrast
from gradiend.data.unified.parts import Part, classes_of, open_rows
from gradiend.data.unified.schema import (
    UNIFIED_ALTERNATIVE,
    UNIFIED_ALTERNATIVE_CLASS,
    UNIFIED_COLUMNS,
    UNIFIED_FACTUAL,
    UNIFIED_FACTUAL_CLASS,
    UNIFIED_MASKED,
    UNIFIED_SPLIT,
    UNIFIED_TRANSITION,
    transition_id,
)
from gradiend.data.unified.validate import listed, require_classes
from gradiend.util._checks import require_whole

logger = logging.getLogger(__name__)

NO_OTHER_WORD = "without another word to compare with"
SAME_WORD = "with the same word on both sides"
REPEATED = "repeated once classes were merged"


def unify(
    parts: Sequence[Part],
    contrast: Contrast | None,
    max_counterfactuals_per_sentence: int = 1,
    random_state: int | None = None,
    dropped: Counter[str] | None = None,
) -> pd.DataFrame:
    """Make the unified frame.

    Args:
        parts: The tables.
        contrast: What is compared; rows of other classes are dropped. None keeps all rows, where every row has its
            alternative and the class of that.
        max_counterfactuals_per_sentence: Distinct sampled alternatives, and so rows, per text at most.
        random_state: Seed of the sampling; None is the seed 0, so that the same data always gives the same
            rows.
        dropped: Counts the rows that are dropped, by reason.

    Returns:
        A frame with the columns `UNIFIED_COLUMNS`, numbered from 0, in the order of the parts and their rows.

    Raises:
        ValueError: Bad rows, a missing class, or no contrast where one is needed.
        TypeError: `max_counterfactuals_per_sentence` is no whole number.
    """
    require_whole("max_counterfactuals_per_sentence", max_counterfactuals_per_sentence, 1)
    dropped = Counter() if dropped is None else dropped
    available = classes_of(parts)
    if contrast is not None:
        contrast.require_bases(available)
        require_classes(contrast.pair, {contrast.target_of.get(name, name): None for name in available})
    elif any(part.alternative_col is None or part.alternative_class is None for part in parts):
        raise ValueError(
            f"The data does not say which word of which class to compare with: give a pair of the classes "
            f"{listed(available)}, or a column with alternatives and one with their classes."
        )
    rows = pd.concat([open_rows(part, contrast, dropped) for part in parts], ignore_index=True)
    if contrast is None:
        return _close(rows)
    if rows.empty:
        found = {transition_id(a, b) for part in parts for a, b in _transitions(part)}
        raise ValueError(
            f"No row compares {contrast.pair[0]!r} with {contrast.pair[1]!r}; the data has: {listed(sorted(found))}."
        )
    rows = _fill_alternatives(rows, contrast, max_counterfactuals_per_sentence, random_state or 0, dropped)
    targets = rows[UNIFIED_FACTUAL_CLASS].map(contrast.target_of)
    closed = rows.assign(**{UNIFIED_FACTUAL_CLASS: targets, UNIFIED_ALTERNATIVE_CLASS: targets.map(contrast.other)})
    return _close_merged(closed, dropped) if contrast.merges else _close(closed)


def _transitions(part: Part) -> set[tuple[str, str]]:
    if part.alternative_class is None:
        return set()
    return set(zip(part.factual_class, part.alternative_class, strict=True))


def _fill_alternatives(
    rows: pd.DataFrame, contrast: Contrast, size: int, seed: int, dropped: Counter[str]
) -> pd.DataFrame:
    """Sample the alternatives of the rows that have none, from the words of the same split."""
    is_open = rows[UNIFIED_ALTERNATIVE].isna()
    if not is_open.any():
        return rows
    filled, vocabularies = [rows[~is_open]], _Vocabularies(rows)
    for key, asked in rows[is_open].groupby([UNIFIED_FACTUAL_CLASS, UNIFIED_SPLIT], sort=False):
        base, split = map(str, key)
        vocabulary = vocabularies.of(contrast.partners(base), split)
        # Named streams: neither the order of classes nor another split changes a draw.
        rng = np.random.default_rng([seed, zlib.crc32(base.encode()), zlib.crc32(split.encode())])
        texts, words = asked[UNIFIED_MASKED].tolist(), asked[UNIFIED_FACTUAL].tolist()
        picks = sample_alternatives(texts, words, vocabulary, size, rng)
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


class _Vocabularies:
    """The words of classes, per split, counted when first asked for."""

    def __init__(self, rows: pd.DataFrame) -> None:
        self._rows = rows
        self._spellings: dict[str, pd.DataFrame] = {}
        self._known: dict[tuple[tuple[str, ...], str], Vocabulary] = {}

    def of(self, classes: Collection[str], split: str) -> Vocabulary:
        """Their words in a split, so that a word held out from one is not drawn there; in all splits if it has none."""
        key = (tuple(classes), split)
        if key not in self._known:
            words = [self._words_of(name) for name in classes]
            inside = [own.loc[own[UNIFIED_SPLIT] == split, UNIFIED_FACTUAL].tolist() for own in words]
            everywhere = [own[UNIFIED_FACTUAL].tolist() for own in words]
            self._known[key] = Vocabulary.of(inside if any(inside) else everywhere)
        return self._known[key]

    def _words_of(self, name: str) -> pd.DataFrame:
        """The words of a class in their own spellings: any split may show that a capital is due to the place."""
        if name not in self._spellings:
            rows = self._rows[self._rows[UNIFIED_FACTUAL_CLASS] == name]
            spelled = own_spellings(rows[UNIFIED_MASKED].tolist(), rows[UNIFIED_FACTUAL].tolist())
            self._spellings[name] = pd.DataFrame({UNIFIED_SPLIT: rows[UNIFIED_SPLIT], UNIFIED_FACTUAL: spelled})
        return self._spellings[name]


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
    dropped[NO_OTHER_WORD] += len(lost)
    logger.warning(
        "%d of %d rows are dropped: the other class has no other word for them in their split (%s).",
        len(lost), len(rows), listed(lost[UNIFIED_FACTUAL].str.lower().unique()),
    )  # fmt: skip


def _close(rows: pd.DataFrame) -> pd.DataFrame:
    same = rows[UNIFIED_FACTUAL] == rows[UNIFIED_ALTERNATIVE]
    if same.any():
        first = rows[same].iloc[0]
        raise ValueError(
            f"{int(same.sum())} rows have the same factual and alternative word, first "
            f"{first[UNIFIED_FACTUAL]!r} in {first[UNIFIED_MASKED][:60]!r}: they say nothing about "
            f"{first[UNIFIED_FACTUAL_CLASS]!r} against {first[UNIFIED_ALTERNATIVE_CLASS]!r}. "
            "Remove or correct them."
        )
    return with_transitions(rows)


def _close_merged(rows: pd.DataFrame, dropped: Counter[str]) -> pd.DataFrame:
    """Close rows that were made for other contrasts than the merged one: some say nothing there, or the same twice."""
    same = rows[UNIFIED_FACTUAL] == rows[UNIFIED_ALTERNATIVE]
    repeated = rows.duplicated(list(UNIFIED_COLUMNS[:-1])) & ~same
    dropped[SAME_WORD] += int(same.sum())
    dropped[REPEATED] += int(repeated.sum())
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
