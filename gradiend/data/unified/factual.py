"""Texts and the words that stood in them, whatever they are compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pandas as pd

from gradiend.data.unified.parts import DOCUMENT, Part, open_rows
from gradiend.data.unified.schema import (
    UNIFIED_ALTERNATIVE,
    UNIFIED_ALTERNATIVE_CLASS,
    UNIFIED_FACTUAL,
    UNIFIED_FACTUAL_CLASS,
    UNIFIED_MASKED,
    UNIFIED_SPLIT,
)
from gradiend.data.unified.unify import with_transitions

_ROW = [UNIFIED_MASKED, UNIFIED_SPLIT, UNIFIED_FACTUAL_CLASS, UNIFIED_FACTUAL]


def factual_rows(parts: Sequence[Part], names: Mapping[str, str]) -> pd.DataFrame:
    """The texts of some classes, each once for a word.

    Args:
        parts: The tables.
        names: Class of the data → its name in the result; rows of all others are left out.

    Returns:
        Columns masked, split, factual_class, factual and document (None where unknown), numbered from 0.

    Raises:
        ValueError: Bad rows.
    """
    chosen = []
    for part in parts:
        inside = part.factual_class.isin(names)
        frame, classes = part.frame[inside], part.factual_class[inside]
        chosen.append(replace(part, frame=frame, factual_class=classes, alternative_col=None, alternative_class=None))
    rows = pd.concat([open_rows(part, None) for part in chosen], ignore_index=True)
    rows[UNIFIED_FACTUAL_CLASS] = rows[UNIFIED_FACTUAL_CLASS].map(names)
    return rows[[*_ROW, DOCUMENT]].drop_duplicates(_ROW, ignore_index=True)


def identity_rows(parts: Sequence[Part], names: Mapping[str, str]) -> pd.DataFrame:
    """The rows of `factual_rows` as unified rows: each has its own word and class as the alternative."""
    rows = factual_rows(parts, names)
    alternatives = {
        UNIFIED_ALTERNATIVE_CLASS: rows[UNIFIED_FACTUAL_CLASS],
        UNIFIED_ALTERNATIVE: rows[UNIFIED_FACTUAL],
    }
    return with_transitions(rows.assign(**alternatives))
