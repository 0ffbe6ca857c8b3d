"""The rows of an encoder evaluation: transitions of splits, and neutral texts with a word masked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from gradiend.data.text._neutral_masking import mask_random_words
from gradiend.data.unified import UNIFIED_SPLIT, require_split, transition_id
from gradiend.data.unified.transitions import expand_transition_selection
from gradiend.evaluator._encoder_statistics import NO_SPLIT
from gradiend.trainer.core.arguments import TrainingArguments
from gradiend.trainer.text.prediction._rows import checked_neutral, filled
from gradiend.trainer.text.prediction._text_data import TextData

NEUTRAL_TRAINING, NEUTRAL_DATASET = "neutral_training_masked", "neutral_dataset"
"""Types of neutral rows: the texts of the rows with another word masked, and texts of the neutral data."""

Directions = Sequence[tuple[str, str]]


def encoder_rows(
    data: TextData, split: str | Sequence[str], args: TrainingArguments, max_size: int | None, neutral: Any,
    ignored: Sequence[str], transitions: Any = None,
) -> list[pd.DataFrame]:  # fmt: skip
    """The labelled rows of splits, then neutral rows, one frame for each kind of text.

    Args:
        data: The data.
        split: Name of a split, several, or "all"; every split is capped by itself.
        args: The training arguments.
        max_size: Cap on the rows of a transition, and on texts of a kind.
        neutral: Neutral texts. Default: those of the configuration.
        ignored: Words that are not masked in neutral rows.
        transitions: See `expand_transition_selection`. Default: the target classes and, if the arguments say so, the
            other classes.

    Raises:
        ValueError: A split without rows, or transitions that hold one label only.
    """
    directions = None if transitions is None else expand_transition_selection(transitions, data.all_classes)
    splits = data.splits_of(split)
    own = [_rows_of_split(data, name, args, max_size, directions) for name in splits]
    rows = pd.concat(own, ignore_index=True)
    if directions is not None:
        _require_labels(rows, directions, data.target_classes)
    neutral = data.neutral_data if neutral is None else checked_neutral(neutral)
    texts = [(NEUTRAL_TRAINING, name, filled(found)) for name, found in zip(splits, own, strict=True)]
    if neutral is not None:
        texts.append((NEUTRAL_DATASET, NO_SPLIT, neutral["text"].tolist()))
    frames = [rows]
    for kind, name, found in texts:
        _, masked, words = mask_random_words(found[: max_size or len(rows)], ignored, data.seed)
        columns = {"masked": masked, "factual": words, "alternative": words, "label": 0.0, UNIFIED_SPLIT: name}
        frames.append(pd.DataFrame({**columns, "source_id": kind, "target_id": kind, "type": kind}))
    return frames


def _rows_of_split(
    data: TextData, split: str, args: TrainingArguments, max_size: int | None, directions: Directions | None
) -> pd.DataFrame:
    if directions is None:
        rows = data.labelled_rows(split, args.add_identity_for_other_classes)
    else:
        require_split(data.combined_data, split)
        rows = data.transition_rows(split, directions)
    rows = data.capped(rows, "feature_class_id", max_size)
    targets = rows.loc[rows["label"] != 0, "label"]
    if args.encoder_eval_balance and len(targets):
        rows = data.capped(rows, "feature_class_id", int(targets.value_counts().min()))
    return rows


def _require_labels(rows: pd.DataFrame, directions: Directions, pair: Sequence[str]) -> None:
    """Raise ValueError if chosen transitions hold fewer than two labels: nothing could be correlated."""
    if rows["label"].nunique() > 1:
        return
    chosen = ", ".join(transition_id(*direction) for direction in directions)
    raise ValueError(
        f"transition_selection ({chosen}) has {'rows of one label only' if len(rows) else 'no rows'}, so there is "
        f"nothing to tell apart: add pair({pair[0]!r}, {pair[1]!r}), the target classes."
    )
