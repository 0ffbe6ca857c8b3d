"""The file of a delta: new values of the entries that a rewrite changed, and what they replace.

One safetensors file. Tensors: `<parameter>/values`, in the parameter's dtype, and `<parameter>/indices`, flat and
ascending; a parameter without indices is there as a whole, where that takes less space. The header has the rest as
JSON under `gradiend_delta`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from gradiend.model.bits import bits, digest_of
from gradiend.model.parameter_map import MappedParameter, index_dtype
from gradiend.model.rewrite_record import RewriteRecord
from gradiend.util._digest import digest_json
from gradiend.util._files import read_header, read_tensors, write_tensors

FILE_NAME = "gradiend_delta.safetensors"
FORMAT_VERSION = 1
HEADER = "gradiend_delta"


@dataclass(frozen=True, eq=False, repr=False)
class ParameterChange:
    """The changed entries of one parameter."""

    entry: MappedParameter
    """Name, shape, and which entries; all of them where the parameter is stored as a whole."""
    values: Tensor
    """Their new values, in the parameter's dtype (entry.num_selected,)."""
    replaces: str
    """`digest_of` of the values that they replace."""
    tied: tuple[str, ...] = ()
    """Other names of the same tensor, which change with it."""

    def __repr__(self) -> str:
        return f"ParameterChange({self.entry!r}, {self.values.dtype})"

    @classmethod
    def between(cls, name: str, old: Tensor, new: Tensor, tied: Sequence[str] = ()) -> ParameterChange | None:
        """What turns `old` into `new`, of the same shape and dtype, bit by bit; None if nothing does."""
        shape = tuple(new.shape)
        old, new = old.detach().reshape(-1).cpu(), new.detach().reshape(-1).cpu()
        indices = (bits(old) != bits(new)).nonzero().squeeze(1).to(index_dtype(old.numel()))
        if not indices.numel():
            return None
        sparse = indices.numel() * (indices.itemsize + new.itemsize)
        if sparse >= new.nbytes:
            return cls(MappedParameter(name, shape), new, digest_of(old), tuple(tied))
        entry = MappedParameter(name, shape, indices)
        return cls(entry, new[indices], digest_of(old[indices]), tuple(tied))


@dataclass(frozen=True, eq=False, repr=False)
class Delta:
    """A rewrite as the entries that it changes; see `apply_delta`."""

    changes: tuple[ParameterChange, ...]
    """One for each parameter with a changed entry."""
    base_model: str
    """Name or path of the model that it was made for."""
    base_model_fingerprint: str
    """`hash_model_weights` of that model."""
    backbone_prefix: str
    """What the names of that model's backbone parameters start with."""
    rewrite: RewriteRecord | None = None
    """How it was made; None for the difference of two models."""

    def __repr__(self) -> str:
        made = ""
        if self.rewrite is not None:
            choice, rewrite = self.rewrite.choice, self.rewrite
            goal = "" if choice is None else f"{choice.direction} {choice.target_class}, "
            made = f", {goal}learning_rate={rewrite.learning_rate:g}, feature_factor={rewrite.feature_factor}"
        size = f"{self.num_entries:,} entries of {len(self.changes)} parameters"
        return f"Delta({size} of {self.base_model!r}{made})"

    @cached_property
    def fingerprint(self) -> str:
        """A digest of what it replaces, by what and where."""
        parts = [(c.entry.name, c.replaces, digest_of(c.values), digest_of(c.entry.indices())) for c in self.changes]
        return digest_json(parts)

    @property
    def num_entries(self) -> int:
        """Number of stored values."""
        return sum(change.entry.num_selected for change in self.changes)


def delta_path(path: str | Path) -> Path:
    """The file of a delta: `path` itself if it ends in .safetensors, otherwise `path`/gradiend_delta.safetensors."""
    path = Path(path)
    return path if path.suffix == ".safetensors" else path / FILE_NAME


def write_delta(path: str | Path, delta: Delta) -> str:
    """Write a delta and return the path of its file."""
    tensors: dict[str, Tensor] = {}
    for change in delta.changes:
        tensors[f"{change.entry.name}/values"] = change.values
        if change.entry.selection is not None:
            tensors[f"{change.entry.name}/indices"] = change.entry.selection
    content = {
        "format_version": FORMAT_VERSION,
        "base_model": delta.base_model,
        "base_model_fingerprint": delta.base_model_fingerprint,
        "backbone_prefix": delta.backbone_prefix,
        "parameters": [
            {
                "name": change.entry.name,
                "shape": list(change.entry.shape),
                "dtype": str(change.values.dtype).removeprefix("torch."),
                "num_entries": change.entry.num_selected,
                "replaces": change.replaces,
                "tied": list(change.tied),
            }
            for change in delta.changes
        ],
        "rewrite": None if delta.rewrite is None else delta.rewrite.to_json(),
    }
    file = delta_path(path)
    write_tensors(file, tensors, {HEADER: json.dumps(content, ensure_ascii=False)})
    return str(file)


def read_delta(path: str | Path) -> Delta:
    """Read and verify a delta.

    Args:
        path: Its file, or the directory that it is in under its usual name.

    Raises:
        FileNotFoundError: No such file.
        ValueError: A damaged file, one of another format version, or no delta; the message names it.
    """
    file = delta_path(path)
    header = read_header(file)
    if HEADER not in header:
        raise ValueError(f"{file} is no delta: its header has no {HEADER}. export_delta writes one.")
    try:
        content = json.loads(header[HEADER])
        version = content["format_version"]
        if version != FORMAT_VERSION:
            raise ValueError(f"format_version is {version!r}; this version of gradiend reads {FORMAT_VERSION}.")
        tensors = read_tensors(file)
        return Delta(
            changes=tuple(_read_change(entry, tensors) for entry in content["parameters"]),
            base_model=content["base_model"],
            base_model_fingerprint=content["base_model_fingerprint"],
            backbone_prefix=content["backbone_prefix"],
            rewrite=None if content["rewrite"] is None else RewriteRecord.from_json(content["rewrite"]),
        )
    except KeyError as error:
        raise ValueError(f"{file}: {error} is missing.") from error
    except (TypeError, ValueError) as error:
        raise ValueError(f"{file}: {error}") from error


def _read_change(content: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> ParameterChange:
    name, values = content["name"], tensors[f"{content['name']}/values"]
    indices = tensors.get(f"{name}/indices")
    spec = {"shape": content["shape"], "repr": "all" if indices is None else "indices", "indices": indices}
    entry = MappedParameter.from_spec(name, spec)
    if str(values.dtype) != f"torch.{content['dtype']}" or tuple(values.shape) != (entry.num_selected,):
        found = f"{values.dtype} of shape {tuple(values.shape)}"
        raise ValueError(f"{name} has values {found}, but {entry.num_selected} of {content['dtype']} belong there.")
    return ParameterChange(entry, values, content["replaces"], tuple(content["tied"]))
