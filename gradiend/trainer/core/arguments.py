"""How a GRADIEND is trained and evaluated."""

from __future__ import annotations

import dis
import inspect
import itertools
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import methodcaller
from pathlib import Path
from types import FunctionType, MethodType
from typing import Any, Literal, TypeVar, get_args

import numpy as np
import torch
from torch import nn
from torch.nn.modules.loss import _Loss

from gradiend.model._activations import activation_name
from gradiend.model._architecture import parse_dtype
from gradiend.model._context import Side
from gradiend.model._device_map import parse_device_map, parse_max_memory
from gradiend.trainer.core._optimizers import OPTIMIZERS
from gradiend.trainer.core._pruning_config import PostPruneConfig, PrePruneConfig
from gradiend.trainer.core._rate_config import LRSearchConfig
from gradiend.util import AUTO
from gradiend.util._argument_fields import Arguments, argument, checked, fields_in_docstring
from gradiend.util._checks import numbers, require_finite, require_flag, require_path, require_texts
from gradiend.util._keywords import one_of, resolve_keywords, strict_keywords

DEFAULT_CORRELATION_THRESHOLD = 0.5
LARGEST_SEED = 2**63
"""Seeds lie below this number, because PyTorch takes no larger ones."""

Metric = Literal["correlation", "loss"]
C = TypeVar("C", PrePruneConfig, PostPruneConfig, LRSearchConfig)


class DefaultSteps(int):
    """The number of steps of a default, which is told apart from a number of the user.

    A training that is too short for a curve is evaluated more often than the default says, but never more often than
    the user says.
    """


