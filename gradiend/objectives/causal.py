"""Causal (decoder-only) language models: each token is predicted from those before it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoModelForCausalLM

from gradiend.gradients import Objective, TokenizedWord
from gradiend.gradients._objective import equal_logits, labelled_inputs
from gradiend.gradients._tokens import Span, room_beside
from gradiend.objectives.registry import kind_of

MARKS = ("CausalLM", "LMHeadModel")
"""Parts of the class names of causal models."""


class Causal(Objective):
    """The word is scored after the whole left context; a text that is too long keeps the context next to the word.

    The language-modelling score is 1 / (1 + mean negative log-likelihood per token). See `Objective` for the arguments.
    """

    name = "causal"
    task = "text-generation"
    auto_class = AutoModelForCausalLM
    # A key–value cache is of no use to a single pass.
    arguments: ClassVar[Mapping[str, Any]] = {"use_cache": False}
    min_prefix = 1
    unscorable = "A text starts with the placeholder, and the tokenizer has no BOS token to predict the word from"

    @classmethod
    def fits(cls, model: Any) -> bool:
        """See `Objective.fits`: a tokenizer without a mask token belongs to a causal model."""
        return not isinstance(model, nn.Module) and getattr(model, "mask_token", "") is None

    @classmethod
    def names(cls, architecture: str, config: Any) -> bool:
        """See `Objective.names`; XLM and FlauBERT have one class for both kinds and follow `config.causal`."""
        if architecture.endswith("WithLMHeadModel"):
            return bool(getattr(config, "causal", False))
        return any(mark in architecture for mark in MARKS)

    @classmethod
    def loader(cls, config: Any) -> Any:
        """See `Objective.loader`."""
        return cls.auto_class if type(config) in MODEL_FOR_CAUSAL_LM_MAPPING else None

    def _word(self, span: Span, word: str) -> TokenizedWord | None:
        del word
        tokens = span.ids[span.start : span.end]
        prefix = span.prefix
        if not prefix and span.start == 0:
            # The word can be predicted from nothing but a BOS token, if the tokenizer has one.
            if self.tokenizer.bos_token_id is None:
                return None
            prefix = (self.tokenizer.bos_token_id,)
        # The score does not read the last token, but a forward pass with labels does (`inputs_of`).
        room = room_beside(self.max_length - len(prefix), len(tokens), context=0 if prefix else 1)
        context = (*prefix, *span.ids[max(0, span.start - room) : span.start])
        first = len(context) - 1
        return TokenizedWord((*context, *tokens[:-1]), tuple(range(first, first + len(tokens))), tokens)

    def scorable(self, masked_texts: Sequence[str], words: Sequence[str]) -> list[bool]:
        """See `Objective.scorable`: a word at the start of its text needs a BOS token before it."""
        if self.tokenizer.bos_token_id is not None:
            return super().scorable(masked_texts, words)
        return [word is not None for word in self._remembered(masked_texts, words)]

    def inputs_of(self, word: TokenizedWord) -> dict[str, Tensor]:
        """See `Objective.inputs_of`: a label stands at the predicted token, one position after the scored position."""
        return labelled_inputs(
            (*word.input_ids, word.tokens[-1]), [position + 1 for position in word.positions], word.tokens
        )

    def words_of(self, inputs: Mapping[str, Tensor]) -> list[TokenizedWord]:
        """See `Objective.words_of`. As in transformers, a label at the first token of a text does not count."""
        words = []
        for word in super().words_of(inputs):
            skipped = int(word.positions[0] == 0)
            positions = tuple(position - 1 for position in word.positions[skipped:])
            if not positions:
                raise ValueError("The inputs have no label but that of the first token, which no token predicts.")
            words.append(TokenizedWord(word.input_ids[: positions[-1] + 1], positions, word.tokens[skipped:]))
        return words

    def check(self, model: nn.Module, ids: Tensor, logits: Tensor, logits_of: Callable[[Tensor], Tensor]) -> None:
        """See `Objective.check`: no token may look at later tokens."""
        other = ids.clone()
        other[-1] = int(ids[-1] == 0)
        seen = logits_of(other)
        # In half precision, rounding may send a token to other experts, which looks like a glance ahead.
        config: Any = model.config
        told = getattr(config, "is_decoder", None) is False
        if not equal_logits(logits[:-1], seen[:-1]) and (logits.dtype.itemsize >= 4 or told):
            raise ValueError(
                f"{type(model).__name__}, as it is loaded, attends to both sides, so it sees the word that a "
                "causal model is asked for: load the model with is_decoder=True if it was trained that way, or with "
                "AutoModelForMaskedLM."
            )

    def together(self, words: Sequence[TokenizedWord]) -> list[TokenizedWord]:
        """See `Objective.together`: each word is predicted from the unmasked words before it."""
        return list(words)

    def neutral_words(
        self, tokenized: Sequence[tuple[list[int], list[int]]], *, every: bool = False
    ) -> list[tuple[int, TokenizedWord]]:
        """See `Objective.neutral_words`: every token that has a token before it is asked for."""
        del every
        result = []
        for number, (ids, free) in enumerate(tokenized):
            positions = [position for position in free if position > 0]
            if positions:
                tokens = tuple(ids[position] for position in positions)
                word = TokenizedWord(tuple(ids[:-1]), tuple(position - 1 for position in positions), tokens)
                result.append((number, word))
        return result


def is_decoder_only_model(x: Any) -> bool:
    """See `gradiend.model.is_decoder_only_model`."""
    return issubclass(kind_of(x.to_original_model() if hasattr(x, "to_original_model") else x), Causal)
