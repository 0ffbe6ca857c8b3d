"""Datasets of texts: rows in batches of one kind, and gradients of tokenized texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from gradiend.trainer.core.dataset import GradientTrainingDataset, compose_batches
from gradiend.util._checks import require_whole
from gradiend.util._display import Shown, Table

TEXT_CACHE_KEY = ("input_text", "label")


class TextGradientTrainingDataset(GradientTrainingDataset):
    """`GradientTrainingDataset` of tokenized texts: input_ids are padded with the padding token of `tokenizer`.

    The inputs of an item are dicts of tensors, as those of a `TextTrainingDataset`; a cache needs input_text and label
    in every item. `GradientTrainingDataset` describes the other arguments and the errors.
    """

    def __init__(
        self, training_data: Any, tokenizer: Any, gradient_creator: Callable[[Any], Tensor], *,
        source: str | None = "factual", target: str | None = "diff", cache_dir: str | Path | None = None,
        use_cached_gradients: bool = True, dtype: torch.dtype = torch.float32, device: torch.device | str | None = None,
        return_metadata: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(
            training_data, gradient_creator, source=source, target=target, cache_dir=cache_dir,
            use_cached_gradients=use_cached_gradients, dtype=dtype, device=device, return_metadata=return_metadata,
            cache_key_fields=None if cache_dir is None else TEXT_CACHE_KEY, get_padding_value=self._padding_value,
        )  # fmt: skip
        self.tokenizer = tokenizer

    def _padding_value(self, name: str) -> int:
        return (self.tokenizer.pad_token_id or 0) if name == "input_ids" else 0


class TextBatchedDatasetBase(Shown):
    """Rows in batches that never mix the values of a criterion.

    A last, incomplete batch of a group is filled up from the start of the group, so that no row is lost; with
    `max_size` such a batch is left out.

    Args:
        data: The rows.
        tokenizer: A tokenizer, which only subclasses use.
        batch_size: Rows per batch.
        batch_criterion: Column, columns, or function of a row, whose value is the same in all rows of a batch.
        max_size: Cap on rows, spread evenly over the groups; the seed chooses the rows.
        seed: Seed of the composition.
        shuffle_batches: Whether batches come in random order. Default: yes, unless a `balance_column` is given.
        max_length: Longest input in tokens, which only subclasses use.
        balance_column: Column whose values take turns.
        shuffle_within: Whether rows are shuffled before they are put into batches. Default: yes.

    Raises:
        KeyError: The data lacks a column.
        ValueError: No rows, a batch_size below 1 or above the rows of a group, or a max_size below one batch of each
            group.
    """

    def __init__(
        self, data: pd.DataFrame, tokenizer: Any, batch_size: int,
        batch_criterion: str | Sequence[str] | Callable[[pd.Series], Any], max_size: int | None = None, seed: int = 42,
        shuffle_batches: bool | None = None, max_length: int = 256, balance_column: str | None = None,
        shuffle_within: bool | None = None,
    ) -> None:  # fmt: skip
        require_whole("batch_size", batch_size, 1)
        if data.empty:
            raise ValueError("The training data has no rows.")
        self.data = data.reset_index(drop=True)
        self.tokenizer = tokenizer
        self.batch_size = batch_size
        self.batch_criterion = batch_criterion
        self.max_size = max_size
        self.seed = seed
        self.shuffle_batches = balance_column is None if shuffle_batches is None else shuffle_batches
        self.max_length = max_length
        self.balance_column = balance_column
        self.shuffle_within = True if shuffle_within is None else shuffle_within
        self._groups = self._grouped()
        self._composition = 0
        self._compose()

    def _grouped(self) -> list[np.ndarray]:
        by: list[Any] = [] if self.balance_column is None else [self.balance_column]
        if callable(self.batch_criterion):
            by.append(self.data.apply(self.batch_criterion, axis=1))
        else:
            by += [self.batch_criterion] if isinstance(self.batch_criterion, str) else list(self.batch_criterion)
        missing = [name for name in by if isinstance(name, str) and name not in self.data]
        if missing:
            raise KeyError(f"The data lacks {', '.join(missing)}; it has {', '.join(map(str, self.data.columns))}.")
        groups = [np.asarray(rows) for rows in self.data.groupby(by).indices.values()]
        smallest = min(map(len, groups))
        if smallest < self.batch_size:
            raise ValueError(
                f"batch_size={self.batch_size} is larger than the smallest class, which has {smallest} training "
                f"examples: reduce train_batch_size to at most {smallest}, or collect more examples."
            )
        return groups if self.max_size is None else self._capped(groups, self.max_size)

    def _capped(self, groups: Sequence[np.ndarray], max_size: int) -> list[np.ndarray]:
        """Whole batches of each group within its share of `max_size`: the rows that the seed chooses, in order."""
        share = max_size // len(groups)
        if share < self.batch_size:
            raise ValueError(
                f"max_size={max_size} for {len(groups)} classes leaves less than one batch of each: reduce "
                f"train_batch_size from batch_size={self.batch_size}, or raise max_size to at least "
                f"{len(groups) * self.batch_size}."
            )
        sizes = [min(share, len(group)) // self.batch_size * self.batch_size for group in groups]
        orders = [np.random.default_rng(self.seed).permutation(group) for group in groups]
        return [np.sort(order[:size]) for order, size in zip(orders, sizes, strict=True)]

    def _compose(self) -> None:
        seed = self.seed if self._composition == 0 else [self.seed, self._composition]
        self.batches = compose_batches(self._groups, self.batch_size, seed, shuffle=self.shuffle_within)
        longest = max(map(len, self.batches))
        turns = [group[turn] for turn in range(longest) for group in self.batches if turn < len(group)]
        if self.shuffle_batches:
            order = np.random.default_rng([self.seed, self._composition, len(turns)]).permutation(len(turns))
            turns = [turns[number] for number in order]
        self._flat = turns

    def _tables(self) -> tuple[str, list[Table]]:
        return f"{type(self).__name__}({len(self):,} examples in batches of {self.batch_size})", []

    def reshuffle(self) -> None:
        """Compose other batches of the same rows: the next composition in a sequence that the seed decides."""
        self._composition += 1
        self._compose()

    def __len__(self) -> int:
        """Number of rows in all batches."""
        return len(self._flat) * self.batch_size

    def __getitem__(self, index: int) -> Any:
        """The row at place `index`; each `batch_size` consecutive places are a batch. Subclasses tokenize the row."""
        return self.data.iloc[self.row_number(index)]

    def row_number(self, index: int) -> int:
        """The number of the row of `data` at a place. Raises IndexError if there is no such place."""
        if not 0 <= index < len(self):
            raise IndexError(f"There are {len(self)} examples; there is no number {index}.")
        return int(self._flat[index // self.batch_size][index % self.batch_size])
