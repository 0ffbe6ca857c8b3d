"""The public face of an experiment: train, evaluate, plot, rewrite. The work is done by the parts that it calls."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from typing_extensions import Self

from gradiend.evaluator import Evaluator
from gradiend.evaluator.encoder import EncoderData, encoded_frame
from gradiend.model.base_digest import BaseDigest
from gradiend.model.checkpoint import is_checkpoint
from gradiend.model.model_with_gradiend import ModelWithGradiend, encoding_direction
from gradiend.trainer._saved_training import SavedTraining, kept_models, seeds_parts, training_parts
from gradiend.trainer.core._kept_gradients import GradientStore
from gradiend.trainer.core.arguments import TrainingArguments
from gradiend.trainer.core.callbacks import CurveEvaluation, TrainingCallback, glance_every
from gradiend.trainer.core.feature_definition import original_model
from gradiend.trainer.core.memory import explained_memory_errors
from gradiend.trainer.core.seeding import set_seed
from gradiend.trainer.core.supervised import gradient_arguments, resolve_target
from gradiend.trainer.core.training import total_steps
from gradiend.trainer.core.training import train as train_core
from gradiend.trainer.evaluation import EvaluatesModels
from gradiend.trainer.preparation import PreparesModels
from gradiend.trainer.rewriting_trainer import TrainerWithRewriting
from gradiend.trainer.seed_training import train_seeds
from gradiend.util._digest import digest_frame, gradiend_digest
from gradiend.util._files import require_directory
from gradiend.util.keywords import resolve_keywords
from gradiend.util.logging import get_logger
from gradiend.util.paths import MODEL_DIR
from gradiend.visualizer import Visualizer
from gradiend.visualizer.encoder_frame import Encodings
from gradiend.visualizer.output import require_matplotlib

logger = get_logger(__name__)

ROWS_OF_A_GLANCE = 8
"""Of each label: fewer together than a usual training batch, without a backward pass."""


class Trainer(PreparesModels, EvaluatesModels, TrainerWithRewriting):
    """Train, evaluate and apply a GRADIEND; a subclass supplies the modality (see `FeatureLearningDefinition`).

    Args:
        model: Name or path of a base model or checkpoint, or a `ModelWithGradiend`. Loaded when first needed.
        target_classes: The two classes; the first is encoded as +1.
        args: Training and evaluation arguments.
        run_id: Subdirectory of `args.experiment_dir` for this run.
        n_features: Number of latent features.
        evaluator_class: Called as `evaluator_class(trainer, visualizer_class=Visualizer)`.

    Raises:
        ValueError: A class named twice.
    """

    def __init__(
        self,
        model: Any,
        target_classes: Sequence[str] | None = None,
        args: TrainingArguments | None = None,
        run_id: str | None = None,
        n_features: int = 1,
        evaluator_class: Callable[..., Evaluator] | None = None,
    ) -> None:
        super().__init__(target_classes, run_id, n_features)
        if args is not None and not isinstance(args, TrainingArguments):
            raise TypeError(f"args must be gradiend.TrainingArguments(…); got {type(args).__name__}.")
        self._base = self._trained_from = model
        self._args = args or TrainingArguments()
        self._model: ModelWithGradiend | None = model if isinstance(model, ModelWithGradiend) else None
        self._model_path: str | None = None
        self.reused = False
        """Whether the last training was found done."""
        self._evaluator_class = evaluator_class or Evaluator
        self._evaluator: Evaluator | None = None
        self.gradient_store: GradientStore | None = None
        """Gradients of the running `train()`: later epochs and seeds need the same ones."""
        self._known_encodings: dict[tuple[str, str], pd.DataFrame] | None = None
        """Of the running training, by digests of GRADIEND and rows; None where no other seed is compared with it."""

    def __repr__(self) -> str:
        name, classes = type(self).__name__, self._target_classes
        return f"{name}(model={self.base_model_path}, target_classes={classes}, run_id={self.run_id})"

    # What it works on

    @property
    def training_args(self) -> TrainingArguments:
        """The arguments that hold where a call gives no other."""
        return self._args

    @property
    def base_model_path(self) -> str:
        """The model given at construction, by name or path."""
        return self._base if isinstance(self._base, str) else str(getattr(self._base, "name_or_path", self._base))

    @property
    def model_path(self) -> str:
        """The base model before training, the directory of the trained GRADIEND afterwards."""
        return self._model_path or self.base_model_path

    @property
    def experiment_dir(self) -> str | None:
        """`args.experiment_dir`, with `run_id` appended if there is one."""
        return self._run_directory(self._args)

    @property
    def evaluator(self) -> Evaluator:
        """Runs evaluations and plots for this trainer."""
        if self._evaluator is None:
            self._evaluator = self._evaluator_class(self, visualizer_class=Visualizer)
        return self._evaluator

    def get_model(self, use_cache: bool | None = None, *, load_directory: Any = None, **kwargs: Any) -> Any:
        """The model in memory, or the one at `model_path`, which is then kept in memory.

        Without either it is the one that an earlier training has left in the experiment directory, if this trainer
        would train the same (model, data and arguments): the log says so. Otherwise it is a new GRADIEND, which can
        encode, and be trained, but not be evaluated.

        Args:
            use_cache: Accepted for compatibility; a loaded model is always kept.
            load_directory: Load this checkpoint instead.
            **kwargs: See `ModelWithGradiend.from_pretrained`.
        """
        del use_cache
        if load_directory is not None:
            self._model = self.load_model(load_directory, **kwargs)
            return self._model
        self._take_earlier_model()
        if self._model is None:
            if not is_checkpoint(self.model_path):
                logger.warning("This GRADIEND is new: its weights are random. %s", self.why_untrained())
            self._model = self._load(
                self.resolve_model_path(self._model_path or self._base), None, self._args, **kwargs
            )
        return self._model

    def _take_earlier_model(self) -> None:
        """Go on with the model in the experiment directory, if this trainer has none and would train the same."""
        if self._model_path is not None or self._pruned_by_call is not None:
            return
        if self._model is not None and not (self._model is self._base and self._model.gradiend.is_untrained):
            return
        if is_checkpoint(self.model_path) or not self.has_earlier_model() or self._why_not_earlier():
            return
        self._model_path, self._model = self._output_of(self._args), None
        logger.info(
            "The model in %s was trained from the same model and data, with the same arguments: it is used.",
            self._model_path,
        )

    def has_earlier_model(self) -> bool:
        """Whether a trained model lies where `train()` would put its own."""
        output = self._output_of(self._args)
        return output is not None and is_checkpoint(output)

    def _why_not_earlier(self) -> list[str]:
        """Why that model is not what `train()` would make; nothing if it is."""
        output = self._output_of(self._args)
        assert output is not None
        run = {"model": self._start(None, None, self._args), "model_with_gradiend_cls": None, "callbacks": None}
        parts = training_parts if self._args.max_seeds == 1 else seeds_parts
        try:
            return SavedTraining(output, parts(self, self._args, run)).why_not_current()
        except ValueError as error:
            return [f"what this trainer would train from cannot be told: {error}"]

    def why_untrained(self) -> str:
        """How to come to a trained model, and why one that lies in the experiment directory was not taken."""
        if not self.has_earlier_model():
            return "Call train() first, or get_model(load_directory=…) for a trained one."
        output, why = self._output_of(self._args), self._why_not_earlier()
        reason = f"it was not trained from what this trainer has ({'; '.join(why)})" if why else "it is not in use"
        return (
            f"There is a trained model in {output}, but {reason}. Call get_model(load_directory={output!r}) to use it "
            "all the same, or train() first."
        )

    def unload_model(self) -> None:
        """Let go of the model in memory, and of changes to it that were not saved; `get_model` loads it again.

        A model that was given as one at construction and not trained stays.
        """
        self._model = self._base if self._model_path is None and isinstance(self._base, ModelWithGradiend) else None

    def has_model(self) -> bool:
        """Whether there is a model in memory, or a trained one that `get_model` would load."""
        self._take_earlier_model()
        return self._model is not None or is_checkpoint(self.model_path)

    def load_model(
        self,
        load_directory: str,
        model_with_gradiend_cls: type[ModelWithGradiend] | None = None,
        **kwargs: Any,
    ) -> Any:
        """A specific checkpoint; this trainer's own model stays.

        Raises:
            FileNotFoundError: No checkpoint there.
        """
        return self._load(load_directory, model_with_gradiend_cls, self._args, require_gradiend_model=True, **kwargs)

    def load_seed_runs(self, directories: Mapping[int, str]) -> dict[int, Any]:
        """seed → checkpoint; all share one base model.

        Args:
            directories: seed → checkpoint directory.
        """
        models: dict[int, Any] = {}
        for seed, directory in directories.items():
            first = next(iter(models.values()), None)
            models[seed] = self.load_model(directory, **({} if first is None else first.base_arguments()))
        return models

    def _load(self, source: Any, cls: type[ModelWithGradiend] | None, args: TrainingArguments, **kwargs: Any) -> Any:
        """A model for this feature, built as the arguments say where it is new."""
        new = not (isinstance(source, (str, Path)) and is_checkpoint(source))
        shape = {
            "source": args.source,
            "target": args.target,
            "torch_dtype": args.torch_dtype if new else None,
            "trust_remote_code": args.trust_remote_code,
            "params": args.params,
            "latent_dim": args.latent_dim or self.n_features,
            "activation_encoder": args.activation_encoder,
            "activation_decoder": args.activation_decoder,
            "bias_decoder": args.bias_decoder,
            "encoder_decoder_same_device": args.encoder_decoder_same_device,
        }
        if args.base_model_dtype is not None:
            shape["base_model_dtype"] = args.base_model_dtype
        if not new and "base_model" not in kwargs:
            shape |= self._base_in_hand(source)
        model = self.create_model_with_gradiend(source, cls, **{**shape, **kwargs})
        resolve_target(model, args, new=new)
        return model

    def _base_in_hand(self, checkpoint: str | Path) -> dict[str, Any]:
        """Keywords that load a checkpoint around the base model that this trainer was given in memory, if it was
        trained on that: a copy from disk may be another one, of another dtype or place.
        """
        given = self._trained_from
        trained_on = None if isinstance(given, (str, Path)) else BaseDigest.load(checkpoint)
        if trained_on is None:
            return {}
        base_model = given.base_model if isinstance(given, ModelWithGradiend) else given
        if BaseDigest.of(original_model(base_model)).differences(trained_on):
            return {}
        return given.base_arguments() if isinstance(given, ModelWithGradiend) else {"base_model": base_model}

    def to(self, device: torch.device | str) -> Self:
        """Move the loaded model; nothing happens before it is loaded. Returns self."""
        if self._model is not None:
            self._model.to(device)
        return self

    def cpu(self) -> Self:
        """See `to`."""
        return self.to("cpu")

    def cuda(self, device: int | str | torch.device | None = None) -> Self:
        """See `to`; None is the current CUDA device, an int its index."""
        return self.to(torch.device("cuda", device) if isinstance(device, int) else (device or "cuda"))

    # Training

    def train(
        self,
        output_dir: str | None = None,
        model: Any = None,
        model_with_gradiend_cls: type[ModelWithGradiend] | None = None,
        callbacks: Sequence[TrainingCallback] | None = None,
        **training_args_overrides: Any,
    ) -> Any:
        """Train a GRADIEND, trying seeds until enough have converged, and keep the best.

        Args:
            output_dir: Where the model goes. Default: the arguments', `<experiment_dir>/model`, or a temporary one,
                which is removed when this trainer goes, or the process ends.
            model: Instead of the one given at construction.
            model_with_gradiend_cls: Class of a new model.
            callbacks: Called after the default ones.
            **training_args_overrides: Fields of `TrainingArguments` that hold for this training only.

        Returns:
            This trainer; or, with `keep_seed_runs` and several seeds, seed → model.

        Raises:
            TypeError: An unknown override; the message names the nearest field.
            ValueError: Data or arguments that cannot be trained on; before any work.
        """
        named = {"output_dir": output_dir, "model_with_gradiend_cls": model_with_gradiend_cls}
        overrides = {**training_args_overrides, **{name: value for name, value in named.items() if value is not None}}
        given = resolve_keywords("Trainer.train", overrides, [*self._args.names(), "num_epochs", *named])
        cls = given.pop("model_with_gradiend_cls", None)
        args = self._args.replace(**given)
        self.check_training_data(args)
        output = self._output_of(args) or str(Path(self._temporary_directory()) / MODEL_DIR)
        for place in (output, args.seed_runs_dir):
            if place is not None:
                require_directory(place)
        self._record_name(args)
        start = self._start(model, cls, args)
        self._trained_from = start.source
        run = {
            "model": start,
            "model_with_gradiend_cls": cls,
            "callbacks": callbacks,
        }
        kept: dict[int, Any] = {}
        with self._kept_gradients(args):
            if args.max_seeds == 1:
                self.train_one(output, args, run)
            else:
                kept = self._train_best(output, args, run)
        if not self.reused:
            self._plot_convergence_of(output)
        return kept or self

    def _train_best(self, output: str, args: TrainingArguments, run: Mapping[str, Any]) -> dict[int, Any]:
        """Train with several seeds, or find that done; the best lies in `output`. Returns seed → kept model."""
        saved = SavedTraining(output, seeds_parts(self, args, run))
        kept = kept_models(self, output, args) if args.use_cache and saved.is_current() else None
        reused = kept is not None
        if kept is None:
            kept = train_seeds(self, output, args, run, chosen=saved.mark)
        self._model_path, self._model, self.reused = output, None, reused
        return kept

    @contextmanager
    def _kept_gradients(self, args: TrainingArguments) -> Iterator[None]:
        self.gradient_store = GradientStore(args.kept_gradients_size)
        try:
            with explained_memory_errors(lambda: self._estimate, args):
                yield
        finally:
            self.gradient_store.close()
            self.gradient_store = None
            self._known_encodings = None

    def evaluation_split(self) -> str:
        """The split that trainings are evaluated and seeds are compared on. Override where it may be missing."""
        return "validation"

    def check_training_data(self, args: TrainingArguments) -> None:
        """Raise what is wrong with the training data before anything is loaded or trained. Override per modality."""

    def train_one(self, output_dir: str, args: TrainingArguments, run: Mapping[str, Any]) -> str:
        """Train with `args.seed`, by `_train`, or find that done; `get_model` gives the result afterwards."""
        saved = SavedTraining(output_dir, training_parts(self, args, run))
        self.reused = args.use_cache and saved.is_current()
        if self.reused:
            self._model_path, self._model = output_dir, None
            return output_dir
        saved.forget(self._run_directory(args))
        self._known_encodings = {} if args.max_seeds > 1 else None
        # Made ready before seeding, so that the first seed draws what every other draws from the same start.
        ready = {**run, "model": run["model"].prepare()}
        set_seed(args.seed)
        before = self._model
        self._model_path = self._train(output_dir=output_dir, args=args, **ready)
        if self._model is before:
            # An override of _train may give a path and nothing else.
            self._model = None
        saved.mark()
        return self._model_path

    def selection_metrics(self, model: Any, args: TrainingArguments) -> dict[str, Any]:
        """Encoder metrics on the validation split, by which seeds are compared; {} without a trained encoder."""
        if not args.trains_encoder:
            return {}
        data = self.create_eval_data(
            model,
            split=self.evaluation_split(),
            max_size=args.seed_selection_eval_max_size or args.encoder_eval_max_size,
        )
        if not len(data):
            return {}
        return self.evaluator.evaluate_encoder(encoder_df=self._encoded_once(model, data, args))

    def _encoded_once(self, model: Any, data: Any, args: TrainingArguments) -> pd.DataFrame:
        """Encodings of evaluation rows. The best model of a training is compared with other seeds by the very rows that
        it was evaluated on while it trained: what is known then is not computed again."""
        known = self._known_encodings
        if known is None or not isinstance(data, EncoderData):
            return encoded_frame(model, data, batch_size=args.eval_batch_size)
        key = gradiend_digest(model), digest_frame(data.rows)
        if key not in known:
            known[key] = data.encode(model, batch_size=args.eval_batch_size).drop(columns=data.rows.columns)
        return pd.concat([data.rows, known[key]], axis=1)

    def _train(
        self,
        output_dir: str,
        args: TrainingArguments,
        model: Any,
        model_with_gradiend_cls: type[ModelWithGradiend] | None,
        callbacks: Sequence[TrainingCallback] | None,
    ) -> str:
        """One training with one seed: model, data, loop. Override to change how a model is trained.

        Args:
            output_dir: Where the model goes.
            args: Arguments of this run.
            model: Name or path, or a `ModelWithGradiend`, which is not changed.
            model_with_gradiend_cls: Class of a new model.
            callbacks: Called after the default ones.

        Returns:
            output_dir.
        """
        if isinstance(model, ModelWithGradiend):
            trained = model.with_original_base_model(model.base_model)
            trained.gradiend = copy.deepcopy(model.gradiend)
            trained.gradiend.build()
            resolve_target(trained, args, new=False)
        else:
            trained = self._load(self.resolve_model_path(model), model_with_gradiend_cls, args)
        if trained.feature_class_encoding_direction is None:
            trained.set_feature_class_encoding_direction(encoding_direction(self))
        examples = self.create_training_data(
            trained,
            split="train",
            batch_size=args.train_batch_size,
            max_size=args.train_max_size,
            include_other_classes=args.add_identity_for_other_classes,
        )
        cache = self._gradient_directory(args) if args.use_cached_gradients else None
        if args.use_cached_gradients and cache is None:
            logger.info(
                "use_cached_gradients has no effect on this training: there is no experiment_dir to keep them in."
            )
        gradients = self.create_gradient_training_dataset(examples, trained, **gradient_arguments(trained, args, cache))
        if args.evaluate_fn is None and args.do_eval and args.trains_encoder:
            every = glance_every(total_steps(len(gradients), args), args.eval_steps)
            args = args.replace(evaluate_fn=self._evaluation_during_training(trained, args, every))
        path = train_core(trained, gradients, args, callbacks, output_dir=output_dir)
        self._model = self._post_pruned(trained, args, path)
        self.post_training(self._model)
        return path

    def _evaluation_during_training(
        self, model: Any, args: TrainingArguments, every: int | None
    ) -> Callable[..., Mapping[str, Any]] | None:
        data = self.create_eval_data(model, split=self.evaluation_split(), max_size=args.encoder_eval_train_max_size)
        if not len(data):
            logger.warning("There are no rows to evaluate the encoder on during training.")
            return None

        def evaluate(**kwargs: Any) -> Mapping[str, Any]:
            del kwargs
            return self.evaluator.evaluate_encoder(encoder_df=self._encoded_once(model, data, args), n_resamples=0)

        if every is None or not isinstance(data, EncoderData):
            return evaluate
        few = data.few(ROWS_OF_A_GLANCE)

        def glance() -> Mapping[str, Any]:
            found = few.encode(model, batch_size=args.eval_batch_size)
            return self.evaluator.evaluate_encoder(encoder_df=found, n_resamples=0)

        return CurveEvaluation(evaluate, glance, every)

    def post_training(self, model: Any) -> None:
        """Called with the trained model; override to add what you need."""

    def _plot_convergence_of(self, output: str) -> None:
        stats = self.get_training_stats(output)
        # Without an evaluation, as the arguments may want it, there is nothing to draw.
        if self.experiment_dir is None or stats is None or not stats["training_stats"].get("scores"):
            return
        try:
            self.plot_training_convergence(model_path=output, show=False)
        except (ImportError, ValueError, OSError) as error:
            # The training is done and saved; a figure is not worth losing the call for.
            logger.warning("The convergence plot was not made: %s", error)

    # Plots

    def plot_style(self) -> dict[str, Any]:
        """img_format and dpi of saved plots, where they are not the defaults. Override to read a configuration."""
        return {}

    def plot_training_convergence(self, **kwargs: Any) -> str:
        """See `gradiend.visualizer.plot_training_convergence`."""
        return self.evaluator.plot_training_convergence(**{**self.plot_style(), **kwargs})

    def plot_encoder_distributions(self, encoder_df: Encodings | None = None, **kwargs: Any) -> str:
        """See `gradiend.visualizer.plot_encoder_distributions`; without `encoder_df` (a frame, or a result with one),
        the test split is encoded.
        """
        if encoder_df is None:
            require_matplotlib()
        encodings = self.evaluate_encoder(return_df=True) if encoder_df is None else encoder_df
        return self.evaluator.plot_encoder_distributions(encodings, **{**self.plot_style(), **kwargs})

    def plot_encoder_scatter(self, encoder_df: Encodings | None = None, **kwargs: Any) -> Any:
        """See `gradiend.visualizer.plot_encoder_scatter`; without `encoder_df` the test split is encoded."""
        return self.evaluator.plot_encoder_scatter(encoder_df, **kwargs)

    def plot_probability_shifts(self, **kwargs: Any) -> Any:
        """See `gradiend.visualizer.plot_probability_shifts`; with an experiment directory the figure is saved there."""
        if kwargs.get("output") is None and self.experiment_dir is not None:
            img_format = self.plot_style().get("img_format", "png")
            kwargs["output"] = str(Path(self.experiment_dir) / f"probability_shifts.{img_format}")
        return self.evaluator.plot_probability_shifts(**kwargs)
