"""A trainer's data: from what its configuration names to the rows of a split."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from gradiend.data.unified import (
    UNIFIED_FACTUAL,
    UNIFIED_FACTUAL_CLASS,
    UNIFIED_MASKED,
    UNIFIED_SPLIT,
    classes_in,
    require_split,
    to_unified,
)
from gradiend.gradients.words import WordTokenizer
from gradiend.model.utils import is_decoder_only_model
from gradiend.trainer.core.arguments import TrainingArguments
from gradiend.trainer.text.common.model_base import MAX_LENGTH, TextModelWithGradiend
from gradiend.trainer.text.prediction.config import TextPredictionConfig
from gradiend.trainer.text.prediction.dataset import TextTrainingDataset
from gradiend.trainer.text.prediction.head_trainer import TrainerWithMLMHead
from gradiend.trainer.text.prediction.rows import checked_neutral, labelled, scorable_rows
from gradiend.util.logging import get_logger
from gradiend.util.splits import normalize_split_name

logger = get_logger(__name__)


class TrainerWithData(TrainerWithMLMHead):
    """A trainer on texts with a masked word; frames are read when they are first needed, and kept."""

    config: TextPredictionConfig
    """Where the data is and how its columns are called."""
    _unified: pd.DataFrame | None = None
    _neutral: pd.DataFrame | None = None

    @property
    def target_classes(self) -> list[str]:
        """The two classes; those in the data where none were given.

        Raises:
            ValueError: None given, and the data does not have exactly two.
        """
        if self._target_classes is None:
            found = classes_in(self._data(), self.config.columns())
            if len(found) < 2:
                only = f"only the class {found[0]}" if found else "no rows"
                raise ValueError(f"The data has {only}: two classes are needed, to tell apart.")
            if len(found) > 2:
                raise ValueError(
                    f"The data has the classes {', '.join(found)}: name the two to tell apart with "
                    "target_classes=[…], the one to be encoded positive first."
                )
            self._target_classes = found
        return self._target_classes

    @property
    def all_classes(self) -> list[str]:
        """All classes in the data."""
        return classes_in(self._data(), self.config.columns())

    @property
    def combined_data(self) -> pd.DataFrame:
        """The unified frame: masked, split, factual_class, alternative_class, factual, alternative, transition."""
        if self._unified is None:
            self._unified = to_unified(
                self._data(),
                pair=self.target_classes,
                columns=self.config.columns(),
                max_counterfactuals_per_sentence=self.config.max_counterfactuals_per_sentence,
                seed=self.data_seed,
            )
        return self._unified

    @property
    def data_seed(self) -> int:
        """`config.random_state`, or 0."""
        return self.config.random_state or 0

    def _data(self) -> Any:
        if self.config.data is None:
            raise ValueError("The trainer has no data: pass data=… (a DataFrame, a dict of DataFrames, or a file).")
        return self.config.data

    @property
    def neutral_data(self) -> pd.DataFrame | None:
        """The neutral texts (column `text`), or None.

        Raises:
            ValueError: No column `text`.
        """
        if self._neutral is None and self.config.eval_neutral_data is not None:
            self._neutral = checked_neutral(self.config.eval_neutral_data, self.config.eval_neutral_max_rows)
        return self._neutral

    def _split(self, split: str) -> pd.DataFrame:
        return require_split(self.combined_data, split)

    def _has_split(self, split: str) -> bool:
        return normalize_split_name(split) in set(self.combined_data[UNIFIED_SPLIT])

    def check_training_data(self, args: TrainingArguments) -> None:
        """Raise what is wrong with the data before the model is loaded.

        Raises:
            ValueError: See `gradiend.data.unified`; no training split; a class smaller than a batch.
        """
        train = self._split("train")
        sizes = train[UNIFIED_FACTUAL_CLASS].value_counts()
        for name in self.target_classes:
            if sizes.get(name, 0) < args.train_batch_size:
                raise ValueError(
                    f"The training split has {sizes.get(name, 0)} rows of class {name!r}, fewer than one batch "
                    f"(train_batch_size={args.train_batch_size}): reduce train_batch_size, or collect more rows."
                )
        if args.do_eval:
            evaluated = self._split(self.evaluation_split())[UNIFIED_FACTUAL_CLASS]
            for name in self.target_classes:
                if name not in set(evaluated):
                    raise ValueError(
                        f"The validation split has no rows of class {name!r}, so no training can be judged: add some."
                    )
            if not self._has_split("validation"):
                present = ", ".join(dict.fromkeys(self.combined_data[UNIFIED_SPLIT]))
                logger.warning(
                    "There is no validation split (present: %s): trainings are judged on training rows.", present
                )
        self.neutral_data  # noqa: B018 - read here, so that a bad file costs no training

    def evaluation_split(self) -> str:
        """validation; or train, where the data has no validation rows."""
        return "validation" if self._has_split("validation") else "train"

    def create_training_data(
        self,
        model_or_tokenizer: Any,
        split: str = "train",
        class_pair: Sequence[str] | None = None,
        batch_size: int | None = None,
        max_size: int | None = None,
        balance_column: str = "feature_class_id",
    ) -> TextTrainingDataset:
        """The examples of a split, composed into batches of one class.

        Args:
            model_or_tokenizer: A `ModelWithGradiend`, or a tokenizer.
            split: Which rows.
            class_pair: The two classes. Default: the target classes.
            batch_size: Default: `train_batch_size`.
            max_size: Cap on examples.
            balance_column: Column whose values take turns.

        Raises:
            ValueError: See `TextTrainingDataset`.
        """
        pair = tuple(class_pair or self.target_classes)
        if isinstance(model_or_tokenizer, TextModelWithGradiend):
            tokenizer, words = model_or_tokenizer.tokenizer, model_or_tokenizer.words
            causal = is_decoder_only_model(model_or_tokenizer.base_model)
        else:
            tokenizer, causal = model_or_tokenizer, is_decoder_only_model(model_or_tokenizer)
            words = WordTokenizer(tokenizer, causal=causal, max_length=MAX_LENGTH)
        rows = scorable_rows(labelled(self._split(split), pair), words, "training")
        return TextTrainingDataset(
            rows.rename(columns={"source_id": "factual_id", "target_id": "alternative_id"}),
            tokenizer,
            batch_size or self.training_args.train_batch_size,
            is_decoder_only_model=causal,
            max_size=max_size,
            balance_column=balance_column,
            seed=self.data_seed,
            words=words,
        )

    def get_decoder_mlm_training_data(self, split: str = "train", max_size: int | None = None) -> pd.DataFrame:
        """The distinct texts of a split and the words that stood there, for an auxiliary head.

        Args:
            split: Which rows.
            max_size: Cap on rows; a random choice.

        Returns:
            Columns masked and label.

        Raises:
            ValueError: An unknown or empty split.
        """
        rows = self._split(split)[[UNIFIED_MASKED, UNIFIED_FACTUAL]].drop_duplicates()
        if max_size is not None and len(rows) > max_size:
            rows = rows.sample(max_size, random_state=self.data_seed).sort_index()
        return rows.rename(columns={UNIFIED_MASKED: "masked", UNIFIED_FACTUAL: "label"}).reset_index(drop=True)

    def _capped(self, rows: pd.DataFrame, column: str, max_size: int | None) -> pd.DataFrame:
        if max_size is None or rows.empty:
            return rows
        shuffled = rows.sample(frac=1, random_state=self.data_seed)
        return shuffled.groupby(column, sort=False).head(max_size).sort_index()
