"""Base models whose parameters are sharded over processes (FSDP2), and GRADIENDs that are sharded in the same way.

Each process has some rows of every parameter. Its part of a GRADIEND has the entries in these rows: a map of their own,
their weights, their optimizer state, their importance. What is a sum over all entries, such as a latent, is reduced;
everything else is computed entry by entry, as for a GRADIEND in one piece.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, Shard
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset
from transformers.modeling_layers import GradientCheckpointingLayer

from gradiend.model._parameter_map import MappedParameter, ParameterMap
from gradiend.util._processes import Processes, processes
from gradiend.util._tensor_files import Pieces

BLOCK = 1 << 20
"""Entries that are sent to the first process at once."""


def is_sharded(model: nn.Module) -> bool:
    """Whether the parameters of a model are sharded over processes."""
    return any(isinstance(parameter, DTensor) for parameter in model.parameters())


def whole(tensor: Tensor) -> Tensor:
    """A tensor in one piece, which all processes must ask for if it is sharded."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def whole_state(model: nn.Module) -> dict[str, Tensor]:
    """The state of a sharded model in one piece, in the memory of the first process's CPU; {} in the others."""
    known: dict[int, Tensor] = {}
    state: dict[str, Tensor] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) not in known:
            full = whole(tensor.detach())
            known[id(tensor)] = full.cpu() if processes().first else full.new_empty(0)
        state[name] = known[id(tensor)]
    return state if processes().first else {}


def shard(model: nn.Module) -> None:
    """Shard a model over the processes of the run, in place; a layer is in one piece only during its own passes."""
    # FSDP2 is imported here, because this takes time that programs without it need not spend.
    from torch.distributed.device_mesh import init_device_mesh  # noqa: PLC0415
    from torch.distributed.fsdp import fully_shard  # noqa: PLC0415

    mesh = init_device_mesh("cuda" if torch.cuda.is_available() else "cpu", (processes().count,))
    uses = Counter(id(parameter) for _, parameter in model.named_parameters(remove_duplicate=False))

    def stands_alone(part: nn.Module) -> bool:
        inside = Counter(id(parameter) for _, parameter in part.named_parameters(remove_duplicate=False))
        return all(uses[number] == count for number, count in inside.items())

    # A layer that shares a parameter with another one must be in one piece at the same time as the other.
    layers = [part for part in model.modules() if isinstance(part, GradientCheckpointingLayer) and stands_alone(part)]
    for part in [*layers, model]:
        fully_shard(part, mesh=mesh, reshard_after_forward=True)


@dataclass(frozen=True)
class Shards:
    """The rows of this process: the first entry and the whole shape of each parameter of a sharded model."""

    team: Processes
    shapes: dict[str, tuple[int, ...]]
    """Name → shape of the whole parameter."""
    starts: dict[str, int]
    """Name → number of the parameter's first entry in this process."""
    sizes: dict[str, int]
    """Name → number of the parameter's entries in this process."""

    @classmethod
    def of(cls, model: nn.Module) -> Shards:
        """The shards of a model. Raises ValueError for parameters that are not sharded by rows."""
        shapes, starts, sizes = {}, {}, {}
        for name, parameter in model.named_parameters():
            if not isinstance(parameter, DTensor) or parameter.placements != (Shard(0),):
                raise ValueError(
                    f"{name} is not sharded by rows: FSDP2 (torch.distributed.fsdp.fully_shard) on the whole model is "
                    "supported, and no other layout."
                )
            local, offset = compute_local_shape_and_global_offset(
                parameter.shape, parameter.device_mesh, parameter.placements
            )
            shapes[name] = tuple(parameter.shape)
            per_row = parameter.numel() // max(1, parameter.shape[0])
            # A process without a row has an offset behind the last one.
            starts[name] = min(offset[0], parameter.shape[0]) * per_row
            sizes[name] = local[0] * per_row
        return cls(processes(), shapes, starts, sizes)

    def own(self, mapping: ParameterMap) -> ParameterMap:
        """The part of a map of whole parameters that this process has."""
        return ParameterMap([self._own(entry) for entry in mapping])

    def _own(self, entry: MappedParameter) -> MappedParameter:
        start, size, selection = self.starts[entry.name], self.sizes[entry.name], entry.selection
        rows = 0 if not entry.shape[0] else size // (entry.numel // entry.shape[0])
        if selection is not None and selection.dtype == torch.bool:
            selection = selection[start : start + size]
        elif selection is not None:
            if not entry.rises():
                raise ValueError(f"A sharded GRADIEND needs a map whose indices rise; those of {entry.name} do not.")
            inside = (selection >= start) & (selection < start + size)
            selection = selection[inside] - start
        return MappedParameter(entry.name, (rows, *entry.shape[1:]), selection)

    def whole_map(self, own: ParameterMap) -> ParameterMap:
        """The map of whole parameters of which every process has its own part."""
        return ParameterMap([self._whole(entry) for entry in own])

    def _whole(self, own: MappedParameter) -> MappedParameter:
        shape = self.shapes[own.name]
        parts = self.team.exchanged(None if own.selection is None else own.indices() + self.starts[own.name])
        starts = self.team.exchanged((self.starts[own.name], self.sizes[own.name]))
        if all(part is None for part in parts):
            return MappedParameter(own.name, shape)
        pairs = zip(parts, starts, strict=True)
        indices = [torch.arange(start, start + size) if part is None else part for part, (start, size) in pairs]
        return MappedParameter(own.name, shape, torch.cat(indices)).compact()

    def total(self, count: int) -> int:
        """The sum of a number over all processes."""
        return sum(self.team.exchanged(count))

    def counts(self, own: ParameterMap) -> list[list[int]]:
        """For each process, the number of its entries of each parameter."""
        return self.team.exchanged([entry.num_selected for entry in own])

    def places(self, counts: Sequence[Sequence[int]]) -> Iterator[tuple[int, slice]]:
        """The order of the whole input space: (process, place in this process's entries), parameter by parameter."""
        begun = [0] * self.team.count
        for parameter in range(len(counts[0])):
            for rank, own in enumerate(counts):
                yield rank, slice(begun[rank], begun[rank] + own[parameter])
                begun[rank] += own[parameter]

    def pieces(self, own: ParameterMap, values: Tensor, shape: tuple[int, ...]) -> Pieces:
        """A tensor of the whole input space, of which `values` (entries of this process, …) is this process's part.

        Every process must read the blocks; the first process alone gets them.
        """
        counts = self.counts(own)

        def blocks() -> Iterator[Tensor]:
            """Send this process's entries to the first process, which yields the entries of all processes in order."""
            distributed, team = torch.distributed, self.team
            flat = values.detach().reshape(len(values), math.prod(shape[1:]))
            for rank, place in self.places(counts):
                for start in range(place.start, place.stop, BLOCK):
                    some = slice(start, min(start + BLOCK, place.stop))
                    if rank == team.rank:
                        block = flat[some].cpu().contiguous()
                    elif team.first:
                        block = torch.empty(some.stop - some.start, flat.shape[1], dtype=flat.dtype)
                    if rank and rank == team.rank:
                        distributed.send(block, 0, group=team.group)
                    elif rank and team.first:
                        distributed.recv(block, rank, group=team.group)
                    if team.first:
                        yield block.reshape(-1)

        return Pieces(values.dtype, shape, blocks)
