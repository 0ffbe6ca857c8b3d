"""Two devices on a machine that has none: tensors that say that they are on `lazy:0` or `lazy:1`.

Their numbers are in tensors of the CPU. As on GPUs, an operator that gets tensors of two devices is an error, unless it
copies from one to the other, or one of them is an index or a single number on the CPU. `lazy` is a type of device that
every build of PyTorch knows and nothing here uses, so that autograd runs on it too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

NAME = "lazy"
aten = torch.ops.aten
COPIES = {aten._to_copy.default, aten.copy_.default}
"""Operators that copy from one device to another."""
INDEXED = {aten.index.Tensor, aten.index_put_.default, aten.index_put.default, aten._index_put_impl_.default}
"""Operators whose indices may be on the CPU."""


class Placed(Tensor):
    """A tensor on another device, with its numbers in a tensor of the CPU."""

    values: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, values: Tensor, device: torch.device) -> Placed:
        made = Tensor._make_wrapper_subclass(
            cls, values.size(), values.stride(), values.storage_offset(), dtype=values.dtype, device=device
        )
        made.values = values
        return made

    def __repr__(self) -> str:
        return f"Placed({self.values!r}, {self.device})"

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        made: Tensor = Placed(self.values.clone(), self.device)
        if isinstance(self, nn.Parameter):
            made = nn.Parameter(made, self.requires_grad)
        memo[id(self)] = made
        return made

    def data_ptr(self) -> int:
        """The address of the numbers, by which Accelerate recognizes weights that are tied."""
        return self.values.data_ptr()

    def tolist(self) -> Any:
        """The numbers, which PyTorch gives for its own tensors only."""
        return self.values.tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, args, kwargs or {})


class _Factories(TorchDispatchMode):
    """Makes tensors on the other devices, too."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, args, kwargs or {})


def run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """An operator on tensors of one device, with the numbers of the CPU."""
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    device = _asked(kwargs) or (tensors[0].device if func in COPIES else _common(func, tensors, args))
    if device is None or (device.type != NAME and not any(isinstance(tensor, Placed) for tensor in tensors)):
        return func(*args, **kwargs)
    if func is aten._efficientzerotensor.default:
        # Zeros without memory go with tensors of PyTorch's own only.
        func = aten.zeros.default
    plain_args, plain_kwargs = tree_map(lambda leaf: leaf.values if isinstance(leaf, Placed) else leaf, (args, kwargs))
    if "device" in kwargs:
        plain_kwargs["device"] = "cpu"
    result = func(*plain_args, **plain_kwargs)
    if device.type != NAME:
        return result
    result = tree_map(lambda leaf: Placed(leaf, device) if isinstance(leaf, Tensor) else leaf, result)
    return return_and_correct_aliasing(func, args, kwargs, result)


def _asked(kwargs: dict[str, Any]) -> torch.device | None:
    return None if kwargs.get("device") is None else torch.device(kwargs["device"])


def _common(func: Any, tensors: list[Tensor], args: Any) -> torch.device | None:
    indices = [id(index) for index in args[1] if index is not None] if func in INDEXED else []
    devices = dict.fromkeys(
        tensor.device
        for tensor in tensors
        if isinstance(tensor, Placed) or (tensor.dim() and id(tensor) not in indices)
    )
    if len(devices) > 1:
        raise RuntimeError(f"{func} got tensors on {', '.join(map(str, devices))}")
    return next(iter(devices), None)


@contextmanager
def two_devices() -> Iterator[None]:
    """Inside the block, tensors can be made on `lazy:0` and `lazy:1`."""
    # `torch.tensor(…)` makes a tensor of the CPU first, which is then copied, as for PyTorch's own fake tensors.
    before = torch._C._only_lift_cpu_tensors()
    torch._C._set_only_lift_cpu_tensors(True)
    try:
        with _Factories():
            yield
    finally:
        torch._C._set_only_lift_cpu_tensors(before)
