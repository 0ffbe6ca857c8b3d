"""Rows of the unified frame on their way to training and evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api.types import is_numeric_dtype

from gradiend.data.text._neutral_masking import ExcludedWords
from gradiend.data.unified import (
    UNIFIED_ALTERNATIVE,
    UNIFIED_ALTERNATIVE_CLASS,
    UNIFIED_FACTUAL,
    UNIFIED_FACTUAL_CLASS,
    UNIFIED_MASKED,
    UNIFIED_SPLIT,
    UNIFIED_TRANSITION,
    resolve_dataframe,
    transition_id,
)
from gradiend.data.unified._schema import ColumnNames, listed, require_columns, require_values
from gradiend.evaluator._encoder_statistics import eval_groups
from gradiend.evaluator.encoder import EncoderData
from gradiend.gradients import Objective, name_of_tokenizer
from gradiend.model._context import Side
from gradiend.util import PLACEHOLDER
from gradiend.util.logging import get_logger

logger = get_logger(__name__)


def labelled(rows: pd.DataFrame, pair: Sequence[str], others: Sequence[str] = ()) -> pd.DataFrame:
    """Unified rows with labels and ids; rows that neither compare the pair nor belong to `others` are dropped.

    `others` are classes whose rows have their own word as the alternative. The new columns are label (+1 for the first
    class, −1 for the second, 0 for others), feature_class_id (0 and 1 for the directions of the pair, then a number for
    each other class), source_id, target_id and type.
    """
    transitions = [transition_id(pair[0], pair[1]), transition_id(pair[1], pair[0])]
    transitions += [transition_id(name, name) for name in others if name not in pair]
    labels = rows[UNIFIED_FACTUAL_CLASS].map({**dict.fromkeys(others, 0.0), pair[0]: 1.0, pair[1]: -1.0})
    ids = rows[UNIFIED_TRANSITION].map({name: number for number, name in enumerate(transitions)})
    rows = _with_ids(rows, labels, ids)
    return rows[rows["feature_class_id"].notna()].reset_index(drop=True).astype({"feature_class_id": int})


def labelled_transitions(rows: pd.DataFrame, pair: Sequence[str]) -> pd.DataFrame:
    """Unified rows of any transitions with the columns of `labelled`; feature_class_id numbers the transitions.

    Only rows that compare the two classes of the pair have the labels +1 and −1. All others have the label 0: the
    gradient that is read there need not be that of the factual class, or of the pair.
    """
    signs = {transition_id(pair[0], pair[1]): 1.0, transition_id(pair[1], pair[0]): -1.0}
    labels = rows[UNIFIED_TRANSITION].map(signs).fillna(0.0)
    return _with_ids(rows, labels, pd.factorize(rows[UNIFIED_TRANSITION])[0])


def _with_ids(rows: pd.DataFrame, labels: pd.Series, ids: Any) -> pd.DataFrame:
    """Unified rows with the columns label, feature_class_id, source_id, target_id and type."""
    return rows.assign(
        label=labels, feature_class_id=ids, source_id=rows[UNIFIED_FACTUAL_CLASS],
        target_id=rows[UNIFIED_ALTERNATIVE_CLASS], type="training",
    )  # fmt: skip


def with_own_word(rows: pd.DataFrame) -> pd.DataFrame:
    """Unified rows with their own word and class as the alternative, each once."""
    own = rows.assign(
        **{
            UNIFIED_ALTERNATIVE: rows[UNIFIED_FACTUAL],
            UNIFIED_ALTERNATIVE_CLASS: rows[UNIFIED_FACTUAL_CLASS],
            UNIFIED_TRANSITION: rows[UNIFIED_FACTUAL_CLASS].map(lambda name: transition_id(name, name)),
        }
    )
    return own.drop_duplicates(ignore_index=True)


def scorable_rows(
    rows: pd.DataFrame, objective: Objective, purpose: str, *, labelled: bool = False, may_lose_classes: bool = False
) -> pd.DataFrame:
    """The rows whose words can be scored; one warning counts the other rows and names the `purpose`.

    The class of a row is its factual class; of rows that are `labelled` (see the function of this name), classes with
    the label 0, which are there for comparison, may lose their rows.

    Raises:
        ValueError: No row of another class is left, unless `may_lose_classes`.
    """
    kept = objective.scorable(rows[UNIFIED_MASKED].tolist(), rows[UNIFIED_FACTUAL].tolist())
    if all(kept):
        return rows
    column = "source_id" if labelled else UNIFIED_FACTUAL_CLASS
    needed = rows[rows["label"] != 0] if labelled else rows
    lost = set(needed[column]) - set(rows.loc[kept, column])
    if lost and not may_lose_classes:
        # The rows may be a sample, in which case others of the class can be scored.
        n = int(needed[column].isin(lost).sum())
        raise ValueError(
            f"No row of {', '.join(sorted(lost))} can be scored for {purpose}: none of the {n} rows that were drawn "
            "has text before the placeholder, and the tokenizer has no BOS token to predict the word from. Use texts "
            "with some context before the word, or draw more rows (max_size)."
        )
    logger.warning(
        "%d of %d rows for %s are left out: their text starts with the placeholder, and the tokenizer has no BOS token "
        "to predict the word from.",
        len(rows) - sum(kept), len(rows), purpose,
    )  # fmt: skip
    return rows[kept]


def told_apart(rows: pd.DataFrame, objective: Objective, purpose: str) -> pd.DataFrame:
    """The rows without those whose two words differ but have the same tokens, so that their gradients would be equal.

    One warning counts the rows that are left out, and names the `purpose`. Rows with one word on both sides are kept.
    """
    sides = [UNIFIED_FACTUAL, UNIFIED_ALTERNATIVE]
    differ = (rows[sides[0]] != rows[sides[1]]).to_numpy()
    # One row of each pair of words is tokenized first, and then all rows of the pairs whose tokens were the same there.
    examples = rows[differ].drop_duplicates(sides)
    pairs = pd.MultiIndex.from_frame(examples.loc[_same_tokens(examples, objective), sides])
    dropped = differ & pd.MultiIndex.from_frame(rows[sides]).isin(pairs)
    dropped[dropped] = _same_tokens(rows[dropped], objective)
    if not dropped.any():
        return rows
    equal = rows.loc[dropped, sides].drop_duplicates().itertuples(index=False)
    what = (
        f"{name_of_tokenizer(objective.tokenizer)} makes the same tokens of {listed('/'.join(pair) for pair in equal)}"
    )
    kept = rows[~dropped]
    lost = set(rows.loc[rows["label"] != 0, "label"]) - set(kept["label"])
    if lost:
        names = rows.loc[rows["label"].isin(lost), "source_id"].unique()
        raise ValueError(
            f"{what}, so no row of {listed(names)} is left for {purpose}: factual and alternative word must differ for "
            "the model. Use a model whose tokenizer keeps capitals and accents, or other words."
        )
    logger.warning("%d of %d rows for %s are left out: %s.", int(dropped.sum()), len(rows), purpose, what)
    return kept


def comparable_rows(rows: pd.DataFrame, objective: Objective) -> pd.DataFrame:
    """The rows whose two words are not the same to the model; one log line counts the others."""
    same = (rows[UNIFIED_FACTUAL] == rows[UNIFIED_ALTERNATIVE]).to_numpy(copy=True)
    same[~same] = _same_tokens(rows[~same], objective)
    if not same.any():
        return rows
    lost = set(rows[UNIFIED_FACTUAL_CLASS]) - set(rows.loc[~same, UNIFIED_FACTUAL_CLASS])
    if lost:
        raise ValueError(
            f"In all rows of {listed(sorted(lost))} the word and its alternative are the same to "
            f"{name_of_tokenizer(objective.tokenizer)}, so P(word) cannot be compared with P(alternative)."
        )
    logger.info(
        "%d of %d rows for the decoder evaluation are left out: their two words are the same to the model.",
        int(same.sum()), len(rows),
    )  # fmt: skip
    return rows[~same]


def _same_tokens(rows: pd.DataFrame, objective: Objective) -> NDArray[np.bool_]:
    """Whether the two words of each row have the same, known tokens."""
    texts = rows[UNIFIED_MASKED].tolist()
    factual, alternative = (
        objective.tokenize(texts, rows[side].tolist()) for side in (UNIFIED_FACTUAL, UNIFIED_ALTERNATIVE)
    )
    unknown = objective.unknown_id
    same = (word == other and unknown not in word.tokens for word, other in zip(factual, alternative, strict=True))
    return np.fromiter(same, bool, len(rows))


def encoder_data(rows: pd.DataFrame, model: Any) -> EncoderData:
    """Rows for the encoder, tokenized for a `TextPredictionModelWithGradiend`; see `scorable_rows` and `told_apart`.

    Raises:
        ValueError: Words that the tokenizer does not know, or classes whose words become the same tokens.
    """
    rows = scorable_rows(rows, model.objective, "the encoder", labelled=True)
    rows = told_apart(rows, model.objective, "the encoder")
    columns = [UNIFIED_FACTUAL, UNIFIED_ALTERNATIVE, "label", "source_id", "target_id", "type"]
    factual, alternative = (model.objective.tokenize_known(rows[UNIFIED_MASKED], rows[side]) for side in columns[:2])
    frame = rows[columns].assign(input_text=rows[UNIFIED_MASKED], data_split=rows[UNIFIED_SPLIT])
    return EncoderData(frame.reset_index(drop=True), factual, alternative)


def described(frame: pd.DataFrame, source: str) -> pd.DataFrame:
    """Encoded rows with columns that say of each row what was compared, and what the encoding with `source` read.

    The new columns are template, factual_token, alternative_token, source_token (the word that was read; for the source
    diff both, with an arrow between them), input_type (the source), factual_id, counterfactual_id and transition_id
    (empty for neutral rows), and eval_group, see `eval_groups`.
    """
    side = Side.parse("source", source)
    factual, alternative = frame[UNIFIED_FACTUAL], frame[UNIFIED_ALTERNATIVE]
    read = {Side.FACTUAL: factual, Side.ALTERNATIVE: alternative, Side.DIFF: factual + "→" + alternative}[side]
    compared = ~frame["type"].str.startswith("neutral")
    ids = {
        "factual_id": frame["source_id"],
        "counterfactual_id": frame["target_id"],
        "transition_id": frame["source_id"] + "→" + frame["target_id"],
    }
    return frame.assign(
        template=frame["input_text"], factual_token=factual, alternative_token=alternative, source_token=read,
        input_type=side.value, **{name: column.where(compared, "") for name, column in ids.items()},
        eval_group=eval_groups(frame),
    )  # fmt: skip


def held_out_rows(frame: pd.DataFrame, training: pd.DataFrame, source: str) -> pd.Series:
    """Whether no word that an encoding with this source reads occurs in the training rows, in lower or upper case.

    Neutral rows of the `frame` are never held out.
    """
    sides = [UNIFIED_FACTUAL, UNIFIED_ALTERNATIVE]
    known = set(pd.concat([training[side] for side in sides]).str.lower())
    side = Side.parse("source", source)
    read = sides if side is Side.DIFF else [side.value]
    unseen = ~frame[read].apply(lambda words: words.str.lower().isin(known)).any(axis=1)
    return unseen & ~frame["type"].str.startswith("neutral")


def filled(rows: pd.DataFrame) -> list[str]:
    """The texts with the factual word in every placeholder."""
    pairs = zip(rows[UNIFIED_MASKED], rows[UNIFIED_FACTUAL], strict=True)
    return [text.replace(PLACEHOLDER, word) for text, word in pairs]


def checked_neutral(data: Any, max_rows: int | None = None, *, trust_remote_code: bool = False) -> pd.DataFrame:
    """Neutral texts from a frame, a file or a data set (see `resolve_dataframe`)."""
    frame = resolve_dataframe(data, max_rows=max_rows, trust_remote_code=trust_remote_code)
    assert frame is not None
    if "text" not in frame.columns:
        has = ", ".join(map(str, frame.columns))
        raise ValueError(f"Neutral data (neutral_df, eval_neutral_data) needs a column 'text'; it has {has}.")
    require_columns(frame, ["text"], " of neutral data")
    if frame["text"].isna().any():
        raise ValueError(f"Neutral data has {int(frame['text'].isna().sum())} rows without text: drop them.")
    others = [text for text in frame["text"] if not isinstance(text, str)]
    if others:
        raise ValueError(
            f"Neutral data needs a text in each row; it has {others[0]!r:.60} ({type(others[0]).__name__}). Is the "
            "column 'text' the right one?"
        )
    if not any(text.strip() for text in frame["text"]):
        logger.warning(
            "The neutral data has no text: encodings have no neutral rows, and evaluate_decoder needs texts to score."
        )
    require_values(frame["text"][[bool(text.strip()) for text in frame["text"]]], "text", " of the neutral data")
    return frame


def without_words(neutral: pd.DataFrame, excluded: Sequence[str]) -> pd.DataFrame:
    """The neutral texts without any excluded word; one log line counts the others."""
    if not excluded:
        return neutral
    never = ExcludedWords(excluded)
    kept = neutral[[not never.places(text) for text in neutral["text"]]]
    if kept.empty:
        raise ValueError(
            f"Each of the {len(neutral)} neutral texts has a word of eval_neutral_additional_excluded_words "
            f"({listed(excluded)}): exclude fewer words, or give other texts."
        )
    if len(kept) < len(neutral):
        logger.info("%d of %d neutral texts have an excluded word.", len(neutral) - len(kept), len(neutral))
    return kept.reset_index(drop=True)


def training_like_rows(frame: pd.DataFrame, columns: ColumnNames, argument: str = "training_like_df") -> pd.DataFrame:
    """Rows for the decoder evaluation under the names of the unified frame: masked, factual and factual_class.

    `frame` has unified rows, or rows with the columns of the training data, or the class in `factual_id`. If there is
    no word, class words keep their own casing, and neutral texts have nothing at the placeholder. Errors name the
    `argument` that gave the frame.
    """
    if not isinstance(frame, pd.DataFrame):
        raise TypeError(f"{argument} must be a DataFrame; got {type(frame).__name__}.")
    if frame.empty:
        raise ValueError(f"{argument} has no rows: leave it out for those of the trainer.")
    wanted = {
        UNIFIED_MASKED: (UNIFIED_MASKED, columns.masked),
        UNIFIED_FACTUAL: (UNIFIED_FACTUAL, columns.label),
        UNIFIED_FACTUAL_CLASS: (UNIFIED_FACTUAL_CLASS, columns.label_class, "factual_id"),
    }
    found = {name: [column for column in names if column in frame.columns] for name, names in wanted.items()}
    # A column with the name of the factual word may also hold the labels +1 and −1.
    found[UNIFIED_FACTUAL] = [name for name in found[UNIFIED_FACTUAL] if not is_numeric_dtype(frame[name])]
    for name in (UNIFIED_MASKED, UNIFIED_FACTUAL_CLASS):
        if not found[name]:
            raise ValueError(
                f"{argument} needs a column {' or '.join(dict.fromkeys(wanted[name]))}; it has "
                f"{', '.join(map(str, frame.columns))}."
            )
    require_columns(frame, [present[0] for present in found.values() if present], f" of {argument}")
    what = {UNIFIED_MASKED: "text", UNIFIED_FACTUAL: "word", UNIFIED_FACTUAL_CLASS: "class"}
    return frame.assign(
        **{
            name: require_values(frame[present[0]], f"{what[name]} in {present[0]!r}", f" of {argument}")
            if present
            else ""
            for name, present in found.items()
        }
    )


def with_alternatives(rows: pd.DataFrame, columns: ColumnNames, pair: Sequence[str]) -> pd.DataFrame:
    """What `training_like_rows` gives, with alternative and alternative_class, for a decoder evaluation row by row.

    Without a column for it, the class of the alternative is the other target class.
    """
    column = next((name for name in (UNIFIED_ALTERNATIVE, columns.alternative) if name in rows.columns), None)
    if column is None or (rows[UNIFIED_FACTUAL] == "").any():
        raise ValueError(
            "The decoder is evaluated row by row, so training_like_df needs the word of each row and its alternative, "
            f"in the columns {columns.label!r} and {columns.alternative!r}; it has "
            f"{', '.join(map(str, rows.columns))}. decoder_eval_targets={{class: words}} scores words of classes."
        )
    other = dict(zip(pair, reversed(pair), strict=True))
    names = (UNIFIED_ALTERNATIVE_CLASS, columns.alternative_class)
    named = next((name for name in names if name in rows.columns), None)
    found = rows.assign(
        **{
            UNIFIED_ALTERNATIVE: require_values(rows[column], f"word in {column!r}", " of training_like_df"),
            UNIFIED_ALTERNATIVE_CLASS: rows[UNIFIED_FACTUAL_CLASS].map(other) if named is None else rows[named],
        }
    )
    allowed = (found[UNIFIED_FACTUAL_CLASS].map(other) == found[UNIFIED_ALTERNATIVE_CLASS]).to_numpy()
    if not allowed.all():
        first = found.loc[~allowed, [UNIFIED_FACTUAL_CLASS, UNIFIED_ALTERNATIVE_CLASS]].iloc[0].tolist()
        raise ValueError(
            "The decoder is evaluated row by row, so every row of training_like_df must compare the target classes "
            f"{listed(pair)}; got {transition_id(*map(str, first))}."
        )
    return found
