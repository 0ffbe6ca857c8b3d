"""How the values of training arguments are parsed: numbers, names, files, and the few values that some can have.

The module is imported as `parse`, so that a field reads `argument(None, parse.directory)`.
"""

from __future__ import annotations

import dis
import inspect
import itertools
import math
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FunctionType, MethodType
from typing import Any, TypeVar

import numpy as np
from torch.nn.modules.loss import _Loss

from gradiend.model._activations import activation_name
from gradiend.model._topk import topk_count
from gradiend.trainer.core._pruning_config import PostPruneConfig, PrePruneConfig
from gradiend.trainer.core._rate_config import LRSearchConfig
from gradiend.util import AUTO
from gradiend.util._checks import numbers, require_path, require_texts

C = TypeVar("C", PrePruneConfig, PostPruneConfig, LRSearchConfig)


def plain_number(value: Any) -> Any:
    """Python's own number for one of NumPy, such as an entry of `np.arange`, which no JSON file could hold."""
    return value.item() if isinstance(value, np.generic) else value


def whole(least: int | None = None, below: int | None = None) -> Callable[[str, Any], int]:
    """A parser of whole numbers of at least `least`; any other value is a ValueError, whatever its type."""
    at_least = "" if least is None else f" of at least {least}"

    def parse(name: str, value: Any) -> int:
        value = plain_number(value)
        if not isinstance(value, int) or isinstance(value, bool) or (least is not None and value < least):
            raise ValueError(f"{name} must be an int{at_least}; got {value!r}.")
        if below is not None and value >= below:
            raise ValueError(f"{name} must be below {below}; got {value}.")
        return value

    return parse


def not_negative(name: str, value: Any) -> float:
    value = plain_number(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
        raise ValueError(f"{name} must be a finite number of at least 0; got {value!r}.")
    return value


def learning_rate(name: str, value: Any) -> float | str:
    if isinstance(value, str) and value in (AUTO, "tune"):
        return AUTO
    try:
        return not_negative(name, value)
    except ValueError as error:
        raise ValueError(f'{name} must be a finite number of at least 0, or "auto"; got {value!r}.') from error


def rates(name: str, value: Any) -> Any:
    return value if isinstance(value, str) and value == AUTO else all_numbers(name, value)


def all_numbers(name: str, value: Any) -> Any:
    value = value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value
    found = numbers(name, value)
    # An iterator is used up by now, and views of a dict cannot be copied with the arguments.
    return value if isinstance(value, (int, float, list, tuple)) else found


def directory(name: str, value: Any) -> str:
    require_path(name, value)
    # The name "…_best" can only be made from a path without a slash at its end.
    return str(Path(value))


def activation(name: str, value: Any) -> str:
    del name
    return activation_name(value) if value else value


def params(name: str, value: Any) -> Any:
    names = value if isinstance(value, str) else list(require_texts(name, value))
    if not names:
        raise ValueError(f"{name} names no parameter: leave it out for the whole backbone.")
    return names


def notes(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"{name} must be a dict; got {type(value).__name__}.")
    return value


def criterion(name: str, value: Any) -> Any:
    if not callable(value) or isinstance(value, type):
        raise TypeError(f"{name} must be a loss such as torch.nn.MSELoss(), not {value!r:.60}.")
    if isinstance(value, _Loss) and value.reduction == "none":
        raise ValueError(f"{name} must give one number: reduction='none' gives one for each entry.")
    return value


def config(kind: type[C]) -> Callable[[str, Any], C]:
    """A parser of a configuration, also as the dict that its `to_dict` gives."""

    def parse(name: str, value: Any) -> C:
        if isinstance(value, kind):
            return value
        if isinstance(value, Mapping):
            return kind.from_dict(value)
        raise TypeError(f"{name} must be gradiend.{kind.__name__}(…); got {type(value).__name__}.")

    return parse


def require_evaluation(name: str, function: Any) -> None:
    """Raise TypeError for what is not callable with config= and training_stats=, or returns a constant such as None."""
    expected = f"{name} must be a function that is called with config= and training_stats= and returns a dict"
    if not callable(function):
        raise TypeError(f"{expected}; got {function!r:.60}.")
    if not isinstance(function, (FunctionType, MethodType)):
        return
    try:
        inspect.signature(function).bind(config=None, training_stats=None)
    except TypeError as error:
        raise TypeError(f"{expected}; this one cannot be called so: {error}.") from error
    steps = list(dis.get_instructions(function))
    ends = [
        (before, end) for before, end in itertools.pairwise(steps) if end.opname in {"RETURN_VALUE", "RETURN_CONST"}
    ]
    # RETURN_CONST holds its value; RETURN_VALUE takes that of the step before. No constant is a dict.
    results = [end if end.opname == "RETURN_CONST" else before for before, end in ends]
    if results and all(one.opname in {"RETURN_CONST", "LOAD_CONST"} for one in results):
        raise TypeError(f"{expected}; {function.__qualname__} returns {results[0].argval!r}. Is a return missing?")


def only(why: str, *accepted: Any) -> Callable[[str, Any], Any]:
    """A parser that takes the `accepted` values alone: for others the ValueError says why, and what does it instead."""

    def parse(name: str, value: Any) -> Any:
        # True is 1 for Python, but not for a person.
        if not any(type(value) is type(one) and value == one for one in accepted):
            known = " or ".join(map(repr, accepted))
            raise ValueError(f"{name} can only be {known} here; got {value!r:.60}. {why}")
        return value

    return parse


def topk(name: str, value: Any) -> int | float:
    """A number of dimensions, or a share of them."""
    try:
        topk_count(value, sys.maxsize)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be a number of dimensions, or a share in (0, 1]; got {value!r}.") from error
    return value
