"""How a GRADIEND is trained and evaluated."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import methodcaller
from typing import Any, Literal, get_args

import torch
from torch import nn

from gradiend.data.unified._word_splits import SplitStrategy
from gradiend.model._architecture import WEIGHT_PARTS, parse_dtype
from gradiend.model._context import Side
from gradiend.model._device_map import parse_device_map, parse_max_memory
from gradiend.objectives.registry import parse_objective
from gradiend.trainer.core import _argument_parsers as parse
from gradiend.trainer.core._optimizers import OPTIMIZERS
from gradiend.trainer.core._pruning_config import PostPruneConfig, PrePruneConfig
from gradiend.trainer.core._rate_config import LRSearchConfig
from gradiend.util import AUTO, PLACEHOLDER
from gradiend.util._argument_fields import Arguments, argument, checked, fields_in_docstring
from gradiend.util._cache import CachePolicy, parse_policy
from gradiend.util._checks import require_finite, require_flag, require_text
from gradiend.util._keywords import one_of, resolve_keywords, strict_keywords

DEFAULT_CORRELATION_THRESHOLD = 0.5
LARGEST_SEED = 2**63
"""Seeds lie below this number, because PyTorch takes no larger ones."""

Metric = Literal["correlation", "loss"]
KEPT_GRADIENTS = "Gradients are kept for later epochs and seeds: kept_gradients_size says how many."
SavedSeeds = Literal["best_only", "all_convergent", "all_tried"]


class DefaultWhole(int):
    """The whole number of a default, which is told apart from a number of the user.

    A training that is too short for a curve is evaluated more often than the default says, but never more often than
    the user says.
    """


class DefaultNumber(float):
    """The number of a default, which is told apart from a number of the user."""


@fields_in_docstring
@strict_keywords
@dataclass(repr=False)
class TrainingArguments(Arguments):
    """Arguments of `Trainer.train` and the evaluations. `num_epochs` is a second name of `num_train_epochs`.

    Raises:
        ValueError: A value outside its range or closed set; the message names the nearest.
        TypeError: An unknown argument; the message names the nearest.
    """

    experiment_dir: str | None = argument(None, parse.directory, affects="neither")
    """Directory of all files of an experiment; a trainer's `run_id` adds a subdirectory."""
    lock_wait_minutes: float | None = argument(None, parse.not_negative, affects="neither")
    """Minutes that a call waits for another run that writes to the same experiment; then it is refused, with 0 at once.
    None waits without limit."""
    output_dir: str | None = argument(None, parse.directory, affects="neither")
    """Directory of the trained model. Default: `<experiment_dir>/model`, or a temporary directory."""
    use_cache: CachePolicy = argument(False, parse_policy, affects="neither")
    """Whether results that were computed before from the same model, data and arguments are read, not computed again.
    For trainings, "only_convergent" reads those that have converged alone, and "always" also takes a choice among seeds
    that was made with other numbers of seeds and thresholds (docs/caches.md)."""
    add_identity_for_other_classes: bool = False
    """Whether to train also on classes in the data that are no target: each word against itself, with label 0."""
    include_other_classes: bool = argument(
        False,
        parse.only("add_identity_for_other_classes=True trains on rows of other classes, and evaluates them.", False),
        affects="neither",
    )
    """Accepted for scripts of other versions, as False only: see `add_identity_for_other_classes`."""
    positive_class: str | None = argument(None, checked(require_text), affects="neither")
    """The target class that has the feature, for comparisons of trainers; the encoding of a trainer itself is positive
    for the first of its target_classes."""
    prediction_objective: str = argument(AUTO, parse_objective, affects="neither")
    """The objective that the model must have: "auto", "mlm_mask_token" (masked), "clm_next_token" (causal, without an
    auxiliary head that lies in the experiment) or "clm_mlm_head" (causal with this head)."""
    mask_placeholder: str = argument(PLACEHOLDER, checked(require_text), affects="neither")
    """Text that stands in the data in place of the feature word; results write `[MASK]`."""
    decoder_sequence_cloze_rhs_window: int = argument(
        -1,
        parse.only("There is no sequence cloze: a causal model scores the word after its left context.", -1),
        affects="neither",
    )
    """Accepted for scripts of other versions, as −1 only."""
    source: str = argument("alternative", lambda name, value: Side.parse(name, value).value)
    """Gradient that the encoder reads: factual, alternative or diff."""
    target: str | None = "diff"
    """Gradient that the decoder reproduces: factual, alternative or diff; None with `supervised_encoder`."""
    train_batch_size: int = argument(32, parse.whole(1))
    """Examples of one class whose mean loss gives the gradient of one training step."""
    base_gradient_batch_size: int | None = argument(None, parse.whole(1), affects="neither")
    """Accepted for scripts of other versions, as `train_batch_size` only, since a batch is one pass over the base
    model: `gradient_checkpointing` makes the pass lighter."""
    gradiend_batch_size: int | None = argument(None, parse.whole(1), affects="neither")
    """Accepted for scripts of other versions, as `train_batch_size` only: a step takes the gradient of a batch's mean
    loss."""
    train_max_size: int | None = argument(None, parse.whole(1))
    """Cap on training examples (all classes together)."""
    learning_rate: float | str = argument(1e-5, parse.learning_rate)
    """Step size of the optimizer, the same for the whole training. A GRADIEND with fewer entries takes a larger one.
    "auto" tries rates on the gradients of the first batches before the training, and takes the best (docs/method.md);
    "tune" is a second name of "auto"."""
    lr_search_config: LRSearchConfig | None = argument(None, parse.config(LRSearchConfig), save=methodcaller("to_dict"))
    """How `learning_rate="auto"` searches. Default: LRSearchConfig()."""
    num_train_epochs: int = argument(3, parse.whole(1))
    """Passes over the training batches."""
    max_steps: int = argument(-1, parse.whole())
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
    init_samples: int = argument(128, parse.whole(1))
    """Examples per class for the means of `init="class_means"`; two more batches per class set the scale."""
    kept_gradients_size: int = argument(2**30, parse.whole(0), affects="neither")
    """Bytes of gradients that a temporary file may hold, so that later epochs and seeds need not compute them again.
    Large, unpruned gradients, of which only a few would fit, are not kept."""
    precompute_gradient_batches: bool | None = argument(
        None, parse.only(KEPT_GRADIENTS, None, False), affects="neither"
    )
    """Accepted for scripts of other versions, as None or False only: see `kept_gradients_size`."""
    precompute_gradient_buffer_size: int = argument(1, parse.only(KEPT_GRADIENTS, 1), affects="neither")
    """Accepted for scripts of other versions, as 1 only: see `kept_gradients_size`."""
    gradient_timing_steps: int = argument(
        0, parse.only("training.json has the seconds of gradients, steps and callbacks; see also runtime_monitor.", 0),
        affects="neither",
    )  # fmt: skip
    """Accepted for scripts of other versions, as 0 only: `time` in training.json says where the seconds went."""
    runtime_monitor: bool = argument(False, affects="neither")
    """Whether calls that train or evaluate write phases, seconds and memory to `runtime_monitor.jsonl` beside their
    results (docs/performance.md); no name of the machine is in it."""
    runtime_monitor_interval: float = argument(5.0, checked(require_finite, 0.01), affects="neither")
    """Seconds between two measurements of the monitor."""
    runtime_monitor_system_stats: bool = argument(True, affects="neither")
    """Whether the monitor also measures the memory of the machine and its GPUs."""
    weight_decay: float = argument(1e-2, parse.not_negative)
    """Weight decay of the optimizer."""
    adam_epsilon: float = argument(1e-8, parse.not_negative)
    """Epsilon of the optimizer, which keeps steps finite where gradients are tiny."""
    optim: Literal["adamw", "adam"] = argument("adamw", checked(one_of, OPTIMIZERS))
    """Name of the optimizer."""
    criterion: nn.Module | None = argument(None, parse.criterion, save=None)
    """Loss between decoded and target gradient. Default: MSELoss."""
    eval_strategy: Literal["steps", "no"] = argument("steps", checked(one_of, ("steps", "no")))
    """When the encoder is evaluated during training: every `eval_steps` steps, or never."""
    eval_steps: int = argument(DefaultWhole(250), parse.whole(1))
    """Steps between evaluations; the last step is always evaluated. By default, a training of fewer than 2500 steps
    also encodes a few rows after each tenth of its steps (at least 5 steps), for its curve; evaluations alone choose
    the model that is kept."""
    encoder_eval_train_max_size: int | None = argument(None, parse.whole(1))
    """Cap on validation examples per class for evaluations during training."""
    encoder_eval_max_size: int | None = argument(None, parse.whole(1), affects="neither")
    """Cap on examples per variant (transition or neutral type) in `evaluate_encoder`."""
    encoder_eval_balance: bool = argument(True, affects="neither")
    """Whether `evaluate_encoder` caps every class at the size of the smallest class."""
    seed_selection_eval_max_size: int | None = argument(None, parse.whole(1), affects="seeds")
    """Cap on validation examples when seeds are compared. Default: `encoder_eval_max_size`."""
    decoder_eval_max_size_training_like: int | None = argument(None, parse.whole(1), affects="neither")
    """Cap on rows per dataset class in `evaluate_decoder`."""
    decoder_eval_max_size_neutral: int | None = argument(None, parse.whole(1), affects="neither")
    """Cap on neutral texts in `evaluate_decoder`."""
    decoder_eval_lrs: Sequence[float] | Literal["auto"] | None = argument(None, parse.rates, affects="neither")
    """Steps of the decoder evaluation, or "auto" to find the best ones. Default: 0.001, 0.003, 0.01, 0.03, 0.1, 0."""
    decoder_eval_feature_factors: Sequence[float] | None = argument(None, parse.all_numbers, affects="neither")
    """Feature factors of the decoder grid. Default: the factor that strengthens (or weakens) each class."""
    eval_batch_size: int = argument(32, parse.whole(1), affects="neither")
    """Texts per forward pass in evaluations."""
    do_eval: bool = True
    """Whether to evaluate the encoder during training."""
    evaluate_fn: Callable[..., Mapping[str, Any]] | None = argument(None, checked(parse.require_evaluation), save=None)
    """Function that replaces the evaluation during training; it is called with config= and training_stats= and returns
    a dict with `correlation` and, optionally, `mean_by_class`."""
    save_strategy: Literal["best", "steps", "no"] = argument("best", checked(one_of, ("best", "steps", "no")))
    """Which model is kept: best keeps the model with the best evaluation, steps also writes a checkpoint every
    `save_steps` steps, and no keeps the last model."""
    save_steps: int = argument(5000, parse.whole(1))
    """Steps between checkpoints with `save_strategy="steps"`, and most steps between two states of a training that can
    be resumed."""
    save_total_limit: int | None = argument(None, parse.whole(1), affects="neither")
    """Most checkpoints of steps that are kept, of which the oldest is removed first. Default: all."""
    resume: bool | None = argument(None, checked(require_flag), affects="neither")
    """Whether a training that was stopped goes on where it stopped, with the same bits, and whether its state is kept
    for that (docs/reliability.md). Default: the value of `use_cache`, where there is a directory for the model."""
    save_minutes: float = argument(1.0, parse.not_negative, affects="neither")
    """Minutes between two states of a training, or of encodings, that can be resumed. Where keeping one takes long, the
    time between them is 20 times as long."""
    max_minutes: float | None = argument(None, parse.not_negative, affects="neither")
    """Minutes after which a call of `train` keeps its state and stops, to be resumed by the same call later."""
    save_only_best: bool = True
    """Whether only the best model is saved; False also writes a checkpoint after every epoch."""
    delete_models: bool = argument(False, affects="neither")
    """Whether the checkpoints of steps and epochs are removed after a training, so that only its result stays."""
    trust_remote_code: bool = argument(False, affects="neither")
    """Whether code from the hub may run when the base model is loaded."""
    dataset_trust_remote_code: bool | None = argument(None, checked(require_flag), affects="neither")
    """Whether a data set of the hub may run its own loading script. Default: the value of the configuration."""
    model_use_cache: bool = argument(False, affects="neither")
    """Whether `train_decoder_only_mlm_head` keeps a head that was trained on the same model and rows."""
    decoder_mlm_head_epochs: int = argument(5, parse.whole(1), affects="neither")
    """Passes over the rows in `train_decoder_only_mlm_head`, if the call gives none."""
    decoder_mlm_head_batch_size: int = argument(4, parse.whole(1), affects="neither")
    """Rows of a step in `train_decoder_only_mlm_head`, if the call gives none."""
    decoder_mlm_head_lr: float = argument(1e-4, parse.not_negative, affects="neither")
    """Learning rate of `train_decoder_only_mlm_head`, if the call gives none."""
    decoder_mlm_head_max_size: int | None = argument(None, parse.whole(1), affects="neither")
    """Cap on rows of `train_decoder_only_mlm_head`, if the call gives none."""
    params: Sequence[str] | None = argument(None, parse.params)
    """Names or wildcards of the base-model parameters to use. Default: the whole backbone."""
    activation_encoder: str | None = argument(None, parse.activation)
    """Activation of the encoder. Default: tanh."""
    activation_decoder: str | None = argument(None, parse.activation)
    """Activation of the decoder. Default: id, the identity."""
    bias_decoder: bool | None = argument(None, checked(require_flag))
    """Whether the decoder has a bias. Default: True."""
    latent_dim: int | None = argument(None, parse.whole(1))
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
    max_seeds: int = argument(3, parse.whole(1), affects="seeds")
    """Most seeds that are tried one after the other: seed, seed + 1, …"""
    min_convergent_seeds: int | None = argument(1, parse.whole(1), optional=True, affects="seeds")
    """Number of converged seeds after which no more seeds are tried; None runs all seeds."""
    convergent_metric: Metric | None = argument(None, checked(one_of, get_args(Metric)), affects="seeds")
    """Metric that decides whether a seed has converged. Default: correlation."""
    convergent_score_threshold: float | None = argument(None, affects="seeds")
    """Least `|correlation|`, or largest loss, of a converged seed. Default: 0.5 for correlation. A training whose loss
    has grown has not converged, whatever its metric is (docs/measure.md)."""
    convergent_mean_by_class_threshold: float | None = argument(None, checked(require_finite, 0.0), affects="seeds")
    """Least distance from 0 that the two class means of a converged seed have, on opposite sides. Default: any."""
    seed: int | None = argument(0, parse.whole(0, LARGEST_SEED), optional=True)
    """First seed. With None every run differs: a single run uses the random generators as they are, and several runs
    draw a first seed, which the report names."""
    seed_runs_dir: str | None = argument(None, parse.directory, affects="neither")
    """Directory of the seed runs. Default: `<experiment_dir>/seeds`."""
    keep_seed_runs: bool = argument(False, affects="seeds")
    """Whether the weights of every seed are kept; `train` then returns a dict seed → model."""
    saved_seed_runs: SavedSeeds | None = argument(None, checked(one_of, get_args(SavedSeeds)), affects="neither")
    """Which seeds keep their weights in `<experiment_dir>/seeds`: all_tried, all_convergent, or best_only, which keeps
    the best in `model` alone. Default: all_tried with `keep_seed_runs`, all_convergent with `analyze_seed_stability`,
    otherwise best_only."""
    analyze_seed_stability: bool = argument(False, affects="neither")
    """Whether a training with several seeds compares the top-k weights of those that have converged, and writes it into
    the report of seeds."""
    seed_stability_topk: int | float = argument(1000, parse.topk, affects="neither")
    """Number (int) or share (float in (0, 1]) of the weights that `analyze_seed_stability` compares."""
    seed_stability_part: str = argument("decoder-weight", checked(one_of, WEIGHT_PARTS), affects="neither")
    """Part whose weights are compared: encoder-weight, decoder-weight, decoder-bias or decoder-sum."""
    fail_on_non_convergence: bool = argument(False, affects="neither")
    """Whether `train` raises RuntimeError, after all seeds and with everything saved, if fewer than
    `min_convergent_seeds` (at least one) have converged."""
    highlight_non_convergence: bool = argument(True, affects="neither")
    """Whether the titles of plots of a training that has not converged end with a dagger, †."""
    reuse_pre_prune: bool = argument(False, affects="neither")
    """Accepted for scripts of other versions, without effect: seeds always share the pruning before the training."""
    split_resplit_per_seed: bool = argument(False, affects="neither")
    """Whether each of several seeds has splits of its own, where no column of the data says them (docs/data.md). The
    trainer keeps the splits of the chosen seed."""
    split_resplit_strategy: SplitStrategy = argument(
        "random", checked(one_of, get_args(SplitStrategy)), affects="neither"
    )
    """How these are drawn: random, or balanced_cycle, in which successive seeds test other words until all have had
    their turn."""
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
    pre_prune_config: PrePruneConfig | None = argument(None, parse.config(PrePruneConfig), save=methodcaller("to_dict"))
    """Configuration of pruning by gradients before the training, once for all seeds. Default: no such pruning."""
    post_prune_config: PostPruneConfig | None = argument(
        None, parse.config(PostPruneConfig), save=methodcaller("to_dict")
    )
    """Configuration of pruning by weights after the training; the pruned model is evaluated and saved, while its
    training.json holds measurements from before. Default: no such pruning."""
    metadata: dict[str, Any] = field(default_factory=dict, metadata={"parse": parse.notes, "affects": "neither"})
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
        for name in ("base_gradient_batch_size", "gradiend_batch_size"):
            if vars(self)[name] not in (None, self.train_batch_size):
                raise ValueError(
                    f"{name}={vars(self)[name]} must be train_batch_size ({self.train_batch_size}): a step is one pass "
                    "over the base model with one gradient. A smaller train_batch_size or gradient_checkpointing=True "
                    "takes less memory."
                )
        self._check_seeds()
        if self.max_steps == 0 and self.init == "random":
            raise ValueError(
                "max_steps=0 would save a random GRADIEND: give init='class_means', or max_steps=-1 for whole epochs."
            )
        if self.init == "class_means" and self.supervised:
            raise ValueError("init='class_means' makes both halves at once: it goes with no supervised mode.")
        post = self.post_prune_config
        if post is not None and post.part == "decoder-bias" and self.bias_decoder is False:
            raise ValueError("post_prune_config has part='decoder-bias', but with bias_decoder=False there is no bias.")

    def _check_seeds(self) -> None:
        """Refuse what several seeds cannot keep or compare."""
        if self.keep_seed_runs and self.saved_seed_runs not in (None, "all_tried"):
            raise ValueError(
                f"keep_seed_runs=True keeps every seed, but saved_seed_runs is {self.saved_seed_runs!r}: give one "
                "of them."
            )
        if self.analyze_seed_stability and self.saved_seed_runs == "best_only":
            raise ValueError(
                'analyze_seed_stability compares the weights of seeds, which saved_seed_runs="best_only" removes: give '
                '"all_convergent" or "all_tried".'
            )
        if self.analyze_seed_stability and self.max_seeds == 1:
            raise ValueError("analyze_seed_stability compares seeds: max_seeds must be at least 2; got 1.")

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
    def seeds_that_stay(self) -> SavedSeeds:
        """Which seeds keep their weights, see `saved_seed_runs`."""
        if self.saved_seed_runs is not None:
            return self.saved_seed_runs
        if self.keep_seed_runs:
            return "all_tried"
        return "all_convergent" if self.analyze_seed_stability else "best_only"

    @property
    def resplits(self) -> bool:
        """Whether each of several seeds has splits of its own."""
        return self.split_resplit_per_seed and self.max_seeds > 1

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
