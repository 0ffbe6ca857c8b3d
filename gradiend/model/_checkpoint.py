"""The files of a GRADIEND checkpoint, written and read side by side.

config.json                     format_version, architecture, mapping, metadata, checksums of the other files
model.safetensors               or pytorch_model.bin, never both
mapping_indices.safetensors     flat indices of each parameter for which indices are smaller than a mask
mapping_masks.safetensors       bool masks (uint8) of each parameter for which a mask is smaller than indices
training.json                   how the GRADIEND was trained, if known
card.json                       what was measured of the GRADIEND, as far as the card (README.md) says it
base_model_digest.safetensors   a sample of the weights of the base model that the GRADIEND was trained on
"""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gradiend.model._architecture import Architecture
from gradiend.model._checkpoint_files import (
    CONFIG,
    FORMAT_VERSION,
    MAPPING_FILES,
    STEMS,
    SUFFIXES,
    WEIGHTS,
    WEIGHTS_BIN,
    carried_facts,
    list_again,
    read_config,
    read_training,
    verify_files,
    write_config,
    write_facts,
    write_training,
)
from gradiend.model._parameter_map import MappedParameter, ParameterMap
from gradiend.util._files import read_json, remove
from gradiend.util._keywords import known_keywords
from gradiend.util._tensor_files import read_tensors, write_tensors
from gradiend.util.paths import FILES, weight_file

logger = logging.getLogger(__name__)

FIELDS = {"indices": "indices_file", "mask": "masks_file"}
"""Form of a selection → the key in config.json for the name of the file with the selections of this form."""


@dataclass(frozen=True)
class Checkpoint:
    """The contents of a checkpoint directory."""

    architecture: Architecture
    tensors: Mapping[str, Tensor]
    mapping: ParameterMap | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    training: Any = None
    facts: Mapping[str, Any] | None = None
    """The facts that were measured of these weights, see `gradiend.model._checkpoint_files.carried_facts`."""


def is_checkpoint(directory: str | Path) -> bool:
    """Whether `directory` holds a GRADIEND: its config.json has an architecture."""
    config = Path(directory) / CONFIG
    return config.is_file() and "architecture" in read_config(Path(directory))


def refuse_other_model(directory: str | Path, what: str = "a GRADIEND") -> None:
    """Raise ValueError for a folder that holds a model of transformers, whose files `what` would replace."""
    try:
        config = read_json(Path(directory) / CONFIG)
    except (FileNotFoundError, ValueError):
        return
    if isinstance(config, dict) and "model_type" in config and "architecture" not in config:
        raise ValueError(
            f"{directory} holds a model of transformers ({config['model_type']}), which {what} would overwrite: "
            "save elsewhere, such as in a folder of its own."
        )


def write_checkpoint(directory: str | Path, checkpoint: Checkpoint, *, use_safetensors: bool | None = None) -> None:
    """Write all files. config.json is removed first and written last, because it marks a complete checkpoint."""
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    remove(directory / CONFIG)
    save_model_weights(directory, checkpoint.tensors, use_safetensors)
    mapping = write_mapping(directory, checkpoint.mapping, binary=use_safetensors is False)
    if checkpoint.training is not None:
        write_training(directory, checkpoint.training)
    content = {"format_version": FORMAT_VERSION, "architecture": checkpoint.architecture.to_json(), "mapping": mapping}
    metadata = {key: _jsonable(value) for key, value in checkpoint.metadata.items()}
    write_config(directory, {**content, "metadata": metadata})
    write_facts(directory, checkpoint.facts)


