"""A base model together with the GRADIEND that reads its gradients and rewrites its weights.

The file is one documented class; a third of it says what the methods do.
"""

from __future__ import annotations

import copy
import logging
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import Self

from gradiend.model._architecture import Device, cuda_device, require_devices, resolve_device_config_for_model
from gradiend.model._base_model import (
    BASE_REVISION,
    BaseDigest,
    device_of,
    differing,
    identity_of,
    load_base_model,
    resolve_directory,
    split_gradiend_arguments,
)
from gradiend.model._checkpoint import is_checkpoint, refuse_other_model
from gradiend.model._checkpoint_files import CONFIG, verify_others
from gradiend.model._context import (
    Side,
    encoding_direction,
    labels_by_alternative,
    parse_labels,
    read_gradiend_context,
    write_gradiend_context,
)
from gradiend.model._device_map import MAPPED, is_dispatched, is_mapped
from gradiend.model._entries import WeighsEntries
from gradiend.model._hub import at_hand
from gradiend.model._parameter_map import mapped_parameters
from gradiend.model._refusals import is_finite, refuse_undefined_weights, unwrapped
from gradiend.model._rewriting import RewritesBaseModel
from gradiend.model._shards import Shards
from gradiend.model.core.backbone import build_gradiend_from_base_model
from gradiend.model.param_mapped import ParamMappedGradiendModel
from gradiend.util._checks import require_path
from gradiend.util._digest import cached_revision
from gradiend.util._display import Shown, Table, facts
from gradiend.util._files import remove
from gradiend.util._hooks import tell_of_hooks, tell_of_lost_hooks
from gradiend.util._imports import LATER
from gradiend.util._isolation import plain_modes
from gradiend.util._keywords import strict_methods
from gradiend.util.paths import OWN_BASE_MODEL

logger = logging.getLogger(__name__)


