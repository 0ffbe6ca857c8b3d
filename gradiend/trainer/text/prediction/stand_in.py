"""Masked texts for a causal model with an auxiliary head: the placeholder is one token within its context."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gradiend.gradients.words import TOKENIZATION_CHUNK, TokenizedWord, WordTokenizer
from gradiend.util import PLACEHOLDER


def stand_in_token(tokenizer: Any) -> str:
    """The token that stands for the placeholder: the mask token if there is one, else the unknown, else the end token.

    Raises:
        ValueError: The tokenizer has none of them.
    """
    for token in (tokenizer.mask_token, tokenizer.unk_token, tokenizer.eos_token):
        if token is not None:
            return str(token)
    raise ValueError(
        f"{type(tokenizer).__name__} has no mask, unknown or end token to stand at the placeholder: "
        "set tokenizer.mask_token to a token of its vocabulary."
    )


class StandInTokenizer(WordTokenizer):
    """Turns (masked text, word) into what a `DecoderModelWithMLMHead` is scored on.

    The word is scored where it stands, as in a masked model, and its one token is its number among the head's labels.
    What follows the tokens that the head pools cannot influence a causal model there, so it is cut off.

    Args:
        tokenizer: A fast tokenizer.
        stand_in: The token at the placeholder.
        labels: The head's words, lower case.
        pooling_length: Positions that the head pools.
        max_length: Longest model input in tokens; longer texts keep the nearest left context.

    Raises:
        TypeError: A slow tokenizer.
    """

    def __init__(
        self, tokenizer: Any, stand_in: str, labels: Sequence[str], *, pooling_length: int, max_length: int
    ) -> None:
        super().__init__(tokenizer, causal=True, max_length=max_length)
        # Scored in place: for the engine this is a masked model, whatever the tokenizer belongs to.
        self.causal = False
        self.stand_in_id = tokenizer.convert_tokens_to_ids(stand_in)
        self.pooling_length = pooling_length
        # At the placeholder while a text is tokenized: always the same word, so that the input tells none of them.
        self._filler = labels[0]
        self._numbers = {label: number for number, label in enumerate(labels)}

    def __call__(self, masked_texts: Sequence[str], words: Sequence[str]) -> list[TokenizedWord]:
        """Tokenize each text; its word is scored at the first placeholder.

        Raises:
            ValueError: A text without placeholder, or words that the head was not trained on.
        """
        unknown = sorted({word for word in words if word.lower() not in self._numbers})
        if unknown:
            raise ValueError(
                f"The auxiliary head does not know {', '.join(map(repr, unknown[:10]))}, only "
                f"{', '.join(list(self._numbers)[:10])}: train it on data that has these words."
            )
        result: list[TokenizedWord] = []
        for start in range(0, len(masked_texts), TOKENIZATION_CHUNK):
            result += self._chunk(
                masked_texts[start : start + TOKENIZATION_CHUNK], words[start : start + TOKENIZATION_CHUNK]
            )
        return result

    def _chunk(self, masked_texts: Sequence[str], words: Sequence[str]) -> list[TokenizedWord]:
        parts = [text.partition(PLACEHOLDER) for text in masked_texts]
        for text, (_, placeholder, _) in zip(masked_texts, parts, strict=True):
            if not placeholder:
                raise ValueError(f"No {PLACEHOLDER} in the text {text[:80]!r}.")
        # A later placeholder hides what follows it, as it does where only the left context is read.
        texts = [before + self._filler + after.split(PLACEHOLDER)[0] for before, _, after in parts]
        places = [(len(before), len(before) + len(self._filler)) for before, _, _ in parts]
        result = []
        for span, word in zip(self._located(texts, places), words, strict=True):
            following = [*span.ids[span.end :], *span.suffix]
            after = following[: self.pooling_length - 1]
            context = self._nearest([*span.prefix, *span.ids[: span.start]], self.max_length - 1 - len(after))
            number = self._numbers[word.lower()]
            result.append(TokenizedWord((*context, self.stand_in_id, *after), (len(context),), (number,)))
        return result

    def _nearest(self, context: list[int], room: int) -> list[int]:
        """The last `room` tokens; a leading BOS token stays in front."""
        if len(context) <= room:
            return context
        first = context[:1] if context[0] == self.tokenizer.bos_token_id else []
        return [*first, *context[len(context) - room + len(first) :]]
