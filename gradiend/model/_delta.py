"""Application of a delta to a model in memory, which can be undone to the same bits.

Let θ be the base model's weights and θ' the rewritten weights; a delta holds θ' where θ' differs from θ. With strength
s, an entry becomes θ + s · (θ' − θ), computed in float32 (float64 for float64) and rounded once; with s = 1 it is θ'
itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from typing_extensions import Self

from gradiend.model._parameter_map import MappedParameter, bits, digest_of
from gradiend.model._refusals import inside
from gradiend.model._rewrite_files import Delta, ParameterChange, read_delta
from gradiend.model.core.backbone import backbone_prefix
from gradiend.util._checks import require_number
from gradiend.util._isolation import exclusive, plain_modes
from gradiend.util._keywords import known_keywords


@dataclass(frozen=True, eq=False)
class Replaced:
    """The values that a delta replaced in one parameter."""

    delta: str
    """The `fingerprint` of the delta."""
    entry: MappedParameter
    """The entries that the delta replaced."""
    values: Tensor
    """The values of these entries before the delta was applied."""


_REPLACED: WeakKeyDictionary[nn.Module, dict[str, list[Replaced]]] = WeakKeyDictionary()
"""Module → name of its parameter → the values that applied deltas have replaced, in the order of application.

The key is the module, because `to(…)` keeps modules, and a model with a head shares them with the bare model inside."""


@dataclass(frozen=True, eq=False)
class Target:
    """The parameter of a model that a `ParameterChange` is for."""

    module: nn.Module
    attribute: str
    change: ParameterChange

    @property
    def parameter(self) -> Tensor:
        """The values of the parameter."""
        return self.module.get_parameter(self.attribute).detach()

    @property
    def replaced(self) -> list[Replaced]:
        """The replaced values of this parameter that are not restored yet; callers append to and pop from the list."""
        return _REPLACED.setdefault(self.module, {}).setdefault(self.attribute, [])

    def current(self) -> Tensor:
        """A copy of the present values of the entries."""
        return self.change.entry.gather(self.parameter).clone()

    def holds(self, values: Tensor) -> bool:
        """Whether the entries are `values`, bit by bit."""
        return torch.equal(bits(self.current()), bits(values.to(self.parameter.device)))

    def base(self) -> Tensor | None:
        """The values of the entries before any delta; None if these are not the values that the delta replaces."""
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
    """The parameters that a delta changes, in a model with or without its head.

    Raises ValueError for a parameter that is missing, has another shape or dtype, or is tied to other parameters.
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
    """The values of the entries of each target before any delta.

    Raises ValueError for another model than the delta was made for, and if the delta is applied already.
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
    bases = {target.change.entry.name: target.base() for target in targets}
    problems = [f"{name} holds other values" for name, base in bases.items() if base is None]
    if problems:
        raise ValueError(refusal(delta, problems, len(targets)))
    return [base for base in bases.values() if base is not None]


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
    """Name in the delta → name in the model: the same name, or the name with the prefix of the model's backbone."""
    known, prefix = set(parameters), backbone_prefix(model)
    names = [name for change in delta.changes for name in (change.entry.name, *change.tied)]
    return {
        name: prefix + name.removeprefix(delta.backbone_prefix)
        if name not in known and name.startswith(delta.backbone_prefix)
        else name
        for name in names
    }


