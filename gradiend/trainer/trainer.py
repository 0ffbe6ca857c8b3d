"""The public face of an experiment: train, evaluate, plot, rewrite. The functions that `Trainer` calls do the work.

The file is longer than others because more than half of it documents the arguments of the public methods, most of
which are a few lines that call one function of `gradiend.trainer._preparation`, `_seed_training`, `_evaluation` or
`_rewrites`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import torch
from typing_extensions import Self

from gradiend.evaluator import Evaluator
from gradiend.evaluator._encoding_files import restored
from gradiend.evaluator._goals import require_plot_directory, require_trained, wants_cache
from gradiend.evaluator._results import EvaluationResult
from gradiend.evaluator._selection import Extractor, SelectionPolicy
from gradiend.evaluator.encoder import encoded_frame
from gradiend.model._checkpoint import is_checkpoint
from gradiend.model._hub import at_hand
from gradiend.model.model_with_gradiend import ModelWithGradiend
from gradiend.trainer import _evaluation, _preparation, _rewrites, _seed_runs
from gradiend.trainer._card_notes import facts_of_rewrites, note_decoder, note_encoder, note_training
from gradiend.trainer._current_model import CurrentModel, facts_of, refuse_name_of_model
from gradiend.trainer._models import is_new, unpruned, with_weights
from gradiend.trainer._one_writer import one_writer
from gradiend.trainer._preparation import Preparation, TrainingPlan
from gradiend.trainer._rate_tuning import tune_learning_rate
from gradiend.trainer._rewrites import LastResults, class_and_direction
from gradiend.trainer._seed_training import plan_training, selection_metrics, train_seed, train_seeds
from gradiend.trainer.core._layouts import Layout
from gradiend.trainer.core._memory import MemoryEstimate
from gradiend.trainer.core._rate_config import LRSearchConfig
from gradiend.trainer.core._rate_result import LRSearchResult
from gradiend.trainer.core._seeds import set_seed
from gradiend.trainer.core.arguments import TrainingArguments
from gradiend.trainer.core.callbacks import TrainingCallback, glance_every
from gradiend.trainer.core.feature_definition import FeatureLearningDefinition
from gradiend.trainer.core.pruning import PostPruneConfig, PrePruneConfig, post_prune
from gradiend.trainer.core.training import total_steps
from gradiend.trainer.core.training import train as train_core
from gradiend.trainer.multi_seed import MultiSeedTrainerView
from gradiend.util._argument_fields import plain
from gradiend.util._checks import AS_IN_ARGUMENTS, require_whole
from gradiend.util._digest import model_parts
from gradiend.util._display import Shown, Table, facts
from gradiend.util._files import kept_if_possible
from gradiend.util._imports import LATER, without_package
from gradiend.util._keywords import known_keywords
from gradiend.util.logging import get_logger
from gradiend.util.paths import BALANCE_PLOT, SHIFTS_PLOT, seen_from, working_folder
from gradiend.visualizer import Visualizer, plot_balance, plot_encoder_distributions
from gradiend.visualizer._encodings import Encodings, frame_of
from gradiend.visualizer._output import checked_plot_options, marked_titles, plot_is_possible, require_matplotlib

__all__ = ["Trainer", "set_seed"]

logger = get_logger(__name__)


class Trainer(Shown, FeatureLearningDefinition):
    """Train, evaluate and apply a GRADIEND; a subclass supplies the modality (see `FeatureLearningDefinition`).

    Args:
        model: Name or path of a base model or checkpoint, which is loaded when first needed, also of a checkpoint on a
            hub (`hf://owner/name@revision/subfolder`); or a `ModelWithGradiend`.
        target_classes: The two classes; the first is encoded as +1.
        args: Training and evaluation arguments.
        run_id: Subdirectory of `args.experiment_dir` for this run.
        n_features: Number of latent features.
        evaluator_class: Called as `evaluator_class(trainer, visualizer_class=Visualizer)`.

    Raises:
        ValueError: A class named twice, or a new folder with the name of the model.
    """

    def __init__(
        self, model: Any, target_classes: Sequence[str] | None = None, args: TrainingArguments | None = None,
        run_id: str | None = None, n_features: int = 1, evaluator_class: Callable[..., Evaluator] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(target_classes, run_id, n_features)
        if args is not None and not isinstance(args, TrainingArguments):
            raise TypeError(f"args must be gradiend.TrainingArguments(…); got {type(args).__name__}.")
        self._args = args or TrainingArguments()
        self._made_in = working_folder()
        refuse_name_of_model(model, _preparation.new_folders(self, self._args))
        self.current = CurrentModel(self, model)
        """The model that a call works on if the call is given no other model."""
        self._last_results: LastResults | None = None
        """The results of decoder evaluations, if there is no directory for them."""
        self.reused = False
        """Whether the last call of `train` found a finished training instead of training again."""
        self._evaluator_class = evaluator_class or Evaluator
        self._evaluator: Evaluator | None = None

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take what a copy or a pickle has; a deep copy and an unpickled trainer have a current model of their own."""
        self.__dict__.update(state)
        if self.current.belongs_to_none:
            self.current.belong_to(self)

    def _tables(self) -> tuple[str, Sequence[Table]]:
        return type(self).__name__, [facts("", facts_of(self))]

    # The model and the arguments

    @property
    def training_args(self) -> TrainingArguments:
        """The arguments of every call that gives no others."""
        return self._args

    @property
    def placed_args(self) -> TrainingArguments:
        """`training_args` with every folder where it was when the trainer was made; the same object in most cases.

        A program may change its working folder between two calls; what a trainer wrote before would then be missing.
        """
        places = {name: self._args.get(name) for name in ("experiment_dir", "output_dir", "seed_runs_dir")}
        moved = {name: seen_from(self._made_in, place) for name, place in places.items() if place is not None}
        changed = {name: place for name, place in moved.items() if place != places[name]}
        return self._args.replace(**changed) if changed else self._args

    @property
    def base_model_path(self) -> str:
        """The model given at construction, by name or path."""
        return self.current.given_path

    @property
    def model_path(self) -> str:
        """The base model before training, the directory of the trained GRADIEND afterwards."""
        return self.current.path

    @property
    def experiment_dir(self) -> str | None:
        """`args.experiment_dir`, with `run_id` appended if there is one.

        A relative path becomes absolute once the working folder is another one than when the trainer was made.
        """
        return _preparation.run_directory(self, self.placed_args)

    @property
    def evaluator(self) -> Evaluator:
        """Runs evaluations and plots for this trainer."""
        if self._evaluator is None:
            self._evaluator = self._evaluator_class(self, visualizer_class=Visualizer)
        return self._evaluator

    def get_model(self, use_cache: bool | None = None, *, load_directory: Any = None, **kwargs: Any) -> Any:
        """The model in memory, or the model at `model_path`, which is then kept in memory.

        If there is neither, the result is the model that an earlier training left in the experiment directory, provided
        that this trainer would train the same (model, data and arguments); the log says so. Otherwise the result is a
        new GRADIEND, which can encode and be trained, but not be evaluated.

        Args:
            use_cache: Accepted for compatibility; a loaded model is always kept.
            load_directory: Load this checkpoint instead: a folder, or a place on a hub, see `load_model`.
            **kwargs: See `load_model`.
        """
        del use_cache
        if load_directory is not None:
            self.current.model = self.load_model(load_directory, **kwargs)
            return self.current.model
        return self.current.get(**kwargs)

    def why_untrained(self) -> str:
        """How to get a trained model, and why a model in the experiment directory is not used."""
        return self.current.why_untrained()

    def unload_model(self) -> None:
        """Free the model in memory, with changes that were not saved; `get_model` loads the model again.

        An instance that was given at construction and not trained stays.
        """
        self.current.unload()

    def has_model(self) -> bool:
        """Whether there is a model in memory, or a trained model that `get_model` would load."""
        return self.current.exists()

    def load_model(
        self, load_directory: str, model_with_gradiend_cls: type[ModelWithGradiend] | None = None, *,
        subfolder: str | None = None, revision: str | None = None, **kwargs: Any,
    ) -> Any:  # fmt: skip
        """The model in the checkpoint `load_directory`; this trainer's own model stays.

        Args:
            load_directory: A folder, or a place on a hub, see `ModelWithGradiend.from_pretrained`.
            model_with_gradiend_cls: Class of the model.
            subfolder: The folder of the checkpoint below `load_directory`.
            revision: The branch, tag or commit of a repository.
            **kwargs: See `ModelWithGradiend.from_pretrained`.

        Raises:
            FileNotFoundError: The directory holds no checkpoint.
        """
        source = at_hand(load_directory, subfolder, revision, sure=True)
        return self.current.load(source, model_with_gradiend_cls, require_gradiend_model=True, **kwargs)

    def load_seed_runs(self, directories: Mapping[int, str]) -> dict[int, Any]:
        """Load the checkpoints of `directories` (seed → directory) as seed → model; all models share one base model."""
        models: dict[int, Any] = {}
        for seed, directory in directories.items():
            first = next(iter(models.values()), None)
            models[seed] = self.load_model(directory, **({} if first is None else first.base_arguments()))
        return models

    def to(self, device: torch.device | str) -> Self:
        """Move the loaded model, if there is one, to a device. Returns self."""
        if self.current.model is not None:
            self.current.model.to(device)
        return self

    def cpu(self) -> Self:
        """Move the loaded model to the CPU, see `to`."""
        return self.to("cpu")

    def cuda(self, device: int | str | torch.device | None = None) -> Self:
        """Move the loaded model to a CUDA device (None: the current one; int: its index), see `to`."""
        return self.to(torch.device("cuda", device) if isinstance(device, int) else (device or "cuda"))

    # Training

    @one_writer("output_dir", "output")
    def train(
        self, output_dir: str | None = None, model: Any = None,
        model_with_gradiend_cls: type[ModelWithGradiend] | None = None,
        callbacks: Sequence[TrainingCallback] | None = None, **training_args_overrides: Any,
    ) -> Any:  # fmt: skip
        """Train a GRADIEND, trying seeds until enough have converged, and keep the best.

        Args:
            output_dir: Directory of the trained model. Default: that of the arguments, else `<experiment_dir>/model`,
                else a temporary one, which is removed with this trainer or when the process ends.
            model: The model to train instead of the one given at construction.
            model_with_gradiend_cls: Class of a new model.
            callbacks: Callbacks, which are called after the default ones.
            **training_args_overrides: Fields of `TrainingArguments` that hold for this training only.

        Returns:
            This trainer; or, with `keep_seed_runs` and several seeds, seed → model.

        Raises:
            TypeError: An unknown override; the message names the nearest field.
            ValueError: Data or arguments that cannot be trained on; raised before any work.
            RuntimeError: `fail_on_non_convergence`, or `analyze_seed_stability`, and too few seeds have converged; the
                model is saved before.
            Interrupted: Ctrl-C, SIGTERM or the end of `max_minutes` has stopped a training that the same call resumes.
        """
        plan = plan_training(self, output_dir, model, model_with_gradiend_cls, callbacks, training_args_overrides)
        several, kept = plan.args.max_seeds > 1, dict[int, Any]()
        self.current.last_start = plan.source
        # An earlier training may have left the splits of the seed that it chose.
        self.modality = self.modality.for_seed(None)
        # The first seed that is trained loads and prunes the model and tokenizes the rows, for all seeds.
        with _preparation.prepared_once(self, plan) as ready:
            if several:
                kept, self.reused = train_seeds(self, plan, ready)
            else:
                self.reused = train_seed(self, plan, ready)
        self.current.remember()
        note_training(self, several=several)
        self._plot_convergence_of(plan.output)
        _seed_runs.require_converged(plan)
        if several:
            _seed_runs.compare_seeds(plan)
        return kept or self

    def _train(
        self, output_dir: str, args: TrainingArguments, model: Any,
        model_with_gradiend_cls: type[ModelWithGradiend] | None, callbacks: Sequence[TrainingCallback] | None,
        ready: Preparation | None = None,
    ) -> str:  # fmt: skip
        """One training with one seed: model, data, loop, pruning. Override to change how a model is trained.

        Args:
            output_dir: Directory of the trained model.
            args: Arguments of this run.
            model: Name or path, or a `ModelWithGradiend`, which is not changed.
            model_with_gradiend_cls: Class of a new model.
            callbacks: Callbacks, which are called after the default ones.
            ready: What the seeds of a training share; an override that takes this argument passes it on.

        Returns `output_dir`.
        """
        trained = with_weights(self, model, model_with_gradiend_cls, args)
        ready = ready or Preparation(self, TrainingPlan(args, output_dir, model), trained)
        gradients = _preparation.training_gradients(self, trained, args, ready)
        if args.evaluate_fn is None and args.do_eval and args.trains_encoder:
            every = glance_every(total_steps(len(gradients), args), args.eval_steps)
            args = args.replace(evaluate_fn=ready.evaluation(trained, args, every))
        path = train_core(
            trained, gradients, args, callbacks, held_out=lambda: ready.held_out(trained), kept=ready.states,
            output_dir=output_dir,
        )  # fmt: skip
        self.current.model = _preparation.post_pruned(trained, args, path)
        self.post_training(self.current.model)
        return path

    def selection_metrics(self, model: Any, args: TrainingArguments) -> dict[str, Any]:
        """Encoder metrics on the validation split, by which seeds are compared; {} if no encoder was trained."""
        return selection_metrics(self, model, args, Preparation(self, TrainingPlan(args, "", model), model))

    def post_training(self, model: Any) -> None:
        """Do nothing with the trained model; override this method to add what you need."""

    def _plot_convergence_of(self, output: str) -> None:
        if self.experiment_dir is not None and _seed_runs.misses_curve(self, output):
            try:
                self.plot_training_convergence(model_path=output, show=False)
            except (ImportError, ValueError, OSError) as error:
                # The training is done and saved: a figure that fails must not cost the result of the call.
                logger.warning("The convergence plot was not made: %s", error)

    @one_writer()
    def tune_learning_rate(
        self, initial_lr: float | None = None, config: LRSearchConfig | None = None, force: bool = False,
        **training_args_overrides: Any,
    ) -> LRSearchResult:  # fmt: skip
        """Search for a learning rate without training; `train(learning_rate="auto")` does both.

            trainer.train(learning_rate=trainer.tune_learning_rate().best_lr)

        With an experiment directory, the result is written to `lr_search.json` there.

        Args:
            initial_lr: Middle of the first grid of rates. Default: a guess from the size of the gradients.
            config: How to search. Default: `lr_search_config` of the training arguments.
            force: Search even if `lr_search.json` has the result of the same search.
            **training_args_overrides: Fields of `TrainingArguments` that hold for this search only.

        Returns:
            The choice, and the curve of every rate.

        Raises:
            NoConvergentLearningRate: No rate separates the classes; the error has the result.
            TypeError: An unknown override; the message names the nearest field.
            ValueError: Data or arguments that cannot be trained on, or an initial_lr that is not positive.
        """
        return tune_learning_rate(self, initial_lr, config, force, training_args_overrides)

    # Plots

    def plot_training_convergence(self, **kwargs: Any) -> str:
        """See `gradiend.visualizer.plot_training_convergence`."""
        return self.evaluator.plot_training_convergence(**{**self.modality.plot_style, **kwargs})

    def plot_encoder_distributions(self, encoder_df: Encodings | None = None, **kwargs: Any) -> str:
        """See `gradiend.visualizer.plot_encoder_distributions`; without `encoder_df`, the test split is encoded."""
        kwargs = checked_plot_options(plot_encoder_distributions, kwargs)
        if encoder_df is None:
            require_matplotlib()
        encodings = self.evaluate_encoder(return_df=True) if encoder_df is None else encoder_df
        return self.evaluator.plot_encoder_distributions(encodings, **{**self.modality.plot_style, **kwargs})

    def plot_encoder_scatter(self, encoder_df: Encodings | None = None, **kwargs: Any) -> Any:
        """See `gradiend.visualizer.plot_encoder_scatter`; without `encoder_df` the test split is encoded."""
        return self.evaluator.plot_encoder_scatter(encoder_df, **kwargs)

    def plot_encoder_by_target(self, encoder_df: Encodings | None = None, **kwargs: Any) -> Any:
        """See `gradiend.visualizer.plot_encoder_by_target`; without `encoder_df`, all splits are encoded."""
        return self.evaluator.plot_encoder_by_target(encoder_df, **{**self.modality.plot_style, **kwargs})

    def plot_encoder_strip_by_split(self, encoder_df: Encodings | None = None, **kwargs: Any) -> Any:
        """See `gradiend.visualizer.plot_encoder_strip_by_split`; without `encoder_df`, all splits are encoded."""
        return self.evaluator.plot_encoder_strip_by_split(encoder_df, **{**self.modality.plot_style, **kwargs})

    def plot_probability_shifts(self, **kwargs: Any) -> Any:
        """See `gradiend.visualizer.plot_probability_shifts`; an experiment directory gets the figure."""
        return self.evaluator.plot_probability_shifts(**self._with_output(SHIFTS_PLOT, kwargs))

    def plot_balance(self, decoder_results: Mapping[str, Any], **kwargs: Any) -> Any:
        """See `gradiend.visualizer.plot_balance`; an experiment directory gets the figure."""
        with marked_titles(self):
            return plot_balance(decoder_results, **self._with_output(BALANCE_PLOT, kwargs))

    def title_mark(self) -> str:
        """What the titles of plots end with: a dagger for a training that has not converged, otherwise nothing."""
        return _seed_runs.title_mark(self)

    def _with_output(self, name: str, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Keywords of a plot, with a file in the experiment directory, if there is one and no other file is given."""
        if kwargs.get("output") is not None or self.experiment_dir is None:
            return dict(kwargs)
        img_format = self.modality.plot_style.get("img_format", "png")
        return {**kwargs, "output": str(Path(self.experiment_dir) / f"{name}.{img_format}")}

    # Evaluation

    @known_keywords("Trainer.encode")
    def encode(self, split: str = "test", source: str | None = None, max_size: int | None = None) -> list[float]:
        """The encodings of a split's rows. Raises ValueError for a GRADIEND that is not trained."""
        source = _evaluation.side_name(source)
        require_whole("max_size", max_size, 1, none_means="for all")
        model = self.get_model()
        require_trained(self, model)
        data = self.create_eval_data(model, split=split, source=source, max_size=max_size)
        batch_size = self.training_args.eval_batch_size
        return encoded_frame(model, data, source=source, batch_size=batch_size)["encoded"].tolist()

    def evaluate(
        self, *, kwargs_encoder: Mapping[str, Any] | None = None, kwargs_decoder: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:  # fmt: skip
        """{"encoder": result of `evaluate_encoder`, "decoder": result of `evaluate_decoder`}; `kwargs` go to both."""
        return EvaluationResult(
            encoder=self.evaluate_encoder(**{**kwargs, **(kwargs_encoder or {})}),
            decoder=self.evaluate_decoder(**{**kwargs, **(kwargs_decoder or {})}),
        )

    @one_writer()
    def evaluate_encoder(
        self, model_with_gradiend: Any = None, encoder_df: Encodings | None = None, split: str | Sequence[str] = "test",
        source: str | None = None, max_size: int | None = None, neutral_data_df: pd.DataFrame | None = None,
        use_cache: bool | None = None, return_df: bool = False, plot: bool = False,
        plot_kwargs: Mapping[str, Any] | None = None, is_decoder_only_model: bool | None = None,
        pre_load_gradients: bool | None = None, exclude_params: str | Sequence[str] | None = None, device: Any = None,
        **kwargs: Any,
    ) -> dict[str, Any]:  # fmt: skip
        """Encode a split and neutral texts, and measure how well the encoder tells the classes apart.

        With an experiment directory, encodings and metrics are written there (`encoded_values_….csv` and `.json`).

        Args:
            model_with_gradiend: The model that encodes. Default: the trainer's model.
            encoder_df: Finished encodings (a frame, or a result with return_df); nothing is encoded then.
            split: Name of the split, a list of names, or "all"; `data_split` of a row says which it is from.
            source: The gradient that is encoded: factual, alternative (or counterfactual), diff. Default: the model's.
            max_size: Cap on rows per variant (transition or neutral type). Default: `encoder_eval_max_size`.
            neutral_data_df: Neutral texts (column `text`). Default: the trainer's neutral data.
            use_cache: Read encodings of the same model, rows and settings instead of making them again. Default: the
                value in the training arguments.
            return_df: Add the frame as "encoder_df".
            plot: Also draw the distributions; without matplotlib, a warning before the work says that none are drawn.
            plot_kwargs: Arguments of `plot_encoder_distributions`.
            is_decoder_only_model, pre_load_gradients: Accepted for compatibility, without effect.
            exclude_params: Parameters, by name or wildcard, whose gradients the encoder must not read, such as
                `"*embeddings*"`; the model itself does not change.
            device: The device of the evaluation; the model goes back afterwards. Default: where the model is.
            **kwargs: Further arguments of `_analyze_encoder`. Texts have transition_selection, a list of `pair("A",
                "B")`, `identity("C")` and `TransitionSpec(…)`: the rows that are encoded. Only rows between the two
                target classes have a label other than 0.

        Returns:
            The metrics, see `get_encoder_metrics_from_dataframe`; with a plot also "plot_path".

        Raises:
            ValueError: A GRADIEND that is not trained, an unknown or empty split, a result without encodings, use_cache
                without an experiment directory, or a plot that would be neither shown nor saved.
        """
        del is_decoder_only_model, pre_load_gradients
        plot_kwargs = dict(plot_kwargs or {})
        if plot:
            plot_kwargs = checked_plot_options(plot_encoder_distributions, plot_kwargs)
        if plot and plot_kwargs.get("show") is False and not plot_kwargs.keys() & {"output", "output_dir"}:
            require_plot_directory(self.experiment_dir)
        plot = plot and plot_is_possible()
        if encoder_df is not None:
            frame = frame_of(encoder_df)
            result = self.evaluator.evaluate_encoder(encoder_df=frame)
        else:
            options = _evaluation.hook_options(self, "Trainer.evaluate_encoder", kwargs)
            require_whole("max_size", max_size, 1, none_means=AS_IN_ARGUMENTS)
            use_cache = wants_cache(self, use_cache, "evaluate_encoder")
            chosen = options.pop("transition_selection", None)
            key = _evaluation.encoder_key(self, split, source, max_size, exclude_params, chosen)
            if model_with_gradiend is None and not self.training_args.trains_encoder:
                logger.warning("supervised_decoder left the encoder as it was: random, unless it was trained before.")
            model = self.get_model() if model_with_gradiend is None else model_with_gradiend
            require_trained(self, model)
            with _evaluation.on_device(model, device):
                frame, result = _evaluation.encodings(self, model, key, neutral_data_df, use_cache, options)
            note_encoder(self, model, key, result)
        if plot:
            drawn = None
            with kept_if_possible("The plot is"):
                drawn = without_package(lambda: self.plot_encoder_distributions(frame, **plot_kwargs), "The plot")
            result |= {} if drawn is None else {"plot_path": drawn}
        if return_df:
            result["encoder_df"] = frame
        return result

    @one_writer()
    def evaluate_decoder(
        self, lrs: Sequence[float] | Literal["auto"] | None = None, feature_factors: Sequence[float] | None = None,
        use_cache: bool | None = None, max_size_training_like: int | None = None, max_size_neutral: int | None = None,
        eval_batch_size: int | None = None, training_like_df: pd.DataFrame | None = None,
        neutral_df: pd.DataFrame | None = None, selector: SelectionPolicy | None = None,
        summary_extractor: Extractor | None = None, summary_metrics: str | Sequence[str] | None = None,
        target_class: str | Sequence[str] | None = None, increase_target_probabilities: bool = True, plot: bool = False,
        show: bool | None = None, device: Any = None, **kwargs: Any,
    ) -> dict[str, Any]:  # fmt: skip
        """Search rewrites for the best per class; see `DecoderEvaluator.evaluate_decoder` for the arguments.

        Measurements and results are written to the experiment directory, where `use_cache=True` reads them. A trainer
        without an experiment directory remembers the results for `rewrite_base_model` and `export_delta`. `device` is
        that of the evaluation; the model goes back afterwards.
        """
        given = kwargs.get("model_with_gradiend")
        with _evaluation.on_device(self.get_model() if given is None and device is not None else given, device):
            results = self.evaluator.evaluate_decoder(
                lrs=lrs, feature_factors=feature_factors, use_cache=use_cache, max_size_neutral=max_size_neutral,
                max_size_training_like=max_size_training_like, eval_batch_size=eval_batch_size, neutral_df=neutral_df,
                training_like_df=training_like_df, selector=selector, summary_extractor=summary_extractor,
                summary_metrics=summary_metrics, target_class=target_class, plot=plot, show=show,
                increase_target_probabilities=increase_target_probabilities, **kwargs,
            )  # fmt: skip
        model = self.get_model() if given is None else given
        note_decoder(self, model, results, kwargs.get("split"), training_like_df, neutral_df)
        if self.experiment_dir is None:
            made_from = plain(model_parts(model))
            self._last_results = LastResults(results, made_from).joined(self._last_results)
        return results

    def get_training_stats(self, model_path: str | None = None) -> dict[str, Any] | None:
        """The training statistics of the model in a directory (default: `model_path`), see `load_training_stats`."""
        with self.current.own_files() if model_path in (None, self.model_path) else nullcontext():
            return super().get_training_stats(model_path or self.model_path)

    def get_seed_report(self) -> dict[str, Any] | None:
        """The content of seed_report.json, written by the last choice among seeds; None if there was none."""
        return _seed_runs.seed_report(self)

    def get_seed_run_entries(self) -> list[dict[str, Any]]:
        """The entries of seed_report.json, one for each seed in the order of trying; [] without a report."""
        report = self.get_seed_report()
        return [] if report is None else [dict(run) for run in report["runs"]]

    def get_saved_seed_run_paths(self) -> dict[int, str]:
        """Seed → directory of its model, for the seeds of the report whose weights were kept (`saved_seed_runs`).

        The best seed's model is that in `model_path` unless its own directory has one.
        """
        return _seed_runs.saved_seed_run_paths(self)

    def get_best_seed_run_path(self) -> str | None:
        """Directory of the best seed's model; None without a report."""
        report = self.get_seed_report()
        return None if report is None else self.get_saved_seed_run_paths().get(report["best_seed"])

    def multi_seed(
        self, selection: str = "all_convergent", aggregate: str = "mean", dispersion: str | None = None,
        return_per_seed: bool = False,
    ) -> MultiSeedTrainerView:  # fmt: skip
        """The seeds of the last training as one result: evaluations are aggregated, plots drawn for each seed.

            trainer.multi_seed().table()

        Args:
            selection: The seeds: all_convergent, best or all_tried. Their weights must have been kept, see
                `saved_seed_runs`.
            aggregate: What is said of the numbers of several seeds: mean, median, min or max.
            dispersion: What is said of their spread: none, std (of a population), range (half of it) or minmax.
                Default: std with `analyze_seed_stability`, otherwise none.
            return_per_seed: Whether evaluations also return the result of each seed.

        Raises:
            ValueError: An unknown value, range with min or max, no report of seeds, or no seed that was selected.
            FileNotFoundError: The weights of a selected seed are not there.
        """
        return MultiSeedTrainerView(self, selection, aggregate, dispersion, return_per_seed=return_per_seed)

    def get_encodings(self, model_path: str | None = None, **key: Any) -> pd.DataFrame | None:
        """The encodings that `evaluate_encoder` wrote for a model; None if it wrote none, or for another model only.

        Args:
            model_path: Name or path of the model. Default: the current model.
            **key: The arguments of the evaluation: split (default: test), source, max_size, exclude_params, ….
        """
        found = _evaluation.earlier_encodings(self, model_path, key)
        return None if found is None else found[0]

    def get_encoder_metrics(
        self, model_path: str | None = None, encoder_df: Encodings | None = None, **kwargs: Any
    ) -> dict[str, Any] | None:
        """See `FeatureLearningDefinition.get_encoder_metrics`; only metrics of the same model and rows are read.

        Args:
            model_path: Name or path of the model. Default: the current model.
            encoder_df: Encodings to measure, or a result that holds encodings.
            **kwargs: use_cache, and the arguments of the evaluation; see `get_encodings`.
        """
        if encoder_df is not None:
            return super().get_encoder_metrics(model_path or self.model_path, frame_of(encoder_df))
        use_cache = kwargs.pop("use_cache", None)
        if not wants_cache(self, use_cache, "get_encoder_metrics"):
            raise ValueError(
                "get_encoder_metrics needs encodings: pass encoder_df=…, or use_cache=True for the encodings of an "
                "earlier evaluate_encoder()."
            )
        found = _evaluation.earlier_encodings(self, model_path, kwargs)
        return None if found is None else restored(found[1])

    # Rewriting

    @one_writer("output_dir", only_to_outputs=True)
    def rewrite_base_model(
        self, decoder_results: Mapping[str, Any] | None = None, target_class: str | Sequence[str] | None = None,
        increase_target_probabilities: bool = True, output_dir: str | None = None, base_model: Any = None,
        decoder_stats_metric_name: str | None = None, *, strengthen: str | Sequence[str] | None = None,
        weaken: str | Sequence[str] | None = None, **decoder_stats_kwargs: Any,
    ) -> Any:  # fmt: skip
        """The base model, changed by the rewrite that a decoder evaluation chose.

            trainer.rewrite_base_model(results, strengthen="feminine", output_dir="rewritten")

        Args:
            decoder_results: The result of `evaluate_decoder`. Default: the results in the experiment directory; without
                a directory, the results of this trainer's last evaluations of the same model.
            target_class: A key of the results (a class, or another metric), or several keys for one model each.
            increase_target_probabilities: False applies the weakening rewrite, `<class>_weaken`.
            output_dir: Directory of the saved model, its tokenizer and `gradiend_rewrite.json`. Several models go to
                `<experiment_dir>/<key>`.
            base_model: The `ModelWithGradiend` to rewrite. Default: the trainer's model.
            decoder_stats_metric_name: Metric in the file name of the results. Default: the first class.
            strengthen: Short for `target_class` (one class or several).
            weaken: Short for `target_class` with `increase_target_probabilities=False`.
            **decoder_stats_kwargs: Other parts of that file name (feature_factors, lrs, topk, part, topk_part).

        Returns:
            For one class the model, or its directory with output_dir; for several classes a list.

        Raises:
            TypeError, ValueError: An argument of another kind, no results, no result for a class, or no directory to
                save to (raised before any model is loaded); results in the experiment directory that belong to another
                model; or a GRADIEND that is not trained.
        """
        root = self.experiment_dir
        goal = class_and_direction(target_class, increase_target_probabilities, strengthen, weaken)
        plan = _rewrites.plan_rewrites(
            decoder_results, *goal, root, decoder_stats_metric_name, decoder_stats_kwargs, self._last_results
        )
        plan = _rewrites.with_model_directories(plan, output_dir, root)
        _rewrites.refuse_own_base(plan, self.base_model_path if base_model is None else base_model)
        model, directory = self._rewritten_model(base_model)
        _rewrites.refuse_own_base(plan, model.base_model)
        return plan.noted(facts_of_rewrites(self, model)).models(model, directory)

    @known_keywords("Trainer.export_delta")
    @one_writer("path")
    def export_delta(
        self, decoder_results: Mapping[str, Any] | None = None, target_class: str | Sequence[str] | None = None,
        increase_target_probabilities: bool = True, path: str | Path | None = None, base_model: Any = None, *,
        strengthen: str | Sequence[str] | None = None, weaken: str | Sequence[str] | None = None,
    ) -> Any:  # fmt: skip
        """Write the entries that `rewrite_base_model` changes; `gradiend.apply_delta` applies them to a base model.

        The other arguments, and the errors, are those of `rewrite_base_model`; several classes give one delta each.

        Args:
            path: A directory or, for one class, a .safetensors file. Default: `<experiment_dir>/deltas`.

        Returns:
            For one class the path of the file; for several classes a list.
        """
        goal = class_and_direction(target_class, increase_target_probabilities, strengthen, weaken)
        plan = _rewrites.plan_rewrites(decoder_results, *goal, self.experiment_dir, last=self._last_results)
        plan = _rewrites.with_delta_files(plan, path, self.experiment_dir)
        model, _ = self._rewritten_model(base_model)
        return plan.noted(facts_of_rewrites(self, model)).deltas(model)

    def push_to_hub(
        self, repo_id: str, *, strengthen: str | None = None, weaken: str | None = None,
        target_class: str | None = None, as_delta: bool = False, **options: Any,
    ) -> Any:  # fmt: skip
        """Publish the trained GRADIEND, or a rewrite that `evaluate_decoder` chose, with a card of what was measured.

            trainer.push_to_hub("owner/name", subfolder="gender_en", license="cc-by-4.0")
            trainer.push_to_hub("owner/name", subfolder="feminine", strengthen="feminine")

        Args:
            repo_id: The repository, `owner/name`.
            strengthen: Publish the rewritten model that strengthens this class.
            weaken: Publish the rewritten model that weakens this class.
            target_class: Publish the rewritten model of this key of the results, such as "balance".
            as_delta: Whether the changed weights alone are published instead of the rewritten model.
            **options: subfolder, private, base_model, license, revision, token, dry_run, …: see `gradiend.push_to_hub`.

        Returns:
            What was published, a `gradiend.hub.Published`.

        Raises:
            ValueError: The GRADIEND is not trained, or there is no such rewrite; see also `gradiend.push_to_hub`.
        """
        goal = class_and_direction(target_class, True, strengthen, weaken)
        return LATER["push_to_hub"]()(_rewrites.OfTrainer(self, *goal, as_delta), repo_id, **options)

    def _rewritten_model(self, given: Any) -> tuple[Any, str | None]:
        """The model whose GRADIEND rewrites, and the directory of its checkpoint, if that is known."""
        if given is not None and not isinstance(given, ModelWithGradiend):
            raise TypeError(f"base_model must be a ModelWithGradiend; got {given!r:.60}.")
        model = self.get_model() if given is None else given
        require_trained(self, model)
        return model, self.model_path if given is None and is_checkpoint(self.model_path) else None

    # Pruning, and the memory of a training

    @known_keywords("Trainer.pre_prune")
    def pre_prune(self, pre_cfg: PrePruneConfig | None = None, *, inplace: bool = True) -> Self:
        """Prune by gradients now; the next `train()` starts from the pruned model, which is kept in memory, not saved.

        Args:
            pre_cfg: What to prune. Default: `pre_prune_config` of the training arguments.
            inplace: Whether a model that is already in memory is pruned itself; otherwise a copy is pruned.

        Raises:
            ValueError: No configuration, or a configuration that does not fit the data.
        """
        args, current = self.placed_args, self.current
        config = _preparation.pruning_config("pre_prune", pre_cfg, args.pre_prune_config, PrePruneConfig)
        trained = current.directory is not None
        new = not trained and is_new(current.given)
        model = current.model or (self.get_model() if trained else unpruned(self, current.given, None, args))
        current.model = _preparation.pre_pruned(self, model, config, args, inplace=inplace)
        current.pruned = current.model.untrained() if new else current.model
        return self

    @known_keywords("Trainer.post_prune")
    def post_prune(self, post_cfg: PostPruneConfig | None = None) -> Self:
        """Prune the current model by its weights; evaluations then use the pruned model. Nothing is saved.

        Args:
            post_cfg: What to prune. Default: `post_prune_config` of the training arguments.

        Raises:
            ValueError: No configuration, or a configuration that would keep nothing.
        """
        config = _preparation.pruning_config("post_prune", post_cfg, self._args.post_prune_config, PostPruneConfig)
        self.current.model = post_prune(self.get_model(), dataclasses.replace(config, return_mask=False))
        return self

    def estimate_memory(self, *, layout: Layout | None = None, **training_args_overrides: Any) -> MemoryEstimate:
        """The memory that `train()` will need on each device, beyond what this process holds now.

        The model is made as `train()` would make it, and runs two of the longest training examples.

        Args:
            layout: Other devices than those of this call, such as `gradiend.trainer.Layout("sharded", 4)`.
            **training_args_overrides: Fields of `TrainingArguments`, as for `train`.

        Returns:
            The estimate: `peak` is device → bytes, and `str(…)` says what the memory is for.

        Raises:
            TypeError: An unknown override (the message names the nearest field), or another layout than a `Layout`.
        """
        if not isinstance(layout, Layout | None):
            raise TypeError(
                f'layout must be a gradiend.trainer.Layout, such as Layout("sharded", 4); got {layout!r:.60}.'
            )
        args = self._args.replace(**training_args_overrides)
        source, pruned = self.current.start()
        if pruned:
            args = args.replace(pre_prune_config=None)
        elif self.current.directory is None and self.current.model is not None:
            # A model that a training has made may be pruned: the next training does not start from it.
            source = self.current.model
        model = unpruned(self, source, None, args)
        found = _preparation.memory_of(self, model, args, held=isinstance(source, ModelWithGradiend))
        return found if layout is None else found.for_layout(layout)
