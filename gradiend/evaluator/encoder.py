"""Encodings of labelled rows, and the metrics of the encoder that follow from the encodings."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from gradiend.evaluator._encoding_files import kept_encodings
from gradiend.evaluator._goals import require_trained, wants_cache
from gradiend.evaluator._results import EncoderResult
from gradiend.evaluator.encoder_metrics import N_RESAMPLES, get_encoder_metrics_from_dataframe
from gradiend.gradients import TokenizedWord, UndefinedGradientError
from gradiend.model._context import Side
from gradiend.util._cache import Fingerprint
from gradiend.util._checks import require_whole
from gradiend.util._digest import digest_frame, model_parts
from gradiend.util._isolation import plain_modes
from gradiend.util._keywords import nearest, resolve_keywords, split_names
from gradiend.util.paths import resolve_encoder_analysis_path
from gradiend.visualizer._encodings import Encodings, frame_of


@dataclass(frozen=True)
class EncoderData:
    """Rows to encode, tokenized once."""

    rows: pd.DataFrame
    """The rows, with the columns input_text, factual, alternative, label (+1, −1, 0), source_id, target_id and type."""
    factual: Sequence[TokenizedWord]
    """The factual word of every row."""
    alternative: Sequence[TokenizedWord]
    """The alternative word of every row."""

    def __repr__(self) -> str:
        return f"EncoderData({len(self)} rows)"

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.rows)

    def few(self, rows_per_label: int) -> EncoderData:
        """At most `rows_per_label` rows of each label; every call chooses the same rows, whatever the other labels."""
        places = self.rows.reset_index(drop=True).groupby("label").indices.values()
        kept = sorted(row for own in places for row in np.random.default_rng(0).permutation(own)[:rows_per_label])
        return EncoderData(self.rows.iloc[kept], [self.factual[i] for i in kept], [self.alternative[i] for i in kept])

    def encode(
        self, model: Any, *, source: str | None = None, batch_size: int = 32, progress: str | None = None
    ) -> pd.DataFrame:
        """The rows with the column `encoded` for the first latent, and latent_1, latent_2, … for further latents.

        `source` is the gradient that is encoded, by default the model's; `batch_size` the number of distinct texts per
        pass; `progress` the label of a bar, which None does not show.
        """
        options: Any = {"source": source, "batch_size": batch_size, "progress": progress}
        try:
            latents = model.encode_words(self.factual, self.alternative, **options)
        except UndefinedGradientError as error:
            classes = self.rows["source_id"].iloc[error.row], self.rows["target_id"].iloc[error.row]
            raise UndefinedGradientError(
                f"Row {error.row}, {' → '.join(map(str, classes))}: {error}", error.row
            ) from error
        return self.rows.assign(**{latent_column(i): column.numpy() for i, column in enumerate(latents.T)})

    def gradients(self, model: Any, *, source: str | None = None) -> Iterator[dict[str, Any]]:
        """Dicts with `source`, the gradient of one row (input_dim,), and its `label`, row by row.

        The next row overwrites the gradient, which is `source` (factual, alternative or diff; default: the model's).
        """
        side, engine = Side.parse("source", source or model.source), model.engine
        buffer = torch.empty(engine.mapping.size, dtype=engine.dtype, device=model.gradiend.device_encoder)
        for factual, alternative, label in zip(self.factual, self.alternative, self.rows["label"], strict=True):
            engine.gradients([factual], [alternative], [side], out=[buffer])
            yield {"source": buffer, "label": label}


def latent_column(number: int) -> str:
    """The column of a latent in a frame of encodings: `encoded` for the first latent, which all metrics are about."""
    return f"latent_{number}" if number else "encoded"


def encode_dataset_to_rows(
    model: Any, dataset: Any, row_extractor: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None
) -> list[dict[str, Any]]:
    """Encode the items of a gradient data set, one after the other.

    Args:
        model: A model whose `encode` takes the source gradient of an item, and returns a number or (latent_dim,).
        dataset: Items are dicts with `source`, a gradient of the model's map; further entries describe the item.
        row_extractor: A function that gives the entries of an item's row. Default: all entries but tensors and dicts;
            a list with one entry (a batch of size 1) gives this entry.

    Returns:
        One dict per item: the described entries, `encoded` for the first latent, and `latent_1`, … for further latents.
    """
    describe = _described if row_extractor is None else row_extractor
    rows = []
    for item in dataset:
        latents = torch.as_tensor(model.encode(item["source"]), dtype=torch.float64).reshape(-1).tolist()
        rows.append({**describe(item), **{latent_column(i): latent for i, latent in enumerate(latents)}})
    return rows


def encoded_frame(model: Any, data: Any, *, source: str | None = None, batch_size: int = 32) -> pd.DataFrame:
    """Evaluation data with a column `encoded`, one row per example.

    The data is an `EncoderData` (see `EncoderData.encode`) or a gradient data set (see `encode_dataset_to_rows`). A
    gradient data set has its own source. Its `type` is training, and its `factual_id` and `alternative_id` become
    `source_id` and `target_id`, unless the items have entries with these names.
    """
    if isinstance(data, EncoderData):
        return data.encode(model, source=source, batch_size=batch_size)
    frame = pd.DataFrame(encode_dataset_to_rows(model, data) or {latent_column(0): []})
    for name, documented in (("factual_id", "source_id"), ("alternative_id", "target_id")):
        if name in frame.columns and documented not in frame.columns:
            frame = frame.rename(columns={name: documented})
    return frame if "type" in frame.columns else frame.assign(type="training")


class EncoderEvaluator:
    """Measures the encoder of a GRADIEND."""

    @plain_modes()
    def evaluate_encoder(
        self, trainer: Any, encoder_df: Encodings | None = None, eval_data: Any = None, use_cache: bool | None = None,
        split: str | Sequence[str] | None = None, max_size: int | None = None, model_with_gradiend: Any = None,
        source: str | None = None, n_resamples: int = N_RESAMPLES, **kwargs: Any,
    ) -> dict[str, Any]:  # fmt: skip
        """The metrics of given encodings, or of encodings that are made now.

        With an experiment directory, new encodings are written to `encoded_values[_key].csv`, and their metrics to the
        `.json` beside that file.

        Args:
            trainer: The trainer gives the model, and the data if `eval_data` is None.
            encoder_df: Finished encodings, or a result that holds encodings; then nothing is encoded.
            eval_data: Rows to encode: an `EncoderData`, or a data set for `encode_dataset_to_rows`. Default:
                `trainer.create_eval_data(model, …)`.
            use_cache: Read the metrics of the same model and rows instead of encoding again. Default: the value of
                the training arguments.
            split: The split, several, or "all", for `create_eval_data`.
            max_size: The largest number of rows, for `create_eval_data`.
            model_with_gradiend: The model to evaluate. Default: the model of the trainer.
            source: The gradient that is encoded. Default: the model's source.
            n_resamples: The number of resamples of the bootstrap interval; 0 leaves the interval out.
            **kwargs: Further arguments of `create_eval_data`.

        Returns:
            See `get_encoder_metrics_from_dataframe`; {"n_samples": 0, "correlation": None} without rows.

        Raises:
            TypeError: An unknown keyword, or n_resamples that is no whole number.
            ValueError: n_resamples below 0, use_cache without an experiment directory, or a GRADIEND that is not
                trained.
        """
        if kwargs:
            _check_keywords(self.evaluate_encoder, trainer.create_eval_data, kwargs)
        require_whole("n_resamples", n_resamples, 0)

        def measure(frame: pd.DataFrame) -> dict[str, Any]:
            if frame.empty:
                return EncoderResult(n_samples=0, correlation=None)
            return get_encoder_metrics_from_dataframe(frame, n_resamples=n_resamples)

        if encoder_df is not None:
            return measure(frame_of(encoder_df))
        use_cache = wants_cache(trainer, use_cache, "evaluate_encoder")
        model = trainer.get_model() if model_with_gradiend is None else model_with_gradiend
        require_trained(trainer, model)
        key: dict[str, Any] = {"split": split, "max_size": max_size, "source": source}

        def encode() -> pd.DataFrame:
            given = {name: value for name, value in {**key, **kwargs}.items() if value is not None}
            data = trainer.create_eval_data(model, **given) if eval_data is None else eval_data
            if not len(data):
                return pd.DataFrame()
            return encoded_frame(model, data, source=source, batch_size=trainer.training_args.eval_batch_size)

        place = resolve_encoder_analysis_path(trainer.experiment_dir, **key)
        if place is None:
            return measure(encode())
        parts = _parts(trainer, model, eval_data, {**key, **kwargs, "n_resamples": n_resamples})
        every = trainer.training_args.resuming_minutes
        return kept_encodings(
            Path(place), parts, use_cache=use_cache, save_minutes=every, encode=encode, measure=measure
        )[1]


def _check_keywords(call: Callable[..., Any], hook: Callable[..., Any], given: Mapping[str, Any]) -> None:
    """Raise TypeError for a keyword that neither a call nor its hook takes.

    If the hook takes any keyword, only a likely misspelling is refused.
    """
    own, taken = (list(inspect.signature(function).parameters.values()) for function in (call, hook))
    names = [one.name for one in (*own, *taken) if one.kind not in {one.VAR_POSITIONAL, one.VAR_KEYWORD}]
    takes_any = any(one.kind is one.VAR_KEYWORD for one in taken)
    refused = {name: value for name, value in given.items() if not takes_any or nearest(name, names)}
    resolve_keywords("evaluate_encoder", refused, names)


def _parts(trainer: Any, model: Any, eval_data: Any, settings: Mapping[str, Any]) -> Fingerprint | None:
    """Everything that metrics depend on; None for data of a kind that has no digest."""
    if isinstance(eval_data, EncoderData):
        return {"rows": digest_frame(eval_data.rows), **model_parts(model), **settings}
    if eval_data is not None:
        return None
    others = bool(settings.get("include_other_classes"))
    rows = trainer.data_parts(*split_names(settings["split"] or "validation"), include_other_classes=others)
    return {**rows, **trainer.measurement_parts(), **model_parts(model), **settings}


def _described(item: Mapping[str, Any]) -> dict[str, Any]:
    plain = {name: value for name, value in item.items() if not isinstance(value, (Tensor, Mapping))}
    return {name: value[0] if isinstance(value, list) and len(value) == 1 else value for name, value in plain.items()}
