"""Keywords at the door: second spellings are renamed, unknown ones are an error that names the nearest valid one.

The documents of the public API do not agree on every name. `ALIASES` is the one place that knows the second
spellings; nothing behind the door ever sees them.
"""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any, ParamSpec, TypeVar

ALIASES: dict[str, dict[str, str]] = {
    "TrainingArguments": {"num_epochs": "num_train_epochs"},
    "plot_encoder_distributions": {"class_label_mapping": "legend_name_mapping"},
    "plot_topk_overlap_heatmap": {"annot_fmt": "fmt"},
    "TextPredictionTrainer": {"training_args": "args"},
    "Trainer.train": {"model_class": "model_with_gradiend_cls", "output": "output_dir"},
    "ModelWithGradiend.from_pretrained": {"gradiend_model": "load_directory"},
    "PrePruneConfig": {"keep_top_k": "topk"},
    "PostPruneConfig": {"keep_top_k": "topk"},
    "mask_sentence": {"match_spans": "spans", "mask_str": "mask"},
}
"""Owner → {second spelling: the name that we use}."""

ONLY_VALUES: dict[str, dict[str, str]] = {
    "PrePruneConfig": {"importance_metric": "gradient_norm"},
    "PostPruneConfig": {"importance_metric": "weight_magnitude"},
}
"""Owner → {keyword of the documents that names what is done anyway: the one value that it can have}."""

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T", bound=type)


def nearest(name: str, valid: Collection[str]) -> str:
    """` Did you mean 'x'?` for the closest of `valid`, the same but for case first, or an empty string."""
    match = [one for one in valid if one.casefold() == name.casefold()]
    match = match or difflib.get_close_matches(name, list(valid), n=1)
    return f" Did you mean {match[0]!r}?" if match else ""


def nearest_first(name: str, valid: Collection[str]) -> list[str]:
    """`valid`, those that resemble `name` most first; case counts little."""

    def likeness(other: str) -> float:
        return difflib.SequenceMatcher(None, name.casefold(), other.casefold()).ratio()

    return sorted(valid, key=likeness, reverse=True)


def resolve_keywords(owner: str, given: Mapping[str, Any], valid: Collection[str]) -> dict[str, Any]:
    """Rename second spellings and refuse unknown keywords.

    Raises:
        TypeError: Both spellings of a keyword are given, or a keyword is unknown.
        ValueError: Another value than the only one that a keyword can have.
    """
    aliases, only = ALIASES.get(owner, {}), ONLY_VALUES.get(owner, {})
    resolved: dict[str, Any] = {}
    for key, value in given.items():
        if key in only:
            one_of(f"{key} of {owner}", value, [only[key]])
            continue
        name = aliases.get(key, key)
        if name != key and name in given:
            raise TypeError(f"{owner} got {key!r} and {name!r}, which mean the same: give one of them.")
        if name not in valid:
            raise TypeError(f"{owner} got an unknown argument {key!r}.{nearest(key, [*valid, *aliases])}")
        resolved[name] = value
    return resolved


def known_keywords(owner: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorator of a function: it takes second spellings, and names the nearest valid keyword for an unknown one."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        valid = [name for name in inspect.signature(function).parameters if name != "self"]

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            return function(*args, **resolve_keywords(owner, kwargs, valid))

        return call

    return decorate


def strict_keywords(cls: T) -> T:
    """Decorator of a class: its constructor is one that `known_keywords` decorates."""
    original: Any = vars(cls)["__init__"]
    type.__setattr__(cls, "__init__", known_keywords(cls.__name__)(original))
    return cls


def one_of(name: str, value: Any, valid: Collection[str]) -> str:
    """`value` if it is one of `valid`.

    Raises:
        TypeError: Not a string.
        ValueError: Another string; the message lists the valid ones and names the nearest.
    """
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string, one of {', '.join(valid)}; got {type(value).__name__}.")
    if value not in valid:
        raise ValueError(f"{name} must be one of {', '.join(valid)}; got {value!r}.{nearest(value, valid)}")
    return value
