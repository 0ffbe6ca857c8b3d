"""Which weights a GRADIEND was trained on: a fixed sample of every base-model parameter, and its sum.

A name or path does not say it: a model can be changed in memory, and a folder can be overwritten. The sample is small
enough to lie in every checkpoint, and can be compared with the same model in another dtype, where a hash of all bits
could not. In the same dtype the sum also finds what the sample misses, such as one embedding that was trained alone.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from typing_extensions import Self

from gradiend.util._files import read_header, read_tensors, write_tensors

BASE_DIGEST = "base_model_digest.safetensors"
"""File of a checkpoint with the sample."""
ENTRIES = 256
"""Entries of a parameter that are sampled; smaller ones are taken whole."""

_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}
"""Bytes of an entry → the type that its bits are added up as: no order of addition gives another sum."""
_GOLDEN_RATIO = 0x9E3779B97F4A7C15
"""2⁶⁴ divided by the golden ratio: its multiples, modulo 2⁶⁴, lie evenly and hit no stride of a matrix."""


@dataclass(frozen=True)
class BaseDigest:
    """What tells a base model's parameters from others.

    Attributes:
        entries: Parameter name → up to `ENTRIES` entries, in the parameter's dtype, on the CPU.
        shapes: Parameter name → shape.
        sums: Parameter name → sum of all entries, their bits read as integers, modulo 2⁶⁴.
    """

    entries: dict[str, Tensor]
    shapes: dict[str, list[int]]
    sums: dict[str, int]

    @classmethod
    @torch.no_grad()
    def of(cls, base_model: Any) -> Self:
        """The sample of a model as it is in memory; a shared tensor counts once."""
        entries, shapes, sums = {}, {}, {}
        for name, parameter in base_model.named_parameters():
            shapes[name] = list(parameter.shape)
            flat = parameter.detach().reshape(-1)
            places = torch.tensor(sampled_places(flat.numel()), dtype=torch.int64, device=flat.device)
            entries[name] = flat[places].cpu()
            sums[name] = int(flat.view(_INTEGERS[flat.element_size()]).sum(dtype=torch.int64))
        return cls(entries, shapes, sums)

    def differences(self, other: BaseDigest) -> list[str]:
        """Names of the parameters in which two models differ, or that only one of them has.

        Parameters of equal dtype must be equal; of different dtypes, equal up to the rounding of the coarser one.
        """
        names = dict.fromkeys([*self.entries, *other.entries])
        return [name for name in names if not self._agrees(other, name)]

    def _agrees(self, other: BaseDigest, name: str) -> bool:
        if name not in self.entries or name not in other.entries or self.shapes[name] != other.shapes[name]:
            return False
        mine, its = self.entries[name], other.entries[name]
        if mine.dtype == its.dtype and self.sums[name] != other.sums[name]:
            return False
        tolerance = {"rtol": 0.0, "atol": 0.0}
        if mine.dtype != its.dtype and mine.is_floating_point() and its.is_floating_point():
            coarser = max(torch.finfo(mine.dtype), torch.finfo(its.dtype), key=lambda info: info.eps)
            tolerance = {"rtol": coarser.eps, "atol": coarser.smallest_normal * coarser.eps}
        return torch.allclose(mine.double(), its.double(), **tolerance, equal_nan=True)

    def save(self, directory: str | Path) -> None:
        """Write the sample into a checkpoint."""
        write_tensors(
            Path(directory) / BASE_DIGEST,
            self.entries,
            {"shapes": json.dumps(self.shapes), "sums": json.dumps(self.sums)},
        )

    @classmethod
    def load(cls, directory: str | Path) -> Self | None:
        """The sample of a checkpoint; None for one of a tool or a version that wrote none.

        Raises:
            ValueError: A damaged file; the message names it.
        """
        path = Path(directory) / BASE_DIGEST
        if not path.is_file():
            return None
        entries = read_tensors(path)
        try:
            header = read_header(path)
            shapes, sums = json.loads(header["shapes"]), json.loads(header["sums"])
        except (KeyError, ValueError) as error:
            raise ValueError(f"{path} does not say shapes and sums of the parameters: it is damaged.") from error
        if not all(isinstance(part, dict) and part.keys() == entries.keys() for part in (shapes, sums)):
            raise ValueError(f"{path} names other parameters than it samples: it is damaged.")
        return cls(entries, shapes, sums)


def sampled_places(size: int) -> list[int]:
    """The places of a parameter of `size` entries that are sampled, the same for every model."""
    if size <= ENTRIES:
        return list(range(size))
    return [(index * _GOLDEN_RATIO % 2**64) * size >> 64 for index in range(ENTRIES)]
