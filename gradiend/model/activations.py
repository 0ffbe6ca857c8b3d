"""Activations by name, and which of them are odd functions."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from gradiend.util.keywords import nearest

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "leakyrelu": nn.LeakyReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "elu": nn.ELU,
    "sigmoid": nn.Sigmoid,
    "smht": nn.Hardtanh,
    "id": nn.Identity,
}

ODD_ACTIVATIONS = frozenset({"tanh", "smht", "id"})
"""f(−x) = −f(x): for these, negating encoder and decoder weights negates the latent and keeps the reconstruction."""


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
    return ACTIVATIONS[activation_name(name)]()
