"""Where the entries of a delta are in a model, and whether it is the model that the delta was made for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from gradiend.model.bits import bits, digest_of
from gradiend.model.core.backbone import backbone_prefix
from gradiend.model.delta_file import Delta, ParameterChange
from gradiend.model.parameter_map import MappedParameter


@dataclass(frozen=True, eq=False)
class Replaced:
    """What a delta replaced in one parameter."""

    delta: str
    """`Delta.fingerprint`."""
    entry: MappedParameter
    """Where."""
    values: Tensor
    """What was there."""


# Per module and name of its parameter, what the deltas that are applied have replaced, the first one first. Keyed by
# the module, which `to(…)` keeps, and which a model with a head and the bare model inside it share.
_REPLACED: WeakKeyDictionary[nn.Module, dict[str, list[Replaced]]] = WeakKeyDictionary()


@dataclass(frozen=True, eq=False)
class Target:
    """The parameter of a model that a `ParameterChange` is for."""

    module: nn.Module
    attribute: str
    change: ParameterChange

    @property
    def parameter(self) -> Tensor:
        """The parameter's values."""
        return self.module.get_parameter(self.attribute).detach()

    @property
    def replaced(self) -> list[Replaced]:
        """What was replaced in this parameter and not restored yet; to be appended to and popped from."""
        return _REPLACED.setdefault(self.module, {}).setdefault(self.attribute, [])

    def current(self) -> Tensor:
        """A copy of what the entries hold now."""
        return self.change.entry.gather(self.parameter).clone()

    def holds(self, values: Tensor) -> bool:
        """Whether the entries are `values`, bit by bit."""
        return torch.equal(bits(self.current()), bits(values.to(self.parameter.device)))

    def base(self) -> Tensor | None:
        """What the entries held before any delta was applied; None if that is not what the delta replaces."""
        current = self.current()
        if digest_of(current) == self.change.replaces:
            return current
        if not self.replaced:
            return None
        whole = self.parameter.clone()
        for earlier in reversed(self.replaced):
            earlier.entry.put(whole, earlier.values.to(whole.device))
        base = self.change.entry.gather(whole)
        return base if digest_of(base) == self.change.replaces else None


def find_targets(model: nn.Module, delta: Delta) -> list[Target]:
    """The parameters that a delta is for, under their own names or those of the same model with or without its head.

    Raises:
        ValueError: A parameter is missing, has another shape or dtype, or is not tied to the same others.
    """
    parameters = dict(model.named_parameters(remove_duplicate=False))
    names = _names_in(model, delta, parameters)
    problems: list[str] = []
    targets: list[Target] = []
    seen: dict[int, str] = {}
    for change in delta.changes:
        name = names[change.entry.name]
        if name not in parameters:
            problems.append(f"it has no parameter {change.entry.name}")
            continue
        parameter = parameters[name]
        if tuple(parameter.shape) != change.entry.shape:
            problems.append(f"{name} has shape {tuple(parameter.shape)} instead of {change.entry.shape}")
        elif parameter.dtype != change.values.dtype:
            problems.append(f"{name} is {parameter.dtype}, not {change.values.dtype}: load it with that dtype")
        separate = [one for one in change.tied if parameters.get(names[one], parameter) is not parameter]
        if separate:
            problems.append(f"{name} and {names[separate[0]]} are separate tensors, but one in the delta's model")
        if id(parameter) in seen:
            problems.append(f"{seen[id(parameter)]} and {name} are one tensor, but separate in the delta's model")
        seen[id(parameter)] = name
        module, _, attribute = name.rpartition(".")
        targets.append(Target(model.get_submodule(module), attribute, change))
    if problems:
        raise ValueError(refusal(delta, problems))
    return targets


def base_values(targets: Sequence[Target], delta: Delta) -> list[Tensor]:
    """What the entries of each target held before any delta.

    Raises:
        ValueError: They are not what the delta replaces: another model, or the delta is applied already.
    """
    if all(target.holds(target.change.values) for target in targets) or any(
        earlier.delta == delta.fingerprint and digest_of(target.current()) != target.change.replaces
        for target in targets
        for earlier in target.replaced
    ):
        raise ValueError(
            "This delta is applied to the model already. Undo it first and apply it once with the strength you want: "
            "strength=2 has twice its effect."
        )
    bases = [target.base() for target in targets]
    problems = [
        f"{target.change.entry.name} holds other values"
        for target, base in zip(targets, bases, strict=True)
        if base is None
    ]
    if problems:
        raise ValueError(refusal(delta, problems, len(targets)))
    return [base for base in bases if base is not None]


def refusal(delta: Delta, problems: Sequence[str], of: int | None = None) -> str:
    """The message for a model that a delta was not made for."""
    shown = "; ".join(problems[:3])
    more = f"; and {len(problems) - 3} more" if len(problems) > 3 else ""
    share = "" if of is None else f" (in {len(problems)} of {of} parameters)"
    return (
        f"This delta was made for {delta.base_model or 'another model'}, and this model differs{share}: {shown}{more}. "
        "Apply it to an unchanged copy of that model (of a ModelWithGradiend: to its base_model)."
    )


def _names_in(model: nn.Module, delta: Delta, parameters: Iterable[str]) -> dict[str, str]:
    """Name in the delta → name in the model: the same if the model has it, else under its own backbone's prefix."""
    known, prefix = set(parameters), backbone_prefix(model)
    names = [name for change in delta.changes for name in (change.entry.name, *change.tied)]
    return {
        name: prefix + name.removeprefix(delta.backbone_prefix)
        if name not in known and name.startswith(delta.backbone_prefix)
        else name
        for name in names
    }
