"""The parameter map in a checkpoint: `mapping` of config.json, and one file each for indices and for masks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gradiend.model.parameter_map import MappedParameter, ParameterMap
from gradiend.util._files import read_tensors, write_tensors

STEMS = {"indices": "mapping_indices", "mask": "mapping_masks"}
FIELDS = {"indices": "indices_file", "mask": "masks_file"}
SUFFIXES = {False: "safetensors", True: "pth"}
"""By whether torch writes them (`binary`)."""
MAPPING_FILES = tuple(f"{stem}.{suffix}" for stem in STEMS.values() for suffix in SUFFIXES.values())


def write_mapping(directory: Path, mapping: ParameterMap | None, *, binary: bool) -> dict[str, Any] | None:
    """Write the selections that are not complete, each in its smaller form, and return `mapping` of config.json.

    Args:
        directory: Of the checkpoint.
        mapping: None for a GRADIEND without a map.
        binary: `.pth` files, which torch writes, instead of safetensors.
    """
    for old in MAPPING_FILES:
        (directory / old).unlink(missing_ok=True)
    if mapping is None:
        return None
    entries: list[dict[str, Any]] = []
    files: dict[str, dict[str, Tensor]] = {}
    for position, parameter in enumerate(parameter.compact() for parameter in mapping):
        representation = parameter.representation
        entry: dict[str, Any] = {"name": parameter.name, "shape": list(parameter.shape), "repr": representation}
        if parameter.selection is not None:
            entry["key"] = f"L{position}"
            files.setdefault(representation, {})[entry["key"]] = (
                parameter.selection.view(parameter.shape).to(torch.uint8)
                if representation == "mask"
                else parameter.selection
            )
        entries.append({**entry, "num_selected": parameter.num_selected})
    kinds = {entry["repr"] for entry in entries}
    content: dict[str, Any] = {"mode": kinds.pop() if len(kinds) == 1 else "mixed", "param_map": entries}
    for representation, tensors in files.items():
        name = f"{STEMS[representation]}.{SUFFIXES[binary]}"
        write_tensors(directory / name, tensors)
        content[FIELDS[representation]] = name
    return content


def read_mapping(config: Path, content: Mapping[str, Any] | None) -> ParameterMap | None:
    """Read what `write_mapping` wrote.

    Args:
        config: Path of config.json; the mapping files lie beside it.
        content: Its `mapping`.

    Raises:
        FileNotFoundError: A mapping file is missing.
        ValueError: Contents that do not fit together; the message names the file.
    """
    if content is None:
        return None
    # Only names: a checkpoint from elsewhere has no business outside its own directory.
    paths = {kind: config.parent / Path(content[key]).name for kind, key in FIELDS.items() if content.get(key)}
    files = {kind: read_tensors(path) for kind, path in paths.items()}
    parameters = []
    for position, entry in enumerate(content.get("param_map") or ()):
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