def read_checkpoint(directory: str | Path, *, with_mapping: bool, verify: bool = True) -> Checkpoint:
    """Read and verify all files; the parameter map is read, and required, only with `with_mapping`.

    Only with `verify` are files compared with their checksums, which takes a pass over all bits.

    Raises FileNotFoundError for a missing file or map, and a ValueError that names the file for contents that do not
    fit.
    """
    directory = Path(directory)
    path = directory / CONFIG
    if not path.is_file():
        raise FileNotFoundError(f"{directory} is not a GRADIEND checkpoint: it has no {CONFIG}.")
    config = read_config(directory)
    if "architecture" not in config:
        raise ValueError(f"{path} has no architecture: this looks like a base model, not a GRADIEND checkpoint.")
    version = config.get("format_version", FORMAT_VERSION)
    if version != FORMAT_VERSION:
        raise ValueError(f"{path} has format_version {version!r}; this version of gradiend reads {FORMAT_VERSION}.")
    for key in ("architecture", "mapping", "metadata", FILES):
        if not isinstance(config.get(key), (dict, type(None))):
            raise ValueError(f"{path}: {key} must be an object, not {type(config[key]).__name__}.")
    try:
        architecture = Architecture.from_json(config["architecture"])
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error
    if with_mapping and config.get("mapping") is None:
        raise FileNotFoundError(
            f"{path} has no parameter mapping: load this checkpoint with GradiendModel.from_pretrained instead."
        )
    weights, maps = find_weights(directory), _mapping_paths(path, config["mapping"] or {}) if with_mapping else {}
    if verify:
        verify_files(directory, config, [file.name for file in (weights, *maps.values()) if file.is_file()])
    mapping = read_mapping(path, config["mapping"], verify=verify) if with_mapping else None
    if mapping is not None and mapping.size != architecture.input_dim:
        raise ValueError(
            f"{path}: the mapping selects {mapping.size} entries, the network has {architecture.input_dim}."
        )
    tensors = _read_weights(weights, architecture, path, verify=verify)
    training = read_training(directory, verify=verify)
    return Checkpoint(architecture, tensors, mapping, config.get("metadata") or {}, training, carried_facts(directory))


def _read_weights(path: Path, architecture: Architecture, config: Path, *, verify: bool) -> dict[str, Tensor]:
    tensors = read_tensors(path, verify=verify)
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
    """`value`, or its type name and repr if JSON cannot hold the value."""
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return {"_type": type(value).__name__, "_repr": repr(value)}
    return value


@known_keywords("save_model_weights", suggest=False)
def save_model_weights(directory: str | Path, state: Mapping[str, Tensor], use_safetensors: bool | None = None) -> None:
    """Write the weights of a model, and remove a weight file of the other format.

    Args:
        directory: The directory, which is created if it is missing.
        state: Name → tensor.
        use_safetensors: False writes `pytorch_model.bin`. None and True write `model.safetensors`; for tensors that
            share memory (tied weights), which that format cannot hold, None falls back to `pytorch_model.bin`.

    Raises ValueError if use_safetensors is True, and tensors share memory.
    """
    if use_safetensors is not False and _share_memory(state):
        if use_safetensors:
            raise ValueError(
                f"{WEIGHTS} cannot hold tensors that share memory (tied weights): "
                f"leave use_safetensors at None, which writes {WEIGHTS_BIN}."
            )
        logger.info("Some tensors share memory (tied weights): writing %s instead of %s.", WEIGHTS_BIN, WEIGHTS)
        use_safetensors = False
    name, other = (WEIGHTS_BIN, WEIGHTS) if use_safetensors is False else (WEIGHTS, WEIGHTS_BIN)
    write_tensors(Path(directory) / name, state)
    remove(Path(directory) / other)
    list_again(Path(directory), name)


def find_weights(directory: str | Path) -> Path:
    """The weight file in a directory. Raises FileNotFoundError for a directory without a weight file."""
    found = weight_file(directory)
    if found is None:
        raise FileNotFoundError(f"{directory} has neither {WEIGHTS} nor {WEIGHTS_BIN}.")
    return found


