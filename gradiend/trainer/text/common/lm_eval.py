"""How well a language model predicts the tokens of a text."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from gradiend.evaluator.lms import causal_words, masked_words, tokenize_texts
from gradiend.gradients.batch import batches_by_length
from gradiend.gradients.scorer import WordScorer
from gradiend.gradients.state import measurement_mode
from gradiend.gradients.words import TokenizedWord, WordTokenizer
from gradiend.trainer.text.common.model_base import padding_id, word_tokenizer
from gradiend.util._files import replacing, write_json
from gradiend.util.metrics import accuracy_score, f1_score, precision_score, recall_score


def evaluate_mlm(
    model: Any,
    tokenizer: Any,
    text_data: Sequence[str],
    file: str | Path | None = None,
    verbose: bool = True,
    batch_size: int = 32,
    ignore: Collection[str] | None = None,
) -> tuple[dict[str, float], pd.DataFrame]:
    """Predict 15 % of the tokens of each text from the others; see `LanguageModelingScore` for which.

    Args:
        model: A masked language model.
        tokenizer: Its fast tokenizer.
        text_data: Texts.
        file: Also write the frame there, as CSV.
        verbose: Accepted for compatibility.
        batch_size: Texts per forward pass.
        ignore: Words that are not asked for, in any case.

    Returns:
        ({accuracy, precision, recall and f1 (weighted by label), lms (the accuracy)}, one row per token with sentence,
        token_index, true, predicted, correct and score, the logit of the prediction).

    Raises:
        ValueError: A causal model, or no token to ask for.
    """
    del verbose
    words = _words(model, tokenizer, causal=False)
    tokenized = list(tokenize_texts(text_data, words, ignore or ()))
    frame = _predictions(model, words, text_data, masked_words(tokenized, tokenizer.mask_token_id), batch_size, file)
    scores = _scores(frame)
    return {**scores, "lms": scores["accuracy"]}, frame


def evaluate_clm(
    model: Any,
    tokenizer: Any,
    text_data: Sequence[str],
    file: str | Path | None = None,
    batch_size: int = 128,
) -> tuple[dict[str, float], pd.DataFrame]:
    """Predict the last token of each text from those before it.

    Args:
        model: A causal language model.
        tokenizer: Its fast tokenizer.
        text_data: Texts.
        file: Also write the frame there, as CSV.
        batch_size: Texts per forward pass.

    Returns:
        As `evaluate_mlm`, without lms.

    Raises:
        ValueError: A masked model, or no token to ask for.
    """
    words = _words(model, tokenizer, causal=True)
    last = [
        (number, TokenizedWord(word.input_ids[: word.positions[-1] + 1], word.positions[-1:], word.tokens[-1:]))
        for number, word in causal_words(list(tokenize_texts(text_data, words, ())))
    ]
    frame = _predictions(model, words, text_data, last, batch_size, file)
    return _scores(frame), frame


@torch.no_grad()
def evaluate_clm_perplexity(
    model: Any,
    tokenizer: Any,
    text_data: Sequence[str],
    file: str | Path | None = None,
    batch_size: int = 32,
    ignore: Collection[str] | None = None,
) -> dict[str, float]:
    """Perplexity per token, each token predicted from those before it.

    Args:
        model: A causal language model.
        tokenizer: Its fast tokenizer.
        text_data: Texts.
        file: Also write the result there, as JSON.
        batch_size: Texts per forward pass.
        ignore: Words that are not scored, in any case.

    Returns:
        perplexity, total_log_likelihood (the summed negative log-likelihood), total_tokens, and
        lms = 1 / (1 + ln perplexity).

    Raises:
        ValueError: A masked model, or no token to score.
    """
    words = _words(model, tokenizer, causal=True)
    scored = [word for _, word in causal_words(list(tokenize_texts(text_data, words, ignore or ())))]
    n_tokens = sum(len(word.tokens) for word in scored)
    if not n_tokens:
        raise ValueError("The texts contain no token to score: give texts of several words each.")
    scorer, total = WordScorer(model, causal=True), 0.0
    with measurement_mode(model):
        for _, batch in batches_by_length(scored, batch_size, padding_id(tokenizer)):
            total -= float(scorer.log_probs(batch.to(scorer.device)).double().sum())
    mean = total / n_tokens
    result = {
        "lms": 1 / (1 + mean),
        "perplexity": math.exp(mean),
        "total_log_likelihood": total,
        "total_tokens": n_tokens,
    }
    if file is not None:
        write_json(file, result)
    return result


def _words(model: Any, tokenizer: Any, *, causal: bool) -> WordTokenizer:
    words = word_tokenizer(model, tokenizer)
    if words.causal != causal:
        kind, function = ("masked", "evaluate_mlm") if causal else ("causal", "evaluate_clm_perplexity or evaluate_clm")
        raise ValueError(f"{type(model).__name__} is a {kind} language model: use {function}.")
    return words


@torch.no_grad()
def _predictions(
    model: Any,
    words: WordTokenizer,
    texts: Sequence[str],
    asked: Sequence[tuple[int, TokenizedWord]],
    batch_size: int,
    file: str | Path | None,
) -> pd.DataFrame:
    """One row per token asked for."""
    if not asked:
        raise ValueError("The texts contain no token to ask for: give texts of several words each.")
    scorer, tokenizer = WordScorer(model, causal=words.causal), words.tokenizer
    rows: list[tuple[int, int, int, int, float]] = []
    with measurement_mode(model):
        for indices, batch in batches_by_length([word for _, word in asked], batch_size, padding_id(tokenizer)):
            on_device = batch.to(scorer.device)
            best = scorer.site_logits(on_device).max(-1)
            sites = on_device.score_sites
            owners = [asked[int(indices[number])] for number in on_device.score_words.tolist()]
            true_tokens = on_device.score_tokens.tolist()
            found = zip(best.indices[sites].tolist(), best.values[sites].tolist(), true_tokens, strict=True)
            places = on_device.site_positions[sites].tolist()
            for (text, _), place, (predicted, score, true) in zip(owners, places, found, strict=True):
                rows.append((text, place + int(words.causal), true, predicted, score))
    rows.sort()
    frame = pd.DataFrame(rows, columns=["sentence", "token_index", "true", "predicted", "score"])
    for side in ("true", "predicted"):
        frame[side] = tokenizer.convert_ids_to_tokens(frame[side].tolist())
    frame["sentence"] = [texts[number] for number in frame["sentence"]]
    frame["correct"] = frame["true"] == frame["predicted"]
    frame = frame[["sentence", "token_index", "true", "predicted", "correct", "score"]]
    if file is not None:
        with replacing(file) as temporary:
            frame.to_csv(temporary, index=False)
    return frame


def _scores(frame: pd.DataFrame) -> dict[str, float]:
    true, predicted = frame["true"].tolist(), frame["predicted"].tolist()
    kinds = {"precision": precision_score, "recall": recall_score, "f1": f1_score}
    weighted = {name: score(true, predicted, average="weighted", zero_division=0) for name, score in kinds.items()}
    return {"accuracy": accuracy_score(true, predicted), **weighted}
