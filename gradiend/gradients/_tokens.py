"""Words as tokens, and batches of words as padded tensors: equal inputs share a row, equal positions share a site."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gradiend.util._isolation import exclusive
from gradiend.util._processes import processes

PASS = 128
"""The cost of a pass beside its tokens, counted in tokens: a rough figure for small models on a CPU."""


@dataclass(frozen=True, slots=True)
class TokenizedWord:
    """One word at one placeholder: log p(word) = Σ over i of log p(tokens[i] | input_ids) at positions[i]."""

    input_ids: tuple[int, ...]
    positions: tuple[int, ...]
    tokens: tuple[int, ...]


def tokenize(tokenizer: Any, texts: Any, **arguments: Any) -> Any:
    """Call a fast tokenizer, and restore the truncation and padding that the call sets in its backend."""
    backend = tokenizer.backend_tokenizer
    with exclusive(tokenizer):
        truncation, padding = backend.truncation, backend.padding
        try:
            return tokenizer(texts, **arguments)
        finally:
            backend.no_truncation() if truncation is None else backend.enable_truncation(**truncation)
            backend.no_padding() if padding is None else backend.enable_padding(**padding)


def name_of_tokenizer(tokenizer: Any) -> str:
    """The name of a tokenizer in messages: its class and, if that is known, where the tokenizer is from."""
    source = getattr(tokenizer, "name_or_path", "")
    return f"The tokenizer {type(tokenizer).__name__}" + (f" of {source!r}" if source else "")


@dataclass(frozen=True, slots=True)
class Span:
    """A text's tokens, of which ids[start:end] stand at a place of the text."""

    prefix: tuple[int, ...]
    ids: tuple[int, ...]
    suffix: tuple[int, ...]
    start: int
    end: int


def locate(
    ids: list[int], offsets: list[tuple[int, int]], special: list[int], begin: int, end: int, *, text: str
) -> Span:
    """Split off the tokenizer's own leading and trailing tokens, and find the tokens that overlap text[begin:end]."""
    left = 0
    while left < len(ids) and special[left] and offsets[left][0] == offsets[left][1]:
        left += 1
    right = len(ids)
    while right > left and special[right - 1] and offsets[right - 1][0] == offsets[right - 1][1]:
        right -= 1
    inside = [i for i in range(left, right) if offsets[i][0] < end and offsets[i][1] > begin]
    if not inside:
        raise ValueError(f"{text[begin:end]!r} is no token of {text[:80]!r}: the tokenizer drops it.")
    return Span(tuple(ids[:left]), tuple(ids[left:right]), tuple(ids[right:]), inside[0] - left, inside[-1] + 1 - left)


def room_beside(size: int, n_tokens: int, *, context: int = 0) -> int:
    """The number of tokens that fit beside a word into an input of `size`; ValueError for fewer than `context`."""
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


@dataclass(frozen=True)
class WordBatch:
    """B distinct inputs of padded length L, U sites (places whose logits are needed), S scored tokens, N words."""

    input_ids: Tensor  # (B, L), padded on the right
    attention_mask: Tensor  # (B, L)
    site_rows: Tensor  # (U,): the row of each site in input_ids
    site_positions: Tensor  # (U,): the position of each site in its row
    score_sites: Tensor  # (S,): the site of each scored token
    score_tokens: Tensor  # (S,)
    score_words: Tensor  # (S,): the number of the word that each scored token belongs to
    n_words: int

    def to(self, device: torch.device) -> WordBatch:
        """The same batch on another device."""
        moved = {key: value.to(device) for key, value in vars(self).items() if isinstance(value, Tensor)}
        return WordBatch(**moved, n_words=self.n_words)

    def of_length(self, length: int) -> WordBatch:
        """The rows of `length` tokens, without padding, and their sites; the scored tokens are left out."""
        kept = self.attention_mask.sum(1) == length
        own = kept[self.site_rows]
        rows = kept.nonzero().squeeze(1)
        none = self.score_sites[:0]
        ids, mask = self.input_ids[kept, :length], self.attention_mask[kept, :length]
        sites = torch.searchsorted(rows, self.site_rows[own]), self.site_positions[own]
        return WordBatch(ids, mask, *sites, none, none, none, n_words=0)


