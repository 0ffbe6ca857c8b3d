"""θ' = θ + update on the mapped entries: computed in float32 and rounded once to the parameter's dtype.

A float64 parameter is computed in float64: through float32 even an update of zero would change it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from gradiend.model.parameter_map import ParameterMap


@torch.no_grad()
def add_update(base_model: nn.Module, mapping: ParameterMap, update: Tensor) -> float:
    """Add `update` to the mapped entries of `base_model`, in place.

    Args:
        base_model: Has the mapped parameters, under the same names and with the same shapes.
        mapping: Where the entries are.
        update: (mapping.size,).

    Returns:
        The share of the mapped entries whose stored value changed.

    Raises:
        KeyError: The model lacks a mapped parameter.
        ValueError: A parameter has another shape.
    """
    parameters = mapped_parameters(base_model, mapping)
    changed = 0
    for entry, place in mapping.slices():
        parameter = parameters[entry.name]
        wide = torch.promote_types(parameter.dtype, torch.float32)
        old = entry.gather(parameter)
        new = (old.to(wide) + update[place].to(parameter.device, wide)).to(parameter.dtype)
        changed += int((new != old).sum())
        entry.put(parameter, new)
    return changed / mapping.size


def mapped_parameters(base_model: nn.Module, mapping: ParameterMap) -> dict[str, nn.Parameter]:
    """The base model's parameters that the map names.

    Raises:
        KeyError: One is missing.
        ValueError: One has another shape.
    """
    parameters = dict(base_model.named_parameters())
    for entry in mapping:
        if entry.name not in parameters:
            raise KeyError(
                f"The base model has no parameter {entry.name}: the GRADIEND was made for another architecture."
            )
        shape = tuple(parameters[entry.name].shape)
        if shape != entry.shape:
            raise ValueError(f"{entry.name} has shape {shape}, but the GRADIEND was made for {entry.shape}.")
    return {entry.name: parameters[entry.name] for entry in mapping}


@contextmanager
def temporarily_updated(base_model: nn.Module, mapping: ParameterMap, update: Tensor) -> Iterator[float]:
    """`add_update` for the duration of a with-block; yields the share changed, and restores the same bits."""
    parameters = mapped_parameters(base_model, mapping)
    saved = {entry.name: entry.gather(parameters[entry.name].detach()).clone() for entry in mapping}
    try:
        yield add_update(base_model, mapping, update)
    finally:
        with torch.no_grad():
            for entry in mapping:
                entry.put(parameters[entry.name], saved[entry.name])