@known_keywords("load_model_weights", suggest=False)
def load_model_weights(directory: str | Path) -> dict[str, Tensor]:
    """Read the weights that `save_model_weights` wrote, on the CPU.

    Raises:
        FileNotFoundError: There is no weight file.
        ValueError: The file is damaged; the message names the file.
    """
    path = find_weights(directory)
    if (Path(directory) / CONFIG).is_file():
        verify_files(Path(directory), read_config(Path(directory)), [path.name])
    return read_tensors(path)


def _share_memory(state: Mapping[str, Tensor]) -> bool:
    starts = sorted(
        (tensor.data_ptr(), tensor.nbytes) for tensor in state.values() if isinstance(tensor, Tensor) and tensor.nbytes
    )
    return any(start + size > following for (start, size), (following, _) in itertools.pairwise(starts))


def write_mapping(directory: Path, mapping: ParameterMap | None, *, binary: bool) -> dict[str, Any] | None:
    """Write the incomplete selections, each in its smaller form, and return the entry `mapping` of config.json."""
    for old in MAPPING_FILES:
        remove(directory / old)
    if mapping is None:
        return None
    entries: list[dict[str, Any]] = []
    files: dict[str, dict[str, Tensor]] = {}
    for position, parameter in enumerate(parameter.compact() for parameter in mapping):
        representation = parameter.representation
        entry: dict[str, Any] = {"name": parameter.name, "shape": list(parameter.shape), "repr": representation}
        if parameter.selection is not None:
            key = entry["key"] = f"L{position}"
            is_mask = representation == "mask"
            stored = parameter.selection.view(parameter.shape).to(torch.uint8) if is_mask else parameter.selection
            files.setdefault(representation, {})[key] = stored
        entries.append({**entry, "num_selected": parameter.num_selected})
    kinds = {entry["repr"] for entry in entries}
    content: dict[str, Any] = {"mode": kinds.pop() if len(kinds) == 1 else "mixed", "param_map": entries}
    for representation, tensors in files.items():
        name = f"{STEMS[representation]}.{SUFFIXES[binary]}"
        write_tensors(directory / name, tensors)
        content[FIELDS[representation]] = name
    return content


def _mapping_paths(config: Path, content: Mapping[str, Any]) -> dict[str, Path]:
    # Folders in the names of files are ignored: a checkpoint must not read outside its own directory.
    return {kind: config.parent / Path(str(content[key])).name for kind, key in FIELDS.items() if content.get(key)}


def read_mapping(config: Path, content: Mapping[str, Any], *, verify: bool) -> ParameterMap:
    """Undo `write_mapping`; `content` is `mapping` in the file `config`. Errors are those of `read_checkpoint`."""
    paths = _mapping_paths(config, content)
    files = {kind: read_tensors(path, verify=verify) for kind, path in paths.items()}
    parameters = []
    entries = content.get("param_map")
    if not isinstance(entries, (list, type(None))):
        raise ValueError(f"{config}: param_map must be a list, not {type(entries).__name__}.")
    for position, entry in enumerate(entries or ()):
        if not isinstance(entry, dict):
            raise ValueError(f"{config}: entry {position} of the mapping must be an object, not {entry!r}.")
        try:
            parameters.append(_read_entry(entry, files))
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            path = paths.get(str(entry.get("repr")), config)
            reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise ValueError(f"{path}: entry {position} ({entry.get('name')}) of the mapping: {reason}") from error
    return ParameterMap(parameters)


def _read_entry(entry: Mapping[str, Any], files: Mapping[str, Mapping[str, Tensor]]) -> MappedParameter:
    spec = dict(entry)
    representation = entry["repr"]
    if representation in FIELDS:
        tensor = files.get(representation, {})[entry["key"]]
        spec[representation] = tensor.bool().view(entry["shape"]) if representation == "mask" else tensor
    parameter = MappedParameter.from_spec(entry["name"], spec)
    if parameter.num_selected != entry.get("num_selected", parameter.num_selected):
        raise ValueError(f"{parameter.num_selected} entries are selected, {entry['num_selected']} were saved.")
    return parameter
