"""The files of a GRADIEND checkpoint, written and read side by side.

config.json                     format_version, architecture, mapping, metadata
model.safetensors               or pytorch_model.bin
mapping_indices.safetensors     flat indices per parameter, where that is the smaller form
mapping_masks.safetensors       bool masks (uint8) per parameter, where that is
training.json                   how it was trained, if known
base_model_digest.safetensors   a sample of the weights of the base model that it was trained on
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from gradiend.model.architecture import Architecture
from gradiend.model.mapping_files import MAPPING_FILES, read_mapping, write_mapping
from gradiend.model.parameter_map import ParameterMap
from gradiend.model.weight_files import WEIGHTS, WEIGHTS_BIN, find_weights, save_model_weights
from gradiend.util._files import read_json, read_tensors, write_json
from gradiend.util.paths import BASE_DIGEST, CONFIG_FILE

FORMAT_VERSION = 0
CONFIG, TRAINING = CONFIG_FILE, "training.json"
CHECKPOINT_FILES = (CONFIG, TRAINING, WEIGHTS, WEIGHTS_BIN, BASE_DIGEST, *MAPPING_FILES)
"""All that a checkpoint may consist of; which of them there are depends on map and format."""


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
    return config.is_file() and "architecture" in _read_object(config)


def write_checkpoint(directory: str | Path, checkpoint: Checkpoint, *, use_safetensors: bool | None = None) -> None:
    """Write all files. An older config.json goes first and the new one comes last: a directory with one is complete."""
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / CONFIG).unlink(missing_ok=True)
    save_model_weights(directory, checkpoint.tensors, use_safetensors)
    mapping = write_mapping(directory, checkpoint.mapping, binary=use_safetensors is False)
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


def read_checkpoint(directory: str | Path, *, with_mapping: bool = False) -> Checkpoint:
    """Read and verify all files.

    Args:
        directory: The checkpoint.
        with_mapping: Refuse one without a parameter map; otherwise a map is left unread.

    Raises:
        FileNotFoundError: A file is missing, or config.json has no mapping where one is needed.
        ValueError: Contents that do not fit together; the message names the file.
    """
    directory = Path(directory)
    path = directory / CONFIG
    if not path.is_file():
        raise FileNotFoundError(f"{directory} is not a GRADIEND checkpoint: it has no {CONFIG}.")
    config = _read_object(path)
    if "architecture" not in config:
        raise ValueError(f"{path} has no architecture: this looks like a base model, not a GRADIEND checkpoint.")
    version = config.get("format_version", FORMAT_VERSION)
    if version != FORMAT_VERSION:
        raise ValueError(f"{path} has format_version {version!r}; this version of gradiend reads {FORMAT_VERSION}.")
    for key in ("architecture", "mapping", "metadata"):
        if not isinstance(config.get(key) or {}, dict):
            raise ValueError(f"{path}: {key} must be an object, not {type(config[key]).__name__}.")
    try:
        architecture = Architecture.from_json(config["architecture"])
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error
    if with_mapping and config.get("mapping") is None:
        raise FileNotFoundError(
            f"{path} has no parameter mapping: load this checkpoint with GradiendModel.from_pretrained instead."
        )
    mapping = read_mapping(path, config["mapping"]) if with_mapping else None
    if mapping is not None and mapping.size != architecture.input_dim:
        raise ValueError(
            f"{path}: the mapping selects {mapping.size} entries, the network has {architecture.input_dim}."
        )
    tensors = _read_weights(find_weights(directory), architecture, path)
    training = read_json(directory / TRAINING) if (directory / TRAINING).is_file() else None
    return Checkpoint(architecture, tensors, mapping, config.get("metadata") or {}, training)


def _read_object(path: Path) -> dict[str, Any]:
    content = read_json(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold a JSON object, not {type(content).__name__}.")
    return content


def _read_weights(path: Path, architecture: Architecture, config: Path) -> dict[str, Tensor]:
    tensors = read_tensors(path)
    expected = architecture.tensor_shapes()
    for kind, names in (("lacks", expected.keys() - tensors.keys()), ("also holds", tensors.keys() - expected.keys())):
        if names:
            shown = ", ".join(sorted(names)[:5])
            raise ValueError(f"{path} {kind} {shown}: it is not the weight file of the network in {config}.")
    for name, shape in expected.items():
        if tuple(tensors[name].shape) != shape:
            raise ValueError(f"{path}: {name} has shape {tuple(tensors[name].shape)}, but {config} describes {shape}.")
    return tensors


def _jsonable(value: Any) -> Any:
    """`value`, or its type name and repr where JSON cannot hold it."""
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return {"_type": type(value).__name__, "_repr": repr(value)}
    return value
