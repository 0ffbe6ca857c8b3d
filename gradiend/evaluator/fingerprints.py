"""Whether earlier results are wanted, and what they depend on, as the named parts of a fingerprint."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import pandas as pd
from transformers import PreTrainedTokenizerFast

from gradiend.model.fingerprint import base_model_digest, gradiend_digest
from gradiend.model.model_with_gradiend import ModelWithGradiend
from gradiend.util._arguments import plain
from gradiend.util.fingerprint import CACHE_FORMAT, Fingerprint, digest_frame, digest_json


@runtime_checkable
class HasArguments(Protocol):
    """A trainer with training arguments."""

    training_args: Any


@runtime_checkable
class KnowsItsData(Protocol):
    """A trainer that can say which data its evaluations use."""

    def data_parts(self, *splits: str, include_other_classes: bool = False) -> dict[str, Any]:
        """Name → digest or setting, for the rows of some splits."""

    def measurement_parts(self) -> dict[str, Any]:
        """Name → digest or setting: what evaluations depend on besides the rows."""


@runtime_checkable
class Tokenizer(Protocol):
    """A tokenizer that knows its vocabulary."""

    def get_vocab(self) -> Mapping[str, int]:
        """Token → id."""


@runtime_checkable
class TextModel(Protocol):
    """A model with a tokenizer."""

    tokenizer: Any


def tokenizer_of(model: Any) -> Any:
    """The tokenizer of a model; None for a modality without one."""
    return model.tokenizer if isinstance(model, TextModel) else None


def wants_cache(trainer: Any, use_cache: bool | None, call: str, explicit_path: str | None = None) -> bool:
    """Whether a call shall read earlier results: what it says, else the training arguments.

    Raises:
        ValueError: It shall, and there is no place where they could be.
    """
    if use_cache is None:
        use_cache = isinstance(trainer, HasArguments) and trainer.training_args.use_cache
    if use_cache and trainer.experiment_dir is None and explicit_path is None:
        raise ValueError(
            f"{call}(use_cache=True) needs a place where earlier results are: give the trainer "
            "TrainingArguments(experiment_dir=…)" + (", or pass output_path." if call == "evaluate_decoder" else ".")
        )
    return bool(use_cache)


@runtime_checkable
class ExplainsUntrained(Protocol):
    """A trainer that can say why it has no trained model, and where one lies."""

    def why_untrained(self) -> str:
        """One or several sentences."""


def require_trained(trainer: Any, model: Any) -> None:
    """Refuse a GRADIEND whose weights are still the random ones that were drawn: whatever is measured of it is noise.

    Raises:
        ValueError: It is not trained; the message says how to come to one that is.
    """
    if isinstance(model, ModelWithGradiend) and model.gradiend.is_untrained:
        way_out = trainer.why_untrained() if isinstance(trainer, ExplainsUntrained) else "Train or load one first."
        raise ValueError(
            f"This GRADIEND is not trained: its weights are the random ones that it started with. {way_out}"
        )


def language_model_parts(base_model: Any, tokenizer: Any) -> Fingerprint:
    """Parts of a language model, as the measurement of it depends on them."""
    known = isinstance(base_model, KnowsParameters)
    return {
        "format": CACHE_FORMAT,
        "base model": base_model_digest(base_model) if known else type(base_model).__name__,
        "tokenizer": tokenizer_digest(tokenizer),
    }


def model_parts(model: Any) -> Fingerprint:
    """Parts of a `ModelWithGradiend`: its base model, and the GRADIEND with its map."""
    if not isinstance(model, ModelWithGradiend):
        return {"format": CACHE_FORMAT, "model": type(model).__name__}
    return {**language_model_parts(model.base_model, tokenizer_of(model)), "GRADIEND": gradiend_digest(model)}


@runtime_checkable
class KnowsParameters(Protocol):
    """A base model of any kind."""

    def named_parameters(self) -> Any:
        """(name, tensor) of every parameter."""


def tokenizer_digest(tokenizer: Any) -> str:
    """A digest of how a tokenizer cuts texts: vocabulary, normalisation, special tokens, chat template.

    How it pads and truncates does not count: nothing here goes by it.
    """
    if not isinstance(tokenizer, Tokenizer):
        return type(tokenizer).__name__
    parts: list[Any] = [type(tokenizer).__name__]
    if isinstance(tokenizer, PreTrainedTokenizerFast):
        state = json.loads(tokenizer.backend_tokenizer.to_str())
        special = {name: str(token) for name, token in tokenizer.special_tokens_map.items()}
        parts += [{**state, "padding": None, "truncation": None}, tokenizer.chat_template, special]
    else:
        parts.append(sorted(plain(tokenizer.get_vocab()).items()))
    return digest_json(parts)


def frame_part(frame: Any) -> str | None:
    """The digest of a frame; None for none."""
    return digest_frame(frame) if isinstance(frame, pd.DataFrame) else None
