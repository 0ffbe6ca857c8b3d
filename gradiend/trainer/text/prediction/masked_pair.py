"""A plain text → the same text with one word masked."""

from __future__ import annotations

import random
from collections.abc import Collection
from typing import Any

from gradiend.data.text._neutral_masking import ExcludedWords
from gradiend.gradients.words import tokenize
from gradiend.util.placeholder import PLACEHOLDER


def create_masked_pair_from_text(
    text: str,
    tokenizer: Any,
    is_decoder_only_model: bool,
    excluded_tokens: Collection[str] | None = None,
    mask_token: str | None = None,
    min_prefix_tokens: int = 5,
) -> tuple[str, str] | None:
    """Mask one word, chosen by Python's random generator (see `set_seed`).

    Args:
        text: Without placeholder.
        tokenizer: A fast tokenizer, which counts the prefix.
        is_decoder_only_model: Leave out what stands right of the word, since such a model does not see it.
        excluded_tokens: Words never to mask, in any case.
        mask_token: What stands in the word's place. Default: `[MASK]`.
        min_prefix_tokens: Tokens that must stand before the word.

    Returns:
        (masked text, word), or None if no word qualifies.
    """
    never = ExcludedWords(excluded_tokens or ())
    offsets = tokenize(tokenizer, text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    candidates = [
        match
        for match in never.maskable(text, min_prefix=0)
        if sum(begin < end <= match.start() for begin, end in offsets) >= min_prefix_tokens
    ]
    if not candidates:
        return None
    chosen = random.choice(candidates)
    after = "" if is_decoder_only_model else text[chosen.end() :]
    return f"{text[: chosen.start()]}{mask_token or PLACEHOLDER}{after}", chosen.group()
