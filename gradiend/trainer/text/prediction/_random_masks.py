"""Random words of one text, masked alone or together, and tokenized for a model."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import torch

from gradiend.data.text._neutral_masking import ExcludedWords, mask_words
from gradiend.gradients import Objective, TokenizedWord
from gradiend.objectives.masked import MASKED_SHARE
from gradiend.util import PLACEHOLDER


@dataclass(frozen=True)
class RandomMasks:
    """A text with masked words."""

    text: str
    """The text with a placeholder for each masked word."""
    words: list[str]
    """The masked words."""
    tokenized: list[TokenizedWord]
    """The masked words, tokenized for the model."""


def mask_at_random(text: str, objective: Objective, *, excluded: Collection[str | int], single: bool) -> RandomMasks:
    """Mask words that the tokenizer knows, chosen by torch's generator; see `mask_and_encode` for the arguments.

    If several words are masked, text beyond the longest model input is cut off.
    """
    if not isinstance(text, str):
        raise TypeError(f"Expected one text, a string; got {type(text).__name__}. Call it once for each text.")
    if PLACEHOLDER in text:
        raise ValueError(
            f"The text already has {PLACEHOLDER}: encode(text, label=…) takes such a text with the word to predict."
        )
    if not single:
        text = _beginning(text, objective)
    never = ExcludedWords([word for word in excluded if isinstance(word, str)])
    places = never.maskable(text, min_prefix=objective.min_prefix)
    no_token = {objective.tokenizer.unk_token_id, *(token for token in excluded if isinstance(token, int))}
    size = 1 if single else max(1, round(MASKED_SHARE * len(places)))
    chosen: dict[int, TokenizedWord] = {}
    for number in torch.randperm(len(places)).tolist():
        if len(chosen) == size:
            break
        [word] = objective.tokenize([mask_words(text, [places[number]])], [places[number].group()])
        if no_token.isdisjoint(word.tokens):
            chosen[number] = word
    if not chosen:
        raise ValueError(f"No word of {text[:80]!r} may be masked: too short a text, or ignore_tokens names all words.")
    matches = [places[number] for number in sorted(chosen)]
    tokenized = [chosen[number] for number in sorted(chosen)]
    return RandomMasks(mask_words(text, matches), [match.group() for match in matches], objective.together(tokenized))


def parse_ignored(ignore_tokens: Any) -> frozenset[str | int]:
    """`ignore_tokens` as a set; False and None give an empty set."""
    if ignore_tokens is None or ignore_tokens is False:
        return frozenset()
    if not isinstance(ignore_tokens, (list, tuple, set, frozenset)) or not all(
        isinstance(token, (str, int)) for token in ignore_tokens
    ):
        raise TypeError(
            "ignore_tokens must be a list of words or token ids that are never masked, or False; "
            f"got {ignore_tokens!r}."
        )
    return frozenset(ignore_tokens)


def _beginning(text: str, objective: Objective) -> str:
    encoded = objective.encode([text], truncation=True, max_length=objective.max_length)
    return text[: max((end for _, end in encoded["offset_mapping"][0]), default=0)]
