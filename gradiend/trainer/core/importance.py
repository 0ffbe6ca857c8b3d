"""The importance of each input dimension: the mean over the classes of |mean gradient of the class|."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from gradiend.model.selection import blocks
from gradiend.model.sides import Side
from gradiend.trainer.core._kept_gradients import GradientCache
from gradiend.trainer.core.class_examples import Examples
from gradiend.trainer.core.pruning_config import PrePruneConfig

Receiver = Callable[[slice, Tensor], None]


@runtime_checkable
class StreamsGradients(Protocol):
    """A model that gives the gradient of several examples' mean loss parameter by parameter."""

    def streams(self, items: Sequence[Mapping[str, Any]]) -> bool:
        """Whether it can, for such items."""

    def stream_gradient(self, items: Sequence[Mapping[str, Any]], side: Side, receive: Receiver) -> None:
        """Call `receive` with ranges of the input space and their entries; with none that the loss does not reach."""

    def gradient_key(self, items: Sequence[Mapping[str, Any]], side: Side) -> str:
        """What that gradient depends on, besides the model."""


def class_mean_importance(
    model: Any,
    dataset: Examples,
    classes: Sequence[Sequence[int]],
    config: PrePruneConfig,
    cache: GradientCache | None = None,
) -> Tensor:
    """Mean over the classes of |mean gradient over the class's items|.

    Where the model streams, no gradient of full width exists beside the result; a class that takes several batches
    needs one accumulator of its size.

    Args:
        model: A `ModelWithGradiend`; its weights need not exist.
        dataset: Items with `factual` and `alternative`.
        classes: Indices of each class's items.
        config: Side, batch size, dtype and device.
        cache: Where gradients of whole batches are kept and looked for. One of full width exists at a time then.

    Returns:
        (input_dim,).
    """
    if cache is not None:
        cache.refresh()
    side = Side(config.source)
    device = model.base_model.device if config.importance_device is None else config.importance_device
    result = torch.zeros(len(model), dtype=config.importance_dtype or torch.float32, device=device)
    accumulator: Tensor | None = None
    for indices in classes:
        batches = [indices[start : start + config.batch_size] for start in range(0, len(indices), config.batch_size)]
        if len(batches) == 1:
            _kept(model, [dataset[index] for index in indices], side, _absolute_into(result, len(classes)), cache)
            continue
        accumulator = torch.zeros_like(result) if accumulator is None else accumulator.zero_()
        for batch in batches:
            items = [dataset[index] for index in batch]
            _kept(model, items, side, _weighted_into(accumulator, len(batch) / len(indices)), cache)
        _absolute_into(result, len(classes))(slice(0, len(result)), accumulator)
    return result


def _absolute_into(result: Tensor, n_classes: int) -> Receiver:
    def add(place: slice, gradient: Tensor) -> None:
        for block in blocks(place):
            part = gradient[block.start - place.start : block.stop - place.start].abs().to(result.device)
            result[block].add_(part, alpha=1 / n_classes)

    return add


def _weighted_into(accumulator: Tensor, weight: float) -> Receiver:
    def add(place: slice, gradient: Tensor) -> None:
        for block in blocks(place):
            part = gradient[block.start - place.start : block.stop - place.start].to(accumulator.device)
            accumulator[block].add_(part, alpha=weight)

    return add


def _kept(
    model: Any, items: Sequence[Mapping[str, Any]], side: Side, receive: Receiver, cache: GradientCache | None
) -> None:
    """`_stream`, or the same from the cache, which then has it; of another gradient creator, nothing is kept."""
    if cache is None or not _streams(model, items):
        _stream(model, items, side, receive)
        return
    path = cache.path(side.value, model.gradient_key(items, side))
    if path.is_file():
        whole = cache.read(path)
    else:
        wide = torch.promote_types(next(model.base_model.parameters()).dtype, torch.float32)
        whole = torch.zeros(len(model), dtype=wide)

        def put(place: slice, gradient: Tensor) -> None:
            whole[place] = gradient.to(whole)

        _stream(model, items, side, put)
        cache.write(path, whole)
    receive(slice(0, len(whole)), whole)


def _stream(model: Any, items: Sequence[Mapping[str, Any]], side: Side, receive: Receiver) -> None:
    """The gradient of the items' mean loss, by the model's own engine or as the mean of the creator's gradients."""
    if _streams(model, items):
        model.stream_gradient(items, side, receive)
        return
    total: Tensor | None = None
    for item in items:
        gradient = _flat_gradient(model, item, side)
        gradient = gradient.to(torch.promote_types(gradient.dtype, torch.float32))
        total = gradient / len(items) if total is None else total.add_(gradient.to(total), alpha=1 / len(items))
    assert total is not None
    receive(slice(0, len(total)), total)


def _streams(model: Any, items: Sequence[Mapping[str, Any]]) -> bool:
    return isinstance(model, StreamsGradients) and model.streams(items)


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
