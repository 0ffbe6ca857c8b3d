"""The measurements of a language model that the decoder evaluation makes for every candidate."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pandas as pd

from gradiend.data.unified import UNIFIED_FACTUAL, UNIFIED_FACTUAL_CLASS, UNIFIED_MASKED
from gradiend.evaluator._language_score import LanguageModelingScore
from gradiend.evaluator._probabilities import ClassProbabilities
from gradiend.gradients import WordScorer
from gradiend.objectives import objective_of

CLASS_COLUMNS = ("label_class", "factual_id", UNIFIED_FACTUAL_CLASS)
BATCH_SIZE = 32


def evaluate_probability_shift_score(
    model: Any, tokenizer: Any, targets: Mapping[str, Sequence[str]], eval_data_df: pd.DataFrame,
    key_text: str = "masked", dataset_class_col: str | None = None,
) -> dict[str, dict[str, float]]:  # fmt: skip
    """The mean probability of each class's words at the placeholder, for each class of texts.

    Args:
        model: A language model.
        tokenizer: The model's fast tokenizer.
        targets: Class → words of the class.
        eval_data_df: Rows with the texts; a column `factual`, if there is one, tells where class words have a capital.
        key_text: Column with the text and its `[MASK]`.
        dataset_class_col: Column with the class of the text. Default: label_class, else factual_id.

    Returns:
        {class of the texts: {class: probability}}; see `ClassProbabilities`.

    Raises:
        ValueError: A column is missing.
    """
    present = [name for name in CLASS_COLUMNS if name in eval_data_df]
    column = dataset_class_col or (present[0] if present else CLASS_COLUMNS[0])
    missing = [name for name in (key_text, column) if name not in eval_data_df]
    if missing:
        raise ValueError(
            f"eval_data_df lacks {', '.join(missing)}; it has {', '.join(map(str, eval_data_df.columns))}."
        )
    factual = eval_data_df.get(UNIFIED_FACTUAL, "")
    rows = pd.DataFrame(
        {UNIFIED_MASKED: eval_data_df[key_text], UNIFIED_FACTUAL_CLASS: eval_data_df[column], UNIFIED_FACTUAL: factual}
    )
    objective = objective_of(model, tokenizer)
    measured = ClassProbabilities(rows, targets, objective, batch_size=BATCH_SIZE)
    return measured.measure(WordScorer(model, objective))


def compute_lms(
    model: Any, tokenizer: Any, texts: Sequence[str], ignore: Collection[str] | None = None,
    max_texts: int | None = None, batch_size: int = BATCH_SIZE,
) -> dict[str, float]:  # fmt: skip
    """The language-modelling score, see `LanguageModelingScore`.

    Args:
        model: A language model.
        tokenizer: The model's fast tokenizer.
        texts: Neutral texts.
        ignore: Words, in lower or upper case, that are not scored.
        max_texts: Number of first texts that are used. Default: all texts.
        batch_size: Texts per forward pass.

    Returns:
        {"lms": score}.

    Raises:
        ValueError: No token is left to score.
    """
    objective = objective_of(model, tokenizer)
    score = LanguageModelingScore(list(texts)[:max_texts], objective, ignore=ignore or (), batch_size=batch_size)
    return {"lms": score.measure(WordScorer(model, objective)).lms}
