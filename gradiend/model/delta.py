"""A rewrite as a file of the entries that it changes, applied to a model in memory and undone to the same bits.

With θ the base model's weights and θ' the rewritten ones, a delta holds θ' where it differs from θ. Applied with
strength s, an entry becomes θ + s · (θ' − θ), computed in float32 (float64 for float64) and rounded once; with s = 1
it is θ' itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import torch
from torch import Tensor, nn
from typing_extensions import Self

from gradiend.model.bits import bits
from gradiend.model.core.backbone import backbone_prefix
from gradiend.model.delta_file import Delta, ParameterChange, read_delta, write_delta
from gradiend.model.delta_targets import Replaced, Target, base_values, find_targets
from gradiend.model.rewrite_record import RewriteRecord
from gradiend.util._digest import hash_model_weights
from gradiend.util.checks import require_number


def export_delta(
    base_model: nn.Module, rewritten: nn.Module, path: str | Path, *, rewrite: RewriteRecord | None = None
) -> str:
    """Write the entries in which `rewritten` differs from `base_model`; tensors that are used twice are stored once.

    Args:
        base_model: The model to apply the delta to later.
        rewritten: A changed copy of it, such as `ModelWithGradiend.rewrite_base_model` returns.
        path: A file that ends in .safetensors, or a directory for gradiend_delta.safetensors.
        rewrite: How it was made, kept in the file.

    Returns:
        The path of the file.

    Raises:
        ValueError: Models of different architectures or dtypes, or with equal weights.
    """
    old, new = dict(base_model.named_parameters()), dict(rewritten.named_parameters())
    if {name: (p.shape, p.dtype) for name, p in old.items()} != {name: (p.shape, p.dtype) for name, p in new.items()}:
        raise ValueError(
            f"The two models have not the same parameters in shapes and dtypes ({type(base_model).__name__} with "
            f"{len(old)}, {type(rewritten).__name__} with {len(new)}): load both in the same way."
        )
    return write_delta(path, delta_of(base_model, iter(new.items()), rewrite))


def delta_of(base_model: nn.Module, changed: Iterator[tuple[str, Tensor]], rewrite: RewriteRecord | None) -> Delta:
    """The delta that gives some parameters of a model new values.

    Args:
        base_model: The model.
        changed: Names and new values of parameters, of the same shape and dtype.
        rewrite: How they were made.

    Raises:
        ValueError: No value is new.
    """
    parameters = dict(base_model.named_parameters(remove_duplicate=False))
    changes = []
    for name, new in changed:
        old = parameters[name]
        tied = [other for other, parameter in parameters.items() if parameter is old and other != name]
        change = ParameterChange.between(name, old, new, tied)
        if change is not None:
            changes.append(change)
    if not changes:
        raise ValueError("The rewritten model equals the base model in every bit: there is no delta to export.")
    # Modules that are not of transformers need not have a name.
    name = str(getattr(base_model, "name_or_path", ""))
    return Delta(tuple(changes), name, hash_model_weights(base_model), backbone_prefix(base_model), rewrite)


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

    @torch.no_grad()
    def undo(self) -> None:
        """Restore the values that were there before, bit by bit; nothing happens the second time.

        Raises:
            RuntimeError: Another delta was applied to the same parameters later and is not undone yet, or the model
                was converted to another dtype.
        """
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

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.undo()


def apply_delta(model: nn.Module, path: str | Path | Delta, strength: float = 1.0) -> AppliedDelta:
    """Change a model in memory by a delta; the result undoes it, also as a context manager.

        applied = apply_delta(model, "he.safetensors", strength=0.5)
        applied.undo()

        with apply_delta(model, "he.safetensors"):
            ...

    Several deltas of the same base model add up where they meet, and are undone in reverse order. What the delta
    replaced is kept as long as the model, or until it is undone.

    Args:
        model: Any copy of the base model, with or without its head.
        path: What `export_delta` wrote (the file or its directory), or `read_delta` read.
        strength: θ + strength · (θ' − θ): 1 gives the rewritten model's bits, 0 changes nothing, below 0 goes the
            other way.

    Raises:
        FileNotFoundError: No such file.
        TypeError: The model is no module, or the strength no number.
        ValueError: A damaged file, a strength that is not finite or drives a weight out of its dtype's range, another
            model (the message says what differs), or a delta that is applied already. The model is unchanged then.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"apply_delta needs a loaded model; got {model!r}. Load it with AutoModel….from_pretrained.")
    require_number("strength", strength)
    if not math.isfinite(strength):
        raise ValueError(f"strength must be finite; got {strength}.")
    delta = path if isinstance(path, Delta) else read_delta(path)
    with ExitStack() as unfinished:
        applied = unfinished.enter_context(AppliedDelta(delta, float(strength), find_targets(model, delta)))
        applied._apply()
        unfinished.pop_all()
    return applied


def blend(target: Target, base: Tensor, strength: float) -> Tensor:
    """The entries' new values: base + strength · (new − base), and that much more than now where a delta is applied."""
    current, new = target.current(), target.change.values.to(base.device)
    if strength == 0:
        return current
    wide = torch.promote_types(base.dtype, torch.float32)
    step = strength * (new.to(wide) - base.to(wide))
    alone = new if strength == 1 else (base.to(wide) + step).to(base.dtype)
    result = torch.where(bits(current) == bits(base), alone, (current.to(wide) + step).to(base.dtype))
    # An infinite weight minus itself is undefined; what the rewrite leaves stays.
    result = torch.where(bits(new) == bits(base), current, result)
    if bool((~result.isfinite() & new.isfinite() & current.isfinite()).any()):
        raise ValueError(
            f"strength={strength:g} drives weights of {target.change.entry.name} out of the range of {base.dtype}: "
            "use a smaller one."
        )
    return result
