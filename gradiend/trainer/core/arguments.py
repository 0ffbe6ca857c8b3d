"""How a GRADIEND is trained and evaluated."""

from __future__ import annotations

import copy
import dataclasses
import dis
import inspect
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FunctionType, MethodType
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from torch import nn
from torch.nn.modules.loss import _Loss

from gradiend.model.activations import activation_name
from gradiend.model.sides import Side
from gradiend.trainer.core.pruning_config import PostPruneConfig, PrePruneConfig
from gradiend.util.checks import numbers, require_finite, require_path, require_texts
from gradiend.util.dtypes import parse_dtype
from gradiend.util.keywords import fields_in_docstring, one_of, resolve_keywords, strict_keywords
from gradiend.util.plain import short_repr

CHOICES = {
    "optim": ("adamw", "adam"),
    "eval_strategy": ("steps", "no"),
    "save_strategy": ("best", "steps", "no"),
    "convergent_metric": ("correlation", "loss"),
    "init": ("random", "class_means"),
}
NOT_SERIALISABLE = ("criterion", "evaluate_fn")
PRUNE_CONFIGS = ("pre_prune_config", "post_prune_config")
DIRECTORIES = ("experiment_dir", "output_dir", "seed_runs_dir")
DEFAULT_CORRELATION_THRESHOLD = 0.5
LARGEST_SEED = 2**63
"""Seeds lie below it: PyTorch takes no others."""


class DefaultSteps(int):
    """The number of a default, which a number of the user's is not: a training too short for a curve looks more often
    than the default says, but never more often than the user says.
    """


