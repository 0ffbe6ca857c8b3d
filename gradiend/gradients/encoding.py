"""Encodings of many examples: the encoder's pre-activation is a directional derivative.

W_e · ∇L(θ) = d/dε L(θ + ε · W_e) at ε = 0, with L(word) = −log p(word).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gradiend.gradients.engine import GradientEngine
from gradiend.gradients.words import TokenizedWord
from gradiend.model._context import Side
from gradiend.model.model import GradiendModel


@torch.no_grad()
def encode_words(
    engine: GradientEngine,
    gradiend: GradiendModel,
    factual: Sequence[TokenizedWord],
    alternative: Sequence[TokenizedWord],
    side: Side,
    *,
    batch_size: int = 32,
    progress: str | None = None,
) -> Tensor:
    """Each example's own latent, as if its gradient had been computed alone and encoded.

    Args:
        engine: Of the base model, on the GRADIEND's map.
        gradiend: The network.
        factual: The factual word of each of N examples.
        alternative: Its alternative.
        side: The gradient that is encoded.
        batch_size: Distinct inputs per pass.
        progress: Label of a progress bar.

    Returns:
        (N, latent_dim) on the CPU, float32; float64 if base model or GRADIEND is.
    """
    words = {
        Side.FACTUAL: list(factual),
        Side.ALTERNATIVE: list(alternative),
        Side.DIFF: [*factual, *alternative],
    }[side]
    linear = gradiend.encoder_linear
    slopes = -engine.directional_derivatives(words, linear.weight.detach(), batch_size, progress=progress)
    if side is Side.DIFF:
        slopes = slopes[:, : len(factual)] - slopes[:, len(factual) :]
    assert linear.bias is not None
    assert gradiend.encoder is not None
    pre_activation = slopes.T.to(linear.bias.device) + linear.bias
    return gradiend.encoder[1](pre_activation).cpu()
