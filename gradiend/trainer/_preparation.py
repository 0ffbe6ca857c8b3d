"""From a call of `train` to a model that is ready to be trained: the plan, the model, its pruning, the rows."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Protocol

import pandas as pd
import torch

from gradiend.evaluator.encoder import EncoderData, encoded_frame
from gradiend.model._checkpoint_files import read_training
from gradiend.model.model_with_gradiend import ModelWithGradiend
from gradiend.trainer._models import is_new, require_same_base, sharded, unpruned, warn_of_ignored_arguments
from gradiend.trainer.core import _memory
from gradiend.trainer.core._kept_gradients import GradientStore
from gradiend.trainer.core._layouts import Layout
from gradiend.trainer.core._memory import MemoryEstimate
from gradiend.trainer.core._modality import Modality
from gradiend.trainer.core._rate_sample import HELD_OUT
from gradiend.trainer.core._resume import KeptStates
from gradiend.trainer.core._step import gradient_arguments
from gradiend.trainer.core.arguments import TrainingArguments
from gradiend.trainer.core.callbacks import CurveEvaluation, TrainingCallback
from gradiend.trainer.core.dataset import GradientBatches
from gradiend.trainer.core.pruning import PostPruneConfig, PrePruneConfig, post_prune, pre_prune
from gradiend.util._digest import digest_frame, gradiend_digest
from gradiend.util._files import read_checked_json, require_room, write_checked_json
from gradiend.util._interruption import StopRequest
from gradiend.util._isolation import plain_modes
from gradiend.util._processes import alone, processes
from gradiend.util.logging import get_logger
from gradiend.util.paths import CACHED_GRADIENTS, MODEL_DIR, NAMES, SEEDS_DIR, safe_path

logger = get_logger(__name__)

ROWS_OF_A_GLANCE = 8
"""Rows of each label in a glance, which reads fewer rows than a usual training batch and needs no backward pass."""


class SharesWork(Protocol):
    """The work that the trainings of a suite share, see `SharedWork`, which imports this module."""

    estimate: MemoryEstimate | None
    """The memory that a training takes; None before the first."""

    @property
    def any_model(self) -> ModelWithGradiend | None:
        """A model around the base model that trainings share; None before the first."""

    def gradient_directory(self, model: ModelWithGradiend, args: TrainingArguments) -> str | None:
        """The folder for the gradients by which models are pruned; None if there is none."""

    def model(self, trainer: Any, plan: TrainingPlan, make: Callable[[], ModelWithGradiend]) -> ModelWithGradiend:
        """The model that a training starts from, what `make` gives, around the base model that trainings share."""

    def take(self, trainer: Any, plan: TrainingPlan) -> Preparation | None:
        """What was prepared for a training; None if nothing was."""


@dataclass(frozen=True)
class TrainingPlan:
    """What one call of `Trainer.train`, or one seed of a call, does. A plan does not change while it is carried out."""

    args: TrainingArguments
    """The trainer's arguments, overridden by those of the call."""
    output: str
    """Directory of the trained model."""
    source: Any
    """The start of the training: a name, a path or a model."""
    pruned: bool = False
    """Whether `Trainer.pre_prune` made `source`, so that the training must not prune it again."""
    model_class: type[ModelWithGradiend] | None = None
    """Class of a new model; None is the trainer's class."""
    callbacks: Sequence[TrainingCallback] | None = None
    """Callbacks, which are called after the default callbacks."""
    resumes: bool = False
    """Whether the training goes on where the same training was stopped, and keeps its state for that."""
    splits: Sequence[Modality] = ()
    """The data with the splits of each seed, where seeds have their own; see `split_resplit_per_seed`."""

    @property
    def reuses(self) -> bool:
        """Whether a finished training of the same model, data and arguments is used."""
        return bool(self.args.use_cache) or self.resumes

    @property
    def seeds_directory(self) -> Path:
        """Directory of the seed runs."""
        return Path(self.args.seed_runs_dir or Path(self.output).parent / SEEDS_DIR)

    def for_seed(self, seed: int) -> TrainingPlan:
        """The plan of one seed among several."""
        output = str(self.seeds_directory / f"seed_{seed}")
        return dataclasses.replace(self, args=self.args.replace(seed=seed), output=output)


