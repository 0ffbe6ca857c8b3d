"""What a training starts from and leaves behind: a model loaded once, pre-pruned; and post-pruned."""

from __future__ import annotations

import dataclasses
import functools
import shutil
import tempfile
import weakref
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from torch import nn
from typing_extensions import Self

from gradiend.gradients import checkpointable_layers
from gradiend.model._refusals import refuse_absent_weights, refuse_wrapped
from gradiend.model.checkpoint import is_checkpoint
from gradiend.model.model_with_gradiend import ModelWithGradiend
from gradiend.trainer.core.arguments import TrainingArguments
from gradiend.trainer.core.feature_definition import FeatureLearningDefinition
from gradiend.trainer.core.memory import MemoryEstimate, Probe, estimate_training, require_memory
from gradiend.trainer.core.pruning import PostPruneConfig, PrePruneConfig, post_prune, pre_prune
from gradiend.util.files import read_json, write_json
from gradiend.util.free_memory import return_freed_memory
from gradiend.util.logging import get_logger
from gradiend.util.paths import CACHED_GRADIENTS, MODEL_DIR, NAMES, safe_path

logger = get_logger(__name__)


@runtime_checkable
class CheckpointsLayers(Protocol):
    """A model whose backward passes can run the base model's layers again instead of keeping what they computed."""

    gradient_checkpointing: bool


@dataclass(frozen=True)
class Start:
    """What trainings start from."""

    source: Any
    """Name, path or model."""
    prepare: Callable[[], ModelWithGradiend]
    """Gives the model that every seed starts from; the work is done once."""


