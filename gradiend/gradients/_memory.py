"""How much memory a pass over a model takes, measured by one small run."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import Size, Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode


@dataclass(frozen=True)
class MemoryTrace:
    """The tensors that a pass over `rows` inputs holds from moment to moment, beyond those that existed before."""

    rows: int
    """Distinct inputs of the pass."""
    moments: tuple[tuple[int, int], ...]
    """(bytes that do not depend on the number of inputs, bytes in proportion to this number), after each operation."""

    def peak(self, rows: float) -> int:
        """The most bytes that a pass over `rows` inputs of the same length holds at once."""
        return max((int(fixed + scaling * rows / self.rows) for fixed, scaling in self.moments), default=0)


def trace_memory(model: nn.Module, run: Callable[[], Any], rows: int) -> MemoryTrace:
    """Call `run` and follow the tensors that the call makes.

    Tensors of a parameter's shape (gradients, tangents), also flat ones, do not depend on the number of inputs; all
    other tensors are taken to grow with this number. What operators use inside themselves is not seen.
    """
    shapes = [parameter.shape for parameter in model.parameters()]
    tracer = _Tracer({*shapes, *(Size([shape.numel()]) for shape in shapes)})
    with tracer:
        run()
    return MemoryTrace(rows, tuple(tracer.moments))


class _Tracer(TorchDispatchMode):
    def __init__(self, fixed_shapes: Collection[Size]) -> None:
        super().__init__()
        self.fixed_shapes = fixed_shapes
        self.moments: list[tuple[int, int]] = []
        self._held = [0, 0]
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        for tensor in _tensors((*args, *kwargs.values())):
            self._known.add(tensor.untyped_storage().data_ptr())
        result = func(*args, **kwargs)
        for tensor in _tensors((result,)):
            self._follow(tensor)
        return result

    def _follow(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        place, size = storage.data_ptr(), storage.nbytes()
        if not place or place in self._known:
            return
        kind = 0 if tensor.shape in self.fixed_shapes else 1
        self._known.add(place)
        self._held[kind] += size
        self.moments.append((self._held[0], self._held[1]))
        weakref.finalize(storage, self._forget, place, kind, size)

    def _forget(self, place: int, kind: int, size: int) -> None:
        self._known.discard(place)
        self._held[kind] -= size


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    """The tensors that have memory among what an operator takes or gives, in lists too."""
    for value in values:
        if isinstance(value, Tensor):
            # Forward mode makes zeros that have no storage.
            if not value._is_zerotensor():
                yield value
        elif isinstance(value, (list, tuple)):
            yield from _tensors(value)
