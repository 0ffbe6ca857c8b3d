"""The tokens of words where they stand in a text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gradiend.gradients import tokenize
from gradiend.util.placeholder import PLACEHOLDER


def resolve_tokenizer(tokenizer: Any) -> Any:
    """A fast tokenizer from its name, its path, or itself.

    Raises:
        OSError: There is no tokenizer of that name.
        TypeError: A tokenizer that does not say which characters a token stands for.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerBase  # noqa: PLC0415

    if isinstance(tokenizer, str | Path):
        try:
            tokenizer = AutoTokenizer.from_pretrained(str(tokenizer))
        except (OSError, ValueError) as error:
            raise OSError(
                f"No tokenizer can be loaded from {str(tokenizer)!r}: give the folder or hub id of a model, or a "
                f"tokenizer. ({str(error).strip().splitlines()[0]})"
            ) from error
    if not (isinstance(tokenizer, PreTrainedTokenizerBase) and tokenizer.is_fast):
        raise TypeError(
            "The tokens of a word are found by the characters that they stand for, which only a fast tokenizer of "
            f"transformers says: pass one, or its name; got {type(tokenizer).__name__}."
        )
    return tokenizer


def tokens_of_word(tokenizer: Any, masked: str, word: str) -> tuple[tuple[str, ...], bool]:
    """The pieces of a word at the first placeholder of a text, and whether one of them is unknown.

    Args:
        tokenizer: A fast tokenizer.
        masked: A text with a placeholder.
        word: The word that stands there.
    """
    filled = masked.replace(PLACEHOLDER, word)
    start = masked.index(PLACEHOLDER)
    stop = start + len(word)
    encoded = tokenize(tokenizer, filled, return_offsets_mapping=True, add_special_tokens=False, verbose=False)
    inside = [
        (token, filled[max(begin, start) : min(end, stop)])
        for token, (begin, end) in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
        if begin < stop and end > start
    ]
    unknown = tokenizer.unk_token_id
    is_unknown = any(token == unknown for token, _ in inside) or not inside
    return tuple(piece for _, piece in inside), is_unknown