class AppliedDelta:
    """A delta that is applied to a model, until `undo()` or the end of a with-block. Made by `apply_delta`."""

    def __init__(self, delta: Delta, strength: float, targets: list[Target]) -> None:
        self.delta = delta
        self.strength = strength
        self._targets = targets
        self._replaced: list[Replaced] = []

    def __repr__(self) -> str:
        state = f"strength={self.strength:g}" if self._replaced else "undone"
        return f"AppliedDelta({self.delta!r}, {state})"

    @torch.no_grad()
    def _apply(self) -> None:
        bases = base_values(self._targets, self.delta)
        values = [blend(target, base, self.strength) for target, base in zip(self._targets, bases, strict=True)]
        for target, new in zip(self._targets, values, strict=True):
            replaced = Replaced(self.delta.fingerprint, target.change.entry, target.current())
            target.replaced.append(replaced)
            self._replaced.append(replaced)
            target.change.entry.put(target.parameter, new)

    @plain_modes()
    @torch.no_grad()
    def undo(self) -> None:
        """Restore the values before the delta, bit by bit; a second call does nothing.

        Raises:
            RuntimeError: Another delta was applied to the same parameters later and is not undone yet, or the model
                was converted to another dtype.
        """
        with exclusive(*(target.module for target in self._targets)):
            self._restore()

    def _restore(self) -> None:
        done = list(zip(self._targets, self._replaced, strict=False))
        for target, replaced in done:
            if target.replaced[-1:] != [replaced]:
                raise RuntimeError(
                    f"A delta that was applied later also changes {target.change.entry.name}: undo that one first."
                )
            if target.parameter.dtype != replaced.values.dtype:
                raise RuntimeError(
                    f"{target.change.entry.name} was converted from {replaced.values.dtype} to "
                    f"{target.parameter.dtype}: the values that were there before cannot be restored."
                )
        for target, replaced in done:
            replaced.entry.put(target.parameter, replaced.values.to(target.parameter.device))
            target.replaced.pop()
        self._replaced = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.undo()


@known_keywords("apply_delta", suggest=False)
@plain_modes()
def apply_delta(
    model: nn.Module, path: str | Path | Delta, strength: float = 1.0, *, verify: bool = True,
    subfolder: str | None = None, revision: str | None = None,
) -> AppliedDelta:  # fmt: skip
    """Change a model in memory by a delta; the result can undo the change, also as a context manager.

        applied = apply_delta(model, "he.safetensors", strength=0.5)
        applied.undo()

        with apply_delta(model, "he.safetensors"):
            ...

    Several deltas of the same base model add up in entries that they share, and are undone in reverse order. The
    replaced values are kept as long as the model, or until the delta is undone.

    Args:
        model: Any copy of the base model, with or without its head; of a PeftModel, the model inside.
        path: The file or directory that `export_delta` wrote, a place on a hub (see `read_delta`), or the result of
            `read_delta`.
        strength: The factor in θ + strength · (θ' − θ): 1 gives the bits of the rewritten model, 0 changes nothing, and
            a negative strength goes the other way.
        verify, subfolder, revision: See `read_delta`.

    Raises:
        FileNotFoundError: There is no such file.
        TypeError: The model is no module, or the strength is no number.
        ValueError: A damaged file, a strength that is not finite or drives a weight out of its dtype's range, another
            model (the message says what differs), or a delta that is applied already. Then the model is unchanged.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"apply_delta needs a loaded model; got {model!r}. Load it with AutoModel….from_pretrained.")
    require_number("strength", strength)
    if not math.isfinite(strength):
        raise ValueError(f"strength must be finite; got {strength}.")
    model = inside(model)
    if not isinstance(path, Delta):
        path = read_delta(path, verify=verify, subfolder=subfolder, revision=revision)
    delta = path
    with exclusive(model), ExitStack() as unfinished:
        applied = unfinished.enter_context(AppliedDelta(delta, float(strength), find_targets(model, delta)))
        applied._apply()
        unfinished.pop_all()
    return applied


def blend(target: Target, base: Tensor, strength: float) -> Tensor:
    """The new values of the entries: current + strength · (new − base), which keeps the effect of other deltas."""
    current, new = target.current(), target.change.values.to(base.device)
    if strength == 0:
        return current
    wide = torch.promote_types(base.dtype, torch.float32)
    step = strength * (new.to(wide) - base.to(wide))
    alone = new if strength == 1 else (base.to(wide) + step).to(base.dtype)
    result = torch.where(bits(current) == bits(base), alone, (current.to(wide) + step).to(base.dtype))
    # An infinite weight minus itself is undefined, so an entry that the rewrite does not change keeps its value.
    result = torch.where(bits(new) == bits(base), current, result)
    if bool((~result.isfinite() & new.isfinite() & current.isfinite()).any()):
        raise ValueError(
            f"strength={strength:g} drives weights of {target.change.entry.name} out of the range of {base.dtype}: "
            "use a smaller one."
        )
    return result
