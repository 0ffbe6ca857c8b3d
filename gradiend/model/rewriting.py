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
        old = entry.gather(parameter)
        new = rounded_sum(old, update[place])
        changed += int((new != old).sum())
        entry.put(parameter, new)
    return changed / mapping.size


def finite_step(update: Tensor, learning_rate: float) -> Tensor:
    """learning_rate · update, in float32 at least. Raises ValueError if an entry is infinite or undefined."""
    step = learning_rate * update.to(torch.promote_types(update.dtype, torch.float32))
    if not step.isfinite().all():
        raise ValueError(
            f"The update has infinite or undefined entries (learning_rate={learning_rate}): use smaller factors, or "
            "check the GRADIEND's weights."
        )
    return step


@torch.no_grad()
def updated_parameters(base_model: nn.Module, mapping: ParameterMap, update: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Name and new values of each mapped parameter, what `add_update` makes of it; `base_model` stays as it is."""
    parameters = mapped_parameters(base_model, mapping)
    for entry, place in mapping.slices():
        new = parameters[entry.name].detach().clone()
        entry.put(new, rounded_sum(entry.gather(new), update[place]))
        yield entry.name, new


def share_changed(base_model: nn.Module, mapping: ParameterMap, update: Tensor) -> float:
    """The share of the mapped entries whose value `add_update` would change. Raises as `refuse_no_change`."""
    parameters = mapped_parameters(base_model, mapping)
    changed = 0
    for entry, place in mapping.slices():
        old = entry.gather(parameters[entry.name].detach())
        changed += int((rounded_sum(old, update[place]) != old).sum())
    refuse_no_change(changed / mapping.size, update)
    return changed / mapping.size


def refuse_no_change(share: float, update: Tensor) -> None:
    """Raise ValueError for an update that changes no entry: a step of 0, or one of which rounding leaves nothing."""
    if share:
        return
    if not bool(update.any()):
        raise ValueError(
            "A step of 0 changes nothing: there is no rewritten model, and no delta to export. Use another "
            "learning_rate."
        )
    raise ValueError(
        "The update is too small for the base model's dtype: rounding leaves every entry as it was. "
        "Use a larger learning_rate, or load the base model in float32."
    )


def rounded_sum(values: Tensor, update: Tensor) -> Tensor:
    """values + update, rounded once to the dtype of `values`, on their device."""
    wide = torch.promote_types(values.dtype, torch.float32)
    return (values.to(wide) + update.to(values.device, wide)).to(values.dtype)


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
