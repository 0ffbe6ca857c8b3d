"""What evaluations read of the data: rows of splits, neutral texts, texts to balance; and what is scored on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from gradiend.data import unified
from gradiend.data.text._neutral_masking import mask_random_words
from gradiend.data.unified import UNIFIED_ALTERNATIVE, UNIFIED_FACTUAL, UNIFIED_FACTUAL_CLASS, UNIFIED_MASKED
from gradiend.data.unified._schema import listed
from gradiend.data.unified.transitions import expand_transition_selection
from gradiend.evaluator._encoder_statistics import NO_SPLIT
from gradiend.evaluator._language_score import LanguageModelingScore
from gradiend.evaluator._measurements import BalanceOfClasses, TextMeasurement
from gradiend.evaluator._probabilities import ClassProbabilities, WordProbabilities
from gradiend.evaluator._row_wise import RowWiseProbabilities
from gradiend.evaluator._selection import LikelihoodPolicy
from gradiend.gradients import Objective, WordScorer
from gradiend.model._refusals import inside
from gradiend.objectives import objective_of
from gradiend.trainer.core.arguments import TrainingArguments
from gradiend.trainer.core.feature_definition import original_model
from gradiend.trainer.text.prediction import _rows
from gradiend.trainer.text.prediction._rows import checked_neutral, filled
from gradiend.trainer.text.prediction._text_data import TextData
from gradiend.util import PLACEHOLDER
from gradiend.util._checks import require_texts
from gradiend.util._keywords import normalize_split_name
from gradiend.util.logging import get_logger

logger = get_logger(__name__)

TARGET_ROWS = "target_rows"
"""The value of `balance_texts` that takes the rows of the target classes."""
NEUTRAL_TRAINING, NEUTRAL_DATASET = "neutral_training_masked", "neutral_dataset"
"""Types of neutral rows: the texts of the rows with another word masked, and texts of the neutral data."""

Directions = Sequence[tuple[str, str]]


def encoder_rows(
    data: TextData, split: str | Sequence[str], args: TrainingArguments, max_size: int | None, neutral: Any,
    ignored: Sequence[str], transitions: Any,
) -> list[pd.DataFrame]:  # fmt: skip
    """The labelled rows of splits, then neutral rows, one frame for each kind of text.

    Every split is capped by itself at `max_size` rows of a transition, and texts of a kind too. Words in `ignored` are
    not masked in neutral rows. Without `transitions`, rows are those of the target classes and, if `args` say so, of
    the other classes.
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
        columns = {"masked": masked, "factual": words, "alternative": words, "label": 0.0, unified.UNIFIED_SPLIT: name}
        frames.append(pd.DataFrame({**columns, "source_id": kind, "target_id": kind, "type": kind}))
    return frames


def _rows_of_split(
    data: TextData, split: str, args: TrainingArguments, max_size: int | None, directions: Directions | None
) -> pd.DataFrame:
    if directions is None:
        rows = data.labelled_rows(split, args.add_identity_for_other_classes)
    else:
        unified.require_split(data.combined_data, split)
        name = normalize_split_name(split)
        frames = [frame[frame[unified.UNIFIED_SPLIT] == name] for frame in data.frames_of(directions)]
        rows = _rows.labelled_transitions(pd.concat(frames, ignore_index=True), data.target_classes)
    rows = data.capped(rows, "feature_class_id", max_size)
    targets = rows.loc[rows["label"] != 0, "label"]
    if args.encoder_eval_balance and len(targets):
        rows = data.capped(rows, "feature_class_id", int(targets.value_counts().min()))
    return rows


def _require_labels(rows: pd.DataFrame, directions: Directions, pair: Sequence[str]) -> None:
    """Raise ValueError if chosen transitions hold fewer than two labels: nothing could be correlated."""
    if rows["label"].nunique() > 1:
        return
    chosen = ", ".join(unified.transition_id(*direction) for direction in directions)
    raise ValueError(
        f"transition_selection ({chosen}) has {'rows of one label only' if len(rows) else 'no rows'}, so there is "
        f"nothing to tell apart: add pair({pair[0]!r}, {pair[1]!r}), the target classes."
    )


def decoder_rows(data: TextData, split: str | Sequence[str], max_size: int | None, given: Any) -> pd.DataFrame:
    """The distinct rows of a decoder evaluation: the given ones, or those of splits (a name, several, or "all")."""
    if given is not None:
        if isinstance(given, pd.DataFrame):
            given = data.usual_frame(given, "training_like_df")
        columns = data.config.columns()
        rows = _rows.training_like_rows(given, columns)
        return _rows.with_alternatives(rows, columns, data.target_classes) if data.row_wise else rows
    others = not data.config.decoder_eval_restrict_to_target_classes
    rows = pd.concat([data.rows(name, others) for name in data.splits_of(split)], ignore_index=True)
    own = [UNIFIED_ALTERNATIVE] if data.row_wise else []
    rows = rows.drop_duplicates([UNIFIED_MASKED, UNIFIED_FACTUAL, UNIFIED_FACTUAL_CLASS, *own])
    return data.capped(rows, UNIFIED_FACTUAL_CLASS, max_size)


