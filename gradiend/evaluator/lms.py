"""Language-modelling score (LMS) on neutral text: how well the model still predicts what is not the feature."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import numpy as np
import torch

from gradiend.data.text._neutral_masking import ExcludedWords
from gradiend.gradients.batch import WordBatch, batches_by_length
from gradiend.gradients.scorer import WordScorer
from gradiend.gradients.state import measurement_mode
from gradiend.gradients.words import TokenizedWord, WordTokenizer

MASKED_SHARE = 0.15
MIN_SCORED_TOKENS = 2000
SEED = 0


class LanguageModelingScore:
    """Scores a model on texts that were tokenized and masked once, so that every candidate sees the same.

    Masked models: accuracy on 15 % of the tokens, each replaced by the mask. Where that makes fewer than 2 000 tokens,
    the texts are masked again at other places, until there are enough or every token was masked once.
    Causal models: 1 / (1 + mean negative log-likelihood per token).
    Special tokens and the tokens of ignored words are never scored.

    Args:
        texts: Neutral texts.
        words: Tokenizer of the model.
        ignore: Words that are not scored, in any case (the class words).
        batch_size: Texts per forward pass.
        pad_token_id: For padding.

    Raises:
        ValueError: No token is left to score.
    """

    def __init__(
        self,
        texts: Sequence[str],
        words: WordTokenizer,
        *,
        ignore: Collection[str] = (),
        batch_size: int = 32,
        pad_token_id: int = 0,
    ) -> None:
        self.causal = words.causal
        tokenized = list(tokenize_texts(texts, words, ignore))
        numbered = causal_words(tokenized) if self.causal else masked_words(tokenized, words.tokenizer.mask_token_id)
        scored = [word for _, word in numbered]
        self.n_tokens = sum(len(word.tokens) for word in scored)
        if not self.n_tokens:
            raise ValueError(
                "The neutral texts contain no token to score. Give neutral texts of several words each "
                "(eval_neutral_data, or neutral_df with a column 'text')."
            )
        self._batches: list[WordBatch] = [batch for _, batch in batches_by_length(scored, batch_size, pad_token_id)]

    @torch.no_grad()
    def measure(self, scorer: WordScorer) -> float:
        """The LMS of the scorer's model, between 0 and 1."""
        total = 0.0
        with measurement_mode(scorer.model):
            for batch in self._batches:
                on_device = batch.to(scorer.device)
                if self.causal:
                    total -= float(scorer.log_probs(on_device).double().sum())
                else:
                    predicted = scorer.site_logits(on_device).argmax(-1)[on_device.score_sites]
                    total += int((predicted == on_device.score_tokens).sum())
        return 1 / (1 + total / self.n_tokens) if self.causal else total / self.n_tokens


def tokenize_texts(
    texts: Sequence[str], words: WordTokenizer, ignore: Collection[str]
) -> Iterator[tuple[list[int], list[int]]]:
    """(token ids, positions that may be scored) of every text."""
    if not texts:
        return
    excluded = ExcludedWords(ignore)
    encoded = words.encode(texts, truncation=True, max_length=words.max_length)
    rows = zip(texts, encoded["input_ids"], encoded["offset_mapping"], encoded["special_tokens_mask"], strict=True)
    for text, ids, offsets, special in rows:
        spans = excluded.places(text)
        free = [
            position
            for position, (begin, end) in enumerate(offsets)
            if not special[position] and not any(begin < stop and end > start for start, stop in spans)
        ]
        yield ids, free


def masked_words(
    tokenized: Sequence[tuple[list[int], list[int]]], mask_token_id: int
) -> list[tuple[int, TokenizedWord]]:
    """(number of the text, what is asked of it) for masked models; `tokenized` is what `tokenize_texts` gives."""
    generator = np.random.default_rng(SEED)
    orders = [generator.permutation(free) for _, free in tokenized]
    sizes = [max(1, round(MASKED_SHARE * len(order))) for order in orders]
    result: list[tuple[int, TokenizedWord]] = []
    scored = turn = 0
    while scored < MIN_SCORED_TOKENS:
        before = scored
        for number, ((ids, _), order, size) in enumerate(zip(tokenized, orders, sizes, strict=True)):
            if turn and scored >= MIN_SCORED_TOKENS:
                break
            positions = sorted(int(position) for position in order[turn * size : (turn + 1) * size])
            if positions:
                hidden = set(positions)
                masked = tuple(mask_token_id if i in hidden else token for i, token in enumerate(ids))
                result.append((number, TokenizedWord(masked, tuple(positions), tuple(ids[i] for i in positions))))
                scored += len(positions)
        if scored == before:
            break
        turn += 1
    return result


def causal_words(tokenized: Sequence[tuple[list[int], list[int]]]) -> list[tuple[int, TokenizedWord]]:
    """As `masked_words`, for causal models."""
    result = []
    for number, (ids, free) in enumerate(tokenized):
        positions = [position for position in free if position > 0]
        if positions:
            tokens = tuple(ids[position] for position in positions)
            word = TokenizedWord(tuple(ids[:-1]), tuple(position - 1 for position in positions), tokens)
            result.append((number, word))
    return result