class Preparation:
    """What the seeds of a training share. Each part is made when the first seed needs it, and not before.

    Args:
        trainer: The trainer, which supplies the data.
        plan: What the training does.
        model: The model that every seed starts from, if it is prepared already.
        gradients: The store of the gradients of training batches.
        shared: What the training shares with those of other trainers of a suite.
        first: The preparation of which this one takes the unpruned model and the memory estimate.
    """

    def __init__(
        self, trainer: Any, plan: TrainingPlan, model: ModelWithGradiend | None = None,
        gradients: GradientStore | None = None, shared: SharesWork | None = None, first: Preparation | None = None,
    ) -> None:  # fmt: skip
        self.trainer = trainer
        self.plan = plan
        self.gradients = gradients
        self.stop: StopRequest = StopRequest() if first is None else first.stop
        """Asked between steps whether the training should stop."""
        self.shared = shared
        self.first = first
        if model is not None:
            self.model = model
        self.estimate: MemoryEstimate | None = None if first is None else first.estimate
        self.encodings: dict[tuple[str, str], pd.DataFrame] = {}
        """Encodings of the current seed, by the digests of model and rows."""
        self.states: KeptStates | None = None
        """The states of the training with the current seed; None keeps none."""

    @cached_property
    def model(self) -> ModelWithGradiend:
        """The model that every seed starts from, already pruned if the arguments say so.

        A new GRADIEND has no weights yet, so that each seed draws its own; pruning by gradients needs no weights.

        Raises:
            MemoryError: The training needs more memory than is free.
            ValueError: The mask for pruning after the training has another length.
        """
        plan, args = self.plan, self.plan.args
        given = isinstance(plan.source, ModelWithGradiend)
        # Seeds with splits of their own prune the same start, each by its rows.
        held = given or bool(plan.splits)
        model = plan.source if plan.pruned else self.start
        require_same_base(model.base_model)
        new = is_new(plan.source)
        if not new and not plan.pruned:
            warn_of_ignored_arguments(model, args)
        config = None if plan.pruned else args.pre_prune_config
        if self.estimate is None and self.shared is not None:
            self.estimate = self.shared.estimate
        if self.estimate is None:
            self.estimate = memory_of(self.trainer, model, args.replace(pre_prune_config=config), held=given)
        logger.info("This training will take %s.", self.estimate)
        # By now the base model is in memory, whoever has loaded it.
        with processes().together():
            _memory.require_memory(self.estimate.with_base_model(), args)
        model = sharded(self.trainer, model, args)
        if config is not None:
            kept = None if self.states is None else self.states.entries
            if kept is None:
                shared = None if self.shared is None else self.shared.gradient_directory(model, args)
                model = pre_pruned(self.trainer, model, config, args, inplace=not held, shared=shared)
            else:
                model = model.prune_gradiend(mask=mask_of(model, kept), inplace=not held)
            model = model.untrained() if new else model
        mask = None if args.post_prune_config is None else args.post_prune_config.mask
        if mask is not None and tuple(mask.shape) != (len(model),):
            raise ValueError(
                f"The mask of post_prune_config has the shape {tuple(mask.shape)}, but the GRADIEND that is trained "
                f"has {len(model)} input dimensions."
            )
        # Of several seeds, the best one is copied to the output.
        copies, gradiend = 1 if args.max_seeds == 1 else 2, model.gradiend
        entries = len(model) * (2 * gradiend.latent_dim + int(gradiend.bias_decoder))
        require_room(plan.output, copies * entries * gradiend.torch_dtype.itemsize, "The trained GRADIEND")
        return model

    @cached_property
    def start(self) -> ModelWithGradiend:
        """The model before any pruning; a new GRADIEND has no weights."""
        if self.first is not None:
            return self.first.start
        plan = self.plan
        make = partial(unpruned, self.trainer, plan.source, plan.model_class, plan.args)
        return make() if self.shared is None else self.shared.model(self.trainer, plan, make)

    @contextmanager
    def for_split(self, data: Modality) -> Iterator[Preparation]:
        """What one seed with splits of its own needs; gradients that it keeps are removed at the end.

        The base model is that of this preparation.
        """
        trainer = with_data(self.trainer, data)
        gradients = GradientStore(self.plan.args.kept_gradients_size)
        own = Preparation(trainer, self.plan, gradients=gradients, shared=self.shared, first=self)
        try:
            yield own
        finally:
            self.estimate = own.estimate
            gradients.close()

    @cached_property
    def examples(self) -> Any:
        """The training examples, tokenized once for all seeds."""
        args = self.plan.args
        return self.trainer.create_training_data(
            self.model, split="train", batch_size=args.train_batch_size, max_size=args.train_max_size,
            include_other_classes=args.add_identity_for_other_classes,
        )  # fmt: skip

    @cached_property
    def evaluation_rows(self) -> Any:
        """The rows that trainings are evaluated on while they run."""
        split, most = self.trainer.modality.evaluation_split(), self.plan.args.encoder_eval_train_max_size
        return self.trainer.create_eval_data(self.model, split=split, max_size=most)

    @cached_property
    def glance_rows(self) -> EncoderData:
        """The few of these rows of which a glance sees the encodings."""
        few: EncoderData = self.evaluation_rows.few(ROWS_OF_A_GLANCE)
        return few

    def held_out(self, model: ModelWithGradiend) -> Iterator[Mapping[str, Any]]:
        """Evaluation rows as dicts with `source`, a gradient of the model's map, and `label`, the same at every call.

        The next row may overwrite the gradient.
        """
        rows = self.evaluation_rows
        return rows.few(HELD_OUT).gradients(model) if isinstance(rows, EncoderData) else iter(rows)

    def encoded(self, model: Any, data: Any, args: TrainingArguments) -> pd.DataFrame:
        """The encodings of evaluation rows.

        Seeds are compared by the rows on which their models were evaluated in training, so encodings that are known
        from there are not computed again.
        """
        if args.max_seeds == 1 or not isinstance(data, EncoderData):
            return encoded_frame(model, data, batch_size=args.eval_batch_size)
        key = gradiend_digest(model), digest_frame(data.rows)
        if key not in self.encodings:
            made = data.encode(model, batch_size=args.eval_batch_size)
            self.encodings[key] = made.drop(columns=data.rows.columns)
        return pd.concat([data.rows, self.encodings[key]], axis=1)

    def evaluation(
        self, model: Any, args: TrainingArguments, every: int | None
    ) -> Callable[..., Mapping[str, Any]] | None:
        """The function that evaluates a model in training; None without rows. `every` is what `glance_every` gives."""
        data = self.evaluation_rows
        if not len(data):
            logger.warning("There are no rows to evaluate the encoder on during training.")
            return None
        measure = self.trainer.evaluator.evaluate_encoder

        def evaluate(**kwargs: Any) -> Mapping[str, Any]:
            del kwargs
            return measure(encoder_df=self.encoded(model, data, args), n_resamples=0)

        if every is None or not isinstance(data, EncoderData):
            return evaluate

        def glance() -> Mapping[str, Any]:
            frame = self.glance_rows.encode(model, batch_size=args.eval_batch_size)
            return measure(encoder_df=frame, n_resamples=0)

        return CurveEvaluation(evaluate, glance, every)


