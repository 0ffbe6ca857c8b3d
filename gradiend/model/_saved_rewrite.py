"""A rewritten model that was saved differs from the base model by the update, and by nothing else: read and compared.

The files are read tensor by tensor, so no second model is in memory. Where transformers saves under other names than
those of the model, or leaves tensors out, the folder is loaded instead, as a user would load it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers import PreTrainedModel

from gradiend.model._adapters import ADAPTER_WEIGHTS, adapter_state, is_adapted, without_adapter
from gradiend.model._parameter_map import bits
from gradiend.model._shards import whole
from gradiend.util._isolation import LOADING, exclusive
from gradiend.util._progress import others_bars
from gradiend.util.paths import CONFIG_FILE


class SavedRewriteError(RuntimeError):
    """A saved model is not the base model with the update: the message names a parameter. Nothing was put in place."""


def require_saved(directory: Path, base_model: nn.Module, changed: Iterable[tuple[str, Tensor]], result: Any) -> None:
    """Raise `SavedRewriteError` if the files of a rewritten model, `result`, have other values, or lack a parameter.

    `changed` has name and expected values of each parameter that the rewrite may change; `base_model` is unchanged. The
    class of `result` loads the folder if the names in the files are others.
    """
    if is_adapted(base_model):
        _require_saved_adapter(directory, base_model, changed, result)
        return
    names: dict[int, list[str]] = {}
    tensors: dict[str, Tensor] = base_model.state_dict(keep_vars=True)
    for name, tensor in tensors.items():
        names.setdefault(id(tensor), []).append(name)
    places = _places(directory)
    saved: Mapping[str, Callable[[], Tensor]]
    if places.keys() <= tensors.keys() and all(any(name in places for name in own) for own in names.values()):
        saved = {name: partial(_read, place, name) for name, place in places.items()}
    elif not isinstance(result, PreTrainedModel):
        # Only the user's own code knows how such a model is saved and loaded.
        return
    else:
        with exclusive(LOADING), others_bars():
            loaded = type(result).from_pretrained(directory, dtype="auto", local_files_only=True)
        saved = {name: tensor.detach for name, tensor in loaded.state_dict().items()}
    for name, expected in _expected(tensors, changed):
        for own in names[id(tensors[name])]:
            if own in saved and not _same(saved[own](), whole(expected)):
                raise _other_values(result, own)


def _require_saved_adapter(
    directory: Path, base_model: Any, changed: Iterable[tuple[str, Tensor]], result: Any
) -> None:
    """`require_saved` for the folder of an adapter, with or without the plain model."""
    parameters = dict(base_model.named_parameters())
    new = {id(parameters[name]): values for name, values in changed}
    state = base_model.state_dict(keep_vars=True)
    expected = adapter_state(base_model, {name: new.get(id(tensor), tensor) for name, tensor in state.items()})
    places = _places(directory, of_adapter=True)
    for name, values in expected.items():
        if name not in places or not _same(_read(places[name], name), values):
            raise _other_values(result, name)
    if (directory / CONFIG_FILE).is_file():
        plain = without_adapter(base_model)
        in_plain = ((name, new[id(tensor)]) for name, tensor in plain.named_parameters() if id(tensor) in new)
        require_saved(directory, plain, in_plain, plain)


def _other_values(result: Any, name: str) -> SavedRewriteError:
    return SavedRewriteError(
        f"The rewritten {type(result).__name__} was saved with other values of {name} than the base model with its "
        "update has. Its save_pretrained changes or loses weights, or the disk does: nothing was written to the "
        "model's folder. Save in another place, or apply a delta (export_delta) instead."
    )


def _expected(tensors: dict[str, Tensor], changed: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    """A name of each tensor, with the values that it must have; shared tensors come once."""
    seen = set()
    for name, values in changed:
        seen.add(id(tensors[name]))
        yield name, values
    for name, tensor in tensors.items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            yield name, tensor.detach()


def _same(found: Tensor, expected: Tensor) -> bool:
    if found.dtype != expected.dtype or found.shape != expected.shape:
        return False
    flat = (tensor.detach().cpu().contiguous().reshape(-1) for tensor in (found, expected))
    return torch.equal(*map(bits, flat))


def _places(directory: Path, *, of_adapter: bool = False) -> dict[str, Path]:
    """Name of each saved tensor of a model, or of its adapter, → its file; {} for files of another format."""
    places: dict[str, Path] = {}
    try:
        for path in sorted(directory.glob("*.safetensors")):
            if (path.name == ADAPTER_WEIGHTS) != of_adapter:
                continue
            with safe_open(str(path), framework="pt") as file:
                places |= dict.fromkeys(file.keys(), path)
    except SafetensorError as error:
        raise SavedRewriteError(f"{path.name}, a file of the rewritten model, cannot be read back: {error}.") from error
    return places


def _read(path: Path, name: str) -> Tensor:
    with safe_open(str(path), framework="pt") as file:
        return file.get_tensor(name)