def whole(least: int | None = None, below: int | None = None) -> Callable[[str, Any], int]:
    """A parser of whole numbers of at least `least`; any other value is a ValueError, whatever its type."""
    at_least = "" if least is None else f" of at least {least}"

    def parse(name: str, value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or (least is not None and value < least):
            raise ValueError(f"{name} must be an int{at_least}; got {value!r}.")
        if below is not None and value >= below:
            raise ValueError(f"{name} must be below {below}; got {value}.")
        return value

    return parse


def _not_negative(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
        raise ValueError(f"{name} must be a finite number of at least 0; got {value!r}.")
    return value


def _learning_rate(name: str, value: Any) -> float | str:
    if isinstance(value, str) and value in (AUTO, "tune"):
        return AUTO
    try:
        return _not_negative(name, value)
    except ValueError as error:
        raise ValueError(f'{name} must be a finite number of at least 0, or "auto"; got {value!r}.') from error


def _numbers_or_auto(name: str, value: Any) -> Any:
    return value if isinstance(value, str) and value == AUTO else _numbers(name, value)


def _numbers(name: str, value: Any) -> Any:
    value = value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value
    numbers(name, value)
    return value


def _directory(name: str, value: Any) -> str:
    require_path(name, value)
    # The name "…_best" can only be made from a path without a slash at its end.
    return str(Path(value))


def _activation(name: str, value: Any) -> str:
    del name
    return activation_name(value) if value else value


def _params(name: str, value: Any) -> Any:
    names = value if isinstance(value, str) else list(require_texts(name, value))
    if not names:
        raise ValueError(f"{name} names no parameter: leave it out for the whole backbone.")
    return names


def _notes(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"{name} must be a dict; got {type(value).__name__}.")
    return value


def _criterion(name: str, value: Any) -> Any:
    if not callable(value) or isinstance(value, type):
        raise TypeError(f"{name} must be a loss such as torch.nn.MSELoss(), not {value!r:.60}.")
    if isinstance(value, _Loss) and value.reduction == "none":
        raise ValueError(f"{name} must give one number: reduction='none' gives one for each entry.")
    return value


def _config(kind: type[C]) -> Callable[[str, Any], C]:
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


@fields_in_docstring
@strict_keywords
@dataclass(repr=False)
class TrainingArguments(Arguments):
    """Arguments of `Trainer.train` and the evaluations. `num_epochs` is a second name of `num_train_epochs`.

    Raises:
        ValueError: A value outside its range or closed set; the message names the nearest.
        TypeError: An unknown argument; the message names the nearest.
    """

    experiment_dir: str | None = argument(None, _directory, affects="neither")
    """Directory of all files of an experiment; a trainer's `run_id` adds a subdirectory."""
    lock_wait_minutes: float | None = argument(None, _not_negative, affects="neither")
    """Minutes that a call waits for another run that writes to the same experiment; then it is refused, with 0 at once.
    None waits without limit."""
    output_dir: str | None = argument(None, _directory, affects="neither")
    """Directory of the trained model. Default: `<experiment_dir>/model`, or a temporary directory."""
    use_cache: bool = argument(False, affects="neither")
    """Whether results that were computed before from the same model, data and arguments are read, not computed
    again."""
    add_identity_for_other_classes: bool = False
    """Whether to train also on classes in the data that are no target: each word against itself, with label 0."""
    source: str = argument("alternative", lambda name, value: Side.parse(name, value).value)
    """Gradient that the encoder reads: factual, alternative or diff."""
    target: str | None = "diff"
    """Gradient that the decoder reproduces: factual, alternative or diff; None with `supervised_encoder`."""
    train_batch_size: int = argument(32, whole(1))
    """Examples of one class whose mean loss gives the gradient of one training step."""
    train_max_size: int | None = argument(None, whole(1))
    """Cap on training examples (all classes together)."""
    learning_rate: float | str = argument(1e-5, _learning_rate)
    """Step size of the optimizer, the same for the whole training. A GRADIEND with fewer entries takes a larger one.
    "auto" tries rates on the gradients of the first batches before the training, and takes the best (docs/method.md);
    "tune" is a second name of "auto"."""
    lr_search_config: LRSearchConfig | None = argument(None, _config(LRSearchConfig), save=methodcaller("to_dict"))
    """How `learning_rate="auto"` searches. Default: LRSearchConfig()."""
    num_train_epochs: int = argument(3, whole(1))
    """Passes over the training batches."""
    max_steps: int = argument(-1, whole())
    """Number of steps, if it is positive: `num_train_epochs` is then ignored, and batches are repeated as needed. 0
    trains no step and needs `init="class_means"`."""
    torch_compile: bool = argument(False, affects="neither")
    """Whether `torch.compile` fuses the GRADIEND step (one latent, tanh or id, MSE), for GPUs; the numbers differ by
    rounding only."""
    bf16: bool = False
    """Whether training gradients are computed under bfloat16 autocast; evaluations keep their precision."""
    init: Literal["random", "class_means"] = argument("random", checked(one_of, ("random", "class_means")))
    """The weights before the first step: random, or in closed form from class means of gradients (docs/method.md). With
    class_means, `max_steps=0` saves these weights."""
    init_samples: int = argument(128, whole(1))
    """Examples per class for the means of `init="class_means"`; two more batches per class set the scale."""
    kept_gradients_size: int = argument(2**30, whole(0), affects="neither")
    """Bytes of gradients that a temporary file may hold, so that later epochs and seeds need not compute them again.
    Large, unpruned gradients, of which only a few would fit, are not kept."""
    weight_decay: float = argument(1e-2, _not_negative)
    """Weight decay of the optimizer."""
    adam_epsilon: float = argument(1e-8, _not_negative)
    """Epsilon of the optimizer, which keeps steps finite where gradients are tiny."""
    optim: Literal["adamw", "adam"] = argument("adamw", checked(one_of, OPTIMIZERS))
    """Name of the optimizer."""
    criterion: nn.Module | None = argument(None, _criterion, save=None)
    """Loss between decoded and target gradient. Default: MSELoss."""
    eval_strategy: Literal["steps", "no"] = argument("steps", checked(one_of, ("steps", "no")))
    """When the encoder is evaluated during training: every `eval_steps` steps, or never."""
    eval_steps: int = argument(DefaultSteps(250), whole(1))
    """Steps between evaluations; the last step is always evaluated. By default, a training of fewer than 2500 steps
    also encodes a few rows after each tenth of its steps (at least 5 steps), for its curve; evaluations alone choose
    the model that is kept."""
    encoder_eval_train_max_size: int | None = argument(None, whole(1))
    """Cap on validation examples per class for evaluations during training."""
    encoder_eval_max_size: int | None = argument(None, whole(1), affects="neither")
    """Cap on examples per variant (transition or neutral type) in `evaluate_encoder`."""
    encoder_eval_balance: bool = argument(True, affects="neither")
    """Whether `evaluate_encoder` caps every class at the size of the smallest class."""
    seed_selection_eval_max_size: int | None = argument(None, whole(1), affects="seeds")
    """Cap on validation examples when seeds are compared. Default: `encoder_eval_max_size`."""
    decoder_eval_max_size_training_like: int | None = argument(None, whole(1), affects="neither")
    """Cap on rows per dataset class in `evaluate_decoder`."""
    decoder_eval_max_size_neutral: int | None = argument(None, whole(1), affects="neither")
    """Cap on neutral texts in `evaluate_decoder`."""
    decoder_eval_lrs: Sequence[float] | Literal["auto"] | None = argument(None, _numbers_or_auto, affects="neither")
    """Steps of the decoder evaluation, or "auto" to find the best ones. Default: 0.001, 0.003, 0.01, 0.03, 0.1, 0."""
    decoder_eval_feature_factors: Sequence[float] | None = argument(None, _numbers, affects="neither")
    """Feature factors of the decoder grid. Default: the factor that strengthens (or weakens) each class."""
    eval_batch_size: int = argument(32, whole(1), affects="neither")
    """Texts per forward pass in evaluations."""
    do_eval: bool = True
    """Whether to evaluate the encoder during training."""
    evaluate_fn: Callable[..., Mapping[str, Any]] | None = argument(None, checked(require_evaluation), save=None)
    """Function that replaces the evaluation during training; it is called with config= and training_stats= and returns
    a dict with `correlation` and, optionally, `mean_by_class`."""
    save_strategy: Literal["best", "steps", "no"] = argument("best", checked(one_of, ("best", "steps", "no")))
    """Which model is kept: best keeps the model with the best evaluation, steps also writes a checkpoint every
    `save_steps` steps, and no keeps the last model."""
    save_steps: int = argument(5000, whole(1))
    """Steps between checkpoints with `save_strategy="steps"`, and most steps between two states of a training that can
    be resumed."""
    save_total_limit: int | None = argument(None, whole(1), affects="neither")
    """Most checkpoints of steps that are kept, of which the oldest is removed first. Default: all."""
    resume: bool | None = argument(None, checked(require_flag), affects="neither")
    """Whether a training that was stopped goes on where it stopped, with the same bits, and whether its state is kept
    for that (docs/reliability.md). Default: the value of `use_cache`, where there is a directory for the model."""
    save_minutes: float = argument(1.0, _not_negative, affects="neither")
    """Minutes between two states of a training, or of encodings, that can be resumed. Where keeping one takes long, the
    time between them is 20 times as long."""
    max_minutes: float | None = argument(None, _not_negative, affects="neither")
    """Minutes after which a call of `train` keeps its state and stops, to be resumed by the same call later."""
    save_only_best: bool = True
    """Whether only the best model is saved; False also writes a checkpoint after every epoch."""
    delete_models: bool = argument(False, affects="neither")
    """Whether the checkpoints of steps and epochs are removed after a training, so that only its result stays."""
    trust_remote_code: bool = argument(False, affects="neither")
    """Whether code from the hub may run when the base model is loaded."""
    model_use_cache: bool = argument(False, affects="neither")
    """Whether `train_decoder_only_mlm_head` keeps a head that was trained on the same model and rows."""
    params: Sequence[str] | None = argument(None, _params)
    """Names or wildcards of the base-model parameters to use. Default: the whole backbone."""
    activation_encoder: str | None = argument(None, _activation)
    """Activation of the encoder. Default: tanh."""
    activation_decoder: str | None = argument(None, _activation)
    """Activation of the decoder. Default: id, the identity."""
    bias_decoder: bool | None = argument(None, checked(require_flag))
    """Whether the decoder has a bias. Default: True."""
    latent_dim: int | None = argument(None, whole(1))
    """Number of latent features. Default: 1. With several latents, evaluations read the first, and none is inverted."""
    normalize_gradiend: bool = True
    """Whether the first class must encode positive: a negative correlation inverts the encoding of a single latent."""
    torch_dtype: torch.dtype | str | None = argument(None, parse_dtype, save=str)
    """Type of the GRADIEND's weights, as a dtype or its name. Default: float32."""
    encoder_decoder_same_device: bool = argument(False, affects="neither")
    """Whether encoder and decoder share one GPU on a machine with several GPUs."""
    base_model_dtype: torch.dtype | str | None = argument(None, parse_dtype, save=str)
    """Type of the weights of a base model that is loaded by name or path, as a dtype or its name. Default: float32."""
    base_model_device_map: str | Mapping[str, int | str] | None = argument(None, parse_device_map, affects="neither")
    """Devices of a base model that is loaded by name or path: "auto", which divides it among all, or a dict module →
    device, as in transformers' `device_map`. Default: one device (docs/large_models.md)."""
    base_model_max_memory: Mapping[int | str, int | str] | None = argument(None, parse_max_memory, affects="neither")
    """Most that `base_model_device_map="auto"` puts on each device, in bytes or as text: `{0: "20GiB", 1: "70GiB"}`."""
    gradient_checkpointing: bool = argument(False, affects="neither")
    """Whether the base model's layers run again in backward passes instead of keeping their results: less memory, about
    a third more time, the same numbers."""
    max_seeds: int = argument(3, whole(1), affects="seeds")
    """Most seeds that are tried one after the other: seed, seed + 1, …"""
    min_convergent_seeds: int | None = argument(1, whole(1), optional=True, affects="seeds")
    """Number of converged seeds after which no more seeds are tried; None runs all seeds."""
    convergent_metric: Metric | None = argument(None, checked(one_of, get_args(Metric)), affects="seeds")
    """Metric that decides whether a seed has converged. Default: correlation."""
    convergent_score_threshold: float | None = argument(None, affects="seeds")
    """Least `|correlation|`, or largest loss, of a converged seed. Default: 0.5 for correlation. A training whose loss
    has grown has not converged, whatever its metric is (docs/measure.md)."""
    convergent_mean_by_class_threshold: float | None = argument(None, checked(require_finite, 0.0), affects="seeds")
    """Least distance from 0 that the two class means of a converged seed have, on opposite sides. Default: any."""
    seed: int | None = argument(0, whole(0, LARGEST_SEED), optional=True)
    """First seed. With None every run differs: a single run uses the random generators as they are, and several runs
    draw a first seed, which the report names."""
    seed_runs_dir: str | None = argument(None, _directory, affects="neither")
    """Directory of the seed runs. Default: `<experiment_dir>/seeds`."""
    keep_seed_runs: bool = argument(False, affects="seeds")
    """Whether the weights of every seed are kept; `train` then returns a dict seed → model."""
    supervised_encoder: bool = False
    """Whether the encoder is trained alone, with a loss between encoding and label (docs/method.md)."""
    supervised_decoder: bool = False
    """Whether the decoder is trained alone, with a loss between decoded label and target gradient. Seeds are then
    judged by their loss, so `convergent_score_threshold` is needed."""
    fsdp: bool = argument(False, affects="neither")
    """Whether the base model, and the GRADIEND with it, are sharded over the processes of the run (FSDP2), for models
    that one device cannot hold (docs/large_models.md). `accelerate launch --use_fsdp` switches it on too."""
    use_cached_gradients: bool = argument(False, affects="neither")
    """Whether training gradients are kept in `<experiment_dir>/cache/gradients` and read from there. Without an
    experiment_dir, gradients are kept within `kept_gradients_size` only."""
    pre_prune_config: PrePruneConfig | None = argument(None, _config(PrePruneConfig), save=methodcaller("to_dict"))
    """Configuration of pruning by gradients before the training, once for all seeds. Default: no such pruning."""
    post_prune_config: PostPruneConfig | None = argument(None, _config(PostPruneConfig), save=methodcaller("to_dict"))
    """Configuration of pruning by weights after the training; the pruned model is evaluated and saved, while its
    training.json holds measurements from before. Default: no such pruning."""
    metadata: dict[str, Any] = field(default_factory=dict, metadata={"parse": _notes, "affects": "neither"})
    """Free notes, as JSON values, which are written with the training statistics."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.torch_dtype = self.torch_dtype or torch.float32
        self.criterion = self.criterion or nn.MSELoss()
        self._resolve_supervision()
        if self.convergent_score_threshold is None:
            if self.convergent_metric == "loss":
                raise ValueError(
                    "convergent_metric='loss' needs convergent_score_threshold, the largest converged loss."
                )
            self.convergent_score_threshold = DEFAULT_CORRELATION_THRESHOLD
        self._check_together()
        self.fsdp = self.fsdp or os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true"

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

    def _check_together(self) -> None:
        """Refuse values that are right alone but not together."""
        most = 1.0 if self.convergent_metric == "correlation" else None
        require_finite("convergent_score_threshold", self.convergent_score_threshold, 0.0, most)
        if self.min_convergent_seeds is not None and self.min_convergent_seeds > self.max_seeds:
            raise ValueError(
                f"min_convergent_seeds={self.min_convergent_seeds} can never be reached: max_seeds={self.max_seeds}."
            )
        if self.base_model_max_memory is not None and self.base_model_device_map is None:
            raise ValueError("base_model_max_memory needs base_model_device_map='auto': without a map it says nothing.")
        if self.max_steps == 0 and self.init == "random":
            raise ValueError(
                "max_steps=0 would save a random GRADIEND: give init='class_means', or max_steps=-1 for whole epochs."
            )
        if self.init == "class_means" and self.supervised:
            raise ValueError("init='class_means' makes both halves at once: it goes with no supervised mode.")
        post = self.post_prune_config
        if post is not None and post.part == "decoder-bias" and self.bias_decoder is False:
            raise ValueError("post_prune_config has part='decoder-bias', but with bias_decoder=False there is no bias.")

    def get(self, key: str, default: Any = None) -> Any:
        """The field called `key`, or `default` if there is none."""
        return vars(self)[key] if key in self.names() else default

    def replace(self, **overrides: Any) -> TrainingArguments:
        """A validated copy with other values; second spellings are accepted, the original is untouched."""
        resolved = resolve_keywords("TrainingArguments", overrides, self.names())
        values = {name: vars(self)[name] for name in self.names()}
        metric = "loss" if resolved.get("supervised_decoder") else resolved.get("convergent_metric")
        if metric is not None and metric != self.convergent_metric:
            # A threshold for one metric says nothing about the other metric.
            values["convergent_score_threshold"] = None
        if self.supervised_encoder and not resolved.get("supervised_encoder", True):
            values["target"] = type(self).target
        return type(self)(**{**values, **resolved})

    @property
    def resumes(self) -> bool:
        """Whether trainings go on where they stopped, if they have a directory."""
        return bool(self.use_cache) if self.resume is None else self.resume

    @property
    def resuming_minutes(self) -> float | None:
        """Minutes after which encodings on their way are kept again; None if they are not to be kept."""
        return self.save_minutes if self.resumes else None

    @property
    def searches_rate(self) -> bool:
        """Whether the learning rate is searched for before the training."""
        return self.learning_rate == AUTO

    @property
    def trains_encoder(self) -> bool:
        """Whether the encoder is trained, so that it can be evaluated: not with `supervised_decoder`."""
        return not self.supervised_decoder

    @property
    def supervised(self) -> bool:
        """Whether one half is trained alone, on the labels."""
        return self.supervised_encoder or self.supervised_decoder

    @property
    def normalizes(self) -> bool:
        """Whether inversion makes the first class positive; in supervised modes the labels give the sign."""
        return self.normalize_gradiend and not self.supervised
