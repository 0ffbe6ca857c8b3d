"""Which examples of a dataset stand for its classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from torch import Tensor

from gradiend.trainer.core.pruning_config import PrePruneConfig


class Examples(Protocol):
    """Items with `factual`, `alternative` and the class under `feature_class_key`."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Any: ...


@runtime_checkable
class ListsValues(Protocol):
    """A dataset that knows a value of all its items without making them."""

    def values_of(self, key: str) -> Sequence[Any]:
        """The value of `key` of every item."""


def class_examples(dataset: Examples, config: PrePruneConfig, definition: Any = None) -> list[list[int]]:
    """Indices of `config.n_samples` items, spread evenly over the target classes; the same ones every time.

    Args:
        dataset: The items.
        config: Says how many, of which classes.
        definition: Its `get_target_feature_class_ids()` names the classes where the config does not.

    Returns:
        One list per class. A class with fewer items gives all of them.

    Raises:
        ValueError: Classes that cannot be told, that have no items, or that are more than n_samples; no items.
        KeyError: Items without the class key.
    """
    key = config.feature_class_key
    if not len(dataset):
        raise ValueError("There is nothing to take gradients of: the dataset is empty.")
    try:
        values = list(dataset.values_of(key) if isinstance(dataset, ListsValues) else _values(dataset, key))
    except KeyError as error:
        raise KeyError(
            f"The items of the dataset have no {key!r}: name the key of their class with feature_class_key. "
            f"They have {', '.join(map(str, dataset[0]))}."
        ) from error
    present = list(dict.fromkeys(values))
    targets = _target_ids(present, config, definition)
    missing = [target for target in targets if target not in present]
    if missing:
        raise ValueError(
            f"The dataset has no items with {key} {', '.join(map(repr, missing))}; it has "
            f"{', '.join(map(repr, present[:10]))}."
        )
    if config.n_samples < len(targets):
        raise ValueError(f"n_samples={config.n_samples} is fewer than one for each of {len(targets)} classes.")
    order = np.random.default_rng(0).permutation(len(values)).tolist()
    each, more = divmod(config.n_samples, len(targets))
    return [
        [index for index in order if values[index] == target][: each + (number < more)]
        for number, target in enumerate(targets)
    ]


def _values(dataset: Examples, key: str) -> list[Any]:
    values = []
    for index in range(len(dataset)):
        value = dataset[index][key]
        # Collated datasets give numbers as tensors or arrays of one entry.
        values.append(value.item() if isinstance(value, (np.generic, np.ndarray, Tensor)) else value)
    return values


def _target_ids(present: Sequence[Any], config: PrePruneConfig, definition: Any) -> list[Any]:
    if config.target_feature_class_ids is not None:
        return list(config.target_feature_class_ids)
    if definition is not None:
        return list(definition.get_target_feature_class_ids())
    if len(present) != 2:
        shown = ", ".join(map(repr, present[:10]))
        raise ValueError(
            f"Pre-pruning compares two classes; the dataset has {len(present)} ({shown}). Name them with "
            "PrePruneConfig(target_feature_class_ids=[…]), or pass definition=, the trainer."
        )
    return list(present)
