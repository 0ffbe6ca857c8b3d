"""The map between a base model's parameters and the flat input space of a GRADIEND."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from gradiend.model._quantized import is_quantized
from gradiend.util._bits import digest_tensors
from gradiend.util._isolation import exclusive
from gradiend.util._keywords import one_of

MASK_MARGIN = 1.1
"""Indices are preferred if they take less than 1/1.1 of a mask's space: near equality the choice must not flip."""

BIT_TYPES = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""Bytes per entry → the integer type that holds the bits of the entry."""


def bits(values: Tensor) -> Tensor:
    """The same memory as integers, for which −0.0 differs from 0.0, and an undefined number equals itself."""
    return values.view(BIT_TYPES[values.element_size()])


def digest_of(values: Tensor) -> str:
    """A digest of dtype, shape and every bit."""
    return digest_tensors([("", values)])


def local(tensor: Tensor) -> Tensor:
    """The rows of a sharded tensor that this process has, in the same memory; any other tensor as it is."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def index_dtype(numel: int) -> torch.dtype:
    """The smallest integer type that addresses `numel` entries."""
    return torch.int32 if numel <= torch.iinfo(torch.int32).max else torch.int64


@dataclass(frozen=True, eq=False)
class MappedParameter:
    """A base-model parameter and its entries that are in the map."""

    name: str
    shape: tuple[int, ...]
    selection: Tensor | None = None
    """The entries in the map: None for all entries, a bool tensor (numel,), or an integer tensor of flat indices."""

    def __repr__(self) -> str:
        return f"MappedParameter({self.name!r}, {self.shape}, {self.num_selected:,} of {self.numel:,} entries)"

    @cached_property
    def numel(self) -> int:
        """The number of entries of the whole parameter."""
        return math.prod(self.shape)

    @cached_property
    def num_selected(self) -> int:
        """The number of entries in the map."""
        if self.selection is None:
            return self.numel
        # count_nonzero saves memory: sum() would make a 64-bit integer of every flag first.
        flags = self.selection.dtype == torch.bool
        return int(self.selection.count_nonzero()) if flags else self.selection.numel()

    @property
    def representation(self) -> str:
        """The form of the selection: all, mask or indices."""
        if self.selection is None:
            return "all"
        return "mask" if self.selection.dtype == torch.bool else "indices"

    def indices(self) -> Tensor:
        """Flat indices of the selected entries, int64 (num_selected,), in map order."""
        if self.selection is None:
            return torch.arange(self.numel)
        return self.selection.nonzero().squeeze(1) if self.selection.dtype == torch.bool else self.selection.long()

    def gather(self, values: Tensor) -> Tensor:
        """Selected entries (num_selected,) of a tensor, or of this process's shard; a view where all are selected."""
        values = local(values)
        if tuple(values.shape) != self.shape:
            raise ValueError(
                f"{self.name} has shape {self.shape} in the map, but the tensor has {tuple(values.shape)}."
            )
        flat = values.reshape(-1)
        return flat if self.selection is None else flat[self.selection.to(values.device)]

    def scatter(self, values: Tensor) -> Tensor:
        """A tensor of the parameter's shape with the selected entries and zeros; a view if all entries are selected."""
        if self.selection is None:
            return values.view(self.shape)
        full = values.new_zeros(self.numel)
        full[self.selection.to(values.device)] = values
        return full.view(self.shape)

    def put(self, tensor: Tensor, values: Tensor) -> None:
        """Overwrite the selected entries of `tensor`, of the parameter's shape and any strides, in place."""
        tensor = local(tensor)
        if self.selection is None:
            tensor.copy_(values.view(self.shape))
        elif self.selection.dtype == torch.bool:
            tensor.masked_scatter_(self.selection.view(self.shape).to(tensor.device), values)
        elif tensor.is_contiguous():
            # Tensor.put_ has no deterministic form (torch.use_deterministic_algorithms).
            tensor.view(-1)[self.selection.to(tensor.device)] = values
        else:
            tensor[torch.unravel_index(self.selection.to(tensor.device, torch.int64), self.shape)] = values

    def narrowed(self, keep: Tensor) -> MappedParameter:
        """The same parameter with only those selected entries for which `keep`, bool (num_selected,), is True."""
        if keep.all():
            return self
        # For a whole parameter, `keep` is the selection, and no list of all indices is made.
        selection = keep.clone() if self.selection is None else self.indices()[keep]
        return MappedParameter(self.name, self.shape, selection).compact()

    def compact(self) -> MappedParameter:
        """The same selection in the form that takes the least space."""
        if self.selection is None or (self.num_selected == self.numel and self.rises()):
            return MappedParameter(self.name, self.shape)
        dtype = index_dtype(self.numel)
        as_indices = self.num_selected * dtype.itemsize * MASK_MARGIN <= self.numel
        if self.selection.dtype == torch.bool:
            return MappedParameter(self.name, self.shape, self.indices().to(dtype)) if as_indices else self
        if as_indices or not self.rises():
            return MappedParameter(self.name, self.shape, self.selection.to(dtype))
        mask = torch.zeros(self.numel, dtype=torch.bool)
        mask[self.selection.long()] = True
        return MappedParameter(self.name, self.shape, mask)

    def rises(self) -> bool:
        """Whether the indices of the selected entries rise; a mask cannot express others."""
        selection = self.selection
        return selection is None or selection.dtype == torch.bool or bool((selection[1:] > selection[:-1]).all())

    def spec(self) -> dict[str, Any]:
        """The documented dict: shape, repr, and mask (the parameter's shape) or indices (flat)."""
        form, selection = self.representation, self.selection
        spec = {"shape": self.shape, "repr": form}
        if selection is None:
            return spec
        return {**spec, form: selection.view(self.shape) if form == "mask" else selection}

    @classmethod
    def from_spec(cls, name: str, spec: Mapping[str, Any]) -> MappedParameter:
        """Parse the documented dict. Raises ValueError for a missing key or a selection that does not fit the shape."""
        if not isinstance(spec, Mapping):
            raise ValueError(f"The map entry of {name!r} must be a dict with shape and repr; got {spec!r}.")
        missing = [key for key in ("shape", "repr") if key not in spec]
        if missing:
            raise ValueError(f"The map entry of {name!r} lacks {' and '.join(missing)}; it has {', '.join(spec)}.")
        try:
            shape = tuple(int(size) for size in spec["shape"])
        except (TypeError, ValueError) as error:
            raise ValueError(f"The shape of {name!r} must be a list of sizes; got {spec['shape']!r:.60}.") from error
        representation = one_of(f"repr of {name!r}", spec["repr"], ("all", "mask", "indices"))
        if representation == "all":
            return cls(name, shape)
        selection = spec.get(representation)
        if not isinstance(selection, Tensor):
            raise ValueError(
                f"The map entry of {name!r} says repr={representation!r} but has no tensor {representation!r}."
            )
        selection = selection.detach().cpu()
        if representation == "mask":
            if selection.dtype != torch.bool or tuple(selection.shape) != shape:
                found = f"{selection.dtype} of shape {tuple(selection.shape)}"
                raise ValueError(f"The mask of {name!r} must be bool of shape {shape}; got {found}.")
            return cls(name, shape, selection.reshape(-1))
        if selection.dim() != 1 or selection.is_floating_point() or selection.dtype == torch.bool:
            found = f"{selection.dtype} of shape {tuple(selection.shape)}"
            raise ValueError(f"The indices of {name!r} must be a 1-D integer tensor; got {found}.")
        numel = math.prod(shape)
        if selection.numel() and not (int(selection.min()) >= 0 and int(selection.max()) < numel):
            raise ValueError(f"The indices of {name!r} must lie in [0, {numel}).")
        parsed = cls(name, shape, selection)
        # Indices that rise, as those of every pruned map do, need not be sorted.
        if not parsed.rises() and selection.unique().numel() != selection.numel():
            raise ValueError(f"The indices of {name!r} contain an entry twice.")
        return parsed


