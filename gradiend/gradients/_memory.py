"""How much memory a pass over a model takes, measured by one small run."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Size, Tensor, UntypedStorage, nn
from torch.utils._python_dispatch import TorchDispatchMode


@dataclass(frozen=True)
class MemoryTrace:
    """The tensors that a pass over `rows` inputs holds from moment to moment, beyond those that existed before."""

    rows: int
    """Distinct inputs of the pass."""
    moments: Mapping[str, Sequence[tuple[int, int]]]
    """Device → (bytes that do not depend on the number of inputs, bytes in proportion to this number), after each
    operation that made a tensor there."""

    def peaks(self, rows: float) -> dict[str, int]:
        """Device → the most bytes that a pass over `rows` inputs of the same length holds there at once."""
        return {
            device: max(int(fixed + scaling * rows / self.rows) for fixed, scaling in moments)
            for device, moments in self.moments.items()
        }

    def peak(self, rows: float) -> int:
        """The peaks of all devices together."""
        return sum(self.peaks(rows).values())


def trace_memory(model: nn.Module, run: Callable[[], Any], rows: int) -> MemoryTrace:
    """Call `run`, a pass over `rows` inputs, and follow the tensors that the call makes.

    Tensors of a parameter's shape (gradients, tangents), also flat ones, do not depend on the number of inputs; all
    other tensors are taken to grow with this number. What operators use inside themselves is not seen. Tensors on a
    device without parameters, such as the tokens before they are moved, count with the first parameter's device.
    """
    shapes = [parameter.shape for parameter in model.parameters()]
    devices = dict.fromkeys(str(parameter.device) for parameter in model.parameters())
    tracer = _Tracer({*shapes, *(Size([shape.numel()]) for shape in shapes)}, list(devices))
    with tracer:
        run()
    return MemoryTrace(rows, tracer.moments)


class _Tracer(TorchDispatchMode):
    def __init__(self, fixed_shapes: Collection[Size], devices: Sequence[str]) -> None:
        super().__init__()
        self.fixed_shapes = fixed_shapes
        self.devices = devices
        self.moments: dict[str, list[tuple[int, int]]] = {device: [(0, 0)] for device in devices}
        self._held = {device: [0, 0] for device in devices}
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        for tensor in _tensors((*args, *kwargs.values())):
            self._know(tensor.untyped_storage())
        result = func(*args, **kwargs)
        for tensor in _tensors((result,)):
            self._follow(tensor)
        return result

    def _follow(self, tensor: Tensor) -> None:
        # The address of the data would not do on the meta device, where there is none.
        storage = tensor.untyped_storage()
        if not self._know(storage):
            return
        device = str(tensor.device)
        device = device if device in self._held else self.devices[0]
        held = self._held[device]
        size = storage.nbytes()
        kind = 0 if tensor.shape in self.fixed_shapes else 1
        held[kind] += size
        self.moments[device].append((held[0], held[1]))
        weakref.finalize(storage, self._release, held, kind, size)

    def _know(self, storage: UntypedStorage) -> bool:
        """Whether this storage is a new one. What is freed is forgotten, because its place is used again."""
        place = storage._cdata
        if place in self._known:
            return False
        self._known.add(place)
        weakref.finalize(storage, self._known.discard, place)
        return True

    def _release(self, held: list[int], kind: int, size: int) -> None:
        held[kind] -= size


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    """The tensors that have memory among what an operator takes or gives, in lists too."""
    for value in values:
        if isinstance(value, Tensor):
            # Forward mode makes zeros that have no storage.
            if not value._is_zerotensor():
                yield value
        elif isinstance(value, (list, tuple)):
            yield from _tensors(value)
