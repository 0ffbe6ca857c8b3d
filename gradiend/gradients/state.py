"""The base model is left as it was found: its modes, its flags, and no gradient that outlives its use."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from gradiend.gradients.matrix_products import fast_matrix_products


@contextmanager
def measurement_mode(module: nn.Module) -> Iterator[None]:
    """The model runs without dropout and with the fastest matrix products; every submodule gets its own mode back."""
    training = [part for part in module.modules() if part.training]
    try:
        module.eval()
        with fast_matrix_products(module):
            yield
    finally:
        for part in training:
            part.training = True


@contextmanager
def differentiating(module: nn.Module, parameters: Collection[nn.Parameter]) -> Iterator[None]:
    """Only `parameters` require gradients, and all `.grad` are None; both are restored afterwards.

    Gradients are recorded even where the caller has switched that off (`torch.no_grad`). Everything else is a constant,
    so a backward pass stops at the lowest layer that holds one of them.
    """
    wanted = {id(parameter) for parameter in parameters}
    before = [(parameter, parameter.requires_grad, parameter.grad) for parameter in module.parameters()]
    try:
        for parameter, _, _ in before:
            parameter.requires_grad_(id(parameter) in wanted)
            parameter.grad = None
        with torch.enable_grad():
            yield
    finally:
        for parameter, required, gradient in before:
            parameter.requires_grad_(required)
            parameter.grad = gradient


def hand_over_gradients(
    loss: Tensor,
    parameters: Mapping[str, nn.Parameter],
    receive: Callable[[str, Tensor], None],
    *,
    retain_graph: bool = False,
) -> None:
    """Backpropagate; each parameter's gradient is handed over as soon as it is complete, and freed.

    At no time do all gradients exist together.

    Args:
        loss: A scalar, made inside `differentiating`.
        parameters: By name.
        receive: Gets a name and the gradient of that parameter; not called for parameters that `loss` does not reach.
        retain_graph: Whether another backward pass follows.
    """

    def hand_over(name: str, parameter: Tensor) -> None:
        assert parameter.grad is not None
        receive(name, parameter.grad)
        parameter.grad = None

    # A loss that reaches none of them is a constant to autograd, which would refuse it.
    if not loss.requires_grad:
        return
    handles = [
        parameter.register_post_accumulate_grad_hook(partial(hand_over, name)) for name, parameter in parameters.items()
    ]
    try:
        loss.backward(retain_graph=retain_graph)
    finally:
        for handle in handles:
            handle.remove()
