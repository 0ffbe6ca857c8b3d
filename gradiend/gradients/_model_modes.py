"""The state of a base model during passes, which is restored after them: modes, flags, products, and kept layers.

PyTorch hands float32 products on a CPU to Intel's MKL, whose code for AMD processors leaves AVX-512 unused. oneDNN,
which comes with PyTorch too, uses AVX-512 and is about twice as fast there (`benchmarks/matrix_products.py`). Both
libraries compute in float32 and differ by rounding only.
"""

from __future__ import annotations

import functools
import logging
import platform
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from gradiend.util._isolation import exclusive, plain_modes

logger = logging.getLogger(__name__)

LEAST_WEIGHT = 1 << 14
"""Entries of a weight matrix below which finding another implementation costs more than it saves."""


@contextmanager
def measurement_mode(module: nn.Module) -> Iterator[None]:
    """Inside the block, the model runs without dropout and with the fastest products; its modes are restored.

    No other thread runs or changes the model meanwhile, and no mode of the caller changes a number.
    """
    with exclusive(module), plain_modes():
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
    """Inside the block, only `parameters` require gradients, and all `.grad` are None; both are restored afterwards.

    Gradients are recorded even where the caller has switched that off (`torch.no_grad`). Everything else is a constant,
    so a backward pass stops at the lowest layer that holds one of the `parameters`. No other thread uses the model.
    """
    wanted = {id(parameter) for parameter in parameters}
    with exclusive(module), plain_modes():
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
    loss: Tensor, parameters: Mapping[str, nn.Parameter], receive: Callable[[str, Tensor], None], *,
    retain_graph: bool = False,
) -> None:  # fmt: skip
    """Backpropagate, and hand each parameter's gradient over and free it as soon as the gradient is complete.

    All gradients never exist together. `receive` is not called for parameters that `loss` does not reach.
    """

    def hand_over(name: str, parameter: Tensor) -> None:
        assert parameter.grad is not None
        receive(name, parameter.grad)
        parameter.grad = None

    # Autograd would refuse a loss that reaches none of the parameters, because such a loss is a constant.
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


def checkpointable_layers(module: nn.Module) -> list[nn.Module]:
    """The layers of a transformers model that can run again in a backward pass. Raises ValueError if it has none."""
    layers: list[nn.Module] = [part for part in module.modules() if isinstance(part, GradientCheckpointingLayer)]
    if not layers:
        raise ValueError(
            f"{type(module).__name__} has no layers for gradient checkpointing: leave gradient_checkpointing off."
        )
    return layers


@contextmanager
def layer_checkpoints(module: nn.Module, enabled: bool) -> Iterator[None]:
    """Inside the block, every layer runs again in backward passes if `enabled`, with the same numbers.

    The switch of transformers works in training mode only, where dropout would be on.
    """
    layers = checkpointable_layers(module) if enabled else []
    # A tool that places layers on devices may have given some layers a forward of their own.
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


class OneDnnProducts(TorchDispatchMode):
    """Inside the block, oneDNN computes the float32 matrix products on the CPU, also in derivatives."""

    def __init__(self) -> None:
        super().__init__()
        self._linear = _onednn_linear()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        if func is torch.ops.aten.addmm.default and not kwargs and len(args) == 3:
            bias, left, right = args
            # oneDNN would read a bias with gaps as if it had none.
            if bias.shape == right.shape[1:] and bias.is_contiguous() and _plain(bias) and _large(left, right):
                return self._linear(left, right.t(), bias, "none", [], "")
        elif func is torch.ops.aten.mm.default and _large(*args):
            left, right = args
            return self._linear(left, right.t(), None, "none", [], "")
        return func(*args, **(kwargs or {}))


@contextmanager
def fast_matrix_products(model: nn.Module) -> Iterator[None]:
    """Inside the block, a model's passes and derivatives have the fastest float32 matrix products."""
    if onednn_is_faster() and any(_plain(p) and p.dim() == 2 and p.numel() >= LEAST_WEIGHT for p in model.parameters()):
        with OneDnnProducts():
            yield
    else:
        yield


@functools.cache
def onednn_is_faster() -> bool:
    """Whether this is an AMD processor with AVX-512 on which PyTorch uses MKL.

    The name of the processor decides, not a timing, so that two runs on one machine give the same bits.
    """
    if torch.backends.cpu.get_cpu_capability() != "AVX512" or not torch.backends.mkl.is_available():
        return False
    information = Path("/proc/cpuinfo")
    vendor = information.read_text(errors="replace") if information.exists() else platform.processor()
    if "AuthenticAMD" not in vendor:
        return False
    try:
        _onednn_linear()
    except AttributeError as error:
        logger.info("This version of PyTorch does not offer oneDNN's products (%s); MKL's are used.", error)
        return False
    return True


def _onednn_linear() -> Callable[..., Tensor]:
    return torch.ops.mkldnn._linear_pointwise.default


def _plain(tensor: Tensor) -> bool:
    return type(tensor) in (Tensor, nn.Parameter) and tensor.dtype == torch.float32 and tensor.device.type == "cpu"


def _large(left: Tensor, right: Tensor) -> bool:
    return _dense(left) and _dense(right) and len(left) * right.numel() >= 4 * LEAST_WEIGHT


def _dense(matrix: Tensor) -> bool:
    """Whether each row, or each column, lies in one piece.

    For other strides, such as the strides of an expanded zero tangent, oneDNN has only slow reference code.
    """
    if not _plain(matrix):
        return False
    (rows, columns), (down, right) = matrix.shape, matrix.stride()
    return (right == 1 and down >= columns) or (down == 1 and right >= rows)
