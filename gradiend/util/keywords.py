"""Keywords at the door: second spellings are renamed, unknown ones are an error that names the nearest valid one.

The documents of the public API do not agree on every name. `ALIASES` is the one place that knows the second
spellings; nothing behind the door ever sees them.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
from collections.abc import Collection, Mapping
from typing import Any, TypeVar

ALIASES: dict[str, dict[str, str]] = {
    "TrainingArguments": {"num_epochs": "num_train_epochs"},
    "plot_encoder_distributions": {"class_label_mapping": "legend_name_mapping"},
    "plot_topk_overlap_heatmap": {"annot_fmt": "fmt"},
    "TextPredictionTrainer": {"training_args": "args"},
    "Trainer.train": {"model_class": "model_with_gradiend_cls", "output": "output_dir"},
    "ModelWithGradiend.from_pretrained": {"gradiend_model": "load_directory"},
    "PrePruneConfig": {"keep_top_k": "topk"},
    "PostPruneConfig": {"keep_top_k": "topk"},
}
"""Owner → {second spelling: the name that we use}."""

ONLY_VALUES: dict[str, dict[str, str]] = {
    "PrePruneConfig": {"importance_metric": "gradient_norm"},
    "PostPruneConfig": {"importance_metric": "weight_magnitude"},
}
"""Owner → {keyword of the documents that names what is done anyway: the one value that it can have}."""

T = TypeVar("T", bound=type)


def nearest(name: str, valid: Collection[str]) -> str:
    """` Did you mean 'x'?` for the closest of `valid`, or an empty string."""
    match = difflib.get_close_matches(name, list(valid), n=1)
    return f" Did you mean {match[0]!r}?" if match else ""


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


def strict_keywords(cls: T) -> T:
    """Class decorator for dataclasses: the constructor takes second spellings and names the nearest valid field."""
    valid = [field.name for field in dataclasses.fields(cls) if field.init]
    original: Any = vars(cls)["__init__"]

    @functools.wraps(original)
    def strict_init(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **resolve_keywords(cls.__name__, kwargs, valid))

    type.__setattr__(cls, "__init__", strict_init)
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
