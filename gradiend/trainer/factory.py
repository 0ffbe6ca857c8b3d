"""A model with a GRADIEND from a name, a path or an instance."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from gradiend.model._checkpoint import is_checkpoint
from gradiend.model._hub import at_hand
from gradiend.model.model_with_gradiend import ModelWithGradiend


def create_model_with_gradiend(
    model: Any, model_class: type[ModelWithGradiend], param_map: Sequence[str] | None = None,
    activation_encoder: str = "tanh", activation_decoder: str = "id", bias_decoder: bool = True,
    torch_dtype: torch.dtype = torch.float32, latent_dim: int = 1, **kwargs: Any,
) -> ModelWithGradiend:  # fmt: skip
    """A new GRADIEND on a base model, or a saved one.

    Args:
        model: Name, path or instance of a base model, or a checkpoint directory, which is loaded as it was saved. A
            `ModelWithGradiend` is returned unchanged.
        model_class: Class of the result.
        param_map: Names or wildcards of the base-model parameters to use. Default: the whole backbone.
        activation_encoder, activation_decoder: Activations of a new GRADIEND, see `GradiendModel`.
        bias_decoder: Whether the decoder of a new GRADIEND has a bias.
        torch_dtype: Type of the weights of a new GRADIEND.
        latent_dim: Number of latents of a new GRADIEND.
        **kwargs: Further arguments of `ModelWithGradiend.from_pretrained`.

    Raises:
        TypeError: A model_class that is no subclass of `ModelWithGradiend`.
    """
    if isinstance(model, ModelWithGradiend):
        return model
    if not (isinstance(model_class, type) and issubclass(model_class, ModelWithGradiend)):
        raise TypeError(
            f"model_class must be a subclass of ModelWithGradiend, such as TextPredictionModelWithGradiend; got "
            f"{model_class!r}."
        )
    model = at_hand(model)
    if isinstance(model, (str, Path)) and is_checkpoint(model):
        return model_class.from_pretrained(model, **kwargs)
    return model_class.from_pretrained(
        model, param_map=param_map, activation_encoder=activation_encoder, activation_decoder=activation_decoder,
        bias_decoder=bias_decoder, torch_dtype=torch_dtype, latent_dim=latent_dim, **kwargs,
    )  # fmt: skip
