"""The activations of a GRADIEND network, each with what trainings and rewrites can use of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gradiend.util._keywords import nearest


@dataclass(frozen=True)
class Activation:
    """A function f, with the properties that a training or a rewrite can use."""

    module: Callable[[], nn.Module]
    """A function that makes the module which computes f."""
    odd: bool = False
    """Whether f(−x) = −f(x): then negated encoder and decoder weights negate the latent and keep the reconstruction."""
    slope: Callable[[Tensor], Tensor] | None = None
    """The derivative f'(x) as a function of f(x), for the analytic step; None makes a training use autograd."""
    inverse: Callable[[float], float] | None = None
    """The inverse f⁻¹, for the closed form of an odd f; None means that there is no closed form."""


ACTIVATIONS: dict[str, Activation] = {
    "tanh": Activation(nn.Tanh, odd=True, slope=lambda h: 1 - h * h, inverse=math.atanh),
    "relu": Activation(nn.ReLU),
    "leakyrelu": Activation(nn.LeakyReLU),
    "gelu": Activation(nn.GELU),
    "silu": Activation(nn.SiLU),
    "elu": Activation(nn.ELU),
    "sigmoid": Activation(nn.Sigmoid),
    "smht": Activation(nn.Hardtanh, odd=True, inverse=float),
    "id": Activation(nn.Identity, odd=True, slope=torch.ones_like, inverse=float),
}


def activation_name(name: str) -> str:
    """The canonical (lower-case) name of an activation. Raises ValueError for an unknown one."""
    canonical = str(name).lower()
    if canonical not in ACTIVATIONS:
        known = ", ".join(ACTIVATIONS)
        raise ValueError(f"Unknown activation {name!r}; known: {known}.{nearest(canonical, ACTIVATIONS)}")
    return canonical