def with_data(trainer: Any, data: Modality) -> Any:
    """A copy of a trainer that has other data; the two share the current model."""
    own = copy.copy(trainer)
    own.modality, own._evaluator = data, None
    return own


@contextmanager
def prepared_once(trainer: Any, plan: TrainingPlan) -> Iterator[Preparation]:
    """A `Preparation`, whose kept gradients are removed at the end; an error for lack of memory says what to lower.

    Ctrl-C, SIGTERM and the end of `max_minutes` stop a training that can be resumed when its state is kept.
    """
    shared, stop = trainer.current.shared, StopRequest(plan.args.max_minutes)
    ready = None if shared is None else shared.take(trainer, plan)
    if ready is None:
        gradients = GradientStore(plan.args.kept_gradients_size)
        ready = Preparation(trainer, plan, gradients=gradients, shared=shared)
    ready.stop = stop
    try:
        with (
            stop if plan.resumes else nullcontext(),
            plain_modes(),
            _memory.explained_memory_errors(lambda: ready.estimate, plan.args),
        ):
            yield ready
    finally:
        assert ready.gradients is not None
        ready.gradients.close()


def run_directory(trainer: Any, args: TrainingArguments) -> str | None:
    """`args.experiment_dir` with the trainer's `run_id` appended, if there is one."""
    directory = args.experiment_dir
    return str(Path(directory) / safe_path(trainer.run_id)) if directory and trainer.run_id else directory


def model_directory(trainer: Any, args: TrainingArguments) -> str | None:
    """Directory of a trained model; None for a temporary directory."""
    root = run_directory(trainer, args)
    return args.output_dir or (None if root is None else str(Path(root) / MODEL_DIR))


def new_folders(trainer: Any, args: TrainingArguments) -> list[str | None]:
    """The folders that a training makes where they are missing."""
    return [args.output_dir, args.seed_runs_dir, run_directory(trainer, args)]


def gradient_directory(trainer: Any, args: TrainingArguments) -> str | None:
    """Directory in which `use_cached_gradients` keeps gradients; None without an experiment directory."""
    root = run_directory(trainer, args)
    return None if root is None else str(Path(root) / CACHED_GRADIENTS)