def collate(words: Sequence[TokenizedWord], pad_token_id: int) -> WordBatch:
    """Words as one batch, padded on the right to the longest input; words with the same input share a row."""
    rows: dict[tuple[int, ...], int] = {}
    sites: dict[tuple[int, int], int] = {}
    scores = []
    for index, word in enumerate(words):
        row = rows.setdefault(word.input_ids, len(rows))
        for position, token in zip(word.positions, word.tokens, strict=True):
            scores.append((sites.setdefault((row, position), len(sites)), token, index))
    length = max(len(ids) for ids in rows)
    input_ids = torch.tensor([[*ids, *[pad_token_id] * (length - len(ids))] for ids in rows])
    attention_mask = torch.tensor([[1] * len(ids) + [0] * (length - len(ids)) for ids in rows])
    site_rows, site_positions = torch.tensor(list(sites)).T
    score_sites, score_tokens, score_words = torch.tensor(scores).T
    return WordBatch(
        input_ids, attention_mask, site_rows, site_positions, score_sites, score_tokens, score_words, len(words)
    )


def batches_by_length(
    words: Sequence[TokenizedWord], batch_size: int, pad_token_id: int
) -> Iterator[tuple[Tensor, WordBatch]]:
    """Yield (indices (N,) into `words`, the batch of these words), as many batches for each process of a run.

    A batch has at most `batch_size` distinct inputs of similar length. The longest come first, so that memory runs out
    at once or never.
    """
    groups: dict[tuple[int, ...], list[int]] = {}
    for index, word in enumerate(words):
        groups.setdefault(word.input_ids, []).append(index)
    order = sorted(groups, key=len, reverse=True)
    for place in even_batches([len(ids) for ids in order], batch_size, processes().count):
        indices = [index for ids in order[place] for index in groups[ids]]
        yield torch.tensor(indices), collate([words[index] for index in indices], pad_token_id)


def count_batches(words: Sequence[TokenizedWord], batch_size: int) -> int:
    """The number of batches that `batches_by_length` yields."""
    lengths = sorted((len(ids) for ids in {word.input_ids for word in words}), reverse=True)
    return len(even_batches(lengths, batch_size, processes().count))


def even_batches(lengths: Sequence[int], size: int, count: int) -> list[slice]:
    """The batches of items with falling lengths, of at most `size` items, for `count` processes.

    The batches of several processes have about equal costs, so that no process waits long for another one. If full
    batches would leave a process waiting, each process gets one batch more.
    """
    n = len(lengths)
    if count == 1 or not n:
        return [slice(start, start + size) for start in range(0, n, size)]

    def filled(limit: int) -> list[slice]:
        """Batches that are filled up to a number of padded tokens."""
        ends, start = [0], 0
        for place in range(1, n):
            if place - start == size or (place + 1 - start) * lengths[start] > limit:
                ends.append(place)
                start = place
        return [slice(*pair) for pair in itertools.pairwise([*ends, n])]

    def of_rounds(rounds: int) -> list[slice]:
        """The batches with the smallest limit, of which each process has at most so many."""
        number, first, last = min(n, rounds * count), lengths[0], size * lengths[0]
        return filled(first + bisect.bisect_left(range(first, last), -number, key=lambda limit: -len(filled(limit))))

    def longest_work(batches: Sequence[slice]) -> int:
        """The cost for the process that has most to do, see `Processes.compute`."""
        own = [0] * count
        for place, batch in enumerate(batches):
            turn = place % (2 * count)
            own[min(turn, 2 * count - 1 - turn)] += (batch.stop - batch.start) * lengths[batch.start] + PASS
        return max(own)

    fewest = -(-n // (size * count))
    return min((of_rounds(rounds) for rounds in (fewest, fewest + 1)), key=longest_work)
