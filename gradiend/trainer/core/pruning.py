"""Pruning by gradients before a training, and by weights after a training."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from gradiend.model._context import Side
from gradiend.model._refusals import is_finite, refuse_undefined_weights
from gradiend.model._shards import is_sharded
from gradiend.model._topk import blocks
from gradiend.trainer.core._kept_gradients import GradientCache
from gradiend.trainer.core._pruning_config import PostPruneConfig, PrePruneConfig
from gradiend.util._isolation import plain_modes
from gradiend.util._processes import ONE, processes
from gradiend.util._progress import Progress

logger = logging.getLogger(__name__)


class Examples(Protocol):
    """Items with `factual`, `alternative` and the class under `feature_class_key`."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Any: ...


@runtime_checkable
class ListsValues(Protocol):
    """A dataset that knows the values of its items without making the items."""

    def values_of(self, key: str) -> Sequence[Any]:
        """The value of `key` of every item."""


def class_examples(dataset: Examples, config: PrePruneConfig, definition: Any) -> list[list[int]]:
    """For each target class, the indices of its share of `config.n_samples` items; they are the same in every call.

    A class with fewer items gives all its items. `definition.get_target_feature_class_ids()` names the classes if the
    config does not; without a definition, the dataset must have two classes.
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
    each, more = divmod(config.n_samples, len(targets))
    chosen = []
    for number, target in enumerate(targets):
        own = [index for index, value in enumerate(values) if value == target]
        # Drawn for each class alone, so that all pairs of a class are pruned by the same examples of it.
        chosen.append(np.random.default_rng(0).permutation(own)[: each + (number < more)].tolist())
    return chosen


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


Receiver = Callable[[slice, Tensor], None]


@runtime_checkable
class StreamsGradients(Protocol):
    """A model that gives the gradient of several examples' mean loss parameter by parameter."""

    def streams(self, items: Sequence[Mapping[str, Any]]) -> bool:
        """Whether `stream_gradient` takes such items."""

    def stream_gradient(self, items: Sequence[Mapping[str, Any]], side: Side, receive: Receiver) -> None:
        """Call `receive` with ranges of the input space that the loss reaches, and with their entries."""

    def gradient_key(self, items: Sequence[Mapping[str, Any]], side: Side) -> str:
        """The key of what this gradient depends on, besides the model."""


def class_mean_importance(
    model: Any, dataset: Examples, classes: Sequence[Sequence[int]], config: PrePruneConfig,
    cache: GradientCache | None,
) -> Tensor:  # fmt: skip
    """Mean over the classes of `|mean gradient over the class's items|`.

    The result is (input_dim,); the weights of the model's GRADIEND need not exist. If the model streams, no gradient of
    full width exists beside the result. A class with several batches needs one accumulator of this size, and a cache
    needs one gradient of full width at a time.
    """
    if cache is not None:
        cache.refresh()
    side = Side(config.source)
    device = model.base_model.device if config.importance_device is None else config.importance_device
    result = torch.zeros(len(model), dtype=config.importance_dtype or torch.float32, device=device)
    size, receive = config.batch_size, _into(result, 1 / len(classes), absolute=True)
    accumulator: Tensor | None = None
    # A gradient that is kept in a file is that of a whole batch.
    team = processes() if cache is None and not is_sharded(model.base_model) else ONE
    batches_of = [[own[start : start + size] for start in range(0, len(own), size)] for own in classes]
    with Progress("pre-pruning", sum(map(len, batches_of)), "batch", brief=True) as bar:
        for batches in batches_of:
            if len(batches) == 1 and team is ONE:
                _checked(model, [dataset[index] for index in batches[0]], side, receive, cache, config)
                bar.advance()
                continue
            accumulator = torch.zeros_like(result) if accumulator is None else accumulator.zero_()
            for batch in bar.over(batches):
                if share := team.share(batch):
                    part = _into(accumulator, len(share) / sum(map(len, batches)))
                    _checked(model, [dataset[index] for index in share], side, part, cache, config)
            receive(slice(0, len(result)), team.sum_(accumulator))
    return result


def _into(total: Tensor, weight: float, *, absolute: bool = False) -> Receiver:
    """What adds gradients, or their absolute values, to a vector with a weight."""

    def add(place: slice, gradient: Tensor) -> None:
        for block in blocks(place):
            part = gradient[block.start - place.start : block.stop - place.start]
            total[block].add_((part.abs() if absolute else part).to(total.device), alpha=weight)

    return add


def _checked(
    model: Any, items: Sequence[Mapping[str, Any]], side: Side, receive: Receiver, cache: GradientCache | None,
    config: PrePruneConfig,
) -> None:  # fmt: skip
    """Like `_gradient`; raises FloatingPointError for a gradient that is infinite or undefined."""

    def check(place: slice, gradient: Tensor) -> None:
        if not is_finite(gradient):
            refuse_undefined_weights(model.base_model)
            texts = ", ".join(repr(item["text"]) for item in items if "text" in item)
            raise FloatingPointError(
                f"A gradient of {len(items)} examples of class {items[0][config.feature_class_key]!r} is infinite or "
                f"undefined{f' ({texts:.300})' if texts else ''}: load the model in float32, or leave the text out."
            )
        receive(place, gradient)

    _gradient(model, items, side, check, cache)


