"""Training examples as batches of one class, and the gradients of these batches."""

from __future__ import annotations

import itertools
import random
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from gradiend.data.text._neutral_masking import ExcludedWords
from gradiend.gradients import Objective, TokenizedWord, tokenize
from gradiend.model._context import Side
from gradiend.objectives import Causal, Masked
from gradiend.trainer.core._kept_gradients import GradientCache, GradientStore, words_key
from gradiend.trainer.core.dataset import GradientBatches, take_turns
from gradiend.trainer.text.common.dataset import TextBatchedDatasetBase
from gradiend.util import PLACEHOLDER
from gradiend.util._display import Table

TextBatchedDataset = TextBatchedDatasetBase
"""The documented second name of the base class."""

Words = tuple[TokenizedWord, ...]

REQUIRED_COLUMNS = ("masked", "factual", "alternative", "label", "feature_class_id")


class TextTrainingDataset(TextBatchedDatasetBase):
    """Examples in batches of one class each; classes take turns, and smaller classes are repeated.

    Args:
        data: A frame with the columns masked, factual, alternative, label (+1, −1, 0) and feature_class_id, and
            optionally factual_id and alternative_id.
        tokenizer: A fast tokenizer.
        batch_size: Examples per batch.
        is_decoder_only_model: Whether the model predicts from the left context only.
        max_size: Cap on examples, spread evenly over the classes.
        target_key: Column whose value is the same in all rows of a batch.
        balance_column: Column whose values take turns.
        max_length: Longest input in tokens.
        seed: Seed of the composition. None is 0.
        objective: The model's objective, which replaces `is_decoder_only_model` and `max_length`. Default: a new one;
            the tokenizer of a decoder-only model, if it has no padding token, then gets its end token as padding.

    Raises:
        ValueError: A missing column, no rows, a class with fewer examples than a batch, or words that the tokenizer
            does not know.
    """

    def __init__(
        self, data: pd.DataFrame, tokenizer: Any, batch_size: int, is_decoder_only_model: bool = False,
        max_size: int | None = None, target_key: str = "label", balance_column: str = "feature_class_id",
        max_length: int = 256, seed: int | None = None, objective: Objective | None = None,
    ) -> None:  # fmt: skip
        missing = [name for name in dict.fromkeys((*REQUIRED_COLUMNS, target_key, balance_column)) if name not in data]
        if missing:
            raise ValueError(
                f"The training data lacks {', '.join(missing)}; it has {', '.join(map(str, data.columns))}."
            )
        if objective is None and is_decoder_only_model and tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        self.target_key = target_key
        kind = Causal if is_decoder_only_model else Masked
        self.objective = objective or kind(tokenizer, max_length=max_length)
        defaults = {name: data["feature_class_id"] for name in ("factual_id", "alternative_id") if name not in data}
        super().__init__(
            data.assign(**defaults), tokenizer, batch_size, target_key, max_size, seed or 0, max_length=max_length,
            balance_column=balance_column,
        )  # fmt: skip

    @property
    def n_turns(self) -> int:
        """Number of batches of an epoch, in which every class has as many batches as the largest one."""
        return len(self.batches) * max(map(len, self.batches))

    def rows_of_steps(self, steps: int, seed: int | None) -> set[int]:
        """Row numbers of the examples in the first `steps` batches of a training; without a seed, of all examples."""
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
        """(factual, alternative) words of every row of `data`, tokenized once. Raises ValueError for unknown words."""
        texts = self.data["masked"].tolist()
        factual, alternative = (
            self.objective.tokenize_known(texts, self.data[side].tolist()) for side in ("factual", "alternative")
        )
        return factual, alternative

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One example: factual and alternative as model inputs, label, ids, and texts."""
        row_number = self.row_number(index)
        row = self.data.iloc[row_number].to_dict()
        factual, alternative = (self.objective.inputs_of(side[row_number]) for side in self.tokenized)
        return {
            "factual": factual,
            "alternative": alternative,
            "label": row[self.target_key],
            "text": row["masked"].replace(PLACEHOLDER, row["factual"], 1),
            **dict.fromkeys(("template", "input_text"), row["masked"]),
            "factual_token": row["factual"],
            "alternative_token": row["alternative"],
            **{name: row[name] for name in ("feature_class_id", "factual_id", "alternative_id")},
        }


class TextGradientBatches(GradientBatches):
    """(source, target) gradients of a `TextTrainingDataset`, batch by batch, on which the trainer trains.

    Args:
        training_data: The batches.
        model: A `TextPredictionModelWithGradiend`, whose engine makes the gradients.
        source, target: factual, alternative, diff, or None, which computes nothing.
        kept: Store of gradients that are needed again: the data's seed composes the batches, so later epochs, seeds and
            runs have the same ones. A `GradientCache` of the model keeps gradients for good; a `GradientStore` may be
            shared by instances with the same batches and model weights.
        bf16: Whether gradients are computed under bfloat16 autocast.
    """

    def __init__(
        self, training_data: TextTrainingDataset, model: Any, *, source: str | None, target: str | None,
        kept: GradientCache | GradientStore | None = None, bf16: bool = False,
    ) -> None:  # fmt: skip
        self.training_data = training_data
        self.model = model
        named = {"source": source, "target": target}
        self.sides = {name: Side.parse(name, side) for name, side in named.items() if side is not None}
        self.cache = kept if isinstance(kept, GradientCache) else None
        self.store = kept if isinstance(kept, GradientStore) else None
        self.bf16 = bf16
        # The words are tokenized here, so that bad words are an error before the first step.
        self._factual, self._alternative = training_data.tokenized

    def _tables(self) -> tuple[str, list[Table]]:
        sides = ", ".join(f"{name}={side}" for name, side in self.sides.items())
        return f"{type(self).__name__}({len(self):,} batches of {self.training_data.batch_size}, {sides})", []

    def __len__(self) -> int:
        """Number of batches per epoch."""
        return self.training_data.n_turns

    def reads_again(self, batches: int) -> bool:
        """See `GradientBatches.reads_again`."""
        if self.store is None:
            return self.cache is not None
        engine = self.model.engine
        return self.store.capacity(len(self.sides), engine.mapping.size, engine.dtype) >= min(batches, len(self))

    def epoch(self, index: int, seed: int | None) -> Iterator[Mapping[str, Any]]:
        """See `GradientBatches.epoch`; the next batch overwrites `source` and `target`."""
        return self.epoch_from(index, seed, 0)

    def epoch_from(self, index: int, seed: int | None, start: int) -> Iterator[Mapping[str, Any]]:
        """See `GradientBatches.epoch_from`; the gradients of the first batches are not computed."""
        data = self.training_data
        engine = self.model.engine
        # Each gradient is gathered on the device of the half that reads it.
        places = {"source": self.model.gradiend.device_encoder, "target": self.model.gradiend.device_decoder}
        buffers = [torch.empty(engine.mapping.size, dtype=engine.dtype, device=places[name]) for name in self.sides]
        if self.cache is not None:
            self.cache.refresh()
        for turn in itertools.islice(take_turns(data.batches, index, seed), start, None):
            group, number = turn
            first = data.data.iloc[data.batches[group][number][0]]
            key = self.key(turn)
            known = None if self.store is None else self.store.get(key)
            gradients = self._gradients(turn, buffers) if known is None else known
            if known is None and self.store is not None:
                self.store.keep(key, gradients)
            yield {
                **dict(zip(self.sides, gradients, strict=True)),
                "batch_id": turn,
                "label": first[data.target_key],
                "feature_class_id": first["feature_class_id"],
            }

    def key(self, turn: tuple[int, int]) -> Hashable:
        """The key under which the store keeps the gradients of a batch, which is named by its group and number."""
        return (self.model.engine.mapping.hash, *self.sides.values(), *turn)

    def words(self, turn: tuple[int, int]) -> tuple[Words, Words]:
        """The factual and the alternative words of a batch."""
        rows = self.training_data.batches[turn[0]][turn[1]]
        return tuple(self._factual[row] for row in rows), tuple(self._alternative[row] for row in rows)

    def first_turns(self, steps: int, seed: int | None) -> list[tuple[int, int]]:
        """The distinct batches that a training of so many steps takes; without a seed, all batches."""
        turns = take_turns(self.training_data.batches, 0, seed or 0)
        return list(dict.fromkeys(itertools.islice(turns, None if seed is None else steps)))

    def _gradients(self, turn: tuple[int, int], buffers: list[Tensor]) -> Sequence[Tensor]:
        factual, alternative = self.words(turn)
        sides = list(self.sides.values())
        if self.cache is None:
            return self.model.engine.gradients(factual, alternative, sides, out=buffers, bf16=self.bf16)
        paths = {side: self.cache.path(side.value, words_key(side, factual, alternative, self.bf16)) for side in sides}
        read = {side: self.cache.read(path, self.model.engine.mapping.size) for side, path in paths.items()}
        known = {side: gradient for side, gradient in read.items() if gradient is not None}
        unknown = [side for side in paths if side not in known]
        if unknown:
            made = self.model.engine.gradients(
                factual, alternative, unknown, out=buffers[: len(unknown)], bf16=self.bf16
            )
            for side, gradient in zip(unknown, made, strict=True):
                self.cache.write(paths[side], gradient)
                known[side] = gradient
        return [known[side] for side in sides]


def create_masked_pair_from_text(
    text: str, tokenizer: Any, is_decoder_only_model: bool, excluded_tokens: Collection[str] | None = None,
    mask_token: str | None = None, min_prefix_tokens: int = 5,
) -> tuple[str, str] | None:  # fmt: skip
    """Mask one word, chosen by Python's random generator (see `set_seed`).

    Args:
        text: A text without placeholder.
        tokenizer: A fast tokenizer, which counts the tokens before the word.
        is_decoder_only_model: Whether the text right of the word is left out, because such a model does not see it.
        excluded_tokens: Words, in lower or upper case, that are never masked.
        mask_token: Text in the place of the word. Default: `[MASK]`.
        min_prefix_tokens: Least number of tokens before the word.

    Returns:
        (masked text, word), or None if no word can be masked.
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
