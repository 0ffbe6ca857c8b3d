"""What a step trains: both halves of a GRADIEND, or one on the labels (docs/method.md, "Supervised halves").

    encoder alone:  loss(act_enc(W_e · s + b_e), y)        decoder alone:  loss(act_dec(W_d · y + b_d), t)

with the label y of the batch: +1, −1 or 0. The other half gets no gradient, so no optimizer touches it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from gradiend.model._architecture import ACTIVATIONS
from gradiend.model.model import GradiendModel
from gradiend.model.model_with_gradiend import ModelWithGradiend
from gradiend.trainer.core.analytic_step import AnalyticOptimizer, steps_analytically
from gradiend.trainer.core.arguments import TrainingArguments
from gradiend.trainer.core.compiled_step import CompiledOptimizer
from gradiend.trainer.core.optimizers import OPTIMIZERS, AutogradOptimizer, GradiendOptimizer
from gradiend.util.logging import get_logger

logger = get_logger(__name__)


class EncoderOptimizer(AutogradOptimizer):
    """Encodings against labels; the decoder stays as it is."""

    def predict(self, source: Tensor) -> Tensor:
        """The encoding, (latent_dim,)."""
        return self.gradiend.forward_encoder(source)


class DecoderOptimizer(AutogradOptimizer):
    """Decoded labels against target gradients; the encoder stays as it is."""

    def predict(self, source: Tensor) -> Tensor:
        """The decoded label, (input_dim,)."""
        return self.gradiend.forward_decoder(source)


def optimizer_for(gradiend: GradiendModel, arguments: TrainingArguments) -> GradiendOptimizer:
    """The optimizer of the half, or halves, that the arguments say are trained.

    Raises:
        ValueError: A supervised mode with several latents: a label is one number.
    """
    if not arguments.supervised:
        return create_optimizer(gradiend, arguments)
    if gradiend.latent_dim != 1:
        raise ValueError(
            f"supervised_encoder and supervised_decoder need latent_dim=1, since a label is one number; this GRADIEND "
            f"has {gradiend.latent_dim} latents."
        )
    return (EncoderOptimizer if arguments.supervised_encoder else DecoderOptimizer)(gradiend, arguments)


def create_optimizer(gradiend: GradiendModel, arguments: TrainingArguments) -> GradiendOptimizer:
    """The optimizer of both halves: the analytic one where it applies, compiled if that is asked for; else autograd."""
    if steps_analytically(gradiend, arguments):
        return (CompiledOptimizer if arguments.torch_compile else AnalyticOptimizer)(gradiend, arguments)
    if arguments.torch_compile:
        activations = " or ".join(name for name, entry in ACTIVATIONS.items() if entry.slope is not None)
        optimizers = " or ".join(name for name, entry in OPTIMIZERS.items() if entry.decoupled is not None)
        known = f"one latent, {activations}, a decoder without activation, MSE, and {optimizers}"
        logger.warning("torch_compile has no effect: it is for %s.", known)
    return AutogradOptimizer(gradiend, arguments)


def resolve_target(model: ModelWithGradiend, arguments: TrainingArguments, *, new: bool) -> None:
    """Give a model the target that it is trained for: none for a new one whose encoder alone is trained.

    Args:
        model: Changed in place.
        arguments: Mode and target.
        new: Whether its GRADIEND is not trained yet. A trained one keeps its target, if it has one.
    """
    if new and arguments.supervised_encoder:
        model.set_target(None)
    elif model.target is None and not arguments.supervised_encoder:
        model.set_target(arguments.target)


def gradient_arguments(model: ModelWithGradiend, arguments: TrainingArguments, cache_dir: str | None) -> dict[str, Any]:
    """Keywords of `create_gradient_training_dataset` that differ from the usual.

    Args:
        model: Names source and target.
        arguments: The half that is not trained needs no gradient.
        cache_dir: Where gradients are kept, or None.
    """
    given: dict[str, Any] = {}
    if arguments.supervised:
        given["source"] = None if arguments.supervised_decoder else model.source
        given["target"] = None if arguments.supervised_encoder else model.target
    if arguments.bf16:
        given["bf16"] = True
    if cache_dir is not None:
        given |= {"cache_dir": cache_dir, "use_cached_gradients": True}
    return given


def training_pair(batch: Mapping[str, Any], arguments: TrainingArguments) -> tuple[Tensor, Tensor]:
    """(input, wanted output) of one step, both flat.

    Raises:
        KeyError: A batch without what its step needs; the message names it.
    """
    needed = ("source", "label") if arguments.supervised_encoder else ("source", "target")
    needed = ("label", "target") if arguments.supervised_decoder else needed
    missing = [name for name in needed if batch.get(name) is None]
    if missing:
        raise KeyError(f"A training batch needs {' and '.join(needed)}; {' and '.join(missing)} is missing from it.")
    first, second = (label_of(batch) if name == "label" else batch[name].reshape(-1) for name in needed)
    return first, second


def label_of(batch: Mapping[str, Any]) -> Tensor:
    """The label of a batch, (1,): a number, or the mean of its examples' labels."""
    return torch.as_tensor(batch["label"], dtype=torch.float64).mean().reshape(1)
