"""Activations by name, with what is known of each."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gradiend.util.keywords import nearest


@dataclass(frozen=True)
class Activation:
    """A function f, and what it allows an encoder that ends with it."""

    module: Callable[[], nn.Module]
    """Makes the module that computes f."""
    odd: bool = False
    """f(−x) = −f(x): negating encoder and decoder weights negates the latent and keeps the reconstruction."""
    slope: Callable[[Tensor], Tensor] | None = None
    """f'(x) as a function of f(x), for the analytic step; without it, training goes through autograd."""
    inverse: Callable[[float], float] | None = None
    """f⁻¹, for the closed form of an odd f; without it, there is none."""


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
    """The canonical (lower-case) name of an activation.

    Raises:
        ValueError: Unknown name.
    """
    canonical = str(name).lower()
    if canonical not in ACTIVATIONS:
        known = ", ".join(ACTIVATIONS)
        raise ValueError(f"Unknown activation {name!r}; known: {known}.{nearest(canonical, ACTIVATIONS)}")
    return canonical


def get_activation(name: str, encoder: bool = False) -> nn.Module:
    """The activation module called `name`, in any case.

    Args:
        name: One of tanh, relu, leakyrelu, gelu, silu, elu, sigmoid, smht (hard tanh), id (identity).
        encoder: Accepted for compatibility; a name means the same function on both sides.

    Raises:
        ValueError: Unknown name.
    """
    del encoder
    return ACTIVATIONS[activation_name(name)].module()
