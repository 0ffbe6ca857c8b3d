"""The model of a training: from a name, a path or an instance, whole or in shards, without weights and with them."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from torch import nn

from gradiend.gradients import checkpointable_layers
from gradiend.model._adapters import is_adapted
from gradiend.model._base_model import BaseDigest, differing
from gradiend.model._checkpoint import is_checkpoint
from gradiend.model._context import encoding_direction
from gradiend.model._quantized import is_quantized
from gradiend.model._refusals import inside
from gradiend.model._shards import is_sharded, shard
from gradiend.model.model_with_gradiend import ModelWithGradiend
from gradiend.trainer.core._seeds import set_seed
from gradiend.trainer.core._step import resolve_target, steps_analytically
from gradiend.trainer.core.arguments import TrainingArguments
from gradiend.trainer.core.feature_definition import original_model
from gradiend.util._isolation import RANDOM_STATE, exclusive
from gradiend.util._lock import unchanged
from gradiend.util._processes import processes
from gradiend.util.logging import get_logger
from gradiend.util.paths import CONFIG_FILE

logger = get_logger(__name__)

SHAPE = (
    "source", "target", "params", "trust_remote_code", "activation_encoder", "activation_decoder", "bias_decoder",
    "encoder_decoder_same_device",
)  # fmt: skip
"""Arguments that say what a new GRADIEND is like, and are keywords of `create_model_with_gradiend` too."""


@runtime_checkable
class CheckpointsLayers(Protocol):
    """A model whose backward passes can run the base model's layers again instead of keeping what they computed."""

    gradient_checkpointing: bool


def is_new(source: Any) -> bool:
    """Whether loading `source` makes a GRADIEND that has never been trained."""
    return not isinstance(source, ModelWithGradiend) and not (isinstance(source, (str, Path)) and is_checkpoint(source))


def load(
    trainer: Any, source: Any, model_class: type[ModelWithGradiend] | None, args: TrainingArguments, base: Any = None,
    *, whole: bool = False, **kwargs: Any,
) -> Any:  # fmt: skip
    """The model of a name, path or instance for a trainer's feature; the arguments shape a new GRADIEND.

    A checkpoint that was trained on `base`, a model in memory, is loaded around `base`. Where models are sharded, the
    result is this process's part, unless the `whole` is asked for. Keywords go to `create_model_with_gradiend` and win.
    """
    new = is_new(source)
    shape = {name: args.get(name) for name in SHAPE}
    shape |= {"latent_dim": args.latent_dim or trainer.n_features, "torch_dtype": args.torch_dtype if new else None}
    if args.base_model_dtype is not None:
        shape["base_model_dtype"] = args.base_model_dtype
    if args.fsdp and processes().count > 1:
        # Sharding moves the model to the devices, layer by layer.
        shape["device_base_model"] = "cpu"
    if not new and "base_model" not in kwargs:
        shape |= _base_in_hand(base, source)
    if "base_model" not in shape and args.base_model_device_map is not None:
        shape |= {name: args.get(name) for name in ("base_model_device_map", "base_model_max_memory")}
    on_disk = not new and isinstance(source, (str, Path))
    with unchanged(Path(source) / CONFIG_FILE) if on_disk else nullcontext():
        model = trainer.create_model_with_gradiend(source, model_class, **{**shape, **kwargs})
    trainer.modality.check_model(model, args)
    resolve_target(model, args, new=new)
    return model if whole else sharded(trainer, model, args)


def sharded(trainer: Any, model: Any, args: TrainingArguments) -> Any:
    """The model as this process has it: whole, or with `fsdp` or a sharded base model, this process's part of it."""
    base = model.base_model
    # One process can look at what several have trained, with the same arguments.
    wanted = (args.fsdp and processes().count > 1) or is_sharded(base)
    if not wanted or model.gradiend.shards is not None:
        return model
    if original_model(base) is not base:
        raise ValueError(f"fsdp=True does not work with a {type(base).__name__}: train on the plain model.")
    if is_adapted(base) or any(map(is_quantized, base.parameters())):
        raise ValueError("fsdp=True does not work with adapters or quantized weights: train on the plain model.")
    if not steps_analytically(model.gradiend, args) or args.supervised:
        raise ValueError(
            "fsdp=True trains both halves of a GRADIEND with one latent, an encoder activation such as tanh, the "
            "decoder activation id, torch.nn.MSELoss() and adam or adamw, in float32 or float64 and on one device."
        )
    if not is_sharded(base):
        # The user's own model stays as it is.
        given = trainer.current.given
        own = given.base_model if isinstance(given, ModelWithGradiend) else given
        base = copy.deepcopy(base) if isinstance(own, nn.Module) and base is inside(own) else base
        shard(base)
    return model.on_shards(base)


