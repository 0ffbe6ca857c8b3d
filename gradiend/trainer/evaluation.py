"""The evaluations of a trainer: what the documentation promises, delegated to the evaluators."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from gradiend.evaluator import Evaluator
from gradiend.evaluator._encoding_files import read_encodings, restored, write_encodings
from gradiend.evaluator._requests import require_plot_directory, require_trained, wants_cache
from gradiend.evaluator._selection import Extractor, SelectionPolicy
from gradiend.evaluator.encoder import encoded_frame
from gradiend.model.checkpoint import is_checkpoint
from gradiend.model.masking import without_parameters
from gradiend.model.sides import Side
from gradiend.trainer.core.arguments import TrainingArguments
from gradiend.trainer.core.feature_definition import FeatureLearningDefinition
from gradiend.trainer.rewriting import LastResults
from gradiend.util._cache import Fingerprint
from gradiend.util._digest import frame_part, model_parts
from gradiend.util._files import read_json
from gradiend.util.checks import AS_IN_ARGUMENTS, require_whole
from gradiend.util.logging import get_logger
from gradiend.util.optional import without_package
from gradiend.util.paths import SEED_REPORT, SEEDS_DIR, resolve_encoder_analysis_path
from gradiend.util.plain import plain
from gradiend.visualizer.encoder_frame import Encodings, frame_of
from gradiend.visualizer.output import plot_is_possible

logger = get_logger(__name__)


class EvaluatesModels(FeatureLearningDefinition):
    """What a `Trainer` can measure; see `Trainer` for the arguments."""

    _last_results: LastResults | None = None
    """Of decoder evaluations, where there is no directory for them."""

    @property
    @abstractmethod
    def training_args(self) -> TrainingArguments:
        """The arguments that hold where a call gives no other."""

    @property
    @abstractmethod
    def model_path(self) -> str:
        """Where the current model comes from."""

    @property
    @abstractmethod
    def evaluator(self) -> Evaluator:
        """Runs evaluations and plots."""

    @abstractmethod
    def get_model(self, use_cache: bool | None = None, *, load_directory: Any = None, **kwargs: Any) -> Any:
        """The current model."""

    @abstractmethod
    def has_model(self) -> bool:
        """Whether there is a model in memory or a trained one on disk."""

    @abstractmethod
    def evaluation_split(self) -> str:
        """The split that trainings are evaluated on."""

    @abstractmethod
    def plot_encoder_distributions(self, encoder_df: Encodings | None = None, **kwargs: Any) -> str:
        """Draw encodings."""

    def encode(self, split: str = "test", source: str | None = None, max_size: int | None = None) -> list[float]:
        """The encodings of a split's rows. Raises ValueError for a GRADIEND that is not trained."""
        source = _side(source)
        require_whole("max_size", max_size, 1, none_means="for all")
        model = self.get_model()
        require_trained(self, model)
        data = self.create_eval_data(model, split=split, source=source, max_size=max_size)
        batch_size = self.training_args.eval_batch_size
        return encoded_frame(model, data, source=source, batch_size=batch_size)["encoded"].tolist()

    def evaluate(
        self,
        *,
        kwargs_encoder: Mapping[str, Any] | None = None,
        kwargs_decoder: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """{"encoder": `evaluate_encoder`, "decoder": `evaluate_decoder`}; `kwargs` go to both."""
        return {
            "encoder": self.evaluate_encoder(**{**kwargs, **(kwargs_encoder or {})}),
            "decoder": self.evaluate_decoder(**{**kwargs, **(kwargs_decoder or {})}),
        }

    def evaluate_encoder(
        self,
        model_with_gradiend: Any = None,
        encoder_df: Encodings | None = None,
        split: str = "test",
        source: str | None = None,
        max_size: int | None = None,
        neutral_data_df: pd.DataFrame | None = None,
        use_cache: bool | None = None,
        return_df: bool = False,
        plot: bool = False,
        plot_kwargs: Mapping[str, Any] | None = None,
        is_decoder_only_model: bool | None = None,
        pre_load_gradients: bool | None = None,
        exclude_params: str | Sequence[str] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Encode a split and neutral texts, and measure how well the encoder tells the classes apart.

        With an experiment directory, encodings and metrics are written there (`encoded_values_….csv` and `.json`).

        Args:
            model_with_gradiend: Default: the trainer's.
            encoder_df: Finished encodings (a frame, or a result with return_df); nothing is encoded then.
            split: Which rows.
            source: The gradient that is encoded: factual, alternative (or counterfactual), diff. Default: the model's.
            max_size: Cap on rows per variant (transition or neutral type). Default: `encoder_eval_max_size`.
            neutral_data_df: Neutral texts (column `text`). Default: the trainer's neutral data.
            use_cache: Read encodings of the same model, rows and settings instead of making them again. Default: the
                training arguments'.
            return_df: Add the frame as "encoder_df".
            plot: Also draw the distributions; without matplotlib they are left out, with a warning before the work.
            plot_kwargs: For `plot_encoder_distributions`.
            is_decoder_only_model: Accepted for compatibility: the model itself says it.
            pre_load_gradients: Accepted for compatibility: encodings need no gradients.
            exclude_params: Parameters, by name or wildcard, whose gradients the encoder shall not see, such as
                `"*embeddings*"`; the model itself stays as it is.
            **kwargs: Further arguments of `_analyze_encoder`.

        Returns:
            See `get_encoder_metrics_from_dataframe`; with a plot also "plot_path".

        Raises:
            ValueError: A GRADIEND that is not trained, an unknown or empty split, a result without encodings, use_cache
                without an experiment directory, or a plot that is neither shown nor saved.
        """
        del is_decoder_only_model, pre_load_gradients
        plot_kwargs = dict(plot_kwargs or {})
        if plot and plot_kwargs.get("show") is False and not plot_kwargs.keys() & {"output", "output_dir"}:
            require_plot_directory(self.experiment_dir)
        plot = plot and plot_is_possible()
        if encoder_df is not None:
            frame = frame_of(encoder_df)
            result = self.evaluator.evaluate_encoder(encoder_df=frame)
        else:
            require_whole("max_size", max_size, 1, none_means=AS_IN_ARGUMENTS)
            use_cache = wants_cache(self, use_cache, "evaluate_encoder")
            key = self._encoder_key(split, source, max_size, exclude_params)
            if model_with_gradiend is None and not self.training_args.trains_encoder:
                logger.warning("supervised_decoder left the encoder as it was: random, unless it was trained before.")
            model = self.get_model() if model_with_gradiend is None else model_with_gradiend
            require_trained(self, model)
            frame, result = self._encoded(model, key, neutral_data_df, use_cache, kwargs)
        if plot:
            drawn = without_package(lambda: self.plot_encoder_distributions(frame, **plot_kwargs), "The plot")
            result |= {} if drawn is None else {"plot_path": drawn}
        return {**result, "encoder_df": frame} if return_df else result

    def _encoded(
        self,
        model: Any,
        key: Mapping[str, Any],
        neutral: pd.DataFrame | None,
        use_cache: bool,
        options: Mapping[str, Any],
    ) -> tuple[pd.DataFrame, dict[str, Any]]:
        """Encodings and metrics, from disk where they are wanted and were made from the same."""
        place = resolve_encoder_analysis_path(self.experiment_dir, **key)
        parts = self._encoder_parts(model, key, neutral, options) if place is not None else {}
        if place is not None and use_cache:
            cached, why = read_encodings(Path(place), parts)
            if cached is not None:
                return cached
            if why:
                logger.info("The encodings in %s are not used (%s): encoding again.", place, "; ".join(why))
        encoder = model if key["exclude_params"] is None else without_parameters(model, key["exclude_params"])
        given = {"neutral_data_df": neutral, "source": key["source"], "max_size": key["max_size"], **options}
        given = {name: value for name, value in given.items() if value is not None}
        frame = self._analyze_encoder(encoder, split=key["split"], **given)
        metrics = self.evaluator.evaluate_encoder(encoder_df=frame)
        if place is not None:
            write_encodings(Path(place), frame, metrics, parts)
        return frame, metrics

    def _encoder_key(
        self, split: str | None, source: str | None, max_size: int | None, excluded: str | Sequence[str] | None
    ) -> dict[str, Any]:
        """What the name of a file of encodings is made of, with what the call left to the training arguments."""
        return {
            "split": split or "test",
            "source": _side(source),
            "max_size": max_size or self.training_args.encoder_eval_max_size,
            "exclude_params": [excluded] if isinstance(excluded, str) else excluded,
        }

    def _encoder_parts(
        self, model: Any, key: Mapping[str, Any], neutral: pd.DataFrame | None, options: Mapping[str, Any]
    ) -> Fingerprint:
        """What encodings depend on; see `gradiend.util._cache`."""
        others = self.training_args.add_identity_for_other_classes
        rows = self.data_parts(key["split"], "train", include_other_classes=others)
        data = {**rows, **self.measurement_parts(), **model_parts(model)}
        if neutral is not None:
            data["neutral texts"] = frame_part(neutral)
        return {
            **data,
            **key,
            **{name: plain(value) for name, value in options.items()},
            "source": key["source"] or model.source,
            "balanced": self.training_args.encoder_eval_balance,
        }

    def evaluate_decoder(
        self,
        lrs: Sequence[float] | None = None,
        feature_factors: Sequence[float] | None = None,
        use_cache: bool | None = None,
        max_size_training_like: int | None = None,
        max_size_neutral: int | None = None,
        eval_batch_size: int | None = None,
        training_like_df: pd.DataFrame | None = None,
        neutral_df: pd.DataFrame | None = None,
        selector: SelectionPolicy | None = None,
        summary_extractor: Extractor | None = None,
        summary_metrics: str | Sequence[str] | None = None,
        target_class: str | Sequence[str] | None = None,
        increase_target_probabilities: bool = True,
        plot: bool = False,
        show: bool | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Search a grid of rewrites for the best per class; see `DecoderEvaluator.evaluate_decoder` for the arguments.

        With an experiment directory, measurements and results are written there, and `use_cache=True` reads them.
        Without one, this trainer remembers the results for `rewrite_base_model` and `export_delta`.
        """
        results = self.evaluator.evaluate_decoder(
            lrs=lrs,
            feature_factors=feature_factors,
            use_cache=use_cache,
            max_size_training_like=max_size_training_like,
            max_size_neutral=max_size_neutral,
            eval_batch_size=eval_batch_size,
            training_like_df=training_like_df,
            neutral_df=neutral_df,
            selector=selector,
            summary_extractor=summary_extractor,
            summary_metrics=summary_metrics,
            target_class=target_class,
            increase_target_probabilities=increase_target_probabilities,
            plot=plot,
            show=show,
            **kwargs,
        )
        if self.experiment_dir is None:
            model = kwargs.get("model_with_gradiend")
            made_from = plain(model_parts(self.get_model() if model is None else model))
            self._last_results = LastResults(results, made_from).joined(self._last_results)
        return results

    # Results of earlier evaluations

    def get_training_stats(self, model_path: str | None = None) -> dict[str, Any] | None:
        """What is known of the training of a model directory. Default: `model_path`."""
        return super().get_training_stats(model_path or self.model_path)

    def get_seed_report(self) -> dict[str, Any] | None:
        """What the last choice among several seeds wrote to seed_report.json; None if there was none."""
        home = Path(self.model_path).parent if is_checkpoint(self.model_path) else self.experiment_dir
        beside = None if home is None else Path(home) / SEEDS_DIR
        directory = self.training_args.seed_runs_dir or beside
        path = None if directory is None else Path(directory) / SEED_REPORT
        return read_json(path) if path is not None and path.is_file() else None

    def get_encodings(self, model_path: str | None = None, **key: Any) -> pd.DataFrame | None:
        """The encodings that `evaluate_encoder` wrote for a model; None if there are none, or they are another model's.

        Args:
            model_path: Default: the current model.
            **key: The arguments of that evaluation: split (default: test), source, max_size, exclude_params, ….
        """
        found = self._earlier_encodings(model_path, key)
        return None if found is None else found[0]

    def get_encoder_metrics(
        self, model_path: str | None = None, encoder_df: Encodings | None = None, **kwargs: Any
    ) -> dict[str, Any] | None:
        """See `FeatureLearningDefinition.get_encoder_metrics`; only metrics of the same model and rows are read.

        Args:
            model_path: Default: the current model.
            encoder_df: Encodings to measure, or a result that holds them.
            **kwargs: use_cache, and the arguments of the evaluation; see `get_encodings`.
        """
        if encoder_df is not None:
            return super().get_encoder_metrics(model_path or self.model_path, frame_of(encoder_df))
        use_cache = kwargs.pop("use_cache", None)
        if not wants_cache(self, use_cache, "get_encoder_metrics"):
            raise ValueError(
                "get_encoder_metrics needs encodings: pass encoder_df=…, or use_cache=True for those of an earlier "
                "evaluate_encoder()."
            )
        found = self._earlier_encodings(model_path, kwargs)
        return None if found is None else restored(found[1])

    def _earlier_encodings(
        self, model_path: str | None, key: Mapping[str, Any]
    ) -> tuple[pd.DataFrame, dict[str, Any]] | None:
        options = dict(key)
        neutral = options.pop("neutral_data_df", None)
        asked = (options.pop(name, None) for name in ("split", "source", "max_size", "exclude_params"))
        named = self._encoder_key(*asked)
        place = resolve_encoder_analysis_path(self.experiment_dir, **named)
        if place is None or not Path(place).is_file():
            return None
        if model_path is not None and model_path != self.model_path:
            if not is_checkpoint(model_path):
                return None
            model = self.create_model_with_gradiend(model_path)
        elif self.has_model():
            model = self.get_model()
        else:
            return None
        found, why = read_encodings(Path(place), self._encoder_parts(model, named, neutral, options))
        if why:
            logger.info("The encodings in %s are not used (%s).", place, "; ".join(why))
        return found


def _side(source: str | None) -> str | None:
    return None if source is None else Side.parse("source", source).value