def _gradient(
    model: Any, items: Sequence[Mapping[str, Any]], side: Side, receive: Receiver, cache: GradientCache | None
) -> None:
    """Hand the gradient of the items' mean loss to `receive`.

    A model that streams gives it in pieces, or the cache keeps it as a whole; for any other model it is the mean of the
    items' gradients.
    """
    streams = isinstance(model, StreamsGradients) and model.streams(items)
    if not streams:
        total: Tensor | None = None
        for item in items:
            gradient = _flat_gradient(model, item, side)
            gradient = gradient.to(torch.promote_types(gradient.dtype, torch.float32))
            total = gradient / len(items) if total is None else total.add_(gradient.to(total), alpha=1 / len(items))
        assert total is not None
        receive(slice(0, len(total)), total)
        return
    if cache is None:
        model.stream_gradient(items, side, receive)
        return
    path = cache.path(side.value, model.gradient_key(items, side))
    kept = cache.read(path, len(model))
    if kept is None:
        wide = torch.promote_types(next(model.base_model.parameters()).dtype, torch.float32)
        kept = whole = torch.zeros(len(model), dtype=wide)

        def put(place: slice, gradient: Tensor) -> None:
            whole[place] = gradient.to(whole)

        model.stream_gradient(items, side, put)
        cache.write(path, whole)
    receive(slice(0, len(kept)), kept)


def _flat_gradient(model: Any, item: Mapping[str, Any], side: Side) -> Tensor:
    if side is Side.DIFF:
        return _flat_gradient(model, item, Side.FACTUAL) - _flat_gradient(model, item, Side.ALTERNATIVE)
    gradient = model.gradient_creator(item[side.value])
    if isinstance(gradient, Mapping):
        gradient = model.gradiend.flatten_gradient_dict(gradient)
    if tuple(gradient.shape) != (len(model),):
        raise ValueError(
            f"The gradient creator returned shape {tuple(gradient.shape)}; expected one vector of input_dim = "
            f"{len(model)} entries."
        )
    return gradient.detach()


@plain_modes()
def pre_prune(
    model_with_gradiend: Any, dataset: Examples | None, config: PrePruneConfig, *, definition: Any = None,
    inplace: bool = True, return_mask: bool = False, cache_dir: str | Path | None = None,
) -> Any:  # fmt: skip
    """Keep the input dimensions with the largest class-mean gradients (see `PrePruneConfig`).

    A GRADIEND that has no weights yet (`lazy_init`) gets weights of the pruned size: the unpruned weights never exist.

    Args:
        model_with_gradiend: The model.
        dataset: Examples with a length and items that have `factual`, `alternative` (as the model's gradient_creator
            takes them) and the class; `config.dataset` replaces them.
        config: Which examples are used and how many dimensions are kept.
        definition: A trainer, say, whose `get_target_feature_class_ids()` names the classes if the config does not.
        inplace: Whether the model itself is pruned; otherwise a copy that shares the base model is pruned.
        return_mask: Whether the bool mask of the kept dimensions, (old input_dim,) on the CPU, is returned too.
        cache_dir: Directory of the gradients that `config.use_cached_gradients` keeps; a trainer uses the
            `cache/gradients` of its experiment.

    Returns:
        The pruned model, or (model, mask).

    Raises:
        ValueError: No dataset, an empty dataset, classes that are missing or not known, or no dimension left to keep.
        KeyError: Items without the class key.
        FloatingPointError: A gradient is infinite or undefined.
    """
    examples = dataset if config.dataset is None else config.dataset
    if examples is None:
        raise ValueError("pre_prune needs examples: pass dataset, or set PrePruneConfig(dataset=…).")
    classes = class_examples(examples, config, definition)
    cache = None
    if config.use_cached_gradients:
        if cache_dir is None:
            logger.info("use_cached_gradients has no effect on this pruning: there is no directory to keep them in.")
        else:
            cache = GradientCache(cache_dir, model_with_gradiend)
    importance = class_mean_importance(model_with_gradiend, examples, classes, config, cache)
    before = len(model_with_gradiend)
    result = model_with_gradiend.prune_gradiend(
        topk=config.topk, threshold=config.threshold, importance=importance, inplace=inplace, return_mask=return_mask
    )
    logger.info(
        "Pre-pruning kept %d of %d dimensions, by the gradients of %d examples.",
        len(result[0] if return_mask else result), before, sum(map(len, classes)),
    )  # fmt: skip
    return result


@plain_modes()
def post_prune(model_with_gradiend: Any, config: PostPruneConfig) -> Any:
    """Keep the input dimensions with the largest weights (see `PostPruneConfig`).

    Args:
        model_with_gradiend: A model with a trained GRADIEND.
        config: Which weights count and how many dimensions are kept.

    Returns:
        The model, or with `config.return_mask` (model, mask).

    Raises:
        ValueError: A mask of another length, or no dimension left to keep.
        RuntimeError: The weights do not exist yet.
    """
    model_with_gradiend.gradiend.encoder_linear  # noqa: B018 - the teaching error before weights exist
    before = len(model_with_gradiend)
    result = model_with_gradiend.prune_gradiend(
        topk=config.topk, threshold=config.threshold, mask=config.mask, part=config.part, inplace=config.inplace,
        return_mask=config.return_mask,
    )  # fmt: skip
    kept = len(result[0] if config.return_mask else result)
    logger.info("Post-pruning kept %d of %d dimensions, by the %s.", kept, before, config.part)
    return result
