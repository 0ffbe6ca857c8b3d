"""The arguments of `ModelWithGradiend.from_pretrained`: what they name, and which of them shape a new GRADIEND."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gradiend.model.devices import Device
from gradiend.util.keywords import resolve_keywords

GRADIEND_ARGUMENTS = (
    "latent_dim", "torch_dtype", "param_map", "params", "activation_encoder", "activation_decoder", "bias_decoder",
    "lazy_init",
)  # fmt: skip


def resolve_directory(
    load_directory: Any, base_model: Any, kwargs: Mapping[str, Any]
) -> tuple[Any, Any, dict[str, Any]]:
    """(load_directory, base_model for a checkpoint or None, other keywords), whichever spelling was used.

    Raises:
        TypeError: No load_directory, or two.
    """
    rest = resolve_keywords("ModelWithGradiend.from_pretrained", kwargs, [*kwargs, "load_directory"])
    second = rest.pop("load_directory", None)
    if load_directory is not None and second is not None:
        raise TypeError("from_pretrained got load_directory and gradiend_model, which mean the same: give one.")
    load_directory = second if load_directory is None else load_directory
    if load_directory is None:
        load_directory, base_model = base_model, None
    if load_directory is None:
        raise TypeError("from_pretrained needs load_directory (a checkpoint or a base model), or base_model.")
    return load_directory, base_model, rest


def split_gradiend_arguments(arguments: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(what shapes a new GRADIEND and is not None, the rest).

    `n_features` is what trainers call latent_dim, which wins; a pre_prune_config means that the weights are not made
    before pruning.
    """
    rest = dict(arguments)
    n_features = rest.pop("n_features", None)
    lazy = rest.pop("pre_prune_config", None) is not None
    shape = {key: value for key in GRADIEND_ARGUMENTS if (value := rest.pop(key, None)) is not None}
    if n_features is not None:
        shape.setdefault("latent_dim", n_features)
    if lazy:
        shape["lazy_init"] = True
    return shape, rest


def identity_of(base_model: Any) -> str:
    """What a base model is found by again: its name or path, or an instance's `name_or_path`; empty if it has none."""
    return str(base_model if isinstance(base_model, (str, Path)) else getattr(base_model, "name_or_path", ""))


def device_of(base_model: Any) -> Device:
    """Where a base model given as an instance is; None for a name or path.

    Raises:
        TypeError: Neither a name or path nor a model.
    """
    if isinstance(base_model, (str, Path)):
        return None
    if not hasattr(base_model, "device"):
        raise TypeError(
            "A base model is given by its name or path, or as a model that says its device, as those of transformers "
            f"do; got {type(base_model).__name__}."
        )
    return base_model.device
