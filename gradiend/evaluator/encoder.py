"""Encodings of labelled rows, and what they say about the encoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from gradiend.evaluator.encoder_metrics import get_encoder_metrics_from_dataframe
from gradiend.gradients.words import TokenizedWord

EMPTY_RESULT = {"n_samples": 0, "correlation": None}


@dataclass(frozen=True)
class EncoderData:
    """Rows to encode, tokenized once.

    Attributes:
        rows: Columns input_text, factual, alternative, label (+1, −1, 0), source_id, target_id and type.
        factual: The factual word of every row.
        alternative: Its alternative.
    """

    rows: pd.DataFrame
    factual: Sequence[TokenizedWord]
    alternative: Sequence[TokenizedWord]

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.rows)

    def encode(
        self, model: Any, *, source: str | None = None, batch_size: int = 32, progress: str | None = None
    ) -> pd.DataFrame:
        """The rows with a column `encoded`: the first latent. Further ones are in latent_1, latent_2, …

        Args:
            model: A `TextPredictionModelWithGradiend`.
            source: The gradient that is encoded. Default: the model's source.
            batch_size: Distinct texts per pass.
            progress: Label of a progress bar.
        """
        latents = model.encode_words(
            self.factual, self.alternative, source=source, batch_size=batch_size, progress=progress
        )
        further = {f"latent_{i}": latents[:, i].numpy() for i in range(1, latents.shape[1])}
        return self.rows.assign(encoded=latents[:, 0].numpy(), **further)


class EncoderEvaluator:
    """Metrics of the encoder."""

    def evaluate_encoder(
        self,
        trainer: Any,
        encoder_df: pd.DataFrame | None = None,
        eval_data: EncoderData | None = None,
        split: str | None = None,
        max_size: int | None = None,
        source: str | None = None,
    ) -> dict[str, Any]:
        """Metrics of encodings that are given, or made now.

        Args:
            trainer: Gives the model, and the data if none is given.
            encoder_df: Finished encodings; nothing is encoded then.
            eval_data: Rows to encode. Default: `trainer.create_eval_data(model, …)`.
            split: For `create_eval_data`.
            max_size: For `create_eval_data`.
            source: The gradient that is encoded.

        Returns:
            See `get_encoder_metrics_from_dataframe`; {"n_samples": 0, "correlation": None} for no rows.
        """
        if encoder_df is None:
            model = trainer.get_model()
            given = {"split": split, "max_size": max_size, "source": source}
            if eval_data is None:
                eval_data = trainer.create_eval_data(model, **{k: v for k, v in given.items() if v is not None})
            if not len(eval_data):
                return dict(EMPTY_RESULT)
            encoder_df = eval_data.encode(model, source=source, batch_size=trainer.training_args.eval_batch_size)
        return dict(EMPTY_RESULT) if encoder_df.empty else get_encoder_metrics_from_dataframe(encoder_df)
