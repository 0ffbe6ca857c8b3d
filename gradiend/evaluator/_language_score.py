"""How well a model predicts neutral texts: scores of each text, and ratios to the base model with their errors.

Two scores are measured on the same tokens: the language-modelling score (LMS) of the documentation, which is an
accuracy for masked models, and the likelihood score 1 / (1 + mean negative log-likelihood per token), which varies
far less from sample to sample (docs/measure.md).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gradiend.data.text._neutral_masking import ExcludedWords
from gradiend.gradients import Objective, TokenizedWord, WordBatch, WordScorer, batches_by_length, measurement_mode
from gradiend.util._bootstrap import Floats

FIRST_BLOCK = 200
"""Tokens that are scored before a standard error is asked for."""
GROWTH = 1.3
"""The factor by which a further block increases the number of scored tokens."""
SEED = 0
"""Seed of the order of the texts, so that the first block is a sample of all texts."""
MIN_TEXTS = 20
"""The least number of scored texts for a correction by another model: with fewer texts, its slope is too uncertain."""
OWN_SHARE = 0.5
"""A corrected ratio is final if the model's own part of the error is at most this share of the whole error: more tokens
would lower the whole error by 13 % at most."""
LEVEL = 0.95
"""Confidence level of intervals (two-sided) and of lower bounds (one-sided)."""


@dataclass(frozen=True)
class TextScores:
    """The scores of a model on T neutral texts; `+` adds the scores of two measurements, each on tokens of its own."""

    tokens: Floats
    """Scored tokens of each text, (T,)."""
    loss: Floats
    """Negative log-likelihood in nats, summed over the tokens of each text, (T,)."""
    hits: Floats | None
    """Tokens of each text that are the model's first prediction, (T,); None for models whose LMS is no accuracy."""

    def __add__(self, other: TextScores) -> TextScores:
        hits = None if self.hits is None or other.hits is None else self.hits + other.hits
        return TextScores(self.tokens + other.tokens, self.loss + other.loss, hits)

    def to_dict(self) -> dict[str, Any]:
        """The numbers and sums of the scored texts as lists, for JSON; `from_dict` reads these lists."""
        texts = np.flatnonzero(self.tokens)
        lists = {"tokens": self.tokens, "loss": self.loss, **({} if self.hits is None else {"hits": self.hits})}
        return {"texts": texts.tolist(), **{name: values[texts].tolist() for name, values in lists.items()}}

    @classmethod
    def from_dict(cls, content: Mapping[str, Sequence[float]], n_texts: int) -> TextScores:
        """The scores that `to_dict` has written, for T texts."""
        found = {name: np.zeros(n_texts) for name in ("tokens", "loss", "hits") if name in content}
        texts = np.array(content["texts"], dtype=np.int64)
        for name, values in found.items():
            values[texts] = content[name]
        return cls(found["tokens"], found["loss"], found.get("hits"))

    @property
    def n_tokens(self) -> int:
        """Number of scored tokens."""
        return int(self.tokens.sum())

    @property
    def likelihood(self) -> float:
        """1 / (1 + mean negative log-likelihood per token)."""
        return 1 / (1 + float(self.loss.sum()) / self.n_tokens)

    @property
    def lms(self) -> float:
        """The documented score: the accuracy of a masked model, the likelihood score of a causal model."""
        return self.likelihood if self.hits is None else float(self.hits.sum()) / self.n_tokens

    @property
    def is_finite(self) -> bool:
        """Whether every text has a probability; a step that is far too large can leave none."""
        return bool(np.isfinite(self.loss).all())

    def likelihood_ratio(self, base: TextScores, other: Scored | None = None) -> Ratio:
        """The likelihood score as a ratio to that of the base model on the same tokens.

        `other` is a rewritten model that corrects the ratio, see `Ratio`.
        """
        if not self.is_finite:
            return Ratio(self.likelihood / base.likelihood, None)
        return _estimated(*_likelihood_moved(self, base), self.tokens > 0, other)

    def accuracy_ratio(self, base: TextScores) -> Ratio | None:
        """The accuracy as a ratio to that of the base model on the same tokens; None without an accuracy."""
        if self.hits is None or base.hits is None or not base.lms or not self.lms:
            return None
        own, before = (_influence(s.hits, s.tokens) / s.lms for s in (self, base) if s.hits is not None)
        return _estimated(math.log(self.lms / base.lms), own - before, self.tokens > 0)


