"""Matrix products of the base model by the library that is fastest on this processor.

PyTorch hands float32 products on a CPU to Intel's MKL, whose code for AMD processors leaves AVX-512 unused. oneDNN,
which comes with PyTorch too, uses it and is about twice as fast there (`benchmarks/matrix_products.py`). Both compute
in float32 and differ by rounding only.
"""

from __future__ import annotations

import functools
import logging
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

logger = logging.getLogger(__name__)

LEAST_WEIGHT = 1 << 14
"""Entries of a weight matrix below which finding another implementation costs more than it saves."""


class OneDnnProducts(TorchDispatchMode):
    """Inside the block, float32 products of matrices on the CPU are oneDNN's, those of derivatives included."""

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
    """The fastest float32 matrix products for a model, in its passes and their derivatives."""
    if onednn_is_faster() and any(_plain(p) and p.dim() == 2 and p.numel() >= LEAST_WEIGHT for p in model.parameters()):
        with OneDnnProducts():
            yield
    else:
        yield


@functools.cache
def onednn_is_faster() -> bool:
    """Whether this is an AMD processor with AVX-512 on which PyTorch uses MKL.

    Known by name rather than by timing it, so that two runs on one machine give the same bits.
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
    """Whether rows or columns lie in one piece each. For other strides oneDNN has a slow reference: a tangent that is
    zero everywhere is one number, expanded."""
    if not _plain(matrix):
        return False
    (rows, columns), (down, right) = matrix.shape, matrix.stride()
    return (right == 1 and down >= columns) or (down == 1 and right >= rows)
