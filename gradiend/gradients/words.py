"""Masked texts and words → token ids: what the model reads, and which tokens it is scored on.

A word's tokens are those that overlap its character span when the filled text is tokenized, so leading space, casing
and sentence start follow from the text (not from a tokenizer call on the bare word).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gradiend.util import PLACEHOLDER

IGNORED = -100
"""Label of a token that is not scored (the convention of transformers)."""

TOKENIZATION_CHUNK = 4096
"""Texts per tokenizer call: large enough for its threads, small enough that offsets do not pile up."""


@dataclass(frozen=True, slots=True)
class TokenizedWord:
    """One word at one placeholder: log p(word) = Σ over i of log p(tokens[i] | input_ids) at positions[i]."""

    input_ids: tuple[int, ...]
    positions: tuple[int, ...]
    tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Span:
    """A filled text's tokens and which of them are the word: ids[start:end]."""

    prefix: tuple[int, ...]
    ids: tuple[int, ...]
    suffix: tuple[int, ...]
    start: int
    end: int

    @property
    def has_context(self) -> bool:
        """Whether a causal model has a token to predict the word from."""
        return bool(self.prefix) or self.start > 0


class WordTokenizer:
    """Turns (masked text, word) into what a masked or causal model is scored on.

    Args:
        tokenizer: A fast tokenizer (it must give character offsets).
        causal: Whether the model predicts from the left context only.
        max_length: Longest model input in tokens, special tokens included; longer texts keep a window around the
            placeholder (causal: the nearest left context).
        vocabulary_size: How many tokens the model has embeddings for; None: as many as the tokenizer needs.

    Raises:
        TypeError: A slow tokenizer.
        ValueError: A masked model with a tokenizer that has no mask token.
    """

    def __init__(self, tokenizer: Any, *, causal: bool, max_length: int, vocabulary_size: int | None = None) -> None:
        if not tokenizer.is_fast:
            raise TypeError(
                f"{type(tokenizer).__name__} is a slow tokenizer and gives no character offsets. "
                "Load it with AutoTokenizer.from_pretrained(…, use_fast=True)."
            )
        if not causal and tokenizer.mask_token_id is None:
            raise ValueError(
                f"{type(tokenizer).__name__} has no mask token, but the model is a masked language model. "
                "A causal model's tokenizer was probably passed: use the one that belongs to the model."
            )
        self.tokenizer = tokenizer
        self.causal = causal
        self.max_length = max_length
        self.vocabulary_size = vocabulary_size

    def encode(self, texts: Sequence[str], **arguments: Any) -> Any:
        """What the tokenizer makes of texts, with offsets and a mask of its special tokens; it is left as it was.

        Args:
            texts: At least one.
            **arguments: For the tokenizer.

        Raises:
            ValueError: A token that the model has no embedding for.
        """
        encoded = tokenize(
            self.tokenizer,
            list(texts),
            return_offsets_mapping=True,
            return_special_tokens_mask=True,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
            **arguments,
        )
        size = self.vocabulary_size
        for ids in encoded["input_ids"] if size is not None else ():
            if ids and max(ids) >= size:
                token = self.tokenizer.convert_ids_to_tokens(max(ids))
                raise ValueError(
                    f"The tokenizer makes {token!r} token number {max(ids)}, and the model has embeddings for "
                    f"{size}: model.resize_token_embeddings(len(tokenizer)) makes room for added tokens."
                )
        return encoded

    def __call__(self, masked_texts: Sequence[str], words: Sequence[str]) -> list[TokenizedWord]:
        """Tokenize each word at the first placeholder of its text; later placeholders stay masked.

        Args:
            masked_texts: Each with at least one `[MASK]`.
            words: One per text.

        Returns:
            One `TokenizedWord` per pair.

        Raises:
            ValueError: A text without placeholder, or a word that is no token of its filled text.
        """
        result: list[TokenizedWord] = []
        for start in range(0, len(masked_texts), TOKENIZATION_CHUNK):
            stop = start + TOKENIZATION_CHUNK
            spans = self._spans(masked_texts[start:stop], words[start:stop])
            result.extend(self._causal_word(span) if self.causal else self._masked_word(span) for span in spans)
        return result

    def scorable(self, masked_texts: Sequence[str], words: Sequence[str]) -> list[bool]:
        """Which pairs can be scored: not a word at the start of its text, if a causal model has no BOS token before it.

        Args:
            masked_texts: As for `__call__`.
            words: As for `__call__`.

        Returns:
            One bool per pair; `__call__` raises for those that are False.
        """
        if not self.causal or self.tokenizer.bos_token_id is not None:
            return [True] * len(masked_texts)
        result: list[bool] = []
        for start in range(0, len(masked_texts), TOKENIZATION_CHUNK):
            stop = start + TOKENIZATION_CHUNK
            result.extend(span.has_context for span in self._spans(masked_texts[start:stop], words[start:stop]))
        return result

    def _spans(self, masked_texts: Sequence[str], words: Sequence[str]) -> list[_Span]:
        texts, places = [], []
        for masked, word in zip(masked_texts, words, strict=True):
            before, placeholder, after = masked.partition(PLACEHOLDER)
            if not placeholder:
                raise ValueError(f"No {PLACEHOLDER} in the text {masked[:80]!r}.")
            # A causal model never sees what follows a later placeholder; a masked one sees its own mask token there.
            after = (
                after.split(PLACEHOLDER)[0] if self.causal else after.replace(PLACEHOLDER, self.tokenizer.mask_token)
            )
            texts.append(before + word + after)
            places.append((len(before), len(before) + len(word)))
        return self._located(texts, places)

    def _located(self, texts: Sequence[str], places: Sequence[tuple[int, int]]) -> list[_Span]:
        """The tokens of texts, and which of them stand at a place [begin, end) of each."""
        encoded = self.encode(texts) if texts else {"input_ids": [], "offset_mapping": [], "special_tokens_mask": []}
        rows = zip(encoded["input_ids"], encoded["offset_mapping"], encoded["special_tokens_mask"], strict=True)
        return [_locate(*row, *place, text=text) for row, place, text in zip(rows, places, texts, strict=True)]

    def _masked_word(self, span: _Span) -> TokenizedWord:
        ids = list(span.ids)
        ids[span.start : span.end] = [self.tokenizer.mask_token_id] * (span.end - span.start)
        room = self.max_length - len(span.prefix) - len(span.suffix)
        begin = _window_start(len(ids), span.start, span.end, room)
        body = ids[begin : begin + room]
        offset = len(span.prefix) - begin
        return TokenizedWord(
            (*span.prefix, *body, *span.suffix),
            tuple(range(span.start + offset, span.end + offset)),
            span.ids[span.start : span.end],
        )

    def _causal_word(self, span: _Span) -> TokenizedWord:
        tokens = span.ids[span.start : span.end]
        prefix = span.prefix
        if not span.has_context:
            if self.tokenizer.bos_token_id is None:
                raise ValueError(
                    "A text starts with the placeholder, and the tokenizer has no BOS token to predict it from: drop "
                    "the texts that WordTokenizer.scorable rejects."
                )
            prefix = (self.tokenizer.bos_token_id,)
        # The last token is no input of the score, but one of a forward pass with labels (`inputs_of`).
        room = _room(self.max_length - len(prefix), len(tokens), context=0 if prefix else 1)
        context = (*prefix, *span.ids[max(0, span.start - room) : span.start])
        first = len(context) - 1
        return TokenizedWord((*context, *tokens[:-1]), tuple(range(first, first + len(tokens))), tokens)


