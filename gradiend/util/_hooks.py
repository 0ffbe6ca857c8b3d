"""Hooks, and functions in place of a `forward`, that a user has put on a base model in memory: no file holds them."""

from __future__ import annotations

import functools
from collections.abc import Collection, Sequence
from pathlib import Path
from types import FunctionType, MethodType
from typing import Any
from weakref import WeakSet

from torch import nn

from gradiend.util.logging import get_logger

logger = get_logger(__name__)

LIBRARIES = {"accelerate", "bitsandbytes", "gradiend", "kernels", "peft", "torch", "transformers"}
"""Packages whose own hooks are not looked at: most come back when a model is loaded in the same way."""
_told: WeakSet[nn.Module] = WeakSet()


def hooks_of(base_model: Any) -> list[str]:
    """The hooks and own `forward` functions of a model, each by its name and its module, such as "steer on lm_head".

    Nothing is said of what a hook does: it may only look, and two hooks of one name are not told apart.
    """
    found = []
    for name, module in base_model.named_modules() if isinstance(base_model, nn.Module) else ():
        own = vars(module).get("forward")
        added = [*module._forward_pre_hooks.values(), *module._forward_hooks.values(), *([] if own is None else [own])]
        for function in map(_innermost, added):
            if _package(function) not in LIBRARIES:
                called = function if isinstance(function, FunctionType) else type(function)
                found.append(f"{called.__qualname__} on {name or 'the model'}")
    return found


def _innermost(function: Any) -> Any:
    """The function that a partial function, or a method, calls."""
    while isinstance(function, functools.partial | MethodType):
        function = function.func if isinstance(function, functools.partial) else function.__func__
    return function


def _package(function: Any) -> str:
    """The package that the code of a function is from. `functools.wraps` copies `__module__`, but not the code."""
    is_python = isinstance(function, FunctionType)
    module = function.__globals__["__name__"] if is_python else type(function).__module__
    return str(module).partition(".")[0]


def tell_of_hooks(base_model: Any) -> None:
    """Warn, once for each model, that files do not hold its hooks."""
    if not isinstance(base_model, nn.Module) or base_model in _told or not (hooks := hooks_of(base_model)):
        return
    _told.add(base_model)
    logger.warning(
        "The base model has hooks, or functions in place of a forward, which no file holds: %s. If they change what it "
        "predicts, give this model as base_model= when its GRADIEND is loaded, and expect other predictions of a saved "
        "rewrite.",
        _listed(hooks),
    )


def tell_of_lost_hooks(before: Sequence[str], now: Collection[str], directory: Path) -> None:
    """Warn of the hooks that a base model had when the GRADIEND in `directory` was saved, and does not have now."""
    if lost := [hook for hook in before if hook not in now]:
        logger.warning(
            "The GRADIEND in %s was trained on a base model with hooks, or functions in place of a forward, that this "
            "one lacks: %s. If they change what it predicts, give the model that has them as base_model=.",
            directory, _listed(lost),
        )  # fmt: skip


def _listed(hooks: Sequence[str]) -> str:
    return ", ".join([*hooks[:3], *([f"and {len(hooks) - 3} more"] if len(hooks) > 3 else [])])