def decoder_neutral(data: TextData, rows: pd.DataFrame, max_size: int | None, given: Any) -> pd.DataFrame:
    """The neutral texts of a decoder evaluation; without neutral data, the texts of the rows."""
    neutral = data.neutral_data if given is None else checked_neutral(given)
    if neutral is None:
        neutral = pd.DataFrame({"text": filled(rows)})
    caps = [cap for cap in (max_size, data.config.decoder_eval_lms_max_samples) if cap is not None]
    return data.sampled(neutral, min(caps, default=None))


def balance_texts(data: TextData, given: Any) -> list[str]:
    """The distinct texts of the goal "balance": a list, a column of a frame, file or data set, or the target rows."""
    config = data.config
    if data.row_wise and data.shared_words:
        raise ValueError(
            f'"balance" compares the words of the classes on other texts, and the classes share '
            f"{listed(data.shared_words)}: give words that tell them apart, decoder_eval_targets={{class: words}}."
        )
    wanted = config.balance_texts if given is None else given
    if wanted is None:
        raise ValueError(
            '"balance" needs texts that fit every class, such as "The nurse said that [MASK] was tired.": give '
            "balance_texts=[…] (or a file; it is also a field of TextPredictionConfig). "
            'balance_texts="target_rows" takes the rows of the target classes, whose context makes one class right.'
        )
    if isinstance(wanted, str) and wanted == TARGET_ROWS:
        return decoder_rows(data, "test", None, None)[UNIFIED_MASKED].drop_duplicates().tolist()
    if isinstance(wanted, (list, tuple)):
        texts = list(require_texts("balance_texts", wanted))
    else:
        frame = unified.resolve_dataframe(wanted)
        assert frame is not None
        column = next((name for name in (config.masked_col, "text") if name in frame), None)
        if column is None:
            has = ", ".join(map(str, frame.columns))
            raise ValueError(f"balance_texts needs a column {config.masked_col!r} or 'text'; it has {has}.")
        texts = frame[column].tolist()
    texts = data.usual_texts(texts, "balance_texts")
    without = [text for text in texts if not isinstance(text, str) or PLACEHOLDER not in text]
    if without or not texts:
        found = f"{without[0]!r:.60}" if without else "no text"
        raise ValueError(f"Every text of balance_texts needs a {PLACEHOLDER}; got {found}.")
    return list(dict.fromkeys(texts))


def decoder_measurement(
    data: TextData, model: Any, tokenizer: Any, rows: pd.DataFrame, neutral: pd.DataFrame,
    classes: Sequence[str], targets: Mapping[str, Sequence[str]], batch_size: int, scored_by: LikelihoodPolicy | None,
    to_balance: Sequence[str] | None,
) -> TextMeasurement:  # fmt: skip
    """See `TextPredictionTrainer.prepare_base_model_evaluation`.

    `classes` are the target classes of the trainer, and `targets` has the words of these and of others.
    """
    model = original_model(inside(model))
    objective, config = objective_of(model, tokenizer), data.config
    for name, values in targets.items():
        objective.require_known(values)
        logger.debug("P(%s) is the probability of %s", name, ", ".join(values))
    scorable = _rows.scorable_rows(rows, objective, "the decoder evaluation")
    probabilities = _probabilities(data, scorable, targets, objective, batch_size)
    ignored = [*(word for values in targets.values() for word in values), *(config.decoder_eval_ignore_tokens or ())]
    score = LanguageModelingScore(
        neutral["text"].tolist(), objective, ignore=ignored, batch_size=batch_size, in_blocks=scored_by is not None
    )
    balance = None
    if to_balance is not None:
        own = classes if config.decoder_eval_restrict_to_target_classes else targets
        words = {name: targets[name] for name in own}
        balance = BalanceOfClasses(to_balance, words, objective, batch_size=batch_size)
    return TextMeasurement(
        WordScorer(model, objective), probabilities, score,
        enough=None if scored_by is None else scored_by.enough, balance=balance,
    )  # fmt: skip


def _probabilities(
    data: TextData, rows: pd.DataFrame, targets: Mapping[str, Sequence[str]], objective: Objective, batch_size: int
) -> WordProbabilities:
    """P(class) on the rows of a decoder evaluation: by the words of the classes, or row by row."""
    if not data.row_wise:
        return ClassProbabilities(rows, targets, objective, batch_size=batch_size)
    if data.config.decoder_eval_targets is None:
        logger.info(
            "The classes share the words %s: the decoder is evaluated row by row, P(the word of a row) against "
            "P(its alternative).", listed(data.shared_words),
        )  # fmt: skip
    rows = _rows.comparable_rows(rows, objective)
    for side in (UNIFIED_FACTUAL, UNIFIED_ALTERNATIVE):
        objective.require_known(rows[side].unique().tolist())
    return RowWiseProbabilities(rows, data.target_classes, objective, batch_size=batch_size)
