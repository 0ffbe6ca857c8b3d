"""The base model is left as it was found."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """No dropout inside the block; every submodule gets its own mode back."""
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True


@contextmanager
def differentiating(module: nn.Module, parameters: Collection[nn.Parameter]) -> Iterator[None]:
    """Only `parameters` require gradients, and all `.grad` are None; both are restored afterwards.

    Everything else is a constant, so a backward pass stops at the lowest layer that holds one of them.
    """
    wanted = {id(parameter) for parameter in parameters}
    before = [(parameter, parameter.requires_grad, parameter.grad) for parameter in module.parameters()]
    for parameter, _, _ in before:
        parameter.requires_grad_(id(parameter) in wanted)
        parameter.grad = None
    try:
        yield
    finally:
        for parameter, required, gradient in before:
            parameter.requires_grad_(required)
            parameter.grad = gradient
