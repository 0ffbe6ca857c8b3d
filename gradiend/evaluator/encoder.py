"""Encodings of labelled rows, and what they say about the encoder."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from gradiend.evaluator.encoding_files import restored, write_metrics
from gradiend.evaluator.fingerprints import KnowsItsData, model_parts, require_trained, wants_cache
from gradiend.evaluator.frame_metrics import get_encoder_metrics_from_dataframe
from gradiend.evaluator.uncertainty import N_RESAMPLES
from gradiend.gradients import TokenizedWord
from gradiend.util.fingerprint import Fingerprint, digest_frame, read_cached
from gradiend.util.paths import resolve_encoder_eval_result_path
from gradiend.util.plain import plain
from gradiend.visualizer.encoder_frame import Encodings, frame_of

logger = logging.getLogger(__name__)

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

    def __repr__(self) -> str:
        return f"EncoderData({len(self)} rows)"

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.rows)

    def few(self, rows_per_label: int) -> EncoderData:
        """At most so many rows of each label, the same every time."""
        labels = self.rows["label"].reset_index(drop=True).sample(frac=1, random_state=0)
        kept = sorted(labels.groupby(labels, sort=False).head(rows_per_label).index)
        return EncoderData(self.rows.iloc[kept], [self.factual[i] for i in kept], [self.alternative[i] for i in kept])

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
        return self.rows.assign(**{latent_column(i): column.numpy() for i, column in enumerate(latents.T)})


def latent_column(number: int) -> str:
    """Where a latent is in a frame of encodings: the first, which every figure is about, in `encoded`."""
    return f"latent_{number}" if number else "encoded"


def encode_dataset_to_rows(
    model: Any, dataset: Any, row_extractor: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None
) -> list[dict[str, Any]]:
    """Encode the items of a gradient data set, one after the other.

    Args:
        model: Its `encode` takes the source gradient of an item, and returns its latent: a number, or (latent_dim,).
        dataset: Items are dicts with `source`, a gradient of the model's map; further entries describe it.
        row_extractor: What of an item goes into its row. Default: everything but tensors and dicts; of a batch of one,
            its one entry.

    Returns:
        One dict per item: the described entries and `encoded`, the first latent; further ones are `latent_1`, ….
    """
    describe = _described if row_extractor is None else row_extractor
    rows = []
    for item in dataset:
        latents = torch.as_tensor(model.encode(item["source"]), dtype=torch.float64).reshape(-1).tolist()
        rows.append({**describe(item), **{latent_column(i): latent for i, latent in enumerate(latents)}})
    return rows


def encoded_frame(
    model: Any, data: Any, *, source: str | None = None, batch_size: int = 32, progress: str | None = None
) -> pd.DataFrame:
    """Evaluation data with a column `encoded`.

    Args:
        model: A `ModelWithGradiend`.
        data: What `create_eval_data` gives: an `EncoderData`, or a gradient data set (see `encode_dataset_to_rows`).
        source: The gradient that is encoded. Default: the model's source; a gradient data set has its own.
        batch_size: Distinct texts per pass.
        progress: Label of a progress bar.

    Returns:
        One row per example. Of a gradient data set, `type` is training and `factual_id` and `alternative_id` are
        `source_id` and `target_id`, unless its items say otherwise.
    """
    if isinstance(data, EncoderData):
        return data.encode(model, source=source, batch_size=batch_size, progress=progress)
    frame = pd.DataFrame(encode_dataset_to_rows(model, data) or {latent_column(0): []})
    for name, documented in (("factual_id", "source_id"), ("alternative_id", "target_id")):
        if name in frame.columns and documented not in frame.columns:
            frame = frame.rename(columns={name: documented})
    return frame if "type" in frame.columns else frame.assign(type="training")


class EncoderEvaluator:
    """Metrics of the encoder."""

    def evaluate_encoder(
        self,
        trainer: Any,
        encoder_df: Encodings | None = None,
        eval_data: Any = None,
        use_cache: bool | None = None,
        split: str | None = None,
        max_size: int | None = None,
        model_with_gradiend: Any = None,
        source: str | None = None,
        n_resamples: int = N_RESAMPLES,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Metrics of encodings that are given, or made now.

        With an experiment directory, metrics of encodings that are made now are written to `encoded_values[_key].json`.
        Encodings that `Trainer.evaluate_encoder` has kept under the same key (there a split is always in it) are made
        again when they are asked for: that file was theirs.

        Args:
            trainer: Gives the model, and the data if none is given.
            encoder_df: Finished encodings, or a result that holds them; nothing is encoded then.
            eval_data: Rows to encode: an `EncoderData`, or what `encode_dataset_to_rows` takes. Default:
                `trainer.create_eval_data(model, …)`.
            use_cache: Read the metrics of the same model and rows instead of encoding again. Default: the training
                arguments'.
            split: For `create_eval_data`.
            max_size: For `create_eval_data`.
            model_with_gradiend: Default: the trainer's.
            source: The gradient that is encoded.
            n_resamples: Of the bootstrap interval; 0 leaves it out.
            **kwargs: For `create_eval_data`.

        Returns:
            See `get_encoder_metrics_from_dataframe`; {"n_samples": 0, "correlation": None} for no rows.

        Raises:
            ValueError: use_cache without an experiment directory, or a GRADIEND that is not trained.
        """
        if encoder_df is not None:
            return _metrics(frame_of(encoder_df), n_resamples)
        use_cache = wants_cache(trainer, use_cache, "evaluate_encoder")
        model = trainer.get_model() if model_with_gradiend is None else model_with_gradiend
        require_trained(trainer, model)
        key: dict[str, Any] = {"split": split, "max_size": max_size, "source": source}
        place = resolve_encoder_eval_result_path(trainer.experiment_dir, **key)
        parts = _parts(trainer, model, eval_data, {**key, **kwargs, "n_resamples": n_resamples})
        if use_cache and place is not None and parts is not None:
            cached, why = read_cached(place, plain(parts))
            if cached is not None:
                return restored(cached)
            if why:
                logger.info("The metrics in %s are not used (%s): encoding again.", place, "; ".join(why))
        if eval_data is None:
            given = {name: value for name, value in {**key, **kwargs}.items() if value is not None}
            eval_data = trainer.create_eval_data(model, **given)
        if not len(eval_data):
            return dict(EMPTY_RESULT)
        frame = encoded_frame(model, eval_data, source=source, batch_size=trainer.training_args.eval_batch_size)
        result = _metrics(frame, n_resamples)
        if place is not None:
            write_metrics(Path(place), result, parts)
        return result


def _metrics(frame: pd.DataFrame, n_resamples: int) -> dict[str, Any]:
    return dict(EMPTY_RESULT) if frame.empty else get_encoder_metrics_from_dataframe(frame, n_resamples=n_resamples)


def _parts(trainer: Any, model: Any, eval_data: Any, settings: Mapping[str, Any]) -> Fingerprint | None:
    """What metrics depend on; None where that cannot be said, because the data is of an unknown kind."""
    if isinstance(eval_data, EncoderData):
        data: dict[str, Any] = {"rows": digest_frame(eval_data.rows)}
    elif eval_data is not None:
        return None
    else:
        data = {}
        if isinstance(trainer, KnowsItsData):
            others = bool(settings.get("include_other_classes"))
            rows = trainer.data_parts(settings["split"] or "validation", include_other_classes=others)
            data = {**rows, **trainer.measurement_parts()}
    return {**data, **model_parts(model), **{name: plain(value) for name, value in settings.items()}}


def _described(item: Mapping[str, Any]) -> dict[str, Any]:
    described = {name: value for name, value in item.items() if not isinstance(value, (Tensor, Mapping))}
    return {
        name: value[0] if isinstance(value, list) and len(value) == 1 else value for name, value in described.items()
    }
