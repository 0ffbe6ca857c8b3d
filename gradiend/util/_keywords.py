"""Keywords of public calls: second spellings are renamed; unknown keywords are errors that name the nearest.

The documents of the public API do not agree on every name. Only `ALIASES` knows the second spellings.
"""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar

from gradiend.util._checks import require_text

ALIASES: dict[str, dict[str, str]] = {
    "TrainingArguments": {"num_epochs": "num_train_epochs"},
    "plot_encoder_distributions": {"class_label_mapping": "legend_name_mapping"},
    "plot_topk_overlap_heatmap": {"annot_fmt": "fmt"},
    "plot_similarity_heatmap": {"metric": "measure"},
    "plot_similarity_heatmap_with_correlation": {"metric": "measure"},
    "TextPredictionTrainer": {"training_args": "args"},
    "Trainer.train": {"model_class": "model_with_gradiend_cls", "output": "output_dir"},
    "ModelWithGradiend.from_pretrained": {"gradiend_model": "load_directory"},
    "PrePruneConfig": {"keep_top_k": "topk"},
    "PostPruneConfig": {"keep_top_k": "topk"},
    "mask_sentence": {"match_spans": "spans", "mask_str": "mask"},
}
"""Owner → {second spelling: the name in this package}."""

ONLY_VALUES: dict[str, dict[str, str]] = {
    "PrePruneConfig": {"importance_metric": "gradient_norm"},
    "PostPruneConfig": {"importance_metric": "weight_magnitude"},
}
"""Owner → {keyword of the documents: the only value that the keyword can have}."""

OTHER_NAMES: dict[str, str] = {
    "learning_rate": "lr step_size rate",
    "lrs": "lr learning_rates learning_rate",
    "train_batch_size": "batch_size bs batchsize per_device_train_batch_size gradient_accumulation_steps",
    "eval_batch_size": "batch_size bs batchsize per_device_eval_batch_size",
    "num_train_epochs": "epochs epoch n_epochs max_epochs train_epochs",
    "max_steps": "steps step n_steps num_steps train_steps total_steps iterations",
    "eval_steps": "eval_every eval_interval evaluate_every n_evaluation evaluation_steps",
    "eval_strategy": "evaluation_strategy",
    "save_steps": "save_every save_interval checkpoint_interval",
    "output_dir": "out_dir output save_dir model_dir save_directory",
    "experiment_dir": "exp_dir run_dir work_dir logging_dir",
    "seed": "random_seed random_state data_seed",
    "random_state": "seed random_seed data_seed",
    "max_seeds": "seeds n_seeds num_seeds runs n_runs",
    "keep_seed_runs": "saved_seed_runs save_seeds",
    "torch_dtype": "dtype precision",
    "base_model_dtype": "dtype precision fp16 half",
    "bf16": "fp16 half mixed_precision",
    "optim": "optimizer optimiser",
    "weight_decay": "wd decay",
    "adam_epsilon": "eps epsilon",
    "criterion": "loss loss_fn loss_function",
    "params": "layers parameters modules target_modules",
    "train_max_size": "max_samples max_train_samples max_train_size max_size",
    "encoder_eval_max_size": "max_eval_samples eval_max_size",
    "pre_prune_config": "prune pruning",
    "post_prune_config": "prune pruning",
    "latent_dim": "hidden_size latent_size num_features n_features",
    "torch_compile": "compile use_compile",
    "use_cache": "cache overwrite_cache",
    "convergent_metric": "metric metric_for_best_model",
    "convergent_score_threshold": "convergence_threshold score_threshold threshold",
    "target_classes": "classes class_names",
}
"""A name in this package → names of other tools with the same meaning but another spelling."""

NO_COUNTERPART: dict[str, tuple[str, str]] = {
    "learning_rate stays the same for a whole training": (
        "learning_rate", "warmup_steps warmup_ratio warmup lr_scheduler_type lr_scheduler scheduler",
    ),
    "gradients are not clipped, a smaller learning_rate does it": ("learning_rate", "max_grad_norm gradient_clipping"),
    "the step is the one that evaluate_decoder(lrs=…) has chosen; ModelWithGradiend.rewrite_base_model takes any": (
        "topk_part", "lr learning_rate learning_rates step step_size",
    ),
    "pass callbacks to train(), from gradiend.trainer.core.callbacks": (
        "learning_rate", "logging_steps report_to early_stopping early_stopping_patience",
    ),
}  # fmt: skip
"""Advice → (a keyword that the call must have, names of other tools for a feature that this package does not have)."""

OWNERS: dict[str, frozenset[str]] = {}
"""Owner → its keywords; the decorators below fill this table, so that an error can name the owner of a keyword."""

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T", bound=type)


def nearest(name: str, valid: Collection[str]) -> str:
    """` Did you mean 'x'?`, where other tools call x so, or x differs only in case, or is the closest of `valid`."""
    for instead, (about, others) in NO_COUNTERPART.items():
        if about in valid and name in others.split():
            return f" There is no such thing here: {instead}."
    match = [ours for ours, others in OTHER_NAMES.items() if ours in valid and name in others.split()]
    match = match or [one for one in valid if one.casefold() == name.casefold()][:1]
    match = match or difflib.get_close_matches(name, list(valid), n=1)
    return f" Did you mean {' or '.join(map(repr, match))}?" if match else ""