def _influence(sums: Floats, tokens: Floats) -> Floats:
    """The part of each text in the error of the mean Σ sums / Σ tokens (the linearised ratio estimator), (T,)."""
    return (sums - sums.sum() / tokens.sum() * tokens) / tokens.sum()


def _likelihood_moved(own: TextScores, base: TextScores) -> tuple[float, Floats]:
    """The logarithm of the ratio of two likelihood scores, and the part of each text in the error of it, (T,)."""
    parts = [-_influence(s.loss, s.tokens) * s.likelihood for s in (own, base)]
    return math.log(own.likelihood / base.likelihood), parts[0] - parts[1]


@dataclass(frozen=True)
class Scored:
    """The scores of a rewritten model X, with which the ratio of another model Y is corrected; all are finite."""

    few: tuple[TextScores, TextScores]
    """The scores of X and of the base model on the tokens that Y was scored on."""
    many: tuple[TextScores, TextScores]
    """The scores of X and of the base model on all tokens that X was scored on."""


def _estimated(moved: float, parts: Floats, scored: NDArray[np.bool_], other: Scored | None = None) -> Ratio:
    """A ratio from its logarithm `moved`, the part of each text in the error of it, (T,), and a correcting model."""
    n_texts, own, free = int(scored.sum()), parts, 1
    if n_texts < 2 or not parts.any():
        return Ratio(math.exp(moved), None)
    if other is not None and n_texts >= MIN_TEXTS:
        (before, few), (after, many) = _likelihood_moved(*other.few), _likelihood_moved(*other.many)
        if few.any():
            slope = float(few @ parts) / float(few @ few)
            moved += slope * (after - before)
            own, parts, free = parts - slope * few, parts + slope * (many - few), 2
    value, scale = math.exp(moved), math.sqrt(n_texts / (n_texts - free))
    error, own_error = (value * scale * float(np.linalg.norm(part)) for part in (parts, own))
    return Ratio(value, error, own_error)


@dataclass(frozen=True)
class Ratio:
    """A score as a ratio to that of the base model, on the same tokens of the same texts.

    The standard error is that of a ratio estimator with texts as clusters (Cochran, Sampling Techniques, 1977, §6):
    tokens of one text are not independent, and most of what makes a text hard is the same for both models.

    Two models on one line θ + lr · v lose likelihood on almost the same tokens. If one of them was scored on more
    tokens, its losses there correct the ratio of the other (the regression estimator of double sampling, ibid., §12):
    the ratio is then about as exact as if both models had been scored on all these tokens.
    """

    value: float
    standard_error: float | None
    """None where it cannot be estimated: there is one text, or no text varies."""
    own_error: float | None = None
    """The standard error that the ratio would have if the losses of the other model were known exactly."""

    @property
    def is_settled_by_another(self) -> bool:
        """Whether more tokens would hardly lower the error, because most of the error is that of the other model."""
        if self.standard_error is None or self.own_error is None:
            return False
        return self.own_error <= OWN_SHARE * self.standard_error

    def lower_bound(self) -> float:
        """The one-sided lower confidence bound; the value itself where no error can be estimated."""
        return self.value - NormalDist().inv_cdf(LEVEL) * (self.standard_error or 0.0)

    def to_dict(self) -> dict[str, Any]:
        """value, standard_error, and low and high, the ends of the 95 % interval; None where not estimable."""
        low = high = None
        if self.standard_error is not None:
            reach = NormalDist().inv_cdf((1 + LEVEL) / 2) * self.standard_error
            low, high = self.value - reach, self.value + reach
        return {"value": self.value, "standard_error": self.standard_error, "low": low, "high": high}


