"""How well a language model predicts the tokens of a text."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
import torch

from gradiend.evaluator._language_score import LanguageModelingScore, tokenize_texts
from gradiend.gradients import Objective, TokenizedWord, WordScorer, batches_by_length, measurement_mode
from gradiend.model._refusals import inside
from gradiend.objectives import Causal, Masked, objective_of
from gradiend.util._files import write_csv, write_json
from gradiend.util.metrics import accuracy_score, f1_score, precision_score, recall_score


def evaluate_mlm(
    model: Any, tokenizer: Any, text_data: Sequence[str], file: str | Path | None = None, verbose: bool = True,
    batch_size: int = 32, ignore: Collection[str] | None = None,
) -> tuple[dict[str, float], pd.DataFrame]:  # fmt: skip
    """Predict 15 % of the tokens of each text from the others; `LanguageModelingScore` says which tokens.

    Args:
        model: A masked language model.
        tokenizer: The model's fast tokenizer.
        text_data: The texts.
        file: CSV file to which the frame is written. Default: no file.
        verbose: Accepted for compatibility.
        batch_size: Texts per forward pass.
        ignore: Words in lower or upper case that are not asked for.

    Returns:
        ({accuracy, precision, recall and f1 (weighted by label), lms (the accuracy)}, one row per token with sentence,
        token_index, true, predicted, correct and score, the logit of the prediction).

    Raises:
        ValueError: A causal model, or no token to ask for.
    """
    del verbose
    model, objective = _with_objective(model, tokenizer, Masked)
    asked = objective.neutral_words(list(tokenize_texts(text_data, objective, ignore or ())))
    frame = _predictions(model, objective, text_data, asked, batch_size, file)
    scores = _scores(frame)
    return {**scores, "lms": scores["accuracy"]}, frame


def evaluate_clm(
    model: Any, tokenizer: Any, text_data: Sequence[str], file: str | Path | None = None, batch_size: int = 128
) -> tuple[dict[str, float], pd.DataFrame]:
    """Predict the last token of each text from those before it.

    Args:
        model: A causal language model.
        tokenizer: The model's fast tokenizer.
        text_data: The texts.
        file: CSV file to which the frame is written. Default: no file.
        batch_size: Texts per forward pass.

    Returns:
        The result of `evaluate_mlm`, without lms.

    Raises:
        ValueError: A masked model, or no token to ask for.
    """
    model, objective = _with_objective(model, tokenizer, Causal)
    last = [
        (number, TokenizedWord(word.input_ids[: word.positions[-1] + 1], word.positions[-1:], word.tokens[-1:]))
        for number, word in objective.neutral_words(list(tokenize_texts(text_data, objective, ())))
    ]
    # A token is predicted at the position before its own.
    frame = _predictions(model, objective, text_data, last, batch_size, file, shift=1)
    return _scores(frame), frame


@torch.no_grad()
def evaluate_clm_perplexity(
    model: Any, tokenizer: Any, text_data: Sequence[str], file: str | Path | None = None, batch_size: int = 32,
    ignore: Collection[str] | None = None,
) -> dict[str, float]:  # fmt: skip
    """The perplexity per token, where each token is predicted from the tokens before it.

    Args:
        model: A causal language model.
        tokenizer: The model's fast tokenizer.
        text_data: The texts.
        file: JSON file to which the result is written. Default: no file.
        batch_size: Texts per forward pass.
        ignore: Words in lower or upper case that are not scored.

    Returns:
        perplexity, total_log_likelihood (the summed negative log-likelihood), total_tokens, and
        lms = 1 / (1 + ln perplexity).

    Raises:
        ValueError: A masked model, or no token to score.
    """
    model, objective = _with_objective(model, tokenizer, Causal)
    scores = LanguageModelingScore(text_data, objective, ignore=ignore or (), batch_size=batch_size).measure(
        WordScorer(model, objective)
    )
    total = float(scores.loss.sum())
    result = {
        "lms": scores.lms,
        "perplexity": math.exp(total / scores.n_tokens),
        "total_log_likelihood": total,
        "total_tokens": scores.n_tokens,
    }
    if file is not None:
        write_json(file, result)
    return result


Kind = TypeVar("Kind", bound=Objective)


def _with_objective(model: Any, tokenizer: Any, kind: type[Kind]) -> tuple[Any, Kind]:
    model = inside(model)
    objective = objective_of(model, tokenizer)
    if not isinstance(objective, kind):
        function = "evaluate_mlm" if isinstance(objective, Masked) else "evaluate_clm_perplexity or evaluate_clm"
        raise ValueError(f"{type(model).__name__} is a {objective.name} language model: use {function}.")
    return model, objective


@torch.no_grad()
def _predictions(
    model: Any, objective: Objective, texts: Sequence[str], asked: Sequence[tuple[int, TokenizedWord]], batch_size: int,
    file: str | Path | None, shift: int = 0,
) -> pd.DataFrame:  # fmt: skip
    """One row for each token asked for; a token stands `shift` positions after the position that predicts it."""
    if not asked:
        raise ValueError("The texts contain no token to ask for: give texts of several words each.")
    scorer, tokenizer = WordScorer(model, objective), objective.tokenizer
    rows: list[tuple[int, int, int, int, float]] = []
    with measurement_mode(model):
        for indices, batch in batches_by_length([word for _, word in asked], batch_size, objective.pad_token_id):
            on_device = batch.to(scorer.device)
            best = scorer.site_logits(on_device).max(-1)
            sites = on_device.score_sites
            owners = [asked[int(indices[number])] for number in on_device.score_words.tolist()]
            true_tokens = on_device.score_tokens.tolist()
            found = zip(best.indices[sites].tolist(), best.values[sites].tolist(), true_tokens, strict=True)
            places = on_device.site_positions[sites].tolist()
            for (text, _), place, (predicted, score, true) in zip(owners, places, found, strict=True):
                rows.append((text, place + shift, true, predicted, score))
    rows.sort()
    frame = pd.DataFrame(rows, columns=["sentence", "token_index", "true", "predicted", "score"])
    for side in ("true", "predicted"):
        frame[side] = tokenizer.convert_ids_to_tokens(frame[side].tolist())
    frame["sentence"] = [texts[number] for number in frame["sentence"]]
    frame["correct"] = frame["true"] == frame["predicted"]
    frame = frame[["sentence", "token_index", "true", "predicted", "correct", "score"]]
    if file is not None:
        write_csv(file, frame)
    return frame


def _scores(frame: pd.DataFrame) -> dict[str, float]:
    true, predicted = frame["true"].tolist(), frame["predicted"].tolist()
    kinds = {"precision": precision_score, "recall": recall_score, "f1": f1_score}
    weighted = {name: score(true, predicted, average="weighted", zero_division=0) for name, score in kinds.items()}
    return {"accuracy": accuracy_score(true, predicted), **weighted}