@strict_methods
class ModelWithGradiend(Shown, WeighsEntries, RewritesBaseModel):
    """A base model with its GRADIEND; subclasses make the gradients, and load and save the base model.

    Args:
        base_model: Any module with `named_parameters()` and a `device`. Of a DataParallel, DistributedDataParallel,
            PeftModel or the result of `torch.compile`, the model inside is used.
        gradiend: The GRADIEND of the base model.
        base_model_device: The new device of the base model; not for one that a device map has placed.
        device_encoder, device_decoder: The new devices of encoder and decoder.
        gradient_creator: A function of an input that returns a flat gradient. Default: this model.
        source: The gradient that the encoder reads: factual, alternative or diff.
        target: The gradient that the decoder reproduces: factual, alternative, diff, or None (it is not trained).

    Raises:
        ValueError: An unknown source or target, or a base model that is wrapped, compiled, quantized or adapted in an
            unsupported way, or whose parameters have other shapes than the map of the GRADIEND.
        KeyError: The base model lacks a parameter of the map.
    """

    def __init__(
        self, base_model: Any, gradiend: ParamMappedGradiendModel, *, base_model_device: Device = None,
        device_encoder: Device = None, device_decoder: Device = None,
        gradient_creator: Callable[..., Tensor] | None = None, source: str = "factual", target: str | None = "diff",
    ) -> None:  # fmt: skip
        super().__init__()
        if not isinstance(gradiend, ParamMappedGradiendModel):
            raise TypeError(f"gradiend must be a ParamMappedGradiendModel; got {gradiend!r:.60}.")
        base_model = unwrapped(base_model)
        mapped_parameters(base_model, gradiend.mapping)
        self._source = Side.parse("source", source)
        self._target = None if target is None else Side.parse("target", target)
        self.base_model = base_model
        self.gradiend = gradiend
        self._gradient_creator = gradient_creator
        self._direction = None
        self._recorded_base = gradiend.kwargs.get("base_model") or ""
        self._recorded_revision: str | None = gradiend.kwargs.get(BASE_REVISION)
        self._loaded: dict[str, Any] = {}
        """Name or path → the digest of the base model that it loads; copies of this model share the dict."""
        if base_model_device is not None:
            if is_dispatched(base_model):
                raise ValueError(MAPPED.format("base_model_device"))
            base_model.to(base_model_device)
        gradiend.to(device_encoder=device_encoder, device_decoder=device_decoder)

    # Methods of subclasses

    @abstractmethod
    def create_gradients(self, *args: Any, **kwargs: Any) -> Any:
        """The flat gradient (input_dim,) of the base model for one raw input and label."""

    @abstractmethod
    def _save_model(self, save_directory: str, **kwargs: Any) -> None:
        """Save everything that a checkpoint needs to find the base model again."""

    @classmethod
    @abstractmethod
    def _load_model(
        cls, load_directory: Any, base_model_id: str | None = None, gradiend_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> tuple[Any, ...]:  # fmt: skip
        """Load (base_model, *further arguments of the constructor)."""

    @classmethod
    def _create_gradiend(cls, base_model: Any, load_directory: str, **kwargs: Any) -> ParamMappedGradiendModel:
        return build_gradiend_from_base_model(base_model, load_directory, **kwargs)

    # Properties

    @property
    def task(self) -> str | None:
        """The task of the base model, as the hub names it, such as "fill-mask"; None if the task is not known."""
        return self.gradiend.kwargs.get("task")

    @property
    def source(self) -> str:
        """The gradient that the encoder reads: factual, alternative or diff."""
        return self._source.value

    @property
    def gradient_creator(self) -> Callable[..., Tensor]:
        """The function that makes a flat gradient of an input; this model, unless the constructor got another."""
        return self._gradient_creator or self

    def named_parameters(self, prefix: str = "", *args: Any, **kwargs: Any) -> Iterator[tuple[str, nn.Parameter]]:
        """The parameters of the GRADIEND alone, because the base model is never trained."""
        return self.gradiend.named_parameters(f"{prefix}.gradiend" if prefix else "gradiend", *args, **kwargs)

    def _tables(self) -> tuple[str, Sequence[Table]]:
        heading, network = self.gradiend._tables()
        signs = sorted((self._direction or {}).items(), key=lambda item: -item[1])
        known = {
            "base model": f"{type(self.base_model).__name__} {identity_of(self.base_model)!r}",
            "classes": ", ".join(f"{name} ({sign:+d})" for name, sign in signs if sign),
            "reads": f"{self.source} gradients",
            "reproduces": None if self.target is None else f"{self.target} gradients",
        }
        return type(self).__name__, [facts("", known), *(replace(table, title=heading) for table in network)]

    def __len__(self) -> int:
        """The input_dim of the GRADIEND."""
        return len(self.gradiend)

    def pruned_length(self) -> int:
        """The input_dim of the GRADIEND."""
        return self.gradiend.pruned_length()

    def unpruned_length(self) -> int:
        """The number of entries of all mapped parameters."""
        return self.gradiend.unpruned_length()

    # Placement

    def to(self, device: Any) -> Self:  # type: ignore[override]
        """Move base model and GRADIEND; a base model that a device map has placed stays there. Returns self."""
        # The GRADIEND refuses a dtype, before the base model would take it.
        self.gradiend.to(device)
        if is_dispatched(self.base_model):
            logger.warning("The base model stays where its device map has put it; the GRADIEND moves to %s.", device)
        else:
            self.base_model.to(device)
        return self

    def cpu(self) -> Self:
        """Move base model and GRADIEND to the CPU. Returns self."""
        return self.to("cpu")

    def cuda(self, device: Any = None) -> Self:
        """Move base model and GRADIEND to a CUDA device (None: the current; int: an index). Returns self."""
        return self.to(cuda_device(device))

    # Weights and encodings

    def invert_encoding(self, *, update_direction: bool = True) -> bool:
        """Negate the latent and keep the reconstruction, see `GradiendModel.invert_encoding`.

        With `update_direction`, the signs of `feature_class_encoding_direction` change too. Returns whether the encoder
        was inverted; only odd encoder activations allow it.
        """
        inverted = self.gradiend.invert_encoding()
        if inverted and update_direction and self._direction is not None:
            self._direction = {name: -sign for name, sign in self._direction.items()}
        return inverted

    @plain_modes()
    @torch.no_grad()
    def encode(
        self, input: Tensor | Mapping[str, Tensor] | Any, label: Any = None, return_float: bool = False
    ) -> Tensor | float:
        """The latent of a gradient, or of a raw input with its label.

        Args:
            input: A flat gradient (input_dim,), a dict of full-shape gradients, or a raw input (text with `[MASK]`).
            label: The word at the placeholder of a raw input, for `create_gradients`.
            return_float: Whether to return a Python float instead of a tensor (only with one latent).

        Returns:
            The latent, (latent_dim,), or a float.

        Raises:
            AssertionError: A raw input comes without a label.
            FloatingPointError: The gradient is infinite or undefined.
            ValueError: A gradient has another length, or `return_float` is True for several latents or gradients.
        """
        if return_float and self.gradiend.latent_dim != 1:
            raise ValueError(f"return_float needs one latent; this GRADIEND has {self.gradiend.latent_dim}.")
        if not isinstance(input, (Tensor, Mapping)):
            if label is None:
                raise AssertionError(
                    "A raw input needs label=…, the word at the placeholder, or both factual=… and alternative=…."
                )
            with torch.enable_grad():
                input = self.create_gradients(input, label)
        flat = input if isinstance(input, Tensor) else self.gradiend.flatten_gradient_dict(input)
        if not is_finite(flat):
            raise FloatingPointError("The gradient to encode has infinite or undefined entries.")
        latent = self.gradiend.forward_encoder(flat)
        if return_float and latent.numel() != 1:
            raise ValueError(f"return_float needs one gradient; got gradients of shape {tuple(flat.shape)}.")
        return latent.item() if return_float else latent

    def with_original_base_model(self, new_base: Any) -> Self:
        """A copy around `new_base` that shares this GRADIEND object; a warning names parameters with other weights.

        Raises what the constructor raises for a base model, and ValueError for one with undefined weights.
        """
        new_base = unwrapped(new_base)
        mapped_parameters(new_base, self.gradiend.mapping)
        model = self._sharing(new_base, self.gradiend)
        if new_base is not self.base_model:
            refuse_undefined_weights(new_base)
            before, now = self._base_digest(), model._base_digest()
            if changed := now.differences(before):
                logger.warning("The GRADIEND is put on another base model: %s.", differing(changed))
                model._recorded_base, model._recorded_revision = identity_of(new_base), None
        return model

    def on_shards(self, base_model: Any) -> Self:
        """This process's part of this model, around `base_model`: the same base model or a copy, sharded by rows.

        Raises ValueError if `base_model` is not sharded by rows.
        """
        return self._sharing(base_model, self.gradiend.sharded(Shards.of(base_model)))

    def untrained(self) -> Self:
        """A copy around the same base model, with a GRADIEND of the same shape without weights, of no classes yet."""
        model = self._sharing(self.base_model, self.gradiend.without_weights())
        model._direction = None
        return model

    def base_arguments(self) -> dict[str, Any]:
        """The keywords of `from_pretrained` that load another checkpoint around the same base model."""
        return {"base_model": self.base_model}

    def _base_digest(self) -> BaseDigest:
        """The digest of the base model that is rewritten."""
        return BaseDigest.of(self._for_rewriting().base_model)

    # Persistence

    def save_pretrained(self, save_directory: str, *, labels_of: str = "factual", **kwargs: Any) -> None:
        """Write the context, the GRADIEND, and everything that the subclass needs to find the base model again.

        A sample of the base model's weights is written too, so that loading notices another base model.

        Args:
            save_directory: The directory, which is created if it is missing.
            labels_of: "alternative" writes a checkpoint for gradiend 0.2.x, which labels texts by the alternative
                word if that word is the source: then the file has an inverted encoder, which loading inverts again.
            **kwargs: Arguments of `GradiendModel.save_pretrained` (`use_safetensors`, `training`, metadata).

        Raises:
            RuntimeError: The weights do not exist yet.
            ValueError: `labels_of` is unknown, the encoder cannot be inverted, or the directory holds a model of
                transformers.
        """
        require_path("save_directory", save_directory)
        refuse_other_model(save_directory)
        self.gradiend.encoder_linear  # noqa: B018 - raises before any file is written
        tell_of_hooks(self._for_rewriting().base_model)
        labels = parse_labels(labels_of)
        if labels is Side.ALTERNATIVE and self._source is Side.ALTERNATIVE:
            self = self._sharing(self.base_model, copy.deepcopy(self.gradiend))  # noqa: PLW0642 - what is written
            if not self.invert_encoding(update_direction=False):
                raise ValueError(
                    f"labels_of='alternative' inverts the encoder, which {self.gradiend.activation_encoder} does not "
                    "allow (only odd activations, such as tanh, do)."
                )
        # config.json is written last, so that files of an older checkpoint are never taken for this checkpoint.
        remove(Path(save_directory) / CONFIG)
        write_gradiend_context(save_directory, self.source, self.target, self._direction, labels_of=labels)
        self._save_model(save_directory, **kwargs)
        self._base_digest().save(save_directory)
        task = {} if self.task is None else {"task": self.task}
        self.gradiend._write(save_directory, **{"base_model": self._recorded_base, **task, **kwargs})

    def push_to_hub(self, repo_id: str, **options: Any) -> Any:
        """Publish the GRADIEND as a checkpoint with a card, see `gradiend.push_to_hub` for options and errors.

            model.push_to_hub("owner/name", subfolder="gender_en")

        The card says what was measured of these weights, if they are still those of the checkpoint that was loaded.

        Returns what was published, a `gradiend.hub.Published`. Raises ValueError for a GRADIEND that is not trained.
        """
        return LATER["push_to_hub"]()(self, repo_id, **options)

    def write_to_publish(self, folder: Path) -> Path:
        """See `gradiend.hub.Publishable`."""
        if self.gradiend.is_untrained:
            raise ValueError("This GRADIEND is not trained: its weights are random, and there is nothing to publish.")
        self.save_pretrained(str(folder))
        return folder

    @classmethod
    @plain_modes()
    def from_pretrained(
        cls, load_directory: Any = None, *, base_model: Any = None, require_gradiend_model: bool = False,
        feature_definition: Any = None, device: Device = None, device_encoder: Device = None,
        device_decoder: Device = None, device_base_model: Device = None, source: str | None = None,
        target: str | None = None, verify: bool = True, subfolder: str | None = None, revision: str | None = None,
        **kwargs: Any,
    ) -> Self:  # fmt: skip
        """Load a checkpoint with its base model, or put a new GRADIEND on a base model.

        Args:
            load_directory: A checkpoint (a folder, or a run with its checkpoint in `model/`; of a hub, `owner/name` or
                `hf://owner/name@revision/subfolder`), or the name, path or instance of a base model.
            base_model: The base model (name, path or instance) of a checkpoint, instead of the base model that the
                checkpoint names. A warning tells if the GRADIEND was trained on other weights.
            require_gradiend_model: Whether to refuse everything but a checkpoint.
            feature_definition: An object whose `target_classes` get the labels +1 and −1, and other classes 0.
            device: The device of encoder, decoder and base model, unless they have a device of their own. Default: the
                (first) device of a base model that is an instance; otherwise see `resolve_device_config_for_model`.
            device_encoder, device_decoder: The devices of encoder and decoder.
            device_base_model: The device of the base model; not for one that a device map places.
            source: The gradient that the encoder of a new GRADIEND reads; a checkpoint has a source of its own.
            target: The gradient that the decoder of a new GRADIEND reproduces; a checkpoint has a target of its own.
            verify: Whether to compare the files of a checkpoint with their checksums, which reads all bits once more.
            subfolder: The folder of a checkpoint below `load_directory`.
            revision: The branch, tag or commit of a repository. Default: the main branch. A checkpoint names the
                revision of its base model itself.
            **kwargs: The shape of a new GRADIEND (latent_dim, param_map, params, activation_encoder,
                activation_decoder, bias_decoder, lazy_init; pre_prune_config implies lazy_init), torch_dtype (also of a
                checkpoint), encoder_decoder_same_device, and arguments for the loading of the base model (tokenizer,
                trust_remote_code, quantization_config; for a language model also objective, the name of its kind in
                `gradiend.objectives`, and base_model_device_map and base_model_max_memory, see `TrainingArguments`).

        Raises:
            FileNotFoundError: `require_gradiend_model` or `base_model` is given and there is no checkpoint, or a
                checkpoint lacks its context file or its base model; or a hub has no such repository, revision or
                folder.
            PermissionError: The login of this machine may not read a repository.
            ConnectionError: A hub cannot be reached, and its files are not in the cache.
            ValueError: The base model has other weights than the checkpoint was trained on, or is wrapped, compiled,
                quantized or adapted in an unsupported way; a device is not here; or a file was damaged or changed.
            TypeError: None or two load directories are given.
        """
        if cls is ModelWithGradiend:
            cls = LATER["default model class"]()  # noqa: PLW0642 - the abstract class stands for this one
        load_directory, base_model, kwargs = resolve_directory(load_directory, base_model, kwargs)
        shape, load_arguments = split_gradiend_arguments(kwargs)
        places = (load_directory, base_model)
        load_directory, base_model = (unwrapped(one) if isinstance(one, nn.Module) else one for one in places)
        sure = require_gradiend_model or base_model is not None
        load_directory = at_hand(load_directory, subfolder, revision, sure=sure, verify=verify)
        same_device = load_arguments.pop("encoder_decoder_same_device", False)
        given = load_directory if base_model is None else base_model
        mapped = is_mapped(given, load_arguments, device_base_model)
        device = device_of(given) if device is None else device
        *halves, base_place, _ = resolve_device_config_for_model(
            device, device_encoder, device_decoder, device_base_model, same_device
        )
        require_devices(halves if mapped else [*halves, base_place])
        shape |= zip(("device_encoder", "device_decoder"), halves, strict=True)
        if isinstance(load_directory, (str, Path)) and is_checkpoint(load_directory):
            model = cls._from_checkpoint(Path(load_directory), base_model, shape, load_arguments, verify=verify)
        elif sure:
            raise FileNotFoundError(
                f"{str(load_directory)[:200]} is no GRADIEND checkpoint, which base_model and require_gradiend_model "
                f"need: there is no {CONFIG} with an architecture in it."
            )
        else:
            if revision is not None:
                load_arguments["revision"] = revision
            loaded, *extra = load_base_model(cls, load_directory, load_arguments)
            arguments = cls._gradiend_arguments(shape, extra, load_arguments)
            gradiend = cls._create_gradiend(loaded, identity_of(load_directory), **arguments)
            model = cls(loaded, gradiend, *extra, source=source or "factual", target=target or "diff")
            if isinstance(load_directory, (str, Path)):
                model._loaded[model._recorded_base] = model._base_digest()
                # Later, the branch may have another commit in the cache.
                model._recorded_revision = cached_revision(str(load_directory), revision)
        if not mapped:
            model.base_model.to(base_place)
        if feature_definition is not None and model.feature_class_encoding_direction is None:
            model.set_feature_class_encoding_direction(encoding_direction(feature_definition))
        return model

    @classmethod
    def _gradiend_arguments(
        cls, shape: Mapping[str, Any], extra: Sequence[Any], load_arguments: Mapping[str, Any]
    ) -> dict[str, Any]:
        """The arguments of `_create_gradiend`; a subclass may add objects that it loaded beside the base model."""
        del extra, load_arguments
        return dict(shape)

    @classmethod
    def _from_checkpoint(
        cls, directory: Path, base_model: Any, shape: Mapping[str, Any], load_arguments: Mapping[str, Any], *,
        verify: bool,
    ) -> Self:  # fmt: skip
        placement = {key: shape.get(key) for key in ("device_encoder", "device_decoder", "torch_dtype")}
        gradiend = ParamMappedGradiendModel.from_pretrained(str(directory), **placement, verify=verify)
        source, target, direction = read_gradiend_context(directory)
        if verify:
            verify_others(directory, with_base_model=base_model is None)
        named, at = gradiend.kwargs.get("base_model"), gradiend.kwargs.get(BASE_REVISION)
        recorded = {key: value for key, value in gradiend.kwargs.items() if key != BASE_REVISION or base_model is None}
        try:
            loaded, *extra = load_base_model(
                cls, str(directory) if base_model is None else base_model, load_arguments,
                base_model_id=named if base_model is None else identity_of(base_model), gradiend_kwargs=recorded,
            )  # fmt: skip
        except OSError as error:
            if base_model is not None:
                raise
            revision = f" (revision {at})" if at else ""
            raise FileNotFoundError(
                f"The base model {named!r}{revision} of the GRADIEND in {directory} is not there. If it was moved, "
                f"name its place: from_pretrained({str(directory)!r}, base_model=…). ({error})"
            ) from error
        model = cls(loaded, gradiend, *extra, source=source, target=target)
        if base_model is not None:
            # The name of the new base model is saved with this model later.
            model._recorded_base, model._recorded_revision = identity_of(base_model), None
        if direction is not None:
            model.set_feature_class_encoding_direction(direction)
        model._compare_base(directory, explicit=base_model is not None)
        model._take_over_labels(labels_by_alternative(directory, gradiend.kwargs), directory)
        return model

    def _compare_base(self, directory: Path, *, explicit: bool) -> None:
        """Raise ValueError if a checkpoint was trained on other weights; only warn if the user gave the base model."""
        now, trained_on = self._base_digest(), BaseDigest.load(directory)
        if not explicit and not (directory / OWN_BASE_MODEL).is_dir():
            self._loaded[self._recorded_base] = now
        if trained_on is None:
            return
        tell_of_lost_hooks(trained_on.hooks, now.hooks, directory)
        if not (changed := now.differences(trained_on)):
            return
        message = (
            f"The base model {self.name_or_path!r} is not the one that the GRADIEND in {directory} was trained on: "
            f"{differing(changed)}."
        )
        if not explicit:
            raise ValueError(
                f"{message} Give that one as base_model= (a path, or the model itself). A base_model= with other "
                "weights is taken too, with a warning."
            )
        logger.warning("%s Encodings and rewrites are those of the given base model.", message)

    def _take_over_labels(self, by_alternative: bool | None, directory: Path) -> None:
        """Change the labels of a GRADIEND from those of the alternative word to those of the factual word."""
        if self._source is not Side.ALTERNATIVE or by_alternative is False:
            return
        if by_alternative is None:
            logger.info(
                "%s does not say whose class its labels are: it is read as labelled by the factual word, as gradiend "
                "0.1.0 did. If its correlation is -1 here, it is the other way round: call "
                "invert_encoding(update_direction=False).",
                directory,
            )
            return
        known = f"{directory} was trained by gradiend 0.2.x, which labels texts by the alternative word"
        if self.invert_encoding(update_direction=False):
            logger.info("%s: its encoder is inverted, so that the first class encodes positive here too.", known)
        else:
            self._direction = {name: -sign for name, sign in (self._direction or {}).items()} or None
            logger.warning(
                "%s, and its encoder activation cannot be inverted: its classes have changed signs, %s.",
                known, self._direction,
            )  # fmt: skip