class LanguageModelingScore:
    """Scores a model on neutral texts that are tokenized and masked once, so that all candidates see the same texts.

    The model's objective chooses the tokens: see `Masked` and `Causal` (`gradiend.objectives`). Special tokens and the
    words in `ignore` (the class words), in upper or lower case, are never scored.

    Args:
        texts: Neutral texts.
        objective: The objective of the models.
        ignore: Words that are not scored.
        batch_size: Texts per forward pass.
        in_blocks: Whether all tokens of the texts, in random order of the texts, are divided into blocks of growing
            size; the first block has `FIRST_BLOCK` tokens. Otherwise there is one block, of the tokens that the
            documented score asks for.

    Raises:
        ValueError: No token is left to score.
    """

    def __init__(
        self, texts: Sequence[str], objective: Objective, *, ignore: Collection[str] = (), batch_size: int = 32,
        in_blocks: bool = False,
    ) -> None:  # fmt: skip
        self.objective = objective
        self.batch_size = batch_size
        self.texts = list(texts)
        self.n_texts = len(texts)
        tokenized = list(tokenize_texts(texts, objective, ignore))
        order = np.random.default_rng(SEED).permutation(len(tokenized)) if in_blocks else np.arange(len(tokenized))
        asked = objective.neutral_words([tokenized[number] for number in order], every=in_blocks)
        words = [(int(order[number]), word) for number, word in asked]
        self.n_tokens = sum(len(word.tokens) for _, word in words)
        if not self.n_tokens:
            raise ValueError(
                "The neutral texts contain no token to score. Give neutral texts of several words each "
                "(eval_neutral_data, or neutral_df with a column 'text')."
            )
        self.blocks = _blocks(words) if in_blocks else [words]
        self._batches: dict[int, list[tuple[NDArray[np.int64], WordBatch]]] = {}

    @torch.no_grad()
    def measure(self, scorer: WordScorer, blocks: Sequence[int] | None = None) -> TextScores:
        """The scores of the scorer's model on some blocks (default: all)."""
        tokens, loss, hits = np.zeros((3, self.n_texts))
        wanted = range(len(self.blocks)) if blocks is None else blocks
        batches = [found for block in wanted for found in self._batches_of(block)]
        hits_count = self.objective.lms_is_accuracy

        def score(batch: WordBatch) -> list[Floats]:
            found = scorer.log_probs_and_hits(batch) if hits_count else (scorer.log_probs(batch),)
            return [values.cpu().double().numpy() for values in found]

        with measurement_mode(scorer.model):
            scored = scorer.compute(batches, lambda item: score(item[1].to(scorer.device)))
        for (texts, batch), (log_probs, *right) in zip(batches, scored, strict=True):
            np.add.at(loss, texts, -log_probs)
            np.add.at(tokens, texts, batch.score_words.bincount(minlength=batch.n_words).double().numpy())
            for values in right:
                np.add.at(hits, texts, values)
        return TextScores(tokens, loss, hits if hits_count else None)

    def _batches_of(self, block: int) -> list[tuple[NDArray[np.int64], WordBatch]]:
        if block not in self._batches:
            texts = np.array([text for text, _ in self.blocks[block]])
            words = [word for _, word in self.blocks[block]]
            made = batches_by_length(words, self.batch_size, self.objective.pad_token_id)
            self._batches[block] = [(texts[indices.numpy()], batch) for indices, batch in made]
        return self._batches[block]


def _blocks(words: Sequence[tuple[int, TokenizedWord]]) -> list[list[tuple[int, TokenizedWord]]]:
    blocks: list[list[tuple[int, TokenizedWord]]] = [[]]
    scored, full = 0, float(FIRST_BLOCK)
    for item in words:
        if scored >= full:
            blocks.append([])
            full *= GROWTH
        blocks[-1].append(item)
        scored += len(item[1].tokens)
    return blocks


def tokenize_texts(
    texts: Sequence[str], objective: Objective, ignore: Collection[str]
) -> Iterator[tuple[list[int], list[int]]]:
    """Yield (token ids, positions that may be scored) of every text."""
    if not texts:
        return
    excluded = ExcludedWords(ignore)
    encoded = objective.encode_cut(texts)
    rows = zip(texts, encoded["input_ids"], encoded["offset_mapping"], encoded["special_tokens_mask"], strict=True)
    for text, ids, offsets, special in rows:
        spans = excluded.places(text)
        free = [
            position
            for position, (begin, end) in enumerate(offsets)
            if not special[position] and not any(begin < stop and end > start for start, stop in spans)
        ]
        yield ids, free
