"""Training batches → (source, target) gradients."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from gradiend.trainer.core.gradient_dataset import GradientTrainingDataset

__all__ = ["GradientBatches", "GradientTrainingDataset", "compose_batches", "take_turns"]

WINDOW = 8
"""Batches of a group whose order depends on the seed of a run."""


class GradientBatches(ABC):
    """What a training loop consumes: one gradient pair per batch, in an order that depends on epoch and seed."""

    @abstractmethod
    def __len__(self) -> int:
        """Batches per epoch."""

    @abstractmethod
    def epoch(self, index: int, seed: int | None) -> Iterator[Mapping[str, Any]]:
        """Dicts with `source` and `target`, flat (input_dim,), and what is known of the batch (`label`, `batch_id`, …).

        The tensors may be overwritten when the next batch is asked for.
        """

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """The first epoch, with tensors that stay as they are."""
        for batch in self.epoch(0, 0):
            yield {key: value.clone() if isinstance(value, Tensor) else value for key, value in batch.items()}


def compose_batches(
    groups: Sequence[np.ndarray], batch_size: int, seed: int | Sequence[int], *, shuffle: bool = True
) -> list[list[np.ndarray]]:
    """Cut each group of row numbers, shuffled unless asked otherwise, into batches of exactly `batch_size`.

    A last, incomplete batch is filled up from the start of its group, so that no row is lost.

    Returns:
        Per group the list of its batches.
    """
    generator = np.random.default_rng(seed)
    composed = []
    for group in groups:
        shuffled = generator.permutation(group) if shuffle else group
        n_batches = -(-len(shuffled) // batch_size)
        composed.append(list(np.resize(shuffled, (n_batches, batch_size))))
    return composed


def take_turns(batches: Sequence[Sequence[Any]], epoch: int, seed: int | None) -> Iterator[tuple[int, int]]:
    """(group, batch) numbers of one epoch: groups take turns, and smaller ones are cycled up to the largest.

    The order within each group is drawn from the epoch, and within windows of `WINDOW` batches from the seed too (None:
    from fresh entropy). Seeds therefore use nearly the same batches in their first steps, however many there are,
    and can share gradients (`GradientStore`).
    """
    shared = np.random.default_rng(epoch)
    own = np.random.default_rng(None if seed is None else [seed, epoch])
    orders = []
    for items in batches:
        order = shared.permutation(len(items))
        windows = [order[start : start + WINDOW] for start in range(0, len(order), WINDOW)]
        orders.append(np.concatenate([own.permutation(window) for window in windows]))
    for turn in range(max(map(len, orders))):
        for group, order in enumerate(orders):
            yield group, int(order[turn % len(order)])
