"""Less memory for more time: layers keep only their inputs for the backward pass, and run again in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer


def checkpointable_layers(module: nn.Module) -> list[nn.Module]:
    """The layers of a transformers model that can be run again.

    Raises:
        ValueError: There are none.
    """
    layers: list[nn.Module] = [part for part in module.modules() if isinstance(part, GradientCheckpointingLayer)]
    if not layers:
        raise ValueError(
            f"{type(module).__name__} has no layers for gradient checkpointing: leave gradient_checkpointing off."
        )
    return layers


@contextmanager
def layer_checkpoints(module: nn.Module, enabled: bool) -> Iterator[None]:
    """Checkpoint every layer inside the block, with the same numbers.

    The models' own switch works in training mode only, where dropout would be on.
    """
    layers = checkpointable_layers(module) if enabled else []
    # A tool that places layers on devices may have given some a forward of their own.
    before: list[Any] = [vars(layer).get("forward") for layer in layers]
    for layer in layers:
        vars(layer)["forward"] = partial(checkpoint, layer.forward, use_reentrant=False, preserve_rng_state=False)
    try:
        yield
    finally:
        for layer, own in zip(layers, before, strict=True):
            if own is None:
                del vars(layer)["forward"]
            else:
                vars(layer)["forward"] = own
