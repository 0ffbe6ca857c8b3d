"""What a training holds in memory, and on which device in which layout: one device, several in one process, processes.

Every purpose says where its bytes lie (`Lies`); a layout says which device that is, and what share of the bytes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Literal, get_args

from gradiend.gradients import MemoryTrace
from gradiend.util._checks import require_whole
from gradiend.util._keywords import one_of

HEAP = 0.25
"""Share of the activations by which the heap of the CPU is larger than the tensors in it (measured with glibc)."""

Kind = Literal["one_device", "device_map", "data_parallel", "sharded"]


class Lies(Enum):
    """Where the bytes of a purpose lie."""

    BASE = auto()
    """With the parameters of the base model."""
    FIRST = auto()
    """On the device of the base model's first parameter."""
    GRADIEND = auto()
    """With the half of the GRADIEND that needs them."""
    STEP = auto()
    """Activations of a training step, whose batch processes can share."""
    PRUNING = auto()
    """Activations of the gradients for pre-pruning."""
    ENCODING = auto()
    """What encodings by forward-mode derivatives need. A sharded training encodes by backward passes of single
    examples, which need less than a step."""
    PROCESS = auto()
    """In every process, beside the rest."""
    NAMED = auto()
    """On a device that the arguments name, in every layout."""


DIVISIBLE = Lies.BASE, Lies.STEP, Lies.PRUNING, Lies.ENCODING
"""The bytes that are divided among devices together with the layers of the base model."""


@dataclass(frozen=True)
class ProbedPass:
    """A pass over the base model, traced on a few examples, and the number of examples that it will have."""

    trace: MemoryTrace
    rows: int

    def peaks(self, processes: int = 1) -> dict[str, int]:
        """Device → the peak of the pass, if each of some processes takes a share of the examples."""
        rows = -(-self.rows // processes)
        return {
            device: self.trace.peaks(rows * (1 + (HEAP if device == "cpu" else 0.0)))[device]
            for device in self.trace.moments
        }


@dataclass(frozen=True)
class MemoryUse:
    """Bytes on a device for one purpose."""

    name: str
    device: str
    nbytes: int
    held: bool = False
    """Whether the bytes are already in use when the estimate is made."""
    lies: Lies = Lies.PROCESS
    """Where they lie, which tells what another layout would make of them."""
    probed: ProbedPass | None = None
    """The pass, where the bytes are activations."""


Phases = Mapping[str, tuple[MemoryUse, ...]]
"""Phase of a training → what it uses memory for."""


@dataclass(frozen=True)
class Layout:
    """How a training lies on `n` devices of one size.

    - one_device: everything on one device.
    - device_map: one process; the base model is divided among the devices so that all are filled alike, and the first
      one holds the GRADIEND, its optimizer and the importance too (`base_model_device_map`, `base_model_max_memory`).
    - data_parallel: n processes, each with everything on its device and with a share of every training batch.
    - sharded: n processes with an n-th of all weights, moments, buffers and importances each (`fsdp`); activations are
      whole, and two blocks of the base model are gathered at a time.

    Raises:
        TypeError, ValueError: Another kind, or a number below 1; one_device is 1 device.
    """

    kind: Kind = "one_device"
    n: int = 1

    def __post_init__(self) -> None:
        one_of("kind", self.kind, get_args(Kind))
        require_whole("n", self.n, 1)
        if self.kind == "one_device" and self.n != 1:
            raise ValueError(f"A layout on one device has n=1; got {self.n}. Name another kind, such as 'device_map'.")

    def __str__(self) -> str:
        return {
            "one_device": "on one device",
            "device_map": f'in one process with {self.n} devices (base_model_device_map="auto")',
            "data_parallel": f"data parallel in {self.n} processes",
            "sharded": f"sharded over {self.n} processes (fsdp=True)",
        }[self.kind]

    def place(self, phases: Phases, block: int, device: str | None = None) -> dict[str, tuple[MemoryUse, ...]]:
        """The phases on the devices of this layout, with nothing of them held before.

        `block` are the bytes of the largest block of the base model that is gathered at once; `device` names the device
        of a process, in layouts whose devices all hold the same.
        """
        device = device or ("the device" if self.n == 1 else f"each of {self.n} devices")
        fresh = {phase: [dataclasses.replace(use, held=False) for use in uses] for phase, uses in phases.items()}
        shares = _even_shares(fresh, self.n) if self.kind == "device_map" else []
        return {phase: tuple(self._placed(uses, block, shares, device)) for phase, uses in fresh.items()}

    def _placed(
        self, uses: Sequence[MemoryUse], block: int, shares: Sequence[float], device: str
    ) -> Iterator[MemoryUse]:
        if self.kind == "sharded":
            yield MemoryUse("two gathered blocks", device, 2 * block)
        for use in uses:
            if use.lies is Lies.NAMED:
                yield use
            elif self.kind == "device_map":
                for number, share in enumerate(shares if use.lies in DIVISIBLE else [1.0]):
                    yield dataclasses.replace(use, device=f"device {number}", nbytes=round(use.nbytes * share))
            elif self.kind != "sharded" or use.lies is not Lies.ENCODING:
                yield dataclasses.replace(use, device=device, nbytes=self._of_each_process(use))

    def _of_each_process(self, use: MemoryUse) -> int:
        if self.kind == "data_parallel" and use.lies is Lies.STEP and use.probed is not None:
            return use.probed.peaks(self.n)[use.device]
        divided = self.kind == "sharded" and use.lies in (Lies.BASE, Lies.FIRST, Lies.GRADIEND)
        return -(-use.nbytes // self.n) if divided else use.nbytes


def _even_shares(phases: Mapping[str, Sequence[MemoryUse]], n: int) -> list[float]:
    """The shares of the base model and its activations that make the fullest device as empty as possible."""
    fixed = max(sum(use.nbytes for use in uses if use.lies in (Lies.FIRST, Lies.GRADIEND)) for uses in phases.values())
    divided = max(sum(use.nbytes for use in uses if use.lies in DIVISIBLE) for uses in phases.values())
    if n == 1 or not divided:
        return [1.0] + [0.0] * (n - 1)
    first = max(0.0, ((fixed + divided) / n - fixed) / divided)
    return [first] + [(1 - first) / (n - 1)] * (n - 1)
