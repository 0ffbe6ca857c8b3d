"""Helpers around models; documented helpers of other files are imported here too."""

from __future__ import annotations

from typing import Any

from torch import nn

from gradiend.model._activations import ACTIVATIONS, activation_name
from gradiend.model._architecture import resolve_device_config_for_model as resolve_device_config_for_model
from gradiend.model._checkpoint import load_model_weights as load_model_weights
from gradiend.model._checkpoint import save_model_weights as save_model_weights
from gradiend.model._context import read_gradiend_context as read_gradiend_context
from gradiend.model._context import write_gradiend_context as write_gradiend_context
from gradiend.util._imports import LATER
from gradiend.util._keywords import known_keywords, nearest


def is_decoder_only_model(x: Any) -> bool:
    """Whether a model or tokenizer is that of a causal, decoder-only language model.

    A tokenizer is one if it has no mask token. A model is judged by its class and the classes that this one is derived
    from: it is decoder-only unless a name says MaskedLM, MLM or ForPreTraining (a masked model with one more head). XLM
    and FlauBERT have one class for both kinds and follow `config.causal`. A model with an auxiliary head is judged
    without the head.
    """
    # Objectives tell kinds of models apart, and they are a later step.
    return LATER["is_decoder_only_model"]()(x)


@known_keywords("get_activation", suggest=False)
def get_activation(name: str, encoder: bool = False) -> nn.Module:
    """The activation module called `name`, in any case.

    Args:
        name: One of tanh, relu, leakyrelu, gelu, silu, elu, sigmoid, smht (hard tanh), id (identity).
        encoder: A flag without effect, for compatibility: encoder and decoder use the same functions.

    Raises ValueError for an unknown name.
    """
    del encoder
    return ACTIVATIONS[activation_name(name)].module()


def freeze_params_until_target(model: nn.Module, *names: str) -> None:
    """Stop backward passes before the first of the named parameters, in the model's order.

    All earlier parameters get `requires_grad=False`; the other parameters are left as they are.

    Args:
        model: Any module.
        *names: Full names of parameters.

    Raises:
        AssertionError: No name is given.
        ValueError: The model has no parameter with a given name.
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