@fields_in_docstring
@strict_keywords
@dataclass(repr=False)
class TrainingArguments:
    """Arguments of `Trainer.train` and the evaluations. `num_epochs` is a second name of `num_train_epochs`.

    Raises:
        ValueError: A value outside its range or closed set; the message names the nearest.
        TypeError: An unknown argument; the message names the nearest.
    """

    experiment_dir: str | None = None
    """Where everything of an experiment is written; a trainer's `run_id` adds a subdirectory."""
    output_dir: str | None = None
    """Where the trained model goes. Default: `<experiment_dir>/model`, or a temporary directory."""
    use_cache: bool = False
    """Whether what was computed before, from the same model, data and arguments, is read instead of computed again."""
    add_identity_for_other_classes: bool = False
    """Whether to train on the classes in the data that are no target too: each word against itself, with label 0."""
    source: str = "alternative"
    """Gradient that the encoder reads: factual, alternative or diff."""
    target: str | None = "diff"
    """Gradient that the decoder reproduces: factual, alternative or diff; None with `supervised_encoder`."""
    train_batch_size: int = 32
    """Examples of one class whose mean loss gives one gradient, that is one training step."""
    train_max_size: int | None = None
    """Cap on training examples (all classes together)."""
    learning_rate: float = 1e-5
    """Step size of the optimizer, the same for the whole training. Fewer entries take a larger one."""
    num_train_epochs: int = 3
    """Passes over the training batches."""
    max_steps: int = -1
    """Overrides `num_train_epochs` when positive; the batches are then repeated as often as needed. 0: see `init`."""
    torch_compile: bool = False
    """Fuse the GRADIEND step (one latent, tanh or id, MSE) with `torch.compile`, for GPUs: the same numbers up to
    rounding."""
    bf16: bool = False
    """Compute training gradients under bfloat16 autocast, where the hardware has it; evaluations stay precise."""
    init: Literal["random", "class_means"] = "random"
    """Where the weights start: random, or in closed form from class means of gradients (docs/method.md). With
    class_means, `max_steps=0` ends there."""
    init_samples: int = 128
    """Examples per class for the means of `init="class_means"`; two more batches per class set the scale."""
    kept_gradients_size: int = 2**30
    """Bytes of gradients that may be kept in a temporary file, so that later epochs and seeds need not compute them
    again. Large, unpruned gradients, of which only a few would fit, are not kept."""
    weight_decay: float = 1e-2
    """Weight decay of the optimizer."""
    adam_epsilon: float = 1e-8
    """Epsilon of the optimizer, which keeps its steps finite where gradients are tiny."""
    optim: Literal["adamw", "adam"] = "adamw"
    """The optimizer."""
    criterion: nn.Module | None = None
    """Loss between decoded and target gradient. Default: MSELoss."""
    eval_strategy: Literal["steps", "no"] = "steps"
    """Whether to evaluate the encoder during training."""
    eval_steps: int = DefaultSteps(250)
    """Steps between evaluations; the last step is always evaluated. Where it is left out and a training has fewer than
    2500 steps, a few rows are also encoded every tenth of it (at least 5 steps), so that there is a curve; what is
    kept is still chosen by the evaluations."""
    encoder_eval_train_max_size: int | None = None
    """Cap on validation examples per class for evaluations during training."""
    encoder_eval_max_size: int | None = None
    """Cap on examples per variant (transition or neutral type) in `evaluate_encoder`."""
    encoder_eval_balance: bool = True
    """Whether `evaluate_encoder` caps every class at the size of the smallest."""
    seed_selection_eval_max_size: int | None = None
    """Cap on validation examples when seeds are compared. Default: `encoder_eval_max_size`."""
    decoder_eval_max_size_training_like: int | None = None
    """Cap on rows per dataset class in `evaluate_decoder`."""
    decoder_eval_max_size_neutral: int | None = None
    """Cap on neutral texts in `evaluate_decoder`."""
    decoder_eval_lrs: Sequence[float] | None = None
    """Learning rates of the decoder grid. Default: 0.001, 0.003, 0.01, 0.03, 0.1, 0."""
    decoder_eval_feature_factors: Sequence[float] | None = None
    """Feature factors of the decoder grid. Default: the one that strengthens (or weakens) each class."""
    eval_batch_size: int = 32
    """Texts per forward pass in evaluations."""
    do_eval: bool = True
    """Whether to evaluate the encoder during training."""
    evaluate_fn: Callable[..., Mapping[str, Any]] | None = None
    """Replaces the evaluation during training; called with config= and training_stats=, returns a dict with
    `correlation` and, optionally, `mean_by_class`."""
    save_strategy: Literal["best", "steps", "no"] = "best"
    """best keeps the model with the best evaluation; steps also writes one every `save_steps`; no keeps the last."""
    save_steps: int = 5000
    """Steps between checkpoints with `save_strategy="steps"`."""
    save_only_best: bool = True
    """False also writes a checkpoint after every epoch."""
    delete_models: bool = False
    """Remove the checkpoints after steps and epochs once a training is done: only its result stays."""
    trust_remote_code: bool = False
    """Passed on when the base model is loaded."""
    model_use_cache: bool = False
    """Whether `train_decoder_only_mlm_head` keeps a head that was trained on the same model and rows."""
    params: Sequence[str] | None = None
    """Names or wildcards of the base-model parameters to use. Default: the whole backbone."""
    activation_encoder: str | None = None
    """Default: tanh."""
    activation_decoder: str | None = None
    """Default: id."""
    bias_decoder: bool | None = None
    """Default: True."""
    latent_dim: int | None = None
    """Number of latent features. Default: 1. Of several, evaluations are about the first, and none is inverted."""
    normalize_gradiend: bool = True
    """Whether the first class shall encode positive: a negative correlation inverts the encoding (of one latent)."""
    torch_dtype: torch.dtype | str | None = None
    """Of the GRADIEND, as a dtype or by name. Default: float32."""
    encoder_decoder_same_device: bool = False
    """Whether encoder and decoder share one GPU where there are several."""
    base_model_dtype: torch.dtype | str | None = None
    """Of the base model where it is loaded by name or path, also by name. Default: float32."""
    gradient_checkpointing: bool = False
    """Whether the base model's layers run again in backward passes instead of keeping what they computed: less memory,
    about a third more time, the same numbers."""
    max_seeds: int = 3
    """Seeds to try, one after the other: seed, seed + 1, …"""
    min_convergent_seeds: int | None = 1
    """Stop after so many seeds have converged; None runs all."""
    convergent_metric: Literal["correlation", "loss"] | None = None
    """What decides whether a seed has converged. Default: correlation."""
    convergent_score_threshold: float | None = None
    """|correlation| at least, or loss at most. Default: 0.5 for correlation. A training whose loss has grown has not
    converged whatever its metric is (docs/evaluation.md)."""
    convergent_mean_by_class_threshold: float | None = None
    """Also require the two class means to lie this far from 0 on opposite sides."""
    seed: int | None = 0
    """First seed; None: every run is another. (One run leaves the random generators as they are; several draw a first
    seed, which the report names.)"""
    seed_runs_dir: str | None = None
    """Where seed runs are written. Default: `<experiment_dir>/seeds`."""
    keep_seed_runs: bool = False
    """Keep the weights of every seed; `train` then returns a dict seed → model."""
    supervised_encoder: bool = False
    """Train the encoder alone, on the labels: the loss is between encoding and label (docs/method.md)."""
    supervised_decoder: bool = False
    """Train the decoder alone, from the labels: the loss is between the decoded label and the target gradient. Seeds
    are then judged by their loss, so `convergent_score_threshold` is needed."""
    use_cached_gradients: bool = False
    """Whether training gradients are kept in `<experiment_dir>/cache/gradients` and read from there. Without an
    experiment_dir only `kept_gradients_size` holds."""
    pre_prune_config: PrePruneConfig | None = None
    """Prune by gradients before training, once for all seeds."""
    post_prune_config: PostPruneConfig | None = None
    """Prune by weights after training; the pruned model is what is evaluated and saved. What its training.json says was
    measured before."""
    metadata: dict[str, Any] = field(default_factory=dict)
    """Free, JSON-serialisable notes, written with the training statistics."""

    __repr__ = short_repr

    def __post_init__(self) -> None:
        for name in DIRECTORIES:
            if vars(self)[name] is not None:
                require_path(name, vars(self)[name])
                # A path with a slash at its end has no name that "_best" could be put after.
                setattr(self, name, str(Path(vars(self)[name])))
        for name in ("decoder_eval_lrs", "decoder_eval_feature_factors"):
            if isinstance(vars(self)[name], (np.ndarray, np.generic)):
                setattr(self, name, vars(self)[name].tolist())
        self.torch_dtype = parse_dtype("torch_dtype", self.torch_dtype or torch.float32)
        if self.base_model_dtype is not None:
            self.base_model_dtype = parse_dtype("base_model_dtype", self.base_model_dtype)
        self.criterion = self.criterion or nn.MSELoss()
        self.source = Side.parse("source", self.source).value
        self.pre_prune_config = _parse_config("pre_prune_config", self.pre_prune_config, PrePruneConfig)
        self.post_prune_config = _parse_config("post_prune_config", self.post_prune_config, PostPruneConfig)
        for name in ("activation_encoder", "activation_decoder"):
            if vars(self)[name]:
                setattr(self, name, activation_name(vars(self)[name]))
        self._check_flags()
        self._resolve_supervision()
        for name, valid in CHOICES.items():
            one_of(name, vars(self)[name], valid)
        if self.convergent_score_threshold is None:
            if self.convergent_metric == "loss":
                raise ValueError(
                    "convergent_metric='loss' needs convergent_score_threshold, the largest converged loss."
                )
            self.convergent_score_threshold = DEFAULT_CORRELATION_THRESHOLD
        self._check_numbers()
        self._check_thresholds()
        self._check_objects()

    def _resolve_supervision(self) -> None:
        if self.supervised_encoder and self.supervised_decoder:
            raise ValueError(
                "supervised_encoder and supervised_decoder train one half each: train one first, then the other with "
                "train(model=…)."
            )
        if self.supervised_encoder:
            self.target = None
        elif self.target is None:
            raise ValueError("target must be factual, alternative or diff; only supervised_encoder has no target.")
        else:
            self.target = Side.parse("target", self.target).value
        # Without a trained encoder there is no correlation.
        self.convergent_metric = "loss" if self.supervised_decoder else self.convergent_metric or "correlation"

    def _check_flags(self) -> None:
        for name, item in FIELDS.items():
            value = vars(self)[name]
            if isinstance(item.default, bool) and not isinstance(value, bool):
                raise TypeError(f"{name} must be True or False; got {value!r}.")

    def _check_numbers(self) -> None:
        at_least_one = [name for name in FIELDS if name.endswith(("_batch_size", "_max_size", "_steps", "_seeds"))]
        at_least_one += ["num_train_epochs", "latent_dim", "init_samples"]
        at_least_one.remove("max_steps")  # −1 means: whole epochs
        for name in at_least_one:
            value = vars(self)[name]
            optional = FIELDS[name].default is None or name == "min_convergent_seeds"
            if not (value is None and optional) and (not _is_int(value) or value < 1):
                raise ValueError(f"{name} must be an int of at least 1; got {value!r}.")
        if self.min_convergent_seeds is not None and self.min_convergent_seeds > self.max_seeds:
            raise ValueError(
                f"min_convergent_seeds={self.min_convergent_seeds} can never be reached: max_seeds={self.max_seeds}."
            )
        if self.max_steps == 0 and self.init == "random":
            raise ValueError(
                "max_steps=0 would save a random GRADIEND: give init='class_means', or max_steps=-1 for whole epochs."
            )
        for name in ("max_steps", "seed", "kept_gradients_size"):
            value = vars(self)[name]
            if not _is_int(value) and not (name == "seed" and value is None):
                raise ValueError(f"{name} must be an int; got {value!r}.")
        if self.seed is not None and not 0 <= self.seed < LARGEST_SEED:
            raise ValueError(f"seed must be at least 0 and below 2**63; got {self.seed}.")
        if self.kept_gradients_size < 0:
            raise ValueError(f"kept_gradients_size counts bytes, at least 0; got {self.kept_gradients_size}.")
        for name in ("learning_rate", "weight_decay", "adam_epsilon"):
            value = vars(self)[name]
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
                raise ValueError(f"{name} must be a finite number of at least 0; got {vars(self)[name]!r}.")

    def _check_thresholds(self) -> None:
        most = 1.0 if self.convergent_metric == "correlation" else None
        require_finite("convergent_score_threshold", self.convergent_score_threshold, 0.0, most)
        if self.convergent_mean_by_class_threshold is not None:
            require_finite("convergent_mean_by_class_threshold", self.convergent_mean_by_class_threshold, 0.0)
        for name in ("decoder_eval_lrs", "decoder_eval_feature_factors"):
            if vars(self)[name] is not None:
                numbers(name, vars(self)[name])

    def _check_objects(self) -> None:
        """What is used late is looked at now: functions, names and notes."""
        criterion = self.criterion
        if not callable(criterion) or isinstance(criterion, type):
            raise TypeError(f"criterion must be a loss such as torch.nn.MSELoss(), not {criterion!r:.60}.")
        if isinstance(criterion, _Loss) and criterion.reduction == "none":
            raise ValueError("criterion must give one number: reduction='none' gives one for each entry.")
        if self.evaluate_fn is not None:
            require_evaluation(self.evaluate_fn)
        if self.params is not None and not isinstance(self.params, str):
            self.params = list(require_texts("params", self.params))
        if self.params is not None and not self.params:
            raise ValueError("params names no parameter: leave it out for the whole backbone.")
        if not isinstance(self.metadata, dict):
            raise TypeError(f"metadata must be a dict; got {type(self.metadata).__name__}.")
        if self.bias_decoder is not None and not isinstance(self.bias_decoder, bool):
            raise TypeError(f"bias_decoder must be True, False or None; got {self.bias_decoder!r}.")
        if self.init == "class_means" and self.supervised:
            raise ValueError("init='class_means' makes both halves at once: it goes with no supervised mode.")
        post = self.post_prune_config
        if post is not None and post.part == "decoder-bias" and self.bias_decoder is False:
            raise ValueError("post_prune_config has part='decoder-bias', but with bias_decoder=False there is no bias.")

    def get(self, key: str, default: Any = None) -> Any:
        """The field called `key`, or `default` if there is none."""
        return getattr(self, key) if key in FIELDS else default

    def replace(self, **overrides: Any) -> TrainingArguments:
        """A validated copy with other values; second spellings are accepted, the original is untouched."""
        resolved = resolve_keywords("TrainingArguments", overrides, FIELDS)
        values = {name: vars(self)[name] for name in FIELDS}
        metric = "loss" if resolved.get("supervised_decoder") else resolved.get("convergent_metric")
        if metric is not None and metric != self.convergent_metric:
            # The threshold of one metric says nothing about the other.
            values["convergent_score_threshold"] = None
        if self.supervised_encoder and not resolved.get("supervised_encoder", True):
            values["target"] = FIELDS["target"].default
        return type(self)(**{**values, **resolved})

    @property
    def trains_encoder(self) -> bool:
        """Whether there is a trained encoder to evaluate: not with `supervised_decoder`."""
        return not self.supervised_decoder

    @property
    def supervised(self) -> bool:
        """Whether one half is trained alone, on the labels."""
        return self.supervised_encoder or self.supervised_decoder

    @property
    def normalizes(self) -> bool:
        """Whether the first class is made positive by inversion; labels give supervised halves their sign."""
        return self.normalize_gradiend and not self.supervised

    def to_dict(self) -> dict[str, Any]:
        """JSON-serialisable, without criterion and evaluate_fn; torch_dtype as "torch.float32"."""
        special = (*NOT_SERIALISABLE, *PRUNE_CONFIGS)
        content = {name: copy.deepcopy(vars(self)[name]) for name in FIELDS if name not in special}
        for name in PRUNE_CONFIGS:
            config = vars(self)[name]
            content[name] = None if config is None else config.to_dict()
        base_dtype = None if self.base_model_dtype is None else str(self.base_model_dtype)
        return {**content, "torch_dtype": str(self.torch_dtype), "base_model_dtype": base_dtype}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> TrainingArguments:
        """What `to_dict` gave.

        Raises:
            TypeError: An unknown key; the message names the nearest field.
            ValueError: A bad value.
        """
        return cls(**content)


def require_evaluation(function: Any) -> None:
    """Refuse an `evaluate_fn` that cannot be called as it will be, or that returns a constant such as None.

    Raises:
        TypeError: It is no function of config= and training_stats=, or returns no dict.
    """
    expected = "evaluate_fn must be a function that is called with config= and training_stats= and returns a dict"
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
    # RETURN_CONST has its value with it; RETURN_VALUE takes the one before. No constant is a dict.
    results = [end if end.opname == "RETURN_CONST" else before for before, end in ends]
    if results and all(one.opname in {"RETURN_CONST", "LOAD_CONST"} for one in results):
        raise TypeError(f"{expected}; {function.__qualname__} returns {results[0].argval!r}. Is a return missing?")


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


C = TypeVar("C", PrePruneConfig, PostPruneConfig)


def _parse_config(name: str, value: Any, kind: type[C]) -> C | None:
    """A pruning configuration, also as the dict that its `to_dict` gives."""
    if value is None or isinstance(value, kind):
        return value
    if isinstance(value, Mapping):
        return kind.from_dict(value)
    raise TypeError(f"{name} must be gradiend.{kind.__name__}(…); got {type(value).__name__}.")


FIELDS = {item.name: item for item in dataclasses.fields(TrainingArguments)}