class ParameterMap(Sequence[MappedParameter]):
    """Base-model parameters in a fixed order; the concatenated selections are the input space of the GRADIEND.

    A map is immutable: `narrow` returns another map.
    """

    def __init__(self, parameters: Sequence[MappedParameter]) -> None:
        self.parameters = tuple(parameters)

    def __repr__(self) -> str:
        return f"ParameterMap({self.described()})"

    def described(self) -> str:
        """A text with the numbers of entries and of parameters in the map."""
        share, count = self.size / max(self.unpruned_size, 1), f"{len(self)} parameter{'' if len(self) == 1 else 's'}"
        if self.size == self.unpruned_size:
            return f"all {self.size:,} entries of {count}"
        reached = sum(parameter.num_selected > 0 for parameter in self.parameters)
        return f"{self.size:,} of {self.unpruned_size:,} entries ({100 * share:.3g} %) in {reached} of {count}"

    def __len__(self) -> int:
        """The number of parameters; `size` is the number of entries."""
        return len(self.parameters)

    def __getitem__(self, index: Any) -> Any:
        return self.parameters[index]

    @cached_property
    def size(self) -> int:
        """The number of selected entries, which is the input_dim."""
        return sum(parameter.num_selected for parameter in self.parameters)

    @cached_property
    def unpruned_size(self) -> int:
        """The number of entries of all mapped parameters."""
        return sum(parameter.numel for parameter in self.parameters)

    def slices(self) -> Iterator[tuple[MappedParameter, slice]]:
        """Yield each parameter with its place in the input space."""
        start = 0
        for parameter in self.parameters:
            yield parameter, slice(start, start + parameter.num_selected)
            start += parameter.num_selected

    def flatten(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """Full-shape tensors by name → (size,), on the first tensor's device. Raises KeyError for a missing tensor."""
        missing = [parameter.name for parameter in self.parameters if parameter.name not in tensors]
        if missing:
            raise KeyError(f"The map needs {', '.join(missing[:5])}, which the dict of tensors does not contain.")
        device = tensors[self.parameters[0].name].device
        return torch.cat([parameter.gather(tensors[parameter.name]).to(device) for parameter in self.parameters])

    def unflatten(self, flat: Tensor) -> dict[str, Tensor]:
        """(size,) → full-shape tensors by name, zeros where nothing is selected. Raises ValueError for another size."""
        if tuple(flat.shape) != (self.size,):
            raise ValueError(f"The map takes one vector of {self.size} entries; got shape {tuple(flat.shape)}.")
        return {parameter.name: parameter.scatter(flat[place]) for parameter, place in self.slices()}

    def narrow(self, keep: Tensor) -> ParameterMap:
        """The map of the entries for which `keep`, bool (size,), is True. No parameter leaves the map."""
        return self.narrow_each(keep[place] for _, place in self.slices())

    def narrow_each(self, keeps: Iterable[Tensor]) -> ParameterMap:
        """`narrow` with one mask, bool (num_selected,), per parameter; the masks are read one after the other."""
        return ParameterMap([parameter.narrowed(keep) for parameter, keep in zip(self.parameters, keeps, strict=True)])

    def base_indices(self) -> Tensor:
        """The position of each input dimension in the concatenation of all whole parameters, int64 (size,)."""
        parts, start = [], 0
        for parameter in self.parameters:
            parts.append(parameter.indices() + start)
            start += parameter.numel
        return torch.cat(parts)

    @classmethod
    def union(cls, maps: Sequence[ParameterMap], whole_from: float = 1.0) -> ParameterMap:
        """The map of the entries of several maps of one base model.

        Its indices rise within each parameter, unless all maps are equal. A parameter is in it as a whole if the maps
        together have at least the share `whole_from` of the parameter's entries.
        """
        if len({one.hash for one in maps}) == 1:
            return maps[0]
        found: dict[str, list[MappedParameter]] = {}
        for one in maps:
            for parameter in one.parameters:
                found.setdefault(parameter.name, []).append(parameter)
        return cls([_joined(some, whole_from) for some in found.values()])

    def places(self, other: ParameterMap) -> Tensor | None:
        """The position here, int64 (size,), of each entry of another map, all of which are here; None for the same."""
        if other.hash == self.hash:
            return None
        own = {parameter.name: (parameter, place.start) for parameter, place in self.slices()}
        parts = []
        for parameter in other.parameters:
            wider, start = own[parameter.name]
            indices = parameter.indices()
            found = indices if wider.selection is None else torch.searchsorted(wider.indices(), indices)
            parts.append(found + start)
        return torch.cat(parts)

    @cached_property
    def hash(self) -> str:
        """MD5 of names, shapes and selected entries in their order; the form of a selection does not matter."""
        digest = hashlib.md5(usedforsecurity=False)
        for parameter in self.parameters:
            complete = parameter.compact().selection is None
            count = "all" if complete else parameter.num_selected
            digest.update(repr((parameter.name, parameter.shape, count)).encode())
            if not complete:
                digest.update(parameter.indices().numpy().tobytes())
        return digest.hexdigest()

    def specs(self) -> dict[str, dict[str, Any]]:
        """The documented dict, name → {shape, repr, mask or indices}."""
        return {parameter.name: parameter.spec() for parameter in self.parameters}

    @classmethod
    def from_specs(cls, specs: Mapping[str, Mapping[str, Any]]) -> ParameterMap:
        """Parse the documented dict, whose order is that of the input space. Raises ValueError for a bad entry."""
        return cls([MappedParameter.from_spec(name, spec) for name, spec in specs.items()])


def _joined(parameters: Sequence[MappedParameter], whole_from: float) -> MappedParameter:
    """One parameter with the entries of several selections; whole if these are at least the share `whole_from`."""
    first = parameters[0]
    if any(one.selection is None for one in parameters):
        return MappedParameter(first.name, first.shape)
    mask = torch.zeros(first.numel, dtype=torch.bool)
    for one in parameters:
        mask[one.indices()] = True
    if int(mask.sum()) >= whole_from * first.numel:
        return MappedParameter(first.name, first.shape)
    return MappedParameter(first.name, first.shape, mask).compact()


def mapped_parameters(base_model: nn.Module, mapping: ParameterMap) -> dict[str, nn.Parameter]:
    """The base model's parameters in the map.

    Raises KeyError for a missing parameter, ValueError for another shape or for quantized weights.
    """
    # A forward-mode pass puts other tensors in the place of the parameters, which no other thread must take for them.
    with exclusive(base_model):
        parameters = dict(base_model.named_parameters())
    for entry in mapping:
        if entry.name not in parameters:
            raise KeyError(f"The base model has no parameter {entry.name}: {_why_missing(entry.name, parameters)}")
        if is_quantized(parameters[entry.name]):
            raise ValueError(
                f"{entry.name} is quantized in this base model, so it has no gradient and cannot be rewritten, but it "
                "is in the map of the GRADIEND: load the base model without quantization_config, or make a GRADIEND of "
                "what is not quantized (params=)."
            )
        shape = tuple(local(parameters[entry.name]).shape)
        if shape != entry.shape:
            raise ValueError(f"{entry.name} has shape {shape}, but the GRADIEND was made for {entry.shape}.")
    return {entry.name: parameters[entry.name] for entry in mapping}


def _why_missing(name: str, parameters: Mapping[str, nn.Parameter]) -> str:
    """The likely reason for which a model lacks a parameter of a map."""
    module, _, attribute = name.rpartition(".")
    if f"{module}.base_layer.{attribute}" in parameters:
        return (
            "an adapter is attached to its layer, and the GRADIEND was made for the plain model. Give that one, or "
            "make a GRADIEND for the model with its adapter."
        )
    if ".base_layer." in name and name.replace(".base_layer.", ".") in parameters:
        return "the GRADIEND was made for a model with an adapter attached. Give that one (a PeftModel, or its folder)."
    if any(part in name for part in (".lora_", ".modules_to_save.")):
        return (
            "the GRADIEND was made for a model with an adapter (PEFT) that this one does not have, or has under "
            "another name. Give the folder of that adapter, or the model with it."
        )
    return "the GRADIEND was made for another architecture."
