"""Helpers around models; the documented ones whose home is another file are imported here too."""

from __future__ import annotations

from typing import Any

from torch import nn

from gradiend.model.activations import get_activation
from gradiend.model.context import read_gradiend_context, write_gradiend_context
from gradiend.model.devices import resolve_device_config_for_model
from gradiend.model.weight_files import load_model_weights, save_model_weights
from gradiend.util.keywords import nearest

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

MASKED_LM_MARKS = ("MaskedLM", "MLM", "ForPreTraining")


def is_decoder_only_model(x: Any) -> bool:
    """Whether a model or tokenizer is that of a causal, decoder-only language model.

    A tokenizer is, iff it has no mask token. A model is judged by the architecture in its config, then by its class
    name: decoder-only unless that says MaskedLM, MLM or ForPreTraining (a masked model with one more head).
    """
    if not isinstance(x, nn.Module) and hasattr(x, "mask_token"):
        return x.mask_token is None
    # Configs without architectures (built in code) and modules without a config are both legitimate.
    architectures = getattr(getattr(x, "config", None), "architectures", None)
    name = architectures[0] if architectures else type(x).__name__
    return not any(mark in name for mark in MASKED_LM_MARKS)


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
