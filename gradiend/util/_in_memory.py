"""What a base model in memory has beside its weights and its config, and no file holds: hooks, modules of a user.

A hook may only look at what passes through it, so hooks and functions that replace a `forward` count only where the
model predicts otherwise without them.
"""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from gradiend.util._isolation import RANDOM_STATE, exclusive, plain_modes
from gradiend.util.logging import get_logger

logger = get_logger(__name__)

_INTO_MODELS = {"accelerate", "bitsandbytes", "gradiend", "kernels", "peft", "torchao"}
"""Packages that put modules of their own into models, in the same way whenever a model is loaded."""
_OF_LIBRARIES = {*_INTO_MODELS, "torch", "transformers"}
"""Packages whose hooks come back when a model is loaded in the same way."""
_NO_PREDICTION = ("Dropout", "Identity")
"""Parts of the names of classes that change no prediction."""

_told: WeakSet[nn.Module] = WeakSet()
"""Models of which `tell_of_memory` has warned."""
_plain: WeakKeyDictionary[type[PreTrainedModel], dict[str, dict[str, str] | None]] = WeakKeyDictionary()
"""Class of a model → its config as JSON → module → class; None for a model that cannot be built without weights."""


def class_name(module: nn.Module) -> str:
    """The name of a module's class; FSDP makes a class of its own from that of a module that it shards."""
    return next(one.__name__ for one in type(module).__mro__ if not one.__name__.startswith("FSDP"))


def found_in_memory(base_model: Any) -> list[str]:
    """What a model has in memory that its class and config do not make, and that its predictions depend on.

    That is modules of another class, hooks, and functions in place of a `forward`; each with its module.
    """
    if not isinstance(base_model, PreTrainedModel):
        return []
    added = _added_functions(base_model)
    found = sorted(added) if added and _act(base_model, added) else []
    return [*_replaced_modules(base_model), *found]


def tell_of_memory(base_model: Any) -> None:
    """Warn, once for each model, that files do not keep what a model has in memory alone."""
    found = found_in_memory(base_model)
    if found and base_model not in _told:
        _told.add(base_model)
        logger.warning(
            "The base model predicts otherwise than its weights and its config say: %s. No file keeps that: give this "
            "model as base_model= when its GRADIEND is loaded, and expect other predictions from a saved rewrite.",
            ", ".join([*found[:3], *([f"and {len(found) - 3} more"] if len(found) > 3 else [])]),
        )


# Modules


def _replaced_modules(base_model: PreTrainedModel) -> list[str]:
    plain = _plain_modules(base_model)
    if plain is None:
        return []
    return [
        f"{name} is {kind}, not {plain[name]}"
        for name, module in base_model.named_modules()
        if name in plain
        and (kind := class_name(module)) != plain[name]
        and _package(type(module)) not in _INTO_MODELS
        and not any(part in kind or part in plain[name] for part in _NO_PREDICTION)
    ]


def _plain_modules(base_model: PreTrainedModel) -> dict[str, str] | None:
    """Module → class of a new model of the same class and config; None if there is no such model."""
    if "quantization_config" in base_model.config.to_dict():
        # Quantization puts modules of its own into the model.
        return None
    kind = type(base_model)
    known, config = _plain.setdefault(kind, {}), base_model.config.to_json_string()
    if config not in known:
        try:
            with exclusive(RANDOM_STATE), plain_modes(), torch.random.fork_rng(devices=[]), torch.device("meta"):
                made = kind(copy.deepcopy(base_model.config))
        except (TypeError, ValueError, LookupError, AttributeError, RuntimeError, AssertionError, ImportError, OSError):
            known[config] = None
        else:
            known[config] = {name: class_name(module) for name, module in made.named_modules()}
    return known[config]


def _package(what: Any) -> str:
    """The package that a function or a class is from."""
    return str(what.__module__).partition(".")[0]


# Hooks


def _added_functions(base_model: nn.Module) -> dict[str, tuple[dict[Any, Any], Any]]:
    """What is told of each hook and each own `forward` → the dict that holds it, and its key there."""
    found: dict[str, tuple[dict[Any, Any], Any]] = {}
    for name, module in base_model.named_modules():
        where = name or "the model"
        for what, hooks in (("forward hook", module._forward_hooks), ("forward pre-hook", module._forward_pre_hooks)):
            for key, hook in hooks.items():
                if _package(kind := _kind_of(hook)) not in _OF_LIBRARIES:
                    found[f"{what} {kind.__qualname__} on {where}"] = hooks, key
        own = vars(module)
        if "forward" in own and "_hf_hook" not in own and _package(_kind_of(own["forward"])) not in _OF_LIBRARIES:
            found[f"own forward of {where}"] = own, "forward"
    return found


def _kind_of(function: Any) -> Any:
    """The function or the class that says where something that is called is from."""
    while isinstance(function, functools.partial):
        function = function.func
    return function if inspect.isroutine(function) else type(function)


def _act(base_model: PreTrainedModel, added: dict[str, tuple[dict[Any, Any], Any]]) -> bool:
    """Whether the model predicts otherwise without what was added to it; also where this cannot be found out."""
    if any(type(module).__name__.startswith("FSDP") for module in base_model.modules()):
        return True
    with exclusive(base_model, RANDOM_STATE), plain_modes():
        try:
            with_them = _predictions(base_model)
            with _without(added):
                plain = _predictions(base_model)
        except Exception:  # noqa: BLE001 - a hook of a user's may raise anything on a text that it is not made for
            return True
    return bool((with_them - plain).norm() > torch.finfo(plain.dtype).eps ** 0.5 * plain.norm())


@contextmanager
def _without(added: dict[str, tuple[dict[Any, Any], Any]]) -> Iterator[None]:
    before = [(held, dict(held)) for held, _ in added.values()]
    for held, key in added.values():
        held.pop(key, None)
    try:
        yield
    finally:
        for held, content in before:
            held.clear()
            held.update(content)


@torch.no_grad()
def _predictions(base_model: PreTrainedModel) -> Tensor:
    tokens = base_model.dummy_inputs["input_ids"].to(base_model.device)
    modes: list[tuple[nn.Module, bool]] = [(module, module.training) for module in base_model.modules()]
    call: Callable[..., Any] = base_model
    try:
        base_model.eval()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            logits: Tensor = call(input_ids=tokens, return_dict=True).logits
    finally:
        for module, training in modes:
            module.training = training
    return logits
