"""The files of a GRADIEND checkpoint, written and read side by side.

config.json                     format_version, architecture, mapping, metadata
model.safetensors               or pytorch_model.bin
mapping_indices.safetensors     flat indices per parameter, where that is the smaller form
mapping_masks.safetensors       bool masks (uint8) per parameter, where that is
training.json                   how it was trained, if known
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gradiend.model.parameter_map import MappedParameter, ParameterMap, index_dtype
from gradiend.util.files import read_json, read_tensors, write_json, write_tensors

FORMAT_VERSION = 0
CONFIG, TRAINING = "config.json", "training.json"
WEIGHTS, WEIGHTS_BIN = "model.safetensors", "pytorch_model.bin"
INDICES, MASKS = "mapping_indices", "mapping_masks"


@dataclass(frozen=True)
class Architecture:
    """What `GradiendModel` needs to be built again."""

    input_dim: int
    latent_dim: int
    activation_encoder: str
    activation_decoder: str
    bias_decoder: bool
    torch_dtype: torch.dtype

    def to_json(self) -> dict[str, Any]:
        """With the dtype as its name, e.g. "float32"."""
        return {**vars(self), "torch_dtype": str(self.torch_dtype).removeprefix("torch.")}

    @classmethod
    def from_json(cls, content: Mapping[str, Any], source: Path) -> Architecture:
        """Raises ValueError, naming `source`, for missing keys or an unknown dtype."""
        names = list(cls.__dataclass_fields__)
        missing = [name for name in names if name not in content]
        if missing:
            raise ValueError(f"{source}: the architecture lacks {', '.join(missing)}.")
        dtype = torch.__dict__.get(str(content["torch_dtype"]).removeprefix("torch."))
        if not isinstance(dtype, torch.dtype):
            raise ValueError(f"{source}: {content['torch_dtype']!r} is not a torch dtype.")
        return cls(**{**{name: content[name] for name in names}, "torch_dtype": dtype})

    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        """The tensors of the weight file and their shapes."""
        n, k = self.input_dim, self.latent_dim
        shapes: dict[str, tuple[int, ...]] = {
            "encoder.0.linear.weight": (k, n),
            "encoder.0.linear.bias": (k,),
            "decoder.0.linear.weight": (n, k),
        }
        if self.bias_decoder:
            shapes["decoder.0.linear.bias"] = (n,)
        return shapes


@dataclass(frozen=True)
class Checkpoint:
    """Everything that a checkpoint directory holds."""

    architecture: Architecture
    tensors: Mapping[str, Tensor]
    mapping: ParameterMap | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    training: Any = None


def is_checkpoint(directory: str | Path) -> bool:
    """Whether `directory` holds a GRADIEND: its config.json has an architecture."""
    config = Path(directory) / CONFIG
    return config.is_file() and "architecture" in read_json(config)


def write_checkpoint(directory: str | Path, checkpoint: Checkpoint, *, use_safetensors: bool | None = None) -> None:
    """Write all files; config.json comes last, so a directory with one is complete."""
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    binary = use_safetensors is False
    write_tensors(directory / (WEIGHTS_BIN if binary else WEIGHTS), checkpoint.tensors)
    (directory / (WEIGHTS if binary else WEIGHTS_BIN)).unlink(missing_ok=True)
    mapping = _write_mapping(directory, checkpoint.mapping, "pth" if binary else "safetensors")
    if checkpoint.training is not None:
        write_json(directory / TRAINING, checkpoint.training)
    write_json(
        directory / CONFIG,
        {
            "format_version": FORMAT_VERSION,
            "architecture": checkpoint.architecture.to_json(),
            "mapping": mapping,
            "metadata": {key: _jsonable(value) for key, value in checkpoint.metadata.items()},
        },
    )


def read_checkpoint(directory: str | Path) -> Checkpoint:
    """Read and verify all files.

    Raises:
        FileNotFoundError: No config.json or no weights.
        ValueError: Contents that do not fit together; the message names the file.
    """
    directory = Path(directory)
    path = directory / CONFIG
    if not path.is_file():
        raise FileNotFoundError(f"{directory} is not a GRADIEND checkpoint: it has no {CONFIG}.")
    config = read_json(path)
    if "architecture" not in config:
        raise ValueError(f"{path} has no architecture: this looks like a base model, not a GRADIEND checkpoint.")
    if config.get("format_version", FORMAT_VERSION) > FORMAT_VERSION:
        raise ValueError(
            f"{path} has format_version {config['format_version']}, newer than this version reads: upgrade."
        )
    architecture = Architecture.from_json(config["architecture"], path)
    weights = next((directory / name for name in (WEIGHTS, WEIGHTS_BIN) if (directory / name).is_file()), None)
    if weights is None:
        raise FileNotFoundError(f"{directory} has a {CONFIG} but neither {WEIGHTS} nor {WEIGHTS_BIN}.")
    tensors = read_tensors(weights)
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if found != architecture.tensor_shapes():
        raise ValueError(f"{weights} holds {found}, but {path} describes {architecture.tensor_shapes()}.")
    mapping = _read_mapping(directory, config.get("mapping"))
    if mapping is not None and mapping.size != architecture.input_dim:
        raise ValueError(
            f"{path}: the mapping selects {mapping.size} entries, the network has {architecture.input_dim}."
        )
    training = read_json(directory / TRAINING) if (directory / TRAINING).is_file() else None
    return Checkpoint(architecture, tensors, mapping, config.get("metadata") or {}, training)


def _write_mapping(directory: Path, mapping: ParameterMap | None, suffix: str) -> dict[str, Any] | None:
    if mapping is None:
        return None
    entries, indices, masks = [], {}, {}
    for position, parameter in enumerate(parameter.compact() for parameter in mapping):
        key = f"L{position}"
        entry = {"name": parameter.name, "shape": list(parameter.shape), "repr": parameter.representation}
        if parameter.selection is not None:
            entry["key"] = key
            if parameter.representation == "mask":
                masks[key] = parameter.selection.view(parameter.shape).to(torch.uint8)
            else:
                indices[key] = parameter.selection.to(index_dtype(parameter.numel))
        entries.append({**entry, "num_selected": parameter.num_selected})
    kinds = {entry["repr"] for entry in entries}
    result: dict[str, Any] = {"mode": kinds.pop() if len(kinds) == 1 else "mixed", "param_map": entries}
    for stem, field_name, tensors in ((INDICES, "indices_file", indices), (MASKS, "masks_file", masks)):
        for old in directory.glob(f"{stem}.*"):
            old.unlink()
        if tensors:
            write_tensors(directory / f"{stem}.{suffix}", tensors)
            result[field_name] = f"{stem}.{suffix}"
    return result


def _read_mapping(directory: Path, config: Mapping[str, Any] | None) -> ParameterMap | None:
    if config is None:
        return None
    files = {
        name: read_tensors(directory / config[name]) for name in ("indices_file", "masks_file") if config.get(name)
    }
    parameters = []
    for entry in config["param_map"]:
        spec = dict(entry)
        if entry["repr"] != "all":
            name = "indices_file" if entry["repr"] == "indices" else "masks_file"
            try:
                tensor = files[name][entry["key"]]
            except KeyError:
                raise ValueError(
                    f"{directory}: the {entry['repr']} of {entry['name']} are in no mapping file."
                ) from None
            spec[entry["repr"]] = tensor if entry["repr"] == "indices" else tensor.bool().view(entry["shape"])
        parameters.append(MappedParameter.from_spec(entry["name"], spec))
    return ParameterMap(parameters)


def _jsonable(value: Any) -> Any:
    """`value`, or its type name and repr where JSON cannot hold it."""
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return {"type": type(value).__name__, "repr": repr(value)}
    return value