def tokenize(tokenizer: Any, texts: Any, **arguments: Any) -> Any:
    """Call a fast tokenizer and leave it as it was: a call sets the truncation and padding of its backend."""
    backend = tokenizer.backend_tokenizer
    truncation, padding = backend.truncation, backend.padding
    try:
        return tokenizer(texts, **arguments)
    finally:
        backend.no_truncation() if truncation is None else backend.enable_truncation(**truncation)
        backend.no_padding() if padding is None else backend.enable_padding(**padding)


def name_of_tokenizer(tokenizer: Any) -> str:
    """What errors call a tokenizer: its class, and where it is from if that is known."""
    source = getattr(tokenizer, "name_or_path", "")
    return f"The tokenizer {type(tokenizer).__name__}" + (f" of {source!r}" if source else "")


def _locate(
    ids: list[int], offsets: list[tuple[int, int]], special: list[int], begin: int, end: int, *, text: str
) -> _Span:
    """Split off the tokenizer's own leading and trailing tokens and find those that overlap text[begin:end]."""
    left = 0
    while left < len(ids) and special[left] and offsets[left][0] == offsets[left][1]:
        left += 1
    right = len(ids)
    while right > left and special[right - 1] and offsets[right - 1][0] == offsets[right - 1][1]:
        right -= 1
    inside = [i for i in range(left, right) if offsets[i][0] < end and offsets[i][1] > begin]
    if not inside:
        raise ValueError(f"{text[begin:end]!r} is no token of {text[:80]!r}: the tokenizer drops it.")
    return _Span(tuple(ids[:left]), tuple(ids[left:right]), tuple(ids[right:]), inside[0] - left, inside[-1] + 1 - left)


