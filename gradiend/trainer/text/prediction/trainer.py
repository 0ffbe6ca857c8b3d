"""The trainer for text features, which are seen in factual and alternative words at a placeholder.

Half of the file documents the arguments of the public methods, most of which are a few lines that call one function.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from gradiend.data._summary import DataSummary
from gradiend.data.unified import UNIFIED_FACTUAL, UNIFIED_FACTUAL_CLASS, UNIFIED_MASKED, UNIFIED_SPLIT
from gradiend.data.unified.transitions import TransitionSpec
from gradiend.evaluator._goals import wants_cache
from gradiend.evaluator._grid import CandidateFiles
from gradiend.evaluator._measurements import TextMeasurement
from gradiend.evaluator._selection import BASE, LikelihoodPolicy
from gradiend.objectives import Causal, wanted_kind
from gradiend.objectives.head_training import train_mlm_head
from gradiend.trainer._card_notes import note_side_effects
from gradiend.trainer._one_writer import one_writer
from gradiend.trainer._rewrites import class_and_direction, plan_rewrites
from gradiend.trainer.core._kept_gradients import GradientCache
from gradiend.trainer.core.arguments import DefaultNumber, DefaultWhole, TrainingArguments
from gradiend.trainer.core.feature_definition import original_model
from gradiend.trainer.text.common.model_base import TextModelWithGradiend
from gradiend.trainer.text.prediction import _evaluation_data
from gradiend.trainer.text.prediction._annotation import Annotation
from gradiend.trainer.text.prediction._rows import described, encoder_data, held_out_rows
from gradiend.trainer.text.prediction._side_effects import SideEffectsRequest, figure_drawer
from gradiend.trainer.text.prediction._text_data import TextData
from gradiend.trainer.text.prediction.config import TextPredictionConfig
from gradiend.trainer.text.prediction.dataset import TextGradientBatches, TextTrainingDataset
from gradiend.trainer.text.prediction.model_with_gradiend import TextPredictionModelWithGradiend
from gradiend.trainer.trainer import Trainer
from gradiend.util._checks import AS_IN_ARGUMENTS, require_mapping, require_whole
from gradiend.util._digest import frame_part, language_model_parts
from gradiend.util._files import kept_if_possible
from gradiend.util._imports import without_package
from gradiend.util._isolation import plain_modes
from gradiend.util._keywords import known_keywords, resolve_keywords
from gradiend.util.logging import get_logger
from gradiend.util.paths import MLM_HEAD

logger = get_logger(__name__)

CONFIG_FIELDS = [field.name for field in dataclasses.fields(TextPredictionConfig)]


class TextPredictionTrainer(Trainer):
    """Finds a feature of a language model from texts with the feature word masked.

    A causal model predicts the word from the left context. If this context says little about the feature, an auxiliary
    head that also sees some of the right context can be trained first (`train_decoder_only_mlm_head`). The loss of the
    head then gives the gradients, while the causal model itself is evaluated and rewritten.

    Args:
        model: Name or path of a base model or checkpoint, or a `ModelWithGradiend`.
        run_id: Subdirectory of `args.experiment_dir` for this run.
        data: A DataFrame, a dict class → DataFrame, a file, or a data set; see `TextPredictionConfig.data`.
        correlation_mapping: Kept as the attribute `correlation_mapping` and otherwise unused: labels follow from
            `target_classes`, and a warning says so if the mapping has other labels.
        config: A whole `TextPredictionConfig`, which replaces the single fields except `target_classes`.
        target_classes: The two classes; the first is encoded as +1. Default: the classes in the data, if they are two.
        args: Training and evaluation arguments; `training_args` is a second name.
        evaluator_class: See `Trainer`.
        **config_fields: Any field of `TextPredictionConfig`.

    Raises:
        TypeError: An unknown argument; the message names the nearest.
        ValueError: target_classes that are not two distinct names.
    """

    modality: TextData
    if TYPE_CHECKING:

        @property
        def target_classes(self) -> list[str]: ...  # noqa: D102 - texts always have two, or an error says why not

    default_model_with_gradiend_cls = TextPredictionModelWithGradiend

    def __init__(
        self, model: Any, run_id: str | None = None, data: Any = None,
        correlation_mapping: Mapping[str, float] | None = None, config: TextPredictionConfig | None = None,
        target_classes: Sequence[str] | None = None, *, args: TrainingArguments | None = None,
        evaluator_class: Callable[..., Any] | None = None, **config_fields: Any,
    ) -> None:  # fmt: skip
        fields = resolve_keywords("TextPredictionTrainer", config_fields, [*CONFIG_FIELDS, "args"])
        args = fields.pop("args", args)
        if config is not None and not isinstance(config, TextPredictionConfig):
            raise TypeError(f"config must be a TextPredictionConfig; got {config!r:.60}.")
        if correlation_mapping is not None:
            require_mapping("correlation_mapping", correlation_mapping)
        if config is None:
            config = TextPredictionConfig(data=data, run_id=run_id, **fields)
        elif data is not None or fields:
            ignored = [name for name, value in {**fields, "data": data}.items() if value is not None]
            logger.warning("config is given, so %s beside it is ignored: put it into the config.", ", ".join(ignored))
        if target_classes is not None:
            config = dataclasses.replace(config, target_classes=target_classes)
        if isinstance(args, TrainingArguments):
            config = config.with_arguments(args)
        self.config = config
        self.correlation_mapping = dict(correlation_mapping or {})
        self.modality = TextData(config)
        super().__init__(
            model, config.target_classes, args, run_id or config.run_id, config.n_features, evaluator_class
        )
        labels = dict(zip(config.target_classes or (), (1, -1), strict=False))
        if any(label != labels.get(name, 0) for name, label in self.correlation_mapping.items()):
            logger.warning(
                "correlation_mapping=%s changes nothing: the first of target_classes has the label +1, the second -1, "
                "other classes 0. Order target_classes as you want them.",
                self.correlation_mapping,
            )

    # Data

    @property
    def combined_data(self) -> pd.DataFrame:
        """The unified frame: masked, split, factual_class, alternative_class, factual, alternative, transition."""
        return self.modality.combined_data

    @property
    def other_data(self) -> pd.DataFrame:
        """Unified rows of the classes that are no target: each word with itself as the alternative."""
        return self.modality.other_data

    @property
    def neutral_data(self) -> pd.DataFrame | None:
        """The neutral texts (column `text`), or None. Raises ValueError if the column is missing."""
        return self.modality.neutral_data

    @property
    def strengthens_on_other_classes(self) -> bool:
        """The value of `config.decoder_eval_prob_on_other_class`."""
        return self.config.decoder_eval_prob_on_other_class

    @property
    def exports_row_scores(self) -> bool:
        """The value of `config.decoder_eval_export_row_wise_csv`."""
        return self.config.decoder_eval_export_row_wise_csv

    @known_keywords("data_summary")
    def data_summary(self, tokenizer: Any = None, include_other_classes: bool | None = None) -> DataSummary:
        """A report on the data, to print or to show: rows, words, tokens, lengths, leaks between splits, dropped rows.

        Args:
            tokenizer: The tokenizer, or its name or path, whose tokens the report counts. Default: the tokenizer of the
                model, if the model is loaded.
            include_other_classes: Whether classes that are no target are described too. Default: whether they are
                trained on (`add_identity_for_other_classes`).

        Raises:
            ValueError: See `gradiend.data.unified`.
        """
        if include_other_classes is None:
            include_other_classes = self.training_args.add_identity_for_other_classes
        if tokenizer is None and isinstance(self.current.model, TextModelWithGradiend):
            tokenizer = self.current.model.tokenizer
        return self.modality.summary(tokenizer, include_other_classes)

    @known_keywords("create_training_data")
    def create_training_data(
        self, model_or_tokenizer: Any, split: str = "train", class_pair: Sequence[str] | None = None,
        batch_size: int | None = None, max_size: int | None = None, include_other_classes: bool = False,
        balance_column: str = "feature_class_id",
    ) -> TextTrainingDataset:  # fmt: skip
        """The examples of a split, composed into batches of one class.

        Args:
            model_or_tokenizer: A `ModelWithGradiend`, or a tokenizer.
            split: Name of the split.
            class_pair: The two classes. Default: the target classes.
            batch_size: Examples per batch. Default: `train_batch_size`.
            max_size: Cap on examples, spread evenly over the classes.
            include_other_classes: Whether rows of classes that are no target are added, with their own word as the
                alternative, the label 0, and a feature_class_id after those of the pair (0 and 1).
            balance_column: Column whose values take turns.

        Raises:
            TypeError: A size that is no whole number, or neither a model nor a tokenizer.
            ValueError: See `TextTrainingDataset`; classes whose words become the same tokens, a size below 1, or
                include_other_classes with another class_pair than the target classes.
        """
        require_whole("batch_size", batch_size, 1, none_means=AS_IN_ARGUMENTS)
        require_whole("max_size", max_size, 1, none_means="for all examples")
        batch_size = batch_size or self.training_args.train_batch_size
        return self.modality.examples(
            model_or_tokenizer, split, batch_size, class_pair, max_size, include_other_classes, balance_column
        )

    @known_keywords("create_gradient_training_dataset")
    def create_gradient_training_dataset(
        self, training_data: TextTrainingDataset, model_with_gradiend: Any, *, cache_dir: str | None = None,
        use_cached_gradients: bool = True, source: str | None = "model", target: str | None = "model",
        bf16: bool = False,
    ) -> TextGradientBatches:  # fmt: skip
        """The examples as (source, target) gradients of the model.

        Args:
            training_data: The result of `create_training_data`.
            model_with_gradiend: The model that makes the gradients.
            cache_dir: Directory in which gradients are kept, and from which they are read.
            use_cached_gradients: Whether `cache_dir` is used.
            source, target: factual, alternative, diff, None (it is not computed), or "model" for that of the model.
            bf16: Whether gradients are computed under bfloat16 autocast.
        """
        cached = cache_dir is not None and use_cached_gradients
        return TextGradientBatches(
            training_data, model_with_gradiend, source=model_with_gradiend.source if source == "model" else source,
            target=model_with_gradiend.target if target == "model" else target,
            kept=GradientCache(cache_dir, model_with_gradiend) if cached and cache_dir is not None else None, bf16=bf16,
        )  # fmt: skip

    # Auxiliary head

    @known_keywords("get_decoder_mlm_training_data")
    def get_decoder_mlm_training_data(self, split: str = "train", max_size: int | None = None) -> pd.DataFrame:
        """The distinct texts of a split (masked) and the words that stood there (label), for an auxiliary head.

        `max_size` caps the rows, which are chosen at random. Raises ValueError for an unknown or empty split, or a cap
        below 1.
        """
        require_whole("max_size", max_size, 1, none_means="for all rows")
        rows = self.modality.rows(split)[[UNIFIED_MASKED, UNIFIED_FACTUAL]].drop_duplicates()
        rows = self.modality.sampled(rows, max_size)
        return rows.rename(columns={UNIFIED_MASKED: "masked", UNIFIED_FACTUAL: "label"}).reset_index(drop=True)

    @known_keywords("train_decoder_only_mlm_head")
    @one_writer("output")
    @plain_modes()
    def train_decoder_only_mlm_head(
        self, model: Any, output: str | None = None, *, split: str = "train", batch_size: int = DefaultWhole(4),
        epochs: int = DefaultWhole(5), lr: float = DefaultNumber(1e-4), pooling_length: int = 3,
        max_length: int = 128, max_size: int | None = None,
        use_cache: bool | None = None, model_use_cache: bool | None = None,
    ) -> str:  # fmt: skip
        """Train an auxiliary masked-LM head on a causal model; from then on, `train` uses the head.

        Args:
            model: Name, path or instance of the causal model, or a `ModelWithGradiend` with this base model.
            output: Directory of the head. Default: `<experiment_dir>/decoder_mlm_head`.
            split: Name of the split to train on.
            batch_size, epochs, lr, pooling_length, max_length: See `train_mlm_head`. Default: `decoder_mlm_head_…` of
                the training arguments, where they have it: 4, 5 and 0.0001.
            max_size: Cap on rows. Default: `decoder_mlm_head_max_size`, none.
            use_cache: See `train_mlm_head`. Default: `model_use_cache`.
            model_use_cache: Another name of `use_cache`. Default: the value in the training arguments.

        Returns:
            The directory of the head.

        Raises:
            ValueError: No directory, no rows, or a masked language model, which needs no head.
        """
        if output is None:
            if self.experiment_dir is None:
                raise ValueError(
                    "train_decoder_only_mlm_head needs a directory for the head: pass output=…, or give the trainer "
                    "TrainingArguments(experiment_dir=…)."
                )
            output = str(Path(self.experiment_dir) / MLM_HEAD)
        args = self.training_args
        batch_size = args.decoder_mlm_head_batch_size if isinstance(batch_size, DefaultWhole) else batch_size
        epochs = args.decoder_mlm_head_epochs if isinstance(epochs, DefaultWhole) else epochs
        lr = args.decoder_mlm_head_lr if isinstance(lr, DefaultNumber) else lr
        rows = self.get_decoder_mlm_training_data(
            split, args.decoder_mlm_head_max_size if max_size is None else max_size
        )
        tokenizer = None
        if isinstance(model, TextModelWithGradiend):
            model, tokenizer = original_model(model.base_model), model.tokenizer
        chosen = (use_cache, model_use_cache, args.model_use_cache)
        self.modality.trained_head = train_mlm_head(
            model, rows, output, batch_size=batch_size, epochs=epochs, lr=lr, pooling_length=pooling_length,
            max_length=max_length, trust_remote_code=args.trust_remote_code, tokenizer=tokenizer,
            use_cache=next(value for value in chosen if value is not None),
        )  # fmt: skip
        if self.current.directory is None and not isinstance(self.current.given, TextModelWithGradiend):
            # A model that was loaded before does not have the head.
            self.current.model = None
        return self.modality.trained_head

    def resolve_custom_prediction_head_dir(self) -> str | None:
        """See `FeatureLearningDefinition.resolve_custom_prediction_head_dir`; `prediction_objective` may want none."""
        plain = wanted_kind(self.training_args.prediction_objective) == Causal.name
        return None if plain else super().resolve_custom_prediction_head_dir()

    # Encoder evaluation

    def _analyze_encoder(
        self, model_with_gradiend: Any, split: str | Sequence[str] = "test", source: str | None = None,
        max_size: int | None = None, neutral_data_df: pd.DataFrame | None = None,
        transition_selection: Sequence[TransitionSpec | Sequence[str]] | None = None,
    ) -> pd.DataFrame:  # fmt: skip
        """Encodings of a split's rows, of the same texts with another word masked, and of neutral texts.

        An auxiliary head knows the class words only, so the causal model itself encodes neutral rows.

        Returns:
            A frame with the columns input_text, factual, alternative, label, source_id, target_id, type, data_split,
            encoded, held_out, which says whether no word that the encoding reads occurs in the training split in any
            class, and those of `described`.
        """
        ignored = [word for words in self._get_decoder_eval_targets().values() for word in words]
        rows, *others = _evaluation_data.encoder_rows(
            self.modality, split, self.training_args, max_size, neutral_data_df, ignored, transition_selection
        )
        plain = self._model_for_decoder_eval(model_with_gradiend)
        parts = [(model_with_gradiend, [rows]), (plain, others)]
        if plain is model_with_gradiend:
            parts = [(plain, [rows, *others])]
        batch_size = self.training_args.eval_batch_size
        encoded = [
            encoder_data(pd.concat(frames, ignore_index=True), model).encode(
                model, source=source, batch_size=batch_size, progress="encoding"
            )
            for model, frames in parts
        ]
        frame = pd.concat(encoded, ignore_index=True)
        training = self.combined_data.loc[self.combined_data[UNIFIED_SPLIT] == "train"]
        source = source or model_with_gradiend.source
        return described(frame.assign(held_out=held_out_rows(frame, training, source)), source)

    # Decoder evaluation

    def _get_decoder_eval_targets(self) -> dict[str, list[str]]:
        """Class → words of the class: `decoder_eval_targets`, or the distinct words in the data, commonest first.

        A word that has a capital only at the start of sentences is written without it, see `own_spellings`.
        """
        return self.modality.class_words()

    def _get_decoder_eval_dataframe(
        self, tokenizer: Any, max_size_training_like: int | None = None, max_size_neutral: int | None = None,
        split: str | Sequence[str] = "test", cached_training_like_df: pd.DataFrame | None = None,
        cached_neutral_df: pd.DataFrame | None = None,
    ) -> tuple[pd.DataFrame, pd.DataFrame]:  # fmt: skip
        """(rows with masked, factual and factual_class; neutral texts, which are the filled rows by default)."""
        del tokenizer
        rows = _evaluation_data.decoder_rows(self.modality, split, max_size_training_like, cached_training_like_df)
        return rows, _evaluation_data.decoder_neutral(self.modality, rows, max_size_neutral, cached_neutral_df)

    def prepare_base_model_evaluation(
        self, model: Any, tokenizer: Any, training_like_df: pd.DataFrame, neutral_df: pd.DataFrame, *,
        eval_batch_size: int, scored_by: LikelihoodPolicy | None = None, balance_texts: Sequence[str] | None = None,
    ) -> TextMeasurement:  # fmt: skip
        """Tokenize and mask texts once; the result measures the model, as it is at the time of the measurement.

        A model with an auxiliary head is measured without the head. With `scored_by`, as many tokens of the neutral
        texts are scored as this policy asks for.
        """
        return _evaluation_data.decoder_measurement(
            self.modality, model, tokenizer, training_like_df, neutral_df, self.target_classes,
            self._get_decoder_eval_targets(), eval_batch_size, scored_by, balance_texts,
        )  # fmt: skip

    def balance_texts(self, given: Any = None) -> list[str]:
        """See `FeatureLearningDefinition.balance_texts`."""
        return _evaluation_data.balance_texts(self.modality, given)

    @known_keywords("evaluate_base_model")
    @plain_modes()
    def evaluate_base_model(
        self, model: Any, tokenizer: Any, use_cache: bool | None = None, cache_folder: str = "",
        model_id: str | None = None, training_like_df: pd.DataFrame | None = None,
        neutral_df: pd.DataFrame | None = None, max_size_training_like: int | None = None,
        max_size_neutral: int | None = None, eval_batch_size: int | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        """Class probabilities and language-modelling score of a language model, such as a rewritten model.

        Args:
            model: A language model of transformers.
            tokenizer: The tokenizer of the model.
            use_cache: Read `<experiment_dir>/decoder/<name>.json` if it was measured on the same model, rows and texts,
                and write it otherwise. Default: the value in the training arguments.
            cache_folder: The name in this path. Default: `model_id`, else base.
            model_id: See `cache_folder`.
            training_like_df: Rows with masked, factual and factual_class, or with the columns of the training data.
                Default: the test split.
            neutral_df: Neutral texts (column `text`). Default: the trainer's neutral texts.
            max_size_training_like: Cap on rows per dataset class.
            max_size_neutral: Cap on neutral texts.
            eval_batch_size: Texts per forward pass.

        Returns:
            probs_by_dataset {dataset class: {class: mean probability}}, probs {X: mean probability of the other classes
            on X's texts}, probs_factual {X: mean probability of X on X's texts}, probs_interval (bootstrap intervals
            over texts; None: not estimable), and lms {"lms": the score, "likelihood": …, "n_tokens": …}.
        """
        caps = {"max_size_training_like": max_size_training_like, "max_size_neutral": max_size_neutral}
        for name, cap in caps.items():
            require_whole(name, cap, 1, none_means="for all")
        require_whole("eval_batch_size", eval_batch_size, 1, none_means=AS_IN_ARGUMENTS)
        use_cache = wants_cache(self, use_cache, "evaluate_base_model")
        rows, neutral = self._get_decoder_eval_dataframe(
            tokenizer, max_size_training_like, max_size_neutral, cached_training_like_df=training_like_df,
            cached_neutral_df=neutral_df,
        )  # fmt: skip
        parts = {
            **self.measurement_parts(),
            **language_model_parts(model, tokenizer),
            "rows": frame_part(rows),
            "neutral texts": frame_part(neutral),
        }
        directory = Path(str(self.experiment_dir)) if use_cache else None
        files = CandidateFiles(directory, parts, {}, part="decoder", use_cache=use_cache)
        name = cache_folder or model_id or BASE
        entry, measured = files.load(name)
        datasets = list(dict.fromkeys(rows[UNIFIED_FACTUAL_CLASS]))
        if set(measured) < set(datasets):
            batch_size = eval_batch_size or self.training_args.eval_batch_size
            measurement = self.prepare_base_model_evaluation(
                model, tokenizer, rows, neutral, eval_batch_size=batch_size
            )
            entry = measurement.base(None)
            files.store(name, {"id": name, **entry}, datasets)
        return {key: value for key, value in entry.items() if key != "id"}

    @known_keywords("annotate_data")
    @one_writer()
    @plain_modes()
    def annotate_data(
        self, data: Any = None, split: str | Sequence[str] | None = None, output_csv: str | Path | None = None,
        output_json: str | Path | None = None, max_size: int | None = None, eval_batch_size: int | None = None,
        use_cache: bool | None = None, unicode_string_map: Mapping[str, str] | None = None,
    ) -> pd.DataFrame:  # fmt: skip
        """What the base model knows of rows, before anything is trained: the probabilities of their words.

            known = trainer.annotate_data()
            known = known[known["base_p_factual"] > known["base_p_alternative"]]

        With an experiment directory, the rows are written to `annotated_data[_key].csv`, and a summary to the `.json`
        beside it.

        Args:
            data: Rows to use instead of the trainer's: unified rows, rows with the columns of the training data, or a
                file with such rows.
            split: The split of the trainer's rows, a list of splits, or "all". Default: all.
            output_csv: The file of the rows, instead of that in the experiment directory.
            output_json: A further file of the summary.
            max_size: Cap on rows per class, which are drawn by the seed of the data.
            eval_batch_size: Texts per forward pass. Default: the value in the training arguments.
            use_cache: Read the probabilities of the same base model, rows and class words from the file instead of
                computing them again. Default: the value in the training arguments.
            unicode_string_map: Text → text that replaces it in the names of columns, such as {"ß": "ss"}.

        Returns:
            The rows with base_p_factual and base_p_alternative, P of the row's own word and of its alternative;
            base_p_target_<word> for every word of the classes; and base_p_class_<class>, the sum over the words of the
            class. NaN stands where the model cannot predict the word, as at the start of a text without a BOS token.
            `attrs` has the summary: n_rows, and for each class n_rows, the means, and prefers_factual, the share of
            rows whose own word is more likely than the alternative.

        Raises:
            TypeError, ValueError: An argument of another kind, unusable rows, words that the tokenizer does not know,
                use_cache without a place for the files, or names of columns that become the same.
        """
        asked = Annotation(self, data, split, output_csv, output_json, max_size, eval_batch_size, unicode_string_map)
        place = None if output_csv is None else str(output_csv)
        return asked.frame(use_cache=wants_cache(self, use_cache, "annotate_data", place))

    @known_keywords("evaluate_side_effects")
    @one_writer()
    @plain_modes()
    def evaluate_side_effects(
        self, decoder_results: Mapping[str, Any] | None = None, target_class: str | None = None,
        increase_target_probabilities: bool = True, *, strengthen: str | None = None, weaken: str | None = None,
        neutral_df: pd.DataFrame | None = None, sentences: Sequence[str] | None = None,
        other_classes: Mapping[str, Sequence[str]] | None = None,
        other_gradiends: Mapping[str, Any] | None = None, top_k: int = 10, max_size_neutral: int | None = None,
        eval_batch_size: int | None = None, output: str | Path | None = None, plot: bool = False,
        show: bool | None = None, use_cache: bool | None = None,
    ) -> pd.DataFrame:  # fmt: skip
        """What a chosen rewrite changes beside its class: neutral texts, tokens, other classes, single sentences.

            trainer.evaluate_side_effects(strengthen="feminine", sentences=["The doctor said that [MASK] was late."])

        The base model is changed in place and restored bit by bit. Tokens of neutral texts are masked and scored as
        for the language-modelling score, without class words.

        Args:
            decoder_results, increase_target_probabilities, strengthen, weaken: See `rewrite_base_model`.
            target_class: The class that the rewrite moves, see `rewrite_base_model`; one class.
            neutral_df: Neutral texts (column `text`). Default: those of `evaluate_decoder`.
            sentences: Texts with a `[MASK]`, whose most likely tokens are reported.
            other_classes: Further classes to measure: name → words.
            other_gradiends: Trainers of other features to measure on their own test rows: name → trainer, or trainers.
            top_k: How many tokens that gained probability, and how many that lost, are reported.
            max_size_neutral: Cap on neutral texts. Default: the value in the training arguments.
            eval_batch_size: Texts per forward pass. Default: the value in the training arguments.
            output: The file of the figure, which is then drawn. Default: `side_effects.<format>` in the experiment
                directory.
            plot: Also draw `gradiend.visualizer.plot_side_effects`; without matplotlib a warning before the work says
                that it is left out.
            show: Whether to show the figure. Default: True.
            use_cache: Read the results of the same model, rewrite, texts and settings from
                `<experiment_dir>/side_effects_<class>.json` instead of measuring again. Default: the value in the
                training arguments.

        Returns:
            A frame with the columns kind, group, name, token_id, context, before, after, change (after − before), low
            and high (the 95 % bootstrap interval of the change over texts; NaN: not estimable), n (positions or rows),
            n_texts, example, example_before and example_after. The kinds are:

            - divergence: KL(base ‖ rewritten) in nats per scored position of neutral texts;
            - gained, lost: the tokens whose probability, averaged over these positions, rose or fell most; `example`
              is the text where it moved most, with `[MASK]` at the position, and its probabilities there;
            - class: P(class) on the test rows of each class and at one masked word of each neutral text (context);
              the group is "target classes", "other classes" or a name in `other_gradiends`;
            - prediction: the five most likely tokens before, and those after, for each sentence (context).

        Raises:
            TypeError, ValueError: See `rewrite_base_model`; several classes, texts or words that cannot be scored, a
                class named twice, or a figure that would be neither saved nor shown; all before the measurement.
        """
        goal = class_and_direction(target_class, increase_target_probabilities, strengthen, weaken)
        if sentences is not None and not isinstance(sentences, str):
            sentences = self.modality.usual_texts(sentences, "sentences")
        asked = SideEffectsRequest(
            self, neutral_df, sentences, other_classes, other_gradiends, top_k, max_size_neutral, eval_batch_size
        )
        draw = figure_drawer(self, output, show) if plot or output is not None else None
        plan = plan_rewrites(decoder_results, *goal, self.experiment_dir, last=self._last_results)
        if len(plan.rewrites) > 1:
            raise ValueError("evaluate_side_effects measures one rewrite: name one class, and call it for each class.")
        model, _ = self._rewritten_model(None)
        plan.require_model(model)
        use_cache = wants_cache(self, use_cache, "evaluate_side_effects")
        rewrite, directory = plan.rewrites[0], self.experiment_dir if use_cache else None
        frame = asked.kept(self._model_for_decoder_eval(model), rewrite.arguments(), directory, rewrite.key)
        note_side_effects(self, model, rewrite.key, frame)
        if draw is not None:
            with kept_if_possible("The plot is"):
                without_package(lambda: draw(frame), "The plot")
        return frame

    def analyze_decoder_for_plotting(
        self, decoder_results: Mapping[str, Any] | None = None, model_with_gradiend: Any = None,
        class_ids: Sequence[str] | None = None, use_cache: bool | None = None, **kwargs: Any,
    ) -> dict[str, Any]:  # fmt: skip
        """Decoder results for a plot, for which every candidate is measured on all dataset classes.

        Args:
            decoder_results: Finished results, whose grid becomes the default grid; only missing values are measured.
            model_with_gradiend: The model. Default: the trainer's model.
            class_ids: Classes for which a candidate is chosen. Default: all target classes.
            use_cache: See `evaluate_decoder`.
            **kwargs: Further arguments of `evaluate_decoder`.

        Returns:
            {"plotting_data": the grid, "summary": class → the chosen candidate}.

        Raises:
            ValueError: `decoder_results` has no candidates; see `evaluate_decoder` for more.
        """
        if decoder_results is not None:
            candidates = [key for key in decoder_results.get("grid", ()) if key != BASE]
            if not candidates:
                raise ValueError("decoder_results has no grid of candidates: give what evaluate_decoder returned.")
            factors, rates = (list(dict.fromkeys(values)) for values in zip(*candidates, strict=True))
            points = {"lrs": rates} if set(factors) <= {1.0, -1.0} else {"lrs": rates, "feature_factors": factors}
            kwargs = {**points, **kwargs}
        results = self.evaluator.evaluate_decoder(
            model_with_gradiend=model_with_gradiend, target_class=class_ids, use_cache=use_cache, complete=True,
            known=None if decoder_results is None else decoder_results["grid"], **kwargs,
        )  # fmt: skip
        grid = results.pop("grid")
        return {"plotting_data": grid, "summary": results}
