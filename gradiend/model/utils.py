"""Helpers around models; the documented ones whose home is another file are imported here too."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from gradiend.model.activations import get_activation
from gradiend.model.context import read_gradiend_context, write_gradiend_context
from gradiend.model.devices import resolve_device_config_for_model
from gradiend.model.weight_files import load_model_weights, save_model_weights
from gradiend.util.keywords import nearest
from gradiend.util.lazy import lazy_names

if TYPE_CHECKING:
    from gradiend.objectives import is_decoder_only_model

__all__ = [
    "freeze_params_until_target",
    "get_activation",
    "is_decoder_only_model",
    "load_model_weights",
    "read_gradiend_context",
    "resolve_device_config_for_model",
    "save_model_weights",
    "write_gradiend_context",
]

# Of a later step: kinds of models are told apart by their objectives.
__getattr__ = lazy_names(__name__, {"gradiend.objectives": ["is_decoder_only_model"]})


def freeze_params_until_target(model: nn.Module, *names: str) -> None:
    """Let gradients reach only the first of the named parameters and those after it, in the model's order.

    All earlier parameters get `requires_grad=False`, so a backward pass stops there; the others are left as they are.

    Args:
        model: Any module.
        *names: Full parameter names.

    Raises:
        AssertionError: No name.
        ValueError: The model has no parameter of that name.
    """
    if not names:
        raise AssertionError("freeze_params_until_target needs the name of at least one parameter.")
    parameters = dict(model.named_parameters())
    for name in names:
        if name not in parameters:
            raise ValueError(f"The model has no parameter {name!r}.{nearest(name, parameters)}")
    for name, parameter in parameters.items():
        if name in names:
            return
        parameter.requires_grad_(False)