class PreparesModels(FeatureLearningDefinition):
    """The part of a `Trainer` that gets models ready to be trained, and prunes them."""

    _base: Any
    _args: TrainingArguments
    _model: ModelWithGradiend | None
    _model_path: str | None
    _pruned_by_call: ModelWithGradiend | None = None
    """What `pre_prune` has prepared for the next training."""
    _temporary: str | None = None
    """Directory of trainings that have no other."""
    _estimate: MemoryEstimate | None = None
    """Of the last training that was begun."""

    @abstractmethod
    def get_model(self, use_cache: bool | None = None, *, load_directory: Any = None, **kwargs: Any) -> Any:
        """See `Trainer.get_model`."""

    @abstractmethod
    def _load(self, source: Any, cls: type[ModelWithGradiend] | None, args: TrainingArguments, **kwargs: Any) -> Any:
        """See `Trainer._load`."""

    def _run_directory(self, args: TrainingArguments) -> str | None:
        directory = args.experiment_dir
        return str(Path(directory) / safe_path(self.run_id)) if directory and self.run_id else directory

    def _output_of(self, args: TrainingArguments) -> str | None:
        """Where a trained model goes; None for a temporary directory."""
        root = self._run_directory(args)
        return args.output_dir or (None if root is None else str(Path(root) / MODEL_DIR))

    def _record_name(self, args: TrainingArguments) -> None:
        """Write down which run_id a folder is called after, where its name is another."""
        if not args.experiment_dir or not self.run_id or safe_path(self.run_id) == self.run_id:
            return
        path = Path(args.experiment_dir) / NAMES
        write_json(path, {**(read_json(path) if path.is_file() else {}), safe_path(self.run_id): self.run_id})
        logger.info("The folder of run_id %r is %s; %s says so.", self.run_id, self._run_directory(args), path)

    def _temporary_directory(self) -> str:
        """A directory that lasts as long as this trainer, or this process."""
        if self._temporary is None:
            self._temporary = tempfile.mkdtemp(prefix="gradiend_")
            weakref.finalize(self, shutil.rmtree, self._temporary, ignore_errors=True)
        return self._temporary

    def _gradient_directory(self, args: TrainingArguments) -> str | None:
        """Where `use_cached_gradients` keeps gradients; None without an experiment directory."""
        root = self._run_directory(args)
        return None if root is None else str(Path(root) / CACHED_GRADIENTS)

    def pre_prune(self, pre_cfg: PrePruneConfig | None = None, *, inplace: bool = True) -> Self:
        """Prune by gradients now; the next `train()` starts from the pruned model, which is kept in memory, not saved.

        Args:
            pre_cfg: Default: `pre_prune_config` of the training arguments.
            inplace: Whether a model that is already in memory is itself pruned, or a copy.

        Returns:
            self.

        Raises:
            ValueError: No configuration, or data that it does not fit.
        """
        config = _configured("pre_prune", pre_cfg, self._args.pre_prune_config, PrePruneConfig)
        new = self._model_path is None and self._is_new(self._base)
        model = self._model or self._unpruned(self._base, None, self._args)
        self._model = self._pre_pruned(model, config, self._args, inplace=inplace)
        self._pruned_by_call = self._without_weights(self._model) if new else self._model
        return self

    def post_prune(self, post_cfg: PostPruneConfig | None = None) -> Self:
        """Prune the current model by its weights; evaluations then use the pruned one. Nothing is saved.

        Args:
            post_cfg: Default: `post_prune_config` of the training arguments.

        Returns:
            self.

        Raises:
            ValueError: No configuration, or one that would keep nothing.
        """
        config = _configured("post_prune", post_cfg, self._args.post_prune_config, PostPruneConfig)
        self._model = post_prune(self.get_model(), dataclasses.replace(config, return_mask=False))
        return self

    def estimate_memory(self, **training_args_overrides: Any) -> MemoryEstimate:
        """What `train()` will take, per device, beyond what this process holds now.

        The base model is loaded for this, unless it is in memory, and runs two of the longest training examples.

        Args:
            **training_args_overrides: As for `train`.

        Returns:
            Its `peak` is device → bytes; as text, it says what for.

        Raises:
            TypeError: An unknown override; the message names the nearest field.
        """
        args = self._args.replace(**training_args_overrides)
        model = self._pruned_by_call or self._model
        return self._memory_of(model or self._unpruned(self._base, None, args), args, held=model is not None)

    def _memory_of(self, model: ModelWithGradiend, args: TrainingArguments, *, held: bool) -> MemoryEstimate:
        config = args.pre_prune_config
        if model is self._pruned_by_call:
            args = args.replace(pre_prune_config=None)
        per_class = 0 if config is None else -(-config.n_samples // max(2, len(self.target_classes or ())))
        probe = self._memory_probe(model, args)
        return_freed_memory()
        return estimate_training(
            model.base_model, model.gradiend, args, probe,
            class_batches=0 if config is None else -(-per_class // config.batch_size), base_held=held,
        )  # fmt: skip

    def _memory_probe(self, model: Any, args: TrainingArguments) -> Probe | None:
        """Trace the passes of a training over the base model; override it for a modality. None: not known."""
        del model, args
        return None

    def _start(self, model: Any, cls: type[ModelWithGradiend] | None, args: TrainingArguments) -> Start:
        """What trainings start from, not made ready before one really does; see `_prepared`."""
        by_call = self._pruned_by_call if model is None else None
        source = model if model is not None else self._base if by_call is None else by_call
        if isinstance(source, nn.Module) and not isinstance(source, ModelWithGradiend):
            refuse_wrapped(source)
            refuse_absent_weights(source)
        return Start(source, functools.cache(lambda: _with_fitting_mask(self._prepared(model, cls, args), args)))

    def _prepared(self, model: Any, cls: type[ModelWithGradiend] | None, args: TrainingArguments) -> ModelWithGradiend:
        """The model that every seed starts from.

        A new GRADIEND has no weights yet, so that each seed draws its own; what pruning keeps does not depend on them.

        Args:
            model: Name, path or `ModelWithGradiend`, which is not changed; None: the one given at construction, or
                what `pre_prune` has made of it.
            cls: Class of a new model.
            args: Of the training.
        """
        if model is None and self._pruned_by_call is not None:
            prepared = self._pruned_by_call
            self._require_memory(prepared, args, held=True)
            self._pruned_by_call = None
            return prepared
        source = self._base if model is None else model
        prepared = self._unpruned(source, cls, args)
        if not self._is_new(source):
            warn_of_ignored_arguments(prepared, args)
        given = isinstance(source, ModelWithGradiend)
        self._require_memory(prepared, args, held=given)
        if args.pre_prune_config is None:
            return prepared
        pruned = self._pre_pruned(prepared, args.pre_prune_config, args, inplace=not given)
        return self._without_weights(pruned) if self._is_new(source) else pruned

    def _require_memory(self, model: ModelWithGradiend, args: TrainingArguments, *, held: bool) -> None:
        self._estimate = self._memory_of(model, args, held=held)
        logger.info("This training will take %s.", self._estimate)
        # The base model is there by now, whoever has loaded it.
        require_memory(self._estimate.with_base_model(), args)

    def _is_new(self, source: Any) -> bool:
        """Whether loading `source` makes a GRADIEND that has never been trained."""
        return not isinstance(source, ModelWithGradiend) and not (isinstance(source, str) and is_checkpoint(source))

    def _unpruned(self, source: Any, cls: type[ModelWithGradiend] | None, args: TrainingArguments) -> ModelWithGradiend:
        if isinstance(source, ModelWithGradiend):
            model = source
        else:
            model = self._load(self.resolve_model_path(source), cls, args, lazy_init=True)
            model = self._without_weights(model) if self._is_new(source) else model
        if not args.gradient_checkpointing:
            return model
        if not isinstance(model, CheckpointsLayers):
            raise ValueError(f"gradient_checkpointing is not available for a {type(model).__name__}: leave it off.")
        checkpointable_layers(model.base_model)
        # A copy: the setting is this training's, not the user's model's.
        copy = model.with_original_base_model(model.base_model)
        copy.gradient_checkpointing = True
        return copy

    def _without_weights(self, model: ModelWithGradiend) -> ModelWithGradiend:
        empty = model.with_original_base_model(model.base_model)
        empty.gradiend = model.gradiend.without_weights()
        return empty

    def _pre_pruned(
        self, model: ModelWithGradiend, config: PrePruneConfig, args: TrainingArguments, *, inplace: bool
    ) -> ModelWithGradiend:
        examples = None
        if config.dataset is None:
            # Batches of one: the configuration says how many examples are taken at a time.
            examples = self.create_training_data(model, split="train", batch_size=1, max_size=args.train_max_size)
        pruned = pre_prune(
            model, examples, config, definition=self, inplace=inplace, cache_dir=self._gradient_directory(args)
        )
        return_freed_memory()
        return pruned

    def _post_pruned(self, model: ModelWithGradiend, args: TrainingArguments, directory: str) -> ModelWithGradiend:
        """A trained model as the arguments want it, also in its directory."""
        if args.post_prune_config is None:
            return model
        try:
            pruned = post_prune(model, dataclasses.replace(args.post_prune_config, return_mask=False))
        except ValueError as error:
            # Only the trained weights can tell that a threshold is too high: that must not cost the training.
            logger.warning("The trained model in %s stays as it is, unpruned: %s", directory, error)
            return model
        pruned.save_pretrained(directory)
        return pruned


def _with_fitting_mask(model: ModelWithGradiend, args: TrainingArguments) -> ModelWithGradiend:
    """The model, unless pruning after its training would find a mask of another length."""
    mask = None if args.post_prune_config is None else args.post_prune_config.mask
    if mask is not None and tuple(mask.shape) != (len(model),):
        raise ValueError(
            f"The mask of post_prune_config has the shape {tuple(mask.shape)}, but the GRADIEND that is trained has "
            f"{len(model)} input dimensions."
        )
    return model


def warn_of_ignored_arguments(model: ModelWithGradiend, args: TrainingArguments) -> None:
    """Say which arguments shape a new GRADIEND only, where they are not what this one has."""
    gradiend = model.gradiend
    has = {
        "source": model.source,
        "latent_dim": gradiend.latent_dim,
        "activation_encoder": gradiend.activation_encoder,
        "activation_decoder": gradiend.activation_decoder,
        "bias_decoder": gradiend.bias_decoder,
        "torch_dtype": gradiend.torch_dtype,
    }
    if not args.supervised and model.target is not None:
        has["target"] = model.target
    kept = {name: own for name, own in has.items() if args.get(name) not in (None, own)}
    asked = [f"{name}={args.get(name)!r}" for name in kept] + (["params"] if args.params is not None else [])
    if asked:
        own = [f"{name}={value!r}" for name, value in kept.items()] + (["its map"] if args.params is not None else [])
        logger.warning(
            "The GRADIEND that is trained exists already: it keeps %s, whatever the training arguments say (%s).",
            ", ".join(own), ", ".join(asked),
        )  # fmt: skip


def _configured(name: str, given: Any, default: Any, kind: type[Any]) -> Any:
    config = default if given is None else given
    if config is None:
        raise ValueError(
            f"{name} needs a configuration: pass {kind.__name__}(topk=…), or set {name}_config in TrainingArguments."
        )
    if not isinstance(config, kind):
        raise TypeError(f"{name} needs a {kind.__name__}; got {type(config).__name__}.")
    return config