def _window_start(length: int, start: int, end: int, size: int) -> int:
    """Where a window of `size` tokens around [start, end) begins, as centred as the text's ends allow."""
    centred = start - _room(size, end - start) // 2
    return max(0, min(centred, length - size))


def _room(size: int, n_tokens: int, *, context: int = 0) -> int:
    """Tokens that fit beside the word; at least `context` must."""
    if size <= context:
        raise ValueError(
            "The tokens that every input has around the text (special ones, a chat prompt) leave no room for the text "
            "in the longest input that model and tokenizer allow (max_position_embeddings, tokenizer.model_max_length)."
        )
    if size - n_tokens < context:
        raise ValueError(
            f"The word has {n_tokens} tokens, more than a model input with room for {size - context} can hold."
        )
    return size - n_tokens


def inputs_of(word: TokenizedWord, *, causal: bool) -> dict[str, Tensor]:
    """The word as model inputs: 1-D input_ids, attention_mask and labels (−100 where nothing is scored).

    Labels follow transformers: at the scored position itself for masked models; for causal models at the token that
    is predicted, one position later, so the word's last token is part of the input.
    """
    ids = [*word.input_ids, word.tokens[-1]] if causal else list(word.input_ids)
    labels = torch.full((len(ids),), IGNORED)
    labels[torch.tensor(word.positions) + int(causal)] = torch.tensor(word.tokens)
    return {
        "input_ids": torch.tensor(ids),
        "attention_mask": torch.ones(len(ids), dtype=torch.long),
        "labels": labels,
    }


def words_of(inputs: Mapping[str, Tensor], *, causal: bool) -> list[TokenizedWord]:
    """The inverse of `inputs_of`, for 1-D inputs or a batch of them padded on either side."""
    words = []
    rows = (torch.atleast_2d(inputs[name]).tolist() for name in ("input_ids", "attention_mask", "labels"))
    for ids, mask, labels in zip(*rows, strict=True):
        kept = [(token, label) for token, attended, label in zip(ids, mask, labels, strict=True) if attended]
        scored = [(i - int(causal), label) for i, (_, label) in enumerate(kept) if label != IGNORED]
        if not scored:
            raise ValueError("The inputs have no label: every entry of labels is -100, so there is no word to score.")
        positions, tokens = zip(*scored, strict=True)
        end = positions[-1] + 1 if causal else len(kept)
        words.append(TokenizedWord(tuple(token for token, _ in kept[:end]), positions, tokens))
    return words
