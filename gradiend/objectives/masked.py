"""Masked language models: a word is predicted at mask tokens, from the text on both sides of the word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import nn
from transformers import MODEL_FOR_MASKED_LM_MAPPING, AutoModelForMaskedLM
from typing_extensions import Self

from gradiend.gradients import Objective, TokenizedWord
from gradiend.gradients._tokens import Span, room_beside
from gradiend.util import PLACEHOLDER

MARKS = ("MaskedLM", "MLM", "ForPreTraining")
"""Parts of the class names of masked models; `ForPreTraining` is a masked model with one more head."""

MASKED_SHARE = 0.15
"""Share of the tokens that the language-modelling score masks at a time."""
MIN_SCORED_TOKENS = 2000
"""Tokens that the language-modelling score asks for at least, if the texts have so many."""
SEED = 0
"""Seed of the order in which the tokens of neutral texts are masked."""


class Masked(Objective):
    """Each token of the word is replaced by a mask token and scored there, all of them in one pass.

    The language-modelling score is the accuracy on 15 % of the tokens, each replaced by the mask. If 15 % are fewer
    than 2 000 tokens, the texts are masked again at other places, until 2 000 tokens are asked for or every token was
    masked once. A text that is too long keeps a window around the placeholder. See `Objective` for the arguments.
    Raises ValueError for a tokenizer without mask token.
    """

    name = "masked"
    task = "fill-mask"
    auto_class = AutoModelForMaskedLM
    lms_is_accuracy = True

    def __init__(self, tokenizer: Any, *, max_length: int, vocabulary_size: int | None = None) -> None:
        super().__init__(tokenizer, max_length=max_length, vocabulary_size=vocabulary_size)
        if tokenizer.mask_token_id is None:
            raise ValueError(
                f"{type(tokenizer).__name__} has no mask token, but the model is a masked language model. "
                "A causal model's tokenizer was probably passed: use the one that belongs to the model."
            )

    @classmethod
    def fits(cls, model: Any) -> bool:
        """See `Objective.fits`: a tokenizer with a mask token belongs to a masked model."""
        return not isinstance(model, nn.Module) and getattr(model, "mask_token", None) is not None

    @classmethod
    def names(cls, architecture: str, config: Any) -> bool:
        """See `Objective.names`; XLM and FlauBERT have one class for both kinds and follow `config.causal`."""
        if any(mark in architecture for mark in MARKS):
            return True
        return architecture.endswith("WithLMHeadModel") and not getattr(config, "causal", False)

    @classmethod
    def loader(cls, config: Any) -> Any:
        """See `Objective.loader`."""
        return cls.auto_class if type(config) in MODEL_FOR_MASKED_LM_MAPPING else None

    @classmethod
    def of_model(cls, model: Any, tokenizer: Any, *, max_length: int, vocabulary_size: int | None) -> Self:
        """See `Objective.of_model`. Raises ValueError for a model that attends to the left only."""
        if model.config.to_dict().get("is_decoder"):
            raise ValueError(
                f"{type(model).__name__} is a masked model that attends to the left only, since its config says "
                "is_decoder=True: load it with is_decoder=False, or with AutoModelForCausalLM if it was trained so."
            )
        return super().of_model(model, tokenizer, max_length=max_length, vocabulary_size=vocabulary_size)

    def _right_of(self, after: str) -> str:
        return after.replace(PLACEHOLDER, self.tokenizer.mask_token)

    def _word(self, span: Span, word: str) -> TokenizedWord:
        del word
        ids = list(span.ids)
        ids[span.start : span.end] = [self.tokenizer.mask_token_id] * (span.end - span.start)
        room = self.max_length - len(span.prefix) - len(span.suffix)
        # The window around the word is as centred as the text's ends allow.
        centred = span.start - room_beside(room, span.end - span.start) // 2
        begin = max(0, min(centred, len(ids) - room))
        offset = len(span.prefix) - begin
        return TokenizedWord(
            (*span.prefix, *ids[begin : begin + room], *span.suffix),
            tuple(range(span.start + offset, span.end + offset)),
            span.ids[span.start : span.end],
        )

    def require_known(self, words: Sequence[str]) -> None:
        """See `Objective.require_known`."""
        self.tokenize_known([PLACEHOLDER] * len(words), words)

    def together(self, words: Sequence[TokenizedWord]) -> list[TokenizedWord]:
        """See `Objective.together`: each word is predicted from the text with all words masked."""
        ids = list(words[0].input_ids)
        for word in words:
            for position in word.positions:
                ids[position] = self.tokenizer.mask_token_id
        return [replace(word, input_ids=tuple(ids)) for word in words]

    def neutral_words(
        self, tokenized: Sequence[tuple[list[int], list[int]]], *, every: bool = False
    ) -> list[tuple[int, TokenizedWord]]:
        """See `Objective.neutral_words`."""
        generator = np.random.default_rng(SEED)
        orders = [generator.permutation(free) for _, free in tokenized]
        sizes = [max(1, round(MASKED_SHARE * len(order))) for order in orders]
        result: list[tuple[int, TokenizedWord]] = []
        wanted = sum(map(len, orders)) if every else MIN_SCORED_TOKENS
        scored = turn = 0
        while scored < wanted:
            before = scored
            for number, ((ids, _), order, size) in enumerate(zip(tokenized, orders, sizes, strict=True)):
                if turn and scored >= wanted:
                    break
                positions = sorted(int(position) for position in order[turn * size : (turn + 1) * size])
                if positions:
                    hidden = set(positions)
                    masked = tuple(
                        self.tokenizer.mask_token_id if i in hidden else token for i, token in enumerate(ids)
                    )
                    result.append((number, TokenizedWord(masked, tuple(positions), tuple(ids[i] for i in positions))))
                    scored += len(positions)
            if scored == before:
                break
            turn += 1
        return result
