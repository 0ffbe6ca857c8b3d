"""The encodings of a trainer: how they are made, kept in the experiment directory, and read again."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from gradiend.data.unified._schema import transition_id
from gradiend.data.unified.transitions import expand_transition_selection
from gradiend.evaluator._encoding_files import kept_encodings, read_encodings
from gradiend.model._architecture import parse_device
from gradiend.model._checkpoint import is_checkpoint
from gradiend.model._context import Side
from gradiend.model._device_map import is_dispatched
from gradiend.model._entries import without_parameters
from gradiend.model._shards import is_sharded
from gradiend.util._argument_fields import plain
from gradiend.util._cache import Fingerprint
from gradiend.util._digest import frame_part, model_parts
from gradiend.util._isolation import plain_modes
from gradiend.util._keywords import resolve_keywords, split_names
from gradiend.util.logging import get_logger
from gradiend.util.paths import resolve_encoder_analysis_path

logger = get_logger(__name__)

ENCODER_ARGUMENTS = ("model_with_gradiend", "encoder_df", "use_cache", "return_df", "plot", "plot_kwargs", "device")
"""Further arguments of `Trainer.evaluate_encoder`."""
KEY = ("split", "source", "max_size", "exclude_params", "transition_selection")
"""The arguments of an encoder evaluation that make the name of its file, in the order of `encoder_key`."""


def hook_options(trainer: Any, call: str, given: Mapping[str, Any], own: Collection[str] = ()) -> dict[str, Any]:
    """The keywords in `given` that a call passes on to the trainer's `_analyze_encoder`, beside those of its `own`.

    Raises TypeError for a keyword that neither of them takes.
    """
    parameters = inspect.signature(trainer._analyze_encoder).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return dict(given)
    valid = [name for name in parameters if name != "model_with_gradiend"]
    return resolve_keywords(call, given, [*own, *valid], named=ENCODER_ARGUMENTS)


@contextmanager
def on_device(model: Any, device: Any) -> Iterator[None]:
    """Move a model to a device for a with-block, and back at its end; None leaves the model where it is."""
    if device is None:
        yield
        return
    place, base = parse_device("device", device), model.base_model
    if is_dispatched(base) or is_sharded(base):
        raise ValueError(f"device={device!r} would move a base model that lies on several devices: leave it out.")
    before, gradiend = next(base.parameters()).device, model.gradiend
    of_parts = {"device_encoder": gradiend.device_encoder, "device_decoder": gradiend.device_decoder}
    model.to(place)
    try:
        yield
    finally:
        base.to(before)
        gradiend.to(**of_parts)


def side_name(source: str | None) -> str | None:
    """The name of a side for any spelling; None for None."""
    return None if source is None else Side.parse("source", source).value


def encoder_key(
    trainer: Any, split: str | Sequence[str] | None, source: str | None, max_size: int | None,
    excluded: str | Sequence[str] | None, transitions: Any = None,
) -> dict[str, Any]:  # fmt: skip
    """The arguments that make the name of a file of encodings; the training arguments give what a call leaves out."""
    names = ["test"] if split is None else split_names(split)
    chosen = None if transitions is None else expand_transition_selection(transitions, trainer.all_classes)
    return {
        "split": split if isinstance(split, str) else names if len(names) > 1 else names[0],
        "source": side_name(source),
        "max_size": max_size or trainer.training_args.encoder_eval_max_size,
        "exclude_params": [excluded] if isinstance(excluded, str) else excluded,
        "transition_selection": chosen,
    }


def _place(trainer: Any, key: Mapping[str, Any]) -> Path | None:
    """The file of encodings; None without an experiment directory."""
    chosen = key["transition_selection"]
    named = {**key, "transition_selection": chosen and [transition_id(*direction) for direction in chosen]}
    place = resolve_encoder_analysis_path(trainer.experiment_dir, **named)
    return None if place is None else Path(place)


@plain_modes()
def encodings(
    trainer: Any, model: Any, key: Mapping[str, Any], neutral: pd.DataFrame | None, use_cache: bool,
    options: Mapping[str, Any],
) -> tuple[pd.DataFrame, dict[str, Any]]:  # fmt: skip
    """Encodings and their metrics: read from disk if `use_cache` and they depend on the same, otherwise made.

    `key` is what `encoder_key` gives, `options` are further arguments of the trainer's `_analyze_encoder`.
    """
    place = _place(trainer, key)
    parts = _parts(trainer, model, key, neutral, options) if place is not None else None

    def encode() -> pd.DataFrame:
        own = {name: key[name] for name in KEY if name != "exclude_params"}
        given = {"neutral_data_df": neutral, **own, **options}
        encoder = model if key["exclude_params"] is None else without_parameters(model, key["exclude_params"])
        return trainer._analyze_encoder(encoder, **{name: value for name, value in given.items() if value is not None})

    return kept_encodings(
        place, parts, use_cache=use_cache, save_minutes=trainer.training_args.resuming_minutes, encode=encode,
        measure=lambda frame: trainer.evaluator.evaluate_encoder(encoder_df=frame),
    )  # fmt: skip


@plain_modes()
def earlier_encodings(
    trainer: Any, model_path: str | None, given: Mapping[str, Any]
) -> tuple[pd.DataFrame, dict[str, Any]] | None:
    """The encodings and metrics in the experiment directory; None if there are none, or only another model's."""
    options = hook_options(trainer, "Trainer.get_encodings", given, KEY)
    neutral = options.pop("neutral_data_df", None)
    key = encoder_key(trainer, *(options.pop(name, None) for name in KEY))
    place = _place(trainer, key)
    if place is None or not place.is_file():
        return None
    if model_path is not None and model_path != trainer.model_path:
        if not is_checkpoint(model_path):
            return None
        model = trainer.create_model_with_gradiend(model_path)
    elif trainer.has_model():
        model = trainer.get_model()
    else:
        return None
    found, why = read_encodings(place, _parts(trainer, model, key, neutral, options))
    if why:
        logger.info("The encodings in %s are not used (%s).", place, "; ".join(why))
    return found


def _parts(
    trainer: Any, model: Any, key: Mapping[str, Any], neutral: pd.DataFrame | None, options: Mapping[str, Any]
) -> Fingerprint:
    """The parts that encodings depend on, see `gradiend.util._cache`."""
    others = trainer.training_args.add_identity_for_other_classes
    chosen = key["transition_selection"]
    return {
        **trainer.data_parts(*split_names(key["split"]), "train", include_other_classes=others, transitions=chosen),
        **trainer.measurement_parts(),
        **model_parts(model),
        **({} if neutral is None else {"neutral texts": frame_part(neutral)}),
        **key,
        **{name: plain(value) for name, value in options.items()},
        "source": key["source"] or model.source,
        "balanced": trainer.training_args.encoder_eval_balance,
    }
