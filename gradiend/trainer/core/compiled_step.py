"""The analytic GRADIEND step as one function of whole vectors, which `torch.compile` makes a few kernels of."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gradiend.model.model import GradiendModel
from gradiend.model.utils import get_activation
from gradiend.trainer.core.analytic_step import AnalyticOptimizer
from gradiend.trainer.core.arguments import TrainingArguments
from gradiend.trainer.core.optimizers import OPTIMIZERS
from gradiend.util.logging import get_logger

logger = get_logger(__name__)

State = tuple[Tensor, Tensor, Tensor]
"""A flat parameter with its first and second moments."""


class CompiledOptimizer(AnalyticOptimizer):
    """The analytic optimizer with its step fused by `torch.compile`; the plain step where that finds no compiler."""

    def __init__(self, gradiend: GradiendModel, arguments: TrainingArguments) -> None:
        super().__init__(gradiend, arguments)
        parts = (self.encoder_weight, self.encoder_bias, self.decoder_weight, self.decoder_bias)
        self.states = [(part.values, part.first, part.second) for part in parts if part is not None]
        self.options = {**self.encoder_weight.settings, "decoupled": OPTIMIZERS[arguments.optim].decoupled}
        self.activation = get_activation(gradiend.activation_encoder)
        self.compiles = True

    @torch.no_grad()
    def step(self, source: Tensor, target: Tensor) -> Tensor:
        """See `GradiendOptimizer.step`."""
        if not self.compiles:
            return super().step(source, target)
        source, target = (tensor.to(self.encoder_weight.values) for tensor in (source, target))
        try:
            loss = compiled_step()(
                self.states, source, target, self.steps + 1, self.activation, self.slope, self.options
            )
        except torch._dynamo.exc.TorchDynamoException as error:
            logger.warning("torch_compile has no effect here: %s", str(error).strip().splitlines()[0])
            self.compiles = False
            return super().step(source, target)
        self.steps += 1
        return loss


def fused_step(
    states: Sequence[State],
    source: Tensor,
    target: Tensor,
    step: Tensor,
    activation: nn.Module,
    slope: Callable[[Tensor], Tensor],
    options: Mapping[str, Any],
) -> Tensor:
    """One update in place, see `AnalyticOptimizer` for the formulas.

    Args:
        states: Of the encoder's weight and bias, the decoder's weight and, if it has one, its bias.
        source: (n,).
        target: (n,).
        step: (), from 1.
        activation: Of the encoder.
        slope: Of the activation, see `Activation`.
        options: See `adam_`.

    Returns:
        The loss before the update, ().
    """
    encoder, encoder_bias, decoder, *rest = states
    latent = activation(encoder[0] @ source + encoder_bias[0].squeeze())
    residual = decoder[0] * latent - target
    for bias in rest:
        residual = residual + bias[0]
    squares, backward = (residual * residual).sum(), (residual * decoder[0]).sum()
    scale = 2 / source.numel()
    delta = scale * backward * slope(latent)
    adam_(decoder, scale * latent * residual, step, **options)
    for bias in rest:
        adam_(bias, scale * residual, step, **options)
    adam_(encoder, delta * source, step, **options)
    adam_(encoder_bias, delta.reshape(1), step, **options)
    return squares / source.numel()


def adam_(
    state: State,
    gradient: Tensor,
    step: Tensor,
    *,
    lr: float,
    beta1: float,
    beta2: float,
    weight_decay: float,
    eps: float,
    decoupled: bool,
) -> None:
    """Adam (Kingma & Ba 2015) or, with `decoupled` weight decay, AdamW (Loshchilov & Hutter 2019), in place."""
    values, first, second = state
    # 1 − βᵗ, exact in the weights' own type.
    left1, left2 = (-torch.expm1(step.to(values.dtype) * math.log(beta)) for beta in (beta1, beta2))
    if not decoupled:
        gradient = gradient + weight_decay * values
    first.lerp_(gradient, 1 - beta1)
    second.copy_(beta2 * second + (1 - beta2) * gradient * gradient)
    kept = 1 - lr * weight_decay if decoupled else 1.0
    values.copy_(kept * values - lr / left1 * first / ((second / left2).sqrt() + eps))


@functools.cache
def compiled_step() -> Callable[..., Tensor]:
    """`fused_step`, compiled when it is first called; made on demand, since the compiler takes seconds to import."""
    return torch.compile(fused_step, fullgraph=True)
