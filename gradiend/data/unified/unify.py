"""From understood tables to the unified frame: filter, check, fill in alternatives, carry casing over."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gradiend.data.unified.alternatives import Vocabulary, sample_alternatives
from gradiend.data.unified.casing import apply_casing_to_rows
from gradiend.data.unified.parts import Part, classes_of, open_rows
from gradiend.data.unified.schema import (
    UNIFIED_ALTERNATIVE,
    UNIFIED_ALTERNATIVE_CLASS,
    UNIFIED_COLUMNS,
    UNIFIED_FACTUAL,
    UNIFIED_FACTUAL_CLASS,
    UNIFIED_MASKED,
    UNIFIED_TRANSITION,
    transition_id,
)
from gradiend.data.unified.validate import listed, parse_pair, require_classes


def unify(
    parts: Sequence[Part],
    pair: Sequence[str] | None,
    max_counterfactuals_per_sentence: int = 1,
    random_state: int | None = None,
) -> pd.DataFrame:
    """Make the unified frame.

    Args:
        parts: The tables.
        pair: Two classes; rows of other classes are dropped. None keeps all rows, where every row has its
            alternative and the class of that.
        max_counterfactuals_per_sentence: Distinct sampled alternatives, and so rows, per text at most.
        random_state: Seed of the sampling; None is the seed 0, so that the same data always gives the same
            rows.

    Returns:
        A frame with the columns `UNIFIED_COLUMNS`, numbered from 0, in the order of the parts and their rows.

    Raises:
        ValueError: Bad rows, a missing class, or no pair where one is needed.
    """
    if max_counterfactuals_per_sentence < 1:
        raise ValueError(
            f"max_counterfactuals_per_sentence must be at least 1, got {max_counterfactuals_per_sentence}."
        )
    available = classes_of(parts)
    if pair is not None:
        pair = parse_pair(pair)
        require_classes(pair, available)
    elif any(part.alternative_col is None or part.alternative_class is None for part in parts):
        raise ValueError(
            f"The data does not say which word of which class to compare with: give a pair of the classes "
            f"{listed(available)}, or a column with alternatives and one with their classes."
        )
    rows = pd.concat([open_rows(part, pair) for part in parts], ignore_index=True)
    if rows.empty and pair is not None:
        found = {transition_id(a, b) for part in parts for a, b in _transitions(part)}
        raise ValueError(f"No row compares {pair[0]!r} with {pair[1]!r}; the data has: {listed(sorted(found))}.")
    if pair is not None:
        rows = _fill_alternatives(rows, pair, max_counterfactuals_per_sentence, random_state or 0)
    return _close(rows)


def _transitions(part: Part) -> set[tuple[str, str]]:
    if part.alternative_class is None:
        return set()
    return set(zip(part.factual_class, part.alternative_class, strict=True))


def _fill_alternatives(rows: pd.DataFrame, pair: tuple[str, str], size: int, seed: int) -> pd.DataFrame:
    is_open = rows[UNIFIED_ALTERNATIVE].isna()
    if not is_open.any():
        return rows
    filled = [rows[~is_open]]
    # Sorted, so that the order in which the user names the classes changes no row.
    for stream, name in enumerate(sorted(pair)):
        asked = rows[is_open & (rows[UNIFIED_FACTUAL_CLASS] == name)]
        if asked.empty:
            continue
        other = pair[1] if name == pair[0] else pair[0]
        vocabulary = Vocabulary.of(rows.loc[rows[UNIFIED_FACTUAL_CLASS] == other, UNIFIED_FACTUAL])
        picks = sample_alternatives(asked[UNIFIED_FACTUAL], vocabulary, size, np.random.default_rng([seed, stream]))
        _require_picks(asked, picks, name, other)
        row, _ = np.nonzero(picks >= 0)
        answered = asked.iloc[row].copy()
        answered[UNIFIED_ALTERNATIVE] = vocabulary.words[picks[picks >= 0]]
        filled.append(answered)
    return pd.concat(filled).sort_index(kind="stable")


def _require_picks(asked: pd.DataFrame, picks: NDArray[np.int64], name: str, other: str) -> None:
    if picks.shape[1] == 0:
        raise ValueError(f"Alternatives for {name!r} are sampled from the words of {other!r}, which has no rows.")
    nothing = picks[:, 0] < 0
    if nothing.any():
        word = asked[UNIFIED_FACTUAL].to_numpy()[nothing][0]
        raise ValueError(
            f"{int(nothing.sum())} rows of {name!r} have no alternative: {word!r} is also the only word of "
            f"{other!r}. Classes with the same words cannot be told apart by them; choose another pair."
        )


def _close(rows: pd.DataFrame) -> pd.DataFrame:
    rows = rows.reset_index(drop=True)
    factual = rows[UNIFIED_FACTUAL].to_numpy(dtype=object)
    alternative = rows[UNIFIED_ALTERNATIVE].to_numpy(dtype=object)
    rows[UNIFIED_ALTERNATIVE] = apply_casing_to_rows(rows[UNIFIED_MASKED].to_numpy(dtype=object), factual, alternative)
    same = rows[UNIFIED_FACTUAL] == rows[UNIFIED_ALTERNATIVE]
    if same.any():
        first = rows[same].iloc[0]
        raise ValueError(
            f"{int(same.sum())} rows have the same factual and alternative word, first "
            f"{first[UNIFIED_FACTUAL]!r} in {first[UNIFIED_MASKED][:60]!r}: they say nothing about "
            f"{first[UNIFIED_FACTUAL_CLASS]!r} against {first[UNIFIED_ALTERNATIVE_CLASS]!r}. "
            "Remove or correct them."
        )
    classes = rows[[UNIFIED_FACTUAL_CLASS, UNIFIED_ALTERNATIVE_CLASS]].drop_duplicates()
    names = {(a, b): transition_id(a, b) for a, b in classes.itertuples(index=False)}
    rows[UNIFIED_TRANSITION] = [
        names[key] for key in zip(rows[UNIFIED_FACTUAL_CLASS], rows[UNIFIED_ALTERNATIVE_CLASS], strict=True)
    ]
    # All values are strings; this gives them the dtype that this version of pandas reads strings as.
    return rows[list(UNIFIED_COLUMNS)].astype(str)
