"""Which weights a GRADIEND was trained on: a fixed sample of every base-model parameter.

A name or path does not say it: a model can be changed in memory, and a folder can be overwritten. The sample is small
enough to lie in every checkpoint, costs no pass over the weights, and can be compared with the same model in another
dtype, where a hash of all bits could not.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from typing_extensions import Self

from gradiend.util.files import read_header, read_tensors, write_tensors

BASE_DIGEST = "base_model_digest.safetensors"
"""File of a checkpoint with the sample."""
ENTRIES = 256
"""Entries of a parameter that are sampled; smaller ones are taken whole."""

_GOLDEN_RATIO = 0x9E3779B97F4A7C15
"""2⁶⁴ divided by the golden ratio: its multiples, modulo 2⁶⁴, lie evenly and hit no stride of a matrix."""


@dataclass(frozen=True)
class BaseDigest:
    """Sampled entries of a base model's parameters.

    Attributes:
        entries: Parameter name → up to `ENTRIES` entries, in the parameter's dtype, on the CPU.
        shapes: Parameter name → shape.
    """

    entries: dict[str, Tensor]
    shapes: dict[str, list[int]]

    @classmethod
    @torch.no_grad()
    def of(cls, base_model: Any) -> Self:
        """The sample of a model as it is in memory; a shared tensor counts once."""
        entries, shapes = {}, {}
        for name, parameter in base_model.named_parameters():
            shapes[name] = list(parameter.shape)
            flat = parameter.detach().reshape(-1)
            places = torch.tensor(sampled_places(flat.numel()), dtype=torch.int64, device=flat.device)
            entries[name] = flat[places].cpu()
        return cls(entries, shapes)

    def differences(self, other: BaseDigest) -> list[str]:
        """Names of the parameters in which two models differ, or that only one of them has.

        Entries of equal dtype must be equal; of different dtypes, equal up to the rounding of the coarser one.
        """
        names = dict.fromkeys([*self.entries, *other.entries])
        return [name for name in names if not self._agrees(other, name)]

    def _agrees(self, other: BaseDigest, name: str) -> bool:
        if name not in self.entries or name not in other.entries or self.shapes[name] != other.shapes[name]:
            return False
        mine, its = self.entries[name], other.entries[name]
        tolerance = {"rtol": 0.0, "atol": 0.0}
        if mine.dtype != its.dtype and mine.is_floating_point() and its.is_floating_point():
            coarser = max(torch.finfo(mine.dtype), torch.finfo(its.dtype), key=lambda info: info.eps)
            tolerance = {"rtol": coarser.eps, "atol": coarser.smallest_normal * coarser.eps}
        return torch.allclose(mine.double(), its.double(), **tolerance, equal_nan=True)

    def save(self, directory: str | Path) -> None:
        """Write the sample into a checkpoint."""
        write_tensors(Path(directory) / BASE_DIGEST, self.entries, {"shapes": json.dumps(self.shapes)})

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
            shapes = json.loads(read_header(path)["shapes"])
        except (KeyError, ValueError) as error:
            raise ValueError(f"{path} does not say the shapes of the parameters: it is damaged.") from error
        if not isinstance(shapes, dict) or shapes.keys() != entries.keys():
            raise ValueError(f"{path} names other parameters than it samples: it is damaged.")
        return cls(entries, shapes)


def sampled_places(size: int) -> list[int]:
    """The places of a parameter of `size` entries that are sampled, the same for every model."""
    if size <= ENTRIES:
        return list(range(size))
    return [(index * _GOLDEN_RATIO % 2**64) * size >> 64 for index in range(ENTRIES)]
