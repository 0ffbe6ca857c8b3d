"""A GRADIEND that does not see some parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch

from gradiend.model.core.backbone import matching_names
from gradiend.model.model_with_gradiend import ModelWithGradiend

M = TypeVar("M", bound=ModelWithGradiend)


def without_parameters(model: M, patterns: Sequence[str]) -> M:
    """A copy whose encoder does not see the gradients of some parameters, as if its weights for them were zero.

    The base model is shared and stays whole; the biases stay too, so encodings are shifted, each by the same amount
    before the activation.

    Args:
        model: Stays as it is.
        patterns: Names of parameters; `*` is any substring.

    Raises:
        ValueError: A pattern that matches no parameter of the map, or nothing left.
    """
    mapping = model.gradiend.mapping
    excluded = set(matching_names([entry.name for entry in mapping], patterns))
    keep = torch.ones(mapping.size, dtype=torch.bool)
    for entry, place in mapping.slices():
        if entry.name in excluded:
            keep[place] = False
    if not keep.any():
        raise ValueError(f"exclude_params={list(patterns)} leaves nothing to encode: the map has no other parameters.")
    return model.prune_gradiend(mask=keep, inplace=False)
