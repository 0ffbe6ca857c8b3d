"""Digests of models, for caches; see `gradiend.util.fingerprint`."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

from torch import nn

from gradiend.model.model_with_gradiend import ModelWithGradiend
from gradiend.util.fingerprint import digest_files, digest_json, digest_tensors

_UNREAD = {"training.json", "fingerprint.json", "README.md"}


def base_model_digest(base_model: Any) -> str:
    """A digest of a base model's class and weights as they are in memory; shared tensors count once."""
    tensors = base_model.named_parameters()
    if isinstance(base_model, nn.Module):
        tensors = itertools.chain(tensors, base_model.named_buffers())
    return digest_json([type(base_model).__name__, digest_tensors(tensors)])


def gradiend_digest(model: ModelWithGradiend) -> str:
    """A digest of a GRADIEND: its architecture, weights, map, source, target and encoding direction."""
    gradiend = model.gradiend
    return digest_json(
        [
            [gradiend.activation_encoder, gradiend.activation_decoder, gradiend.bias_decoder],
            digest_tensors(sorted(gradiend.state_dict().items())),
            model.param_map_hash,
            model.source,
            model.target,
            model.feature_class_encoding_direction,
        ]
    )


def source_digest(source: Any) -> str:
    """A digest of what a model is loaded from: the files of a directory, a name and its revision, or an instance.

    Args:
        source: Path, name on a hub, base model, or `ModelWithGradiend`.
    """
    if isinstance(source, ModelWithGradiend):
        return digest_json([base_model_digest(source.base_model), gradiend_digest(source)])
    if isinstance(source, (str, Path)):
        folder = Path(source)
        if folder.is_dir():
            files = (path for path in folder.rglob("*") if path.is_file() and path.name not in _UNREAD)
            return digest_files(files, folder)
        return f"{source}@{_cached_revision(str(source))}"
    return base_model_digest(source)


def _cached_revision(name: str) -> str | None:
    """The revision of a hub model that the local cache holds: the name of the folder that its config.json lies in."""
    from huggingface_hub import try_to_load_from_cache  # noqa: PLC0415 - slow to import, and only needed here
    from huggingface_hub.errors import HFValidationError  # noqa: PLC0415

    try:
        found = try_to_load_from_cache(name, "config.json")
    except HFValidationError:
        return None
    return Path(found).parent.name if isinstance(found, str) else None
