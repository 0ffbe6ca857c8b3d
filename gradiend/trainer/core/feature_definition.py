"""The definition of a feature: its classes, its data, and how a model of the feature is made and measured."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import pandas as pd

from gradiend.evaluator._encoding_files import read_frame
from gradiend.evaluator._goals import check_class_names
from gradiend.evaluator._measurements import BaseModelMeasurement, WholeMeasurement
from gradiend.evaluator._selection import LikelihoodPolicy
from gradiend.evaluator.encoder_metrics import get_encoder_metrics_from_dataframe
from gradiend.model._checkpoint import is_checkpoint
from gradiend.model.model_with_gradiend import ModelWithGradiend
from gradiend.trainer.core._modality import Modality
from gradiend.trainer.core.stats import load_training_stats
from gradiend.util._checks import require_ordered
from gradiend.util._keywords import resolve_keywords
from gradiend.util.paths import CONTEXT, resolve_encoder_analysis_path


@runtime_checkable
class AuxiliaryModel(Protocol):
    """A base model with a head that is used in training only; evaluations and rewriting use the model without it."""

    def to_original_model(self) -> Any:
        """The model without the auxiliary head, sharing its parameters."""


def original_model(base_model: Any) -> Any:
    """A base model without its auxiliary head, if it has one."""
    return base_model.to_original_model() if isinstance(base_model, AuxiliaryModel) else base_model


class FeatureLearningDefinition(ABC):
    """The feature that a GRADIEND learns, independent of how it is trained.

    Args:
        target_classes: The classes to tell apart; the first is encoded as +1, the second as −1.
        run_id: Name of the run; a subdirectory of the experiment directory.
        n_features: Number of latent features.

    Raises:
        ValueError: A class named twice, or a class with a name that decoder results use for something else.
        TypeError: A set, which has no order.
    """

    modality = Modality()
    """What the trainer knows of its kind of data."""
    default_model_with_gradiend_cls: type[ModelWithGradiend] = ModelWithGradiend  # type: ignore[type-abstract]

    def __init__(
        self, target_classes: Sequence[str] | None = None, run_id: str | None = None, n_features: int = 1
    ) -> None:
        require_ordered("target_classes", target_classes)
        if target_classes is not None and len(set(target_classes)) != len(target_classes):
            raise ValueError(f"target_classes must be distinct; got {list(target_classes)}.")
        check_class_names(target_classes or ())
        self._target_classes = None if target_classes is None else list(target_classes)
        self.run_id = run_id
        self.n_features = n_features

    # The methods that a modality supplies

    @abstractmethod
    def create_training_data(self, *args: Any, **kwargs: Any) -> Any:
        """The training examples, without gradients."""

    @abstractmethod
    def create_gradient_training_dataset(self, *args: Any, **kwargs: Any) -> Any:
        """The training batches as (source, target) gradients."""

    @abstractmethod
    def evaluate_base_model(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Class probabilities and language-modelling score of one base model."""

    @abstractmethod
    def _get_decoder_eval_dataframe(self, *args: Any, **kwargs: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
        """(rows with feature words, neutral texts) for the decoder evaluation."""

    @abstractmethod
    def _get_decoder_eval_targets(self) -> dict[str, list[str]]:
        """Class → the words whose probabilities make the probability of the class."""

    @abstractmethod
    def _analyze_encoder(self, *args: Any, **kwargs: Any) -> pd.DataFrame:
        """Encodings of training and neutral rows."""

    def data_parts(
        self, *splits: str, include_other_classes: bool = False, transitions: Sequence[tuple[str, str]] | None = None
    ) -> dict[str, Any]:
        """Name → part that results depend on besides models and arguments; see `Modality.data_parts`."""
        # A modality that knows no transitions need not take them.
        more = {} if transitions is None else {"transitions": transitions}
        own = self.modality.data_parts(*splits, include_other_classes=include_other_classes, **more)
        return {"target classes": self.target_classes, **own}

    def measurement_parts(self) -> dict[str, Any]:
        """Name → part that evaluations depend on besides the rows."""
        return {"class words": self._get_decoder_eval_targets(), **self.modality.measurement_parts()}

    # What the decoder evaluation asks for

    @property
    def strengthens_on_other_classes(self) -> bool:
        """Whether the strengthening of a class is measured on the texts of the other classes, or on its own."""
        return True

    @property
    def exports_row_scores(self) -> bool:
        """Whether `decoder_row_wise_scores.csv` is written."""
        return False

    def balance_texts(self, given: Any = None) -> list[str]:
        """The texts of the goal "balance": those given, or those of the configuration; see `evaluate_decoder`.

        Raises ValueError if there are no texts, or texts without a `[MASK]`. By default there are none.
        """
        del given
        raise ValueError(f'"balance" is not available for a {type(self).__name__}: it gives no balance_texts.')

    def prepare_base_model_evaluation(
        self, model: Any, tokenizer: Any, training_like_df: Any, neutral_df: Any, *, eval_batch_size: int,
        scored_by: LikelihoodPolicy | None = None, balance_texts: Sequence[str] | None = None,
    ) -> BaseModelMeasurement:  # fmt: skip
        """A measurement of the model as it is at that time; a modality may tokenize once for many measurements.

        By default, each of them is a call of `evaluate_base_model`.
        """
        del scored_by, balance_texts

        def evaluate(rows: Any) -> dict[str, Any]:
            return self.evaluate_base_model(
                model, tokenizer, training_like_df=rows, neutral_df=neutral_df, eval_batch_size=eval_batch_size
            )

        return WholeMeasurement(evaluate, training_like_df)

    # Classes

    @property
    def experiment_dir(self) -> str | None:
        """Directory of the results; None if nothing is written."""
        return None

    @property
    def target_classes(self) -> list[str] | None:
        """The classes that are told apart: the given classes, or else those of the data if they are known.

        Raises:
            ValueError: See `Modality.target_classes`.
        """
        if self._target_classes is None:
            found = self.modality.target_classes
            self._target_classes = None if found is None else list(found)
        return self._target_classes

    @property
    def pair(self) -> tuple[str, str] | None:
        """The two target classes, if there are exactly two."""
        classes = self.target_classes
        return (classes[0], classes[1]) if classes is not None and len(classes) == 2 else None

    def get_target_feature_class_ids(self) -> list[int]:
        """The `feature_class_id` of each target class in the training data: its place among the target classes.

        Raises:
            ValueError: The target classes are not known.
        """
        if self.target_classes is None:
            raise ValueError("The target classes are not known: pass target_classes=[…].")
        return list(range(len(self.target_classes)))

    @property
    def all_classes(self) -> list[str] | None:
        """All classes in the data; if these are not known, the target classes."""
        known = self.modality.all_classes
        return self.target_classes if known is None else known

    @property
    def non_target_classes(self) -> list[str]:
        """The classes in the data that are no target."""
        targets = self.target_classes or []
        return [name for name in self.all_classes or [] if name not in targets]

    def get_target_feature_classes(self) -> list[str] | None:
        """The target classes."""
        return self.target_classes

    def map_target_feature_class_ids(self, ids: Sequence[Any] | None) -> list[Any] | None:
        """The target classes that ids stand for; other values, and None, are returned unchanged."""
        if ids is None:
            return None
        names = dict(enumerate(self.target_classes or ()))
        return [names.get(number, number) for number in ids]

    @property
    def model_with_gradiend_cls(self) -> type[ModelWithGradiend]:
        """Class of the model that is trained."""
        return self.default_model_with_gradiend_cls

    def create_model_with_gradiend(
        self, load_directory: Any, model_with_gradiend_cls: type[ModelWithGradiend] | None = None, **kwargs: Any
    ) -> ModelWithGradiend:
        """A model for this feature: a checkpoint, a new GRADIEND on a base model, or the given instance itself."""
        if isinstance(load_directory, ModelWithGradiend):
            return load_directory
        cls = model_with_gradiend_cls or self.model_with_gradiend_cls
        if not hasattr(cls, "from_pretrained"):
            raise TypeError(f"model_with_gradiend_cls must be a subclass of ModelWithGradiend; got {cls!r:.60}.")
        return cls.from_pretrained(load_directory, feature_definition=self, **kwargs)

    def resolve_custom_prediction_head_dir(self) -> str | None:
        """Directory of the auxiliary prediction head to train with; None without a head."""
        return self.modality.head_directory(self.experiment_dir)

    def resolve_model_path(self, model: Any) -> Any:
        """What is loaded for `model`: a GRADIEND checkpoint itself; for a base model its auxiliary head, if any.

        Args:
            model: Name, path or instance of a base model, or a checkpoint.
        """
        if isinstance(model, (str, Path)) and ((Path(model) / CONTEXT).is_file() or is_checkpoint(model)):
            return model
        head = self.resolve_custom_prediction_head_dir()
        return model if head is None else self.modality.with_head(model, head)

    def create_eval_data(
        self, model_with_gradiend: Any, split: str | Sequence[str] = "val", source: str | None = None,
        max_size: int | None = None, is_decoder_only_model: bool | None = None, pre_load_gradients: bool | None = None,
        include_other_classes: bool = False, **kwargs: Any,
    ) -> Any:  # fmt: skip
        """Labelled rows of a split, ready to be encoded; empty if the split is empty.

        The rows are an `EncoderData` if the modality makes one, else the gradients of the split's examples, one by one.

        Args:
            model_with_gradiend: The model that will encode the rows.
            split: Name of the split; texts also take a list of names, or "all".
            source: The gradient that is encoded. Default: the model's source.
            max_size: Cap on rows per class.
            is_decoder_only_model, pre_load_gradients: Accepted for compatibility, without effect.
            include_other_classes: Whether rows of classes that are no target are added, with label 0.
            **kwargs: Further arguments of `create_training_data`, if the modality makes no `EncoderData`.

        Raises:
            TypeError: An unknown argument; the message names the nearest.
        """
        del is_decoder_only_model, pre_load_gradients
        own = ("split", "source", "max_size", "include_other_classes")
        rows = self.modality.eval_data(model_with_gradiend, split, max_size, include_other_classes)
        if rows is not None:
            resolve_keywords("create_eval_data", kwargs, (), named=own)
            return rows
        taken = inspect.signature(self.create_training_data).parameters
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in taken.values()):
            kwargs = resolve_keywords("create_eval_data", kwargs, taken, named=own)
        examples = self.create_training_data(
            model_with_gradiend, split=split, batch_size=1, max_size=max_size,
            include_other_classes=include_other_classes, **kwargs,
        )  # fmt: skip
        source = source or model_with_gradiend.source
        return self.create_gradient_training_dataset(examples, model_with_gradiend, source=source, target=None)

    @staticmethod
    def _model_for_decoder_eval(model: Any) -> Any:
        """The model without its auxiliary head, sharing the GRADIEND; a model without a head is returned unchanged."""
        original = original_model(model.base_model)
        return model if original is model.base_model else model.with_original_base_model(original)

    # Results

    def get_training_stats(self, model_path: str) -> dict[str, Any] | None:
        """The training statistics of a model directory, see `load_training_stats`."""
        return load_training_stats(model_path)

    def get_encodings(self, model_path: str, **key: Any) -> pd.DataFrame | None:
        """The encodings in the experiment directory; None if there are none.

        Args:
            model_path: The model of the encodings; only a `Trainer` checks that they belong to this model.
            **key: Parts of the file name, see `resolve_encoder_analysis_path`; the default split is test.
        """
        del model_path
        path = resolve_encoder_analysis_path(self.experiment_dir, **{"split": "test", **key})
        return read_frame(Path(path)) if path is not None and Path(path).is_file() else None

    def get_encoder_metrics(
        self, model_path: str, encoder_df: pd.DataFrame | None = None, **kwargs: Any
    ) -> dict[str, Any] | None:
        """Metrics of encodings that are given, or that an earlier evaluation wrote.

        Args:
            model_path: The model of the encodings.
            encoder_df: Encodings; no file is read then.
            **kwargs: use_cache, which must be True without `encoder_df`, and the key of `get_encodings`.

        Returns:
            See `get_encoder_metrics_from_dataframe`; None for an empty frame, or if there are no encodings.

        Raises:
            ValueError: Neither encodings nor use_cache are given, or use_cache without an experiment directory.
        """
        use_cache = kwargs.pop("use_cache", None)
        if encoder_df is None:
            if not use_cache:
                raise ValueError("get_encoder_metrics needs encodings: pass encoder_df=…, or use_cache=True.")
            if self.experiment_dir is None:
                raise ValueError("get_encoder_metrics(use_cache=True) needs an experiment_dir, where encodings are.")
            encoder_df = self.get_encodings(model_path, **kwargs)
        return None if encoder_df is None or encoder_df.empty else get_encoder_metrics_from_dataframe(encoder_df)
