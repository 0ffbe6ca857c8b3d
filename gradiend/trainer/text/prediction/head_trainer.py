"""A trainer that can give a causal model an auxiliary head before it trains on it."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Any

import pandas as pd

from gradiend.trainer.core.feature_definition import original_model
from gradiend.trainer.text.common.model_base import TextModelWithGradiend
from gradiend.trainer.text.prediction.decoder_with_head import DecoderModelWithMLMHead, base_of
from gradiend.trainer.text.prediction.head_training import train_mlm_head
from gradiend.trainer.text.prediction.mlm_head import is_mlm_head
from gradiend.trainer.trainer import Trainer
from gradiend.util.paths import MLM_HEAD


class TrainerWithMLMHead(Trainer):
    """A `Trainer` whose causal models may get an auxiliary masked-LM head; see `Trainer` for the arguments."""

    _head_directory: str | None = None

    @abstractmethod
    def get_decoder_mlm_training_data(self, split: str = "train", max_size: int | None = None) -> pd.DataFrame:
        """Texts of a split (masked) and the words that stood there (label)."""

    def train_decoder_only_mlm_head(
        self,
        model: Any,
        output: str | None = None,
        *,
        split: str = "train",
        batch_size: int = 4,
        epochs: int = 5,
        lr: float = 1e-4,
        pooling_length: int = 3,
        max_length: int = 128,
        max_size: int | None = None,
        use_cache: bool | None = None,
        model_use_cache: bool | None = None,
    ) -> str:
        """Train an auxiliary masked-LM head on a causal model; from then on, `train` uses it.

        Args:
            model: Name, path or instance of the causal model, or a `ModelWithGradiend` of it.
            output: Where the head goes. Default: `<experiment_dir>/decoder_mlm_head`.
            split: Rows to train on.
            batch_size: See `train_mlm_head`.
            epochs: See `train_mlm_head`.
            lr: See `train_mlm_head`.
            pooling_length: See `train_mlm_head`.
            max_length: See `train_mlm_head`.
            max_size: Cap on rows.
            use_cache: See `train_mlm_head`. Default: `model_use_cache`.
            model_use_cache: Likewise. Default: that of the training arguments.

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
        rows = self.get_decoder_mlm_training_data(split, max_size)
        tokenizer = None
        if isinstance(model, TextModelWithGradiend):
            model, tokenizer = original_model(model.base_model), model.tokenizer
        chosen = (use_cache, model_use_cache, self.training_args.model_use_cache)
        self._head_directory = train_mlm_head(
            model, rows, output, batch_size=batch_size, epochs=epochs, lr=lr, pooling_length=pooling_length,
            max_length=max_length, trust_remote_code=self.training_args.trust_remote_code, tokenizer=tokenizer,
            use_cache=next(value for value in chosen if value is not None),
        )  # fmt: skip
        if self._model_path is None and not isinstance(self._base, TextModelWithGradiend):
            # A model that was loaded before does not have the head.
            self._model = None
        return self._head_directory

    def resolve_custom_prediction_head_dir(self) -> str | None:
        """The head that this trainer has trained, else the one in the experiment directory, else None."""
        found = self._head_directory or (self.experiment_dir and str(Path(self.experiment_dir) / MLM_HEAD))
        return found if found and is_mlm_head(found) else None

    def resolve_model_path(self, model: Any) -> Any:
        """See `FeatureLearningDefinition.resolve_model_path`; an instance gets the head put on.

        Raises:
            ValueError: The head was trained for another model.
        """
        resolved = super().resolve_model_path(model)
        if resolved is model:
            return model
        if not isinstance(model, (str, Path)):
            return DecoderModelWithMLMHead.from_pretrained(resolved, base_model=original_model(model))
        trained_for = base_of(resolved)
        # A relative and an absolute path may mean the same folder.
        if str(model) != trained_for and Path(model).resolve() != Path(trained_for).resolve():
            raise ValueError(
                f"The auxiliary head in {resolved} was trained for {trained_for}, not for {model}: train it again "
                "(train_decoder_only_mlm_head), remove it, or use another experiment_dir."
            )
        return resolved
