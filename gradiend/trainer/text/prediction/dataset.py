"""Training examples as batches of one class."""

from __future__ import annotations

import itertools
from functools import cached_property
from typing import Any

import pandas as pd

from gradiend.gradients.words import TokenizedWord, WordTokenizer, inputs_of
from gradiend.trainer.core.dataset import take_turns
from gradiend.trainer.text.common.dataset import TextBatchedDatasetBase
from gradiend.trainer.text.prediction.masked_pair import create_masked_pair_from_text
from gradiend.trainer.text.prediction.stand_in import StandInTokenizer
from gradiend.util import PLACEHOLDER

__all__ = ["TextBatchedDataset", "TextTrainingDataset", "create_masked_pair_from_text", "tokenize_known"]

TextBatchedDataset = TextBatchedDatasetBase
"""The documented second name."""

REQUIRED_COLUMNS = ("masked", "factual", "alternative", "label", "feature_class_id")


class TextTrainingDataset(TextBatchedDatasetBase):
    """Examples composed into batches, each of one class; classes take turns, and smaller ones are cycled.

    Args:
        data: Columns masked, factual, alternative, label (+1, −1, 0) and feature_class_id; factual_id and
            alternative_id are optional.
        tokenizer: A fast tokenizer.
        batch_size: Examples per batch.
        is_decoder_only_model: Whether the model predicts from the left context only.
        max_size: Cap on examples, spread evenly over the classes.
        target_key: Column that never varies within a batch.
        balance_column: Column whose values take turns.
        max_length: Longest input in tokens.
        seed: Of the composition. None is 0.
        words: How texts are tokenized; `is_decoder_only_model` and `max_length` say nothing then. Default: a new
            `WordTokenizer`; a decoder-only model's tokenizer without padding token then gets its end token as one.

    Raises:
        ValueError: A missing column, no rows, a class with fewer examples than a batch, or words that the tokenizer
            does not know.
    """

    def __init__(
        self,
        data: pd.DataFrame,
        tokenizer: Any,
        batch_size: int,
        is_decoder_only_model: bool = False,
        max_size: int | None = None,
        target_key: str = "label",
        balance_column: str = "feature_class_id",
        max_length: int = 256,
        seed: int | None = None,
        words: WordTokenizer | None = None,
    ) -> None:
        missing = [name for name in dict.fromkeys((*REQUIRED_COLUMNS, target_key, balance_column)) if name not in data]
        if missing:
            raise ValueError(
                f"The training data lacks {', '.join(missing)}; it has {', '.join(map(str, data.columns))}."
            )
        if words is None and is_decoder_only_model and tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        self.target_key = target_key
        self.words = words or WordTokenizer(tokenizer, causal=is_decoder_only_model, max_length=max_length)
        defaults = {name: data["feature_class_id"] for name in ("factual_id", "alternative_id") if name not in data}
        super().__init__(
            data.assign(**defaults), tokenizer, batch_size, target_key, max_size, seed or 0, max_length=max_length,
            balance_column=balance_column,
        )  # fmt: skip

    @property
    def n_turns(self) -> int:
        """Batches of an epoch: every class has as many as the largest."""
        return len(self.batches) * max(map(len, self.batches))

    def rows_of_steps(self, steps: int, seed: int | None) -> set[int]:
        """Row numbers of the examples that the first `steps` batches of a training have; without a seed, of all."""
        if seed is None or steps >= self.n_turns:
            return {int(row) for group in self.batches for batch in group for row in batch}
        turns = itertools.islice(take_turns(self.batches, 0, seed), steps)
        return {int(row) for group, number in turns for row in self.batches[group][number]}

    def values_of(self, key: str) -> list[Any]:
        """The value of a column for every item, without making the items."""
        column = self.data[self.target_key if key == "label" else key].tolist()
        return [column[row] for batch in self._flat for row in batch]

    @cached_property
    def tokenized(self) -> tuple[list[TokenizedWord], list[TokenizedWord]]:
        """(factual, alternative) of every row of `data`, tokenized once. Raises ValueError for unknown words."""
        return tuple(
            tokenize_known(self.words, self.data["masked"], self.data[side]) for side in ("factual", "alternative")
        )  # type: ignore[return-value]

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One example: factual and alternative as model inputs, label, ids, and its texts."""
        row_number = self.row_number(index)
        row = self.data.iloc[row_number].to_dict()
        factual, alternative = (inputs_of(side[row_number], causal=self.words.causal) for side in self.tokenized)
        return {
            "factual": factual,
            "alternative": alternative,
            "label": row[self.target_key],
            "feature_class_id": row["feature_class_id"],
            "text": row["masked"].replace(PLACEHOLDER, row["factual"], 1),
            "template": row["masked"],
            "input_text": row["masked"],
            "factual_token": row["factual"],
            "alternative_token": row["alternative"],
            "factual_id": row["factual_id"],
            "alternative_id": row["alternative_id"],
        }


def tokenize_known(words: WordTokenizer, masked: Any, values: Any) -> list[TokenizedWord]:
    """Tokenize words at their placeholders.

    Raises:
        ValueError: Words that become unknown tokens; they are listed.
    """
    values = list(values)
    tokenized = words(list(masked), values)
    # The tokens of an auxiliary head are numbers of its labels, and it has refused the words that it does not know.
    unknown = None if isinstance(words, StandInTokenizer) else words.tokenizer.unk_token_id
    strange = sorted({word for word, item in zip(values, tokenized, strict=True) if unknown in item.tokens})
    if unknown is not None and strange:
        shown, mark = ", ".join(map(repr, strange[:10])), words.tokenizer.unk_token
        raise ValueError(
            f"The tokenizer does not know {shown}: {mark!r} stands for it, whose gradient says nothing about the word. "
            "Remove these rows, or use a model that has the words."
        )
    return tokenized