def _base_in_hand(given: Any, checkpoint: str | Path) -> dict[str, Any]:
    """Keywords that load a checkpoint around a base model in memory, if the checkpoint was trained on that model.

    A copy from disk may be another model, or the same model with another dtype or on another device.
    """
    trained_on = None if given is None or isinstance(given, (str, Path)) else BaseDigest.load(checkpoint)
    if trained_on is None:
        return {}
    found = given.base_arguments() if isinstance(given, ModelWithGradiend) else {"base_model": inside(given)}
    return {} if BaseDigest.of(original_model(found["base_model"])).differences(trained_on) else found


def unpruned(
    trainer: Any, source: Any, model_class: type[ModelWithGradiend] | None, args: TrainingArguments
) -> ModelWithGradiend:
    """The model that a training starts from; a new GRADIEND has no weights."""
    if isinstance(source, ModelWithGradiend):
        model = source
        trainer.modality.check_model(model, args)
    else:
        model = load(trainer, trainer.resolve_model_path(source), model_class, args, whole=True, lazy_init=True)
        model = model.untrained() if is_new(source) else model
    if not args.gradient_checkpointing:
        return model
    if not isinstance(model, CheckpointsLayers):
        raise ValueError(f"gradient_checkpointing is not available for a {type(model).__name__}: leave it off.")
    checkpointable_layers(model.base_model)
    # A copy: the setting belongs to this training, not to the user's model.
    own: Any = model.with_original_base_model(model.base_model)
    own.gradient_checkpointing = True
    return own


def with_weights(
    trainer: Any, source: Any, model_class: type[ModelWithGradiend] | None, args: TrainingArguments
) -> ModelWithGradiend:
    """The model that is trained: a copy of a model in memory, else loaded; its weights exist."""
    if isinstance(source, ModelWithGradiend):
        model = source.with_original_base_model(source.base_model)
        model.gradiend = copy.deepcopy(source.gradiend)
        if not model.gradiend.is_built:
            with exclusive(RANDOM_STATE):
                # Another thread may have drawn numbers since the training was seeded.
                set_seed(args.seed)
                model.gradiend.build()
        resolve_target(model, args, new=False)
    else:
        model = load(trainer, trainer.resolve_model_path(source), model_class, args)
    if model.feature_class_encoding_direction is None:
        model.set_feature_class_encoding_direction(encoding_direction(trainer))
    if model.gradiend.shards is None:
        processes().take_over(model.gradiend.parameters())
    return model


def require_same_base(base_model: Any) -> None:
    """Raise ValueError if the processes of a run have base models with different weights."""
    digests = processes().exchanged(BaseDigest.of(original_model(base_model)))
    for rank, digest in enumerate(digests):
        if changed := digest.differences(digests[0]):
            raise ValueError(
                f"The base model of process {rank} is not that of process 0: {differing(changed)}. Every process must "
                "load or make the same model: give a name or path, or seed PyTorch before a model is made at random."
            )


def warn_of_ignored_arguments(model: ModelWithGradiend, args: TrainingArguments) -> None:
    """Warn of arguments that shape only a new GRADIEND, if this trained GRADIEND has other values."""
    gradiend = model.gradiend
    has = {
        "source": model.source,
        "latent_dim": gradiend.latent_dim,
        "activation_encoder": gradiend.activation_encoder,
        "activation_decoder": gradiend.activation_decoder,
        "bias_decoder": gradiend.bias_decoder,
        "torch_dtype": gradiend.torch_dtype,
    }
    if not args.supervised and model.target is not None:
        has["target"] = model.target
    kept = {name: own for name, own in has.items() if args.get(name) not in (None, own)}
    asked = [f"{name}={args.get(name)!r}" for name in kept] + (["params"] if args.params is not None else [])
    if asked:
        own = [f"{name}={value!r}" for name, value in kept.items()] + (["its map"] if args.params is not None else [])
        logger.warning(
            "The GRADIEND that is trained exists already: it keeps %s, whatever the training arguments say (%s).",
            ", ".join(own), ", ".join(asked),
        )  # fmt: skip