def record_name(trainer: Any, args: TrainingArguments) -> None:
    """Record which run_id a folder belongs to, if the folder has another name than the run_id."""
    run_id = trainer.run_id
    if not args.experiment_dir or not run_id or safe_path(run_id) == run_id:
        return
    path = Path(args.experiment_dir) / NAMES
    write_checked_json(path, {**(read_checked_json(path) if path.is_file() else {}), safe_path(run_id): run_id})
    logger.info("The folder of run_id %r is %s; %s says so.", run_id, run_directory(trainer, args), path)


def training_gradients(trainer: Any, model: ModelWithGradiend, args: TrainingArguments, ready: Preparation) -> Any:
    """The batches of a training, which read gradients that are kept."""
    cache = gradient_directory(trainer, args) if args.use_cached_gradients else None
    if args.use_cached_gradients and cache is None:
        logger.info("use_cached_gradients has no effect on this training: there is no experiment_dir to keep them in.")
    gradients = trainer.create_gradient_training_dataset(
        ready.examples, model, **gradient_arguments(model, args, cache)
    )
    if cache is None and isinstance(gradients, GradientBatches):
        gradients.store = ready.gradients
    return gradients


def pre_pruned(
    trainer: Any, model: ModelWithGradiend, config: PrePruneConfig, args: TrainingArguments, *, inplace: bool,
    shared: str | None = None,
) -> ModelWithGradiend:  # fmt: skip
    """The model, pruned by the gradients of the configuration's examples, or else of the trainer's examples.

    `shared` is a folder in which other trainings find the gradients of the same examples.
    """
    examples = None
    if config.dataset is None:
        # Batches have one example, because the configuration says how many examples are taken at a time.
        examples = trainer.create_training_data(model, split="train", batch_size=1, max_size=args.train_max_size)
    cache = gradient_directory(trainer, args) if config.use_cached_gradients else shared
    config = dataclasses.replace(config, use_cached_gradients=cache is not None or config.use_cached_gradients)
    pruned = pre_prune(model, examples, config, definition=trainer, inplace=inplace, cache_dir=cache)
    _memory.return_freed_memory()
    return pruned


def post_pruned(model: ModelWithGradiend, args: TrainingArguments, directory: str) -> ModelWithGradiend:
    """A trained model, pruned by its weights if the arguments say so, in memory and in its directory."""
    if args.post_prune_config is None:
        return model
    try:
        pruned = post_prune(model, dataclasses.replace(args.post_prune_config, return_mask=False))
    except ValueError as error:
        # Only the trained weights can tell that a threshold is too high, and this must not cost the training.
        logger.warning("The trained model in %s stays as it is, unpruned: %s", directory, error)
        return model
    # The measurements are from before the pruning, and stay beside the new weights.
    training = read_training(Path(directory))
    kept: dict[str, Any] = {} if training is None else {"training": training}
    pruned.save_pretrained(directory, **kept)
    return pruned


def memory_of(trainer: Any, model: ModelWithGradiend, args: TrainingArguments, *, held: bool) -> MemoryEstimate:
    """The memory that a training of the model will need, see `estimate_training`."""
    probe = None
    if model.gradiend.shards is None:
        with alone():
            probe = trainer.modality.memory_probe(trainer, model, args)
    _memory.return_freed_memory()
    n_classes = max(2, len(trainer.target_classes or ()))
    estimate = _memory.estimate_training(
        model.base_model, model.gradiend, args, probe, n_classes=n_classes, base_held=held
    )
    n = processes().count
    if n == 1 or model.gradiend.shards is not None:
        return estimate
    device = f"cuda:{torch.cuda.current_device()}" if torch.cuda.is_available() else "cpu"
    return estimate.for_layout(Layout("sharded" if args.fsdp else "data_parallel", n), device)


def mask_of(model: ModelWithGradiend, entries: torch.Tensor) -> torch.Tensor:
    """The mask (input_dim,) of the `entries`, which are numbered as in `ParameterMap.base_indices`."""
    mapping = model.gradiend.mapping
    wanted = torch.zeros(mapping.unpruned_size, dtype=torch.bool)
    wanted[entries] = True
    return wanted[mapping.base_indices()]


def pruning_config(name: str, given: Any, default: Any, kind: type[PrePruneConfig] | type[PostPruneConfig]) -> Any:
    """The configuration of a call of `pre_prune` or `post_prune`."""
    config = default if given is None else given
    if config is None:
        raise ValueError(
            f"{name} needs a configuration: pass {kind.__name__}(topk=…), or set {name}_config in TrainingArguments."
        )
    if not isinstance(config, kind):
        raise TypeError(f"{name} needs a {kind.__name__}; got {type(config).__name__}.")
    return config