def nearest_first(name: str, valid: Iterable[str]) -> list[str]:
    """`valid`, sorted by falling similarity to `name`, regardless of upper and lower case."""
    return sorted(valid, key=lambda one: -difflib.SequenceMatcher(None, name.casefold(), one.casefold()).ratio())


def misplaced(name: str, owner: str) -> str:
    """` 'x' is an argument of A and B.` for a keyword of other owners than `owner`; configurations are named first."""
    owners = [other for other, keywords in OWNERS.items() if name in keywords and other != owner]
    # The name of a class has no dot and begins with a capital; functions and methods come after classes.
    owners.sort(key=lambda other: "." in other or not other[0].isupper())
    return f" {name!r} is an argument of {' and '.join(owners[:2])}." if owners else ""


def elsewhere(name: str) -> str:
    """` TrainingArguments has 'y'.` for an argument y that other tools call `name`."""
    fields = OWNERS.get("TrainingArguments", frozenset())
    match = [ours for ours, others in OTHER_NAMES.items() if ours in fields and name in others.split()]
    return f" TrainingArguments has {' and '.join(map(repr, match))}." if match else ""


def resolve_keywords(
    owner: str, given: Mapping[str, Any], valid: Collection[str], *, named: Collection[str] = ()
) -> dict[str, Any]:
    """Rename second spellings among the keywords of a call to `owner`.

    An error may also suggest a keyword of `named`: keywords that the call has taken before. Raises TypeError for both
    spellings of a keyword and for an unknown keyword, ValueError for another value than the one in `ONLY_VALUES`.
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
            hint = nearest(key, [*valid, *aliases, *named])
            hint = hint + misplaced(key, owner) if hint else elsewhere(key) or misplaced(key, owner)
            raise TypeError(f"{owner} got an unknown argument {key!r}.{hint}")
        resolved[name] = value
    return resolved


def known_keywords(owner: str, *, suggest: bool = True) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a function: second spellings are renamed, and errors name the valid keyword nearest to an unknown one.

    With `suggest`, errors of other calls name this function as the owner of a misplaced keyword.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        valid = [name for name in inspect.signature(function).parameters if name not in ("self", "cls")]
        if suggest:
            OWNERS[owner] = frozenset(valid)

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            return function(*args, **resolve_keywords(owner, kwargs, valid))

        return call

    return decorate


def strict_keywords(cls: T, *, suggest: bool = True) -> T:
    """Decorate the constructor of a class with `known_keywords`."""
    original: Any = vars(cls)["__init__"]
    type.__setattr__(cls, "__init__", known_keywords(cls.__name__, suggest=suggest)(original))
    return cls


def strict_methods(cls: T) -> T:
    """Decorate the constructor and the public methods of a class with `known_keywords`.

    Methods that take any keyword are left alone, and so are the forward passes of a network, which must be fast.
    """
    for name, member in list(vars(cls).items()):
        function = member.__func__ if isinstance(member, classmethod) else member
        if not inspect.isfunction(function) or name.startswith("forward") or (name[0] == "_" and name != "__init__"):
            continue
        parameters = inspect.signature(function).parameters.values()
        if len(parameters) > 1 and all(one.kind is not inspect.Parameter.VAR_KEYWORD for one in parameters):
            owner = cls.__name__ if name == "__init__" else f"{cls.__name__}.{name}"
            strict = known_keywords(owner, suggest=False)(function)
            type.__setattr__(cls, name, classmethod(strict) if isinstance(member, classmethod) else strict)
    return cls


def one_of(name: str, value: Any, valid: Collection[str]) -> str:
    """`value`, which must be one of `valid`.

    Raises TypeError for a value that is no string, and ValueError, with the nearest valid value, for another string.
    """
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string, one of {', '.join(valid)}; got {type(value).__name__}.")
    if value not in valid:
        raise ValueError(f"{name} must be one of {', '.join(valid)}; got {value!r}.{nearest(value, valid)}")
    return value


ALL_SPLITS = "all"
"""The name that stands for every split there is."""


def split_names(split: str | Sequence[str]) -> list[str]:
    """The canonical names of one split or of several, each once; `["all"]` for all. Raises TypeError or ValueError."""
    if not isinstance(split, str) and not isinstance(split, (list, tuple)):
        raise TypeError(f"split must be a name such as 'test', a list of names, or 'all'; got {split!r:.60}.")
    names = list(dict.fromkeys(map(normalize_split_name, [split] if isinstance(split, str) else split)))
    if not names or (ALL_SPLITS in names and len(names) > 1):
        raise ValueError(f"split must name splits, or be 'all'; got {split!r:.60}.")
    return names


def split_order(splits: Iterable[str]) -> list[str]:
    """The splits of some rows, each once: train, validation and test, then others by their names."""
    found, usual = set(splits), ("train", "validation", "test")
    return [name for name in usual if name in found] + sorted(found.difference(usual))


def normalize_split_name(name: str) -> str:
    """The canonical name of a split, such as `"Val"`: lower case, no surrounding spaces, and validation for val."""
    require_text("split", name)
    lowered = name.strip().lower()
    return "validation" if lowered == "val" else lowered
