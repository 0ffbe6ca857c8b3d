"""From training examples and batches to (source, target) gradients."""

from __future__ import annotations

import inspect
import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.utils.data import Dataset

from gradiend.model._architecture import parse_device
from gradiend.model._context import Side
from gradiend.trainer.core._kept_gradients import GradientCache, GradientStore
from gradiend.util._display import Shown, Table

INPUTS = ("factual", "alternative")


class GradientTrainingDataset(Shown, Dataset[dict[str, Any]]):
    """(source, target) gradients of any training data, computed when they are asked for.

    For the language models of this package, `TextPredictionTrainer` makes the same gradients faster. This class needs
    only a factual and an alternative input for each item. It can be iterated, and put into a DataLoader with
    batch_size=1.

    Args:
        training_data: Object whose `len()` is the number of items and whose `[i]` is a dict with factual and
            alternative. If it has an attribute `batch_size` above 1, so many consecutive items make one gradient, and a
            last, incomplete batch is left out.
        gradient_creator: A `ModelWithGradiend`, or any function from an input to its flat gradient. It gets the input
            of a single item unchanged. The tensors of a batch are padded and stacked, in dicts entry by entry; other
            inputs of a batch come as a list.
        source: The gradient that the encoder reads: factual, alternative, diff, or None, which computes nothing.
        target: The gradient that the decoder reproduces: factual, alternative, diff, or None, which computes nothing.
        cache_dir: Directory in which gradients are kept, two files for each batch.
        use_cached_gradients: Whether `cache_dir` is used.
        cache_key_fields: Keys of the items that tell gradients apart, beside the inputs and, if the creator is a
            `ModelWithGradiend` or module, its weights and map.
        dtype: Type of the gradients.
        device: Device of the gradients. Default: the GPU if there is one.
        return_metadata: Whether items that have `metadata` keep it.
        get_padding_value: Function from the name of a tensor in an input to its padding value; an input that is a
            tensor itself is called factual or alternative. Default: always 0.

    Raises:
        AssertionError: An invalid source or target.
        ValueError: A cache without cache_key_fields.
    """

    def __init__(
        self, training_data: Any, gradient_creator: Callable[[Any], Tensor], *, source: str | None = "factual",
        target: str | None = "diff", cache_dir: str | Path | None = None, use_cached_gradients: bool = True,
        cache_key_fields: Sequence[str] | None = None, dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None, return_metadata: bool = False,
        get_padding_value: Callable[[str], float] | None = None,
    ) -> None:  # fmt: skip
        self.source, self.target = _side("source", source), _side("target", target)
        caching = cache_dir is not None and use_cached_gradients
        if caching and not cache_key_fields:
            raise ValueError(
                "A cache of gradients needs cache_key_fields, the keys of an item that tell it apart from the others, "
                "e.g. ['input_text', 'label']; or set use_cached_gradients=False."
            )
        self.training_data = training_data
        self.gradient_creator = gradient_creator
        self.cache_dir = cache_dir
        self.use_cached_gradients = use_cached_gradients
        self.cache_key_fields = list(cache_key_fields or ()) if caching else []
        self.dtype = dtype
        rule = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = parse_device("device", rule if device is None else device)
        self.return_metadata = return_metadata
        self.get_padding_value = get_padding_value
        self.batch_size = getattr(training_data, "batch_size", None)  # documented: the attribute is optional
        self._size = self.batch_size or 1
        self._cache = None
        if caching:
            assert cache_dir is not None
            maker: Any = gradient_creator
            self._cache = GradientCache(cache_dir, maker.__self__ if inspect.ismethod(maker) else maker)

    def _tables(self) -> tuple[str, list[Table]]:
        sides = f"source={self.source}, target={self.target}"
        return f"{type(self).__name__}({len(self):,} batches of {self._size}, {sides})", []

    def __len__(self) -> int:
        """Number of whole batches."""
        return len(self.training_data) // self._size

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """All batches, in the order of the items."""
        if self._cache is not None:
            self._cache.refresh()
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> dict[str, Any]:
        """The gradients of one batch.

        Returns:
            source and target, (input_dim,) or None, and the other values of the items: a list with one entry for each
            item of the batch, or the value itself if batches have one item.

        Raises:
            IndexError: There is no batch of this number.
            KeyError: An item lacks a cache key field, factual or alternative.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"There are {len(self)} batches; there is no number {index}.")
        items = [self.training_data[number] for number in range(index * self._size, (index + 1) * self._size)]
        gradients: dict[str, Tensor] = {}
        names = (self.source, self.target)
        sides = [None if name is None else self._gradient(Side(name), items, gradients) for name in names]
        passed = [key for key in items[0] if key not in INPUTS and (key != "metadata" or self.return_metadata)]
        rest = {key: items[0][key] if self._size == 1 else [item[key] for item in items] for key in passed}
        return {**rest, "source": sides[0], "target": sides[1]}

    def _gradient(self, side: Side, items: Sequence[Mapping[str, Any]], known: dict[str, Tensor]) -> Tensor:
        if side is Side.DIFF:
            factual, alternative = (self._gradient(part, items, known) for part in (Side.FACTUAL, Side.ALTERNATIVE))
            return factual - alternative
        if side.value not in known:
            known[side.value] = self._created(side.value, items).to(self.device, self.dtype)
        return known[side.value]

    def _created(self, name: str, items: Sequence[Mapping[str, Any]]) -> Tensor:
        missing = [key for key in (name, *self.cache_key_fields) if any(key not in item for item in items)]
        if missing:
            raise KeyError(f"An item of the training data has no {missing[0]!r}; it has {', '.join(items[0])}.")
        inputs = [item[name] for item in items]

        def create() -> Tensor:
            gradient = self.gradient_creator(inputs[0] if self._size == 1 else self._batch(name, inputs))
            if not isinstance(gradient, Tensor) or gradient.dim() != 1:
                found = tuple(gradient.shape) if isinstance(gradient, Tensor) else type(gradient).__name__
                raise TypeError(f"gradient_creator must return a flat gradient, one 1-D tensor; got {found}.")
            return gradient

        if self._cache is None:
            return create()
        fields = [[item[key] for key in self.cache_key_fields] for item in items]
        path = self._cache.path(name, [self.cache_key_fields, fields, inputs, str(self.dtype)])
        gradient = self._cache.read(path)
        if gradient is None:
            gradient = create()
            self._cache.write(path, gradient)
        return gradient

    def _batch(self, name: str, inputs: Sequence[Any]) -> Any:
        if all(isinstance(value, Mapping) for value in inputs):
            return {key: self._stacked(key, [value[key] for value in inputs]) for key in inputs[0]}
        return self._stacked(name, inputs)

    def _stacked(self, key: str, tensors: Sequence[Any]) -> Any:
        if not all(isinstance(tensor, Tensor) for tensor in tensors):
            return list(tensors)
        length = max(tensor.shape[-1] if tensor.dim() else 0 for tensor in tensors)
        value = self.get_padding_value(key) if self.get_padding_value is not None else 0
        missing = [length - tensor.shape[-1] if tensor.dim() else 0 for tensor in tensors]
        padded = [pad(tensor, (0, n), value=value) if n else tensor for tensor, n in zip(tensors, missing, strict=True)]
        return torch.stack(padded)


def _side(name: str, value: str | None) -> str | None:
    valid = [None, *(side.value for side in Side)]
    value = Side.ALTERNATIVE.value if value == "counterfactual" else value
    if value not in valid:
        raise AssertionError(f"{name} must be factual, alternative, diff or None; got {value!r}.")
    return value


WINDOW = 8
"""Number of consecutive batches of a group within which the seed of a run decides the order."""


class GradientBatches(Shown, ABC):
    """The data of a training loop: one gradient pair per batch, in an order that depends on epoch and seed."""

    store: GradientStore | None = None
    """Where gradients that later epochs and seeds need are kept; None if nowhere, or elsewhere.

    The trainer sets the store of the batches that `create_gradient_training_dataset` returns, unless gradients are kept
    in a directory. Other iterables get none: their gradients are computed again for every epoch and seed.
    """

    @abstractmethod
    def __len__(self) -> int:
        """Number of batches per epoch."""

    def _tables(self) -> tuple[str, list[Table]]:
        return f"{type(self).__name__}({len(self):,} batches)", []

    @abstractmethod
    def epoch(self, index: int, seed: int | None) -> Iterator[Mapping[str, Any]]:
        """Dicts with `source` and `target`, flat (input_dim,), and what is known of the batch (`label`, `batch_id`, …).

        The next batch may overwrite the tensors.
        """

    def epoch_from(self, index: int, seed: int | None, start: int) -> Iterator[Mapping[str, Any]]:
        """The batches of an epoch without the first `start` batches, which a training that goes on has taken already.

        By default these batches are made and dropped; override this method where they need not be made.
        """
        return itertools.islice(self.epoch(index, seed), start, None)

    def reads_again(self, batches: int) -> bool:
        """Whether the gradients of so many batches, once computed, are read instead of computed again."""
        del batches
        return False

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """The batches of the first epoch, in tensors that are not overwritten."""
        for batch in self.epoch(0, 0):
            yield {key: value.clone() if isinstance(value, Tensor) else value for key, value in batch.items()}


def batches_of(data: Any, epoch: int, seed: int | None, start: int = 0) -> Iterator[Mapping[str, Any]]:
    """The batches of an epoch, in the order of the run's seed, without the first `start` batches."""
    if isinstance(data, GradientBatches):
        return iter(data.epoch_from(epoch, seed, start))
    batches = iter(data)
    for _ in itertools.islice(batches, start):
        pass
    return batches


def compose_batches(
    groups: Sequence[np.ndarray], batch_size: int, seed: int | Sequence[int], *, shuffle: bool = True
) -> list[list[np.ndarray]]:
    """The batches of exactly `batch_size` into which each group of row numbers is cut, after shuffling by default.

    A last, incomplete batch is filled up from the start of its group, so that no row is lost. A group's batches do not
    depend on the other groups, so that all pairs of a class have the same batches of it and can share gradients.
    """
    composed = []
    for group in groups:
        shuffled = np.random.default_rng(seed).permutation(group) if shuffle else group
        n_batches = -(-len(shuffled) // batch_size)
        composed.append(list(np.resize(shuffled, (n_batches, batch_size))))
    return composed


def take_turns(batches: Sequence[Sequence[Any]], epoch: int, seed: int | None) -> Iterator[tuple[int, int]]:
    """(group, batch) numbers of one epoch: groups take turns, and smaller groups are repeated up to the largest.

    The order within each group is drawn from the epoch, and within windows of `WINDOW` batches also from the seed
    (None: from fresh entropy). Different seeds therefore use nearly the same batches in their first steps, and can
    share gradients (`GradientStore`).
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
