"""Language models and tokenizers by name or path."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoModelForMaskedLM, AutoTokenizer, PreTrainedModel
from transformers.tokenization_utils_base import TOKENIZER_CONFIG_FILE
from transformers.utils import cached_file

from gradiend.model import _adapters as adapters
from gradiend.model import _quantized as quantized
from gradiend.model._device_map import is_dispatched, placement, refuse_divided_ties
from gradiend.model._hub_place import HubPlace
from gradiend.model._refusals import inside, refuse_absent_weights, refuse_undefined_weights
from gradiend.model._rewrite_files import verify_rewritten
from gradiend.model._shards import is_sharded, whole_state
from gradiend.objectives.registry import OBJECTIVES, kind_named, kind_of, refuse_unsupported
from gradiend.util._checks import home_hint
from gradiend.util._files import require_room, weights_size
from gradiend.util._isolation import LOADING, exclusive
from gradiend.util._processes import by_first
from gradiend.util._progress import others_bars
from gradiend.util.paths import ADAPTER_CONFIG, OWN_BASE_MODEL

logger = logging.getLogger(__name__)


class AutoModelForLM:
    """Loads a masked or causal language model, whichever the checkpoint holds."""

    @staticmethod
    def from_pretrained(
        name_or_path: str, *, torch_dtype: torch.dtype = torch.float32, trust_remote_code: bool = False,
        objective: str | None = None, adapter_name: str = adapters.DEFAULT, revision: str | None = None, **kwargs: Any,
    ) -> PreTrainedModel:  # fmt: skip
        """Load a model with its language-modelling head.

        Args:
            name_or_path: Hub id or directory.
            torch_dtype: Type of the weights. The default does not depend on the type that the checkpoint has.
            trust_remote_code: Whether code from the hub may run.
            objective: Name of the kind of model. Default: the kind that the checkpoint's config says.
            adapter_name: The name that an adapter (PEFT) in the folder gets; its plain model is loaded too.
            revision: The branch, tag or commit of a model on the hub. Default: the main branch.
            **kwargs: Arguments of transformers' `from_pretrained`, such as the quantization_config of bitsandbytes.

        Raises:
            FileNotFoundError: There is no such model, here or on the hub.
            ImportError: bitsandbytes or PEFT is needed and not installed.
            ValueError: Neither a masked nor a causal language model, a model that was saved without its head or
                quantized by another method than bitsandbytes, damaged weights, or an adapter of an unsupported kind;
                or an unknown objective.
        """
        require_model(name_or_path)
        verify_rewritten(name_or_path)
        given = {"torch_dtype": torch_dtype, "trust_remote_code": trust_remote_code, "objective": objective, **kwargs}
        at = {} if revision is None else {"revision": revision}
        try:
            adapter = adapters.adapter_config(name_or_path) if Path(name_or_path).is_dir() else None
            if adapter is None:
                config = AutoConfig.from_pretrained(name_or_path, trust_remote_code=trust_remote_code, **at)
        except (OSError, ValueError) as error:
            adapter = None
            with suppress(OSError):
                # A name on the hub may be that of an adapter, which has no config of a model.
                only_local = bool(kwargs.get("local_files_only"))
                adapter = adapters.adapter_config(name_or_path, local_files_only=only_local, **at)
            if adapter is None and isinstance(error, OSError):
                raise FileNotFoundError(f"There is no model {str(name_or_path)!r}: {error}") from error
            if adapter is None:
                raise
        if adapter is not None:
            return _with_adapter(str(name_or_path), adapter, adapter_name, given, at)
        return _loaded(name_or_path, config, {**given, **at})


def _with_adapter(
    place: str, adapter: Mapping[str, Any], name: str, given: Mapping[str, Any], at: Mapping[str, str]
) -> PreTrainedModel:
    """The plain model of an adapter's folder, with the adapter; `at` is the adapter's revision on a hub."""
    base = adapters.base_of_adapter(place, adapter)
    if base == place:
        config = AutoConfig.from_pretrained(place, trust_remote_code=given["trust_remote_code"])
        # Otherwise transformers would attach the adapter, and round it to the model's dtype.
        model = _loaded(place, config, {**given, "adapter_kwargs": {"subfolder": "none"}})
    else:
        try:
            model = AutoModelForLM.from_pretrained(base, **given)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"The adapter in {place} is for the model {base!r}, which is not there: {error} If it was moved, write "
                f"its place into {ADAPTER_CONFIG} (base_model_name_or_path)."
            ) from error
    with exclusive(LOADING), others_bars():
        adapters.attach_adapter(model, place, name, base, at)
    return model


def _loaded(name_or_path: str, config: Any, given: Mapping[str, Any]) -> PreTrainedModel:
    """A plain model; `given` are keywords of `AutoModelForLM.from_pretrained`."""
    kwargs = dict(given)
    objective, torch_dtype = kwargs.pop("objective"), kwargs.pop("torch_dtype")
    architecture = (config.architectures or [""])[0]
    kind = None if objective is None else kind_of(None, objective)
    if kind is None or kind.loader(config) is None:
        refuse_unsupported(config, name_or_path, architecture)
        kinds = (kind for kind in OBJECTIVES.values() if kind.loader(config) is not None)
        kind = kind_named(architecture, config) or next(kinds, None)
    stored, asked = quantized.quantization_of(config), kwargs.get("quantization_config")
    for quantization in (stored, asked):
        if quantization is not None:
            quantized.require_differentiable(quantization, str(name_or_path))
    if stored is not None and asked is not None:
        del kwargs["quantization_config"]
        if quantized.bits_of(stored) != quantized.bits_of(quantized.as_json(asked)):
            logger.warning(
                "%s is stored in %s, and is loaded so: quantization_config has no effect.",
                name_or_path,
                quantized.bits_of(stored),
            )
    if kind is None:
        called = architecture or type(config).__name__
        raise ValueError(f"{name_or_path} ({called}) is neither a masked nor a causal language model.")
    # Code from the hub may have the class name of a causal model and be registered for masked models.
    loader = kind.loader(config) or AutoModelForMaskedLM
    try:
        with exclusive(LOADING), others_bars():
            loaded: Any = loader.from_pretrained(name_or_path, dtype=torch_dtype, output_loading_info=True, **kwargs)
    except SafetensorError as error:
        raise ValueError(f"The weights of {name_or_path} cannot be read ({error}): copy them again.") from error
    model, report = loaded
    if report["missing_keys"]:
        raise ValueError(
            f"{name_or_path} ({architecture}) has no weights for {', '.join(sorted(report['missing_keys'])[:3])}: "
            "its predictions would be random. Give a checkpoint that was saved with its language-modelling head."
        )
    quantized.keep_layout(model)
    return model


def save_base_model(model: PreTrainedModel, directory: str | Path, *, base: str | None = None, **kwargs: Any) -> None:
    """Save a model, also a sharded one, and restore the config, in which transformers notes class and dtype.

    `base` is the name or path of the plain model of an adapter (PEFT): then the adapter alone is saved.
    """
    if adapters.is_adapted(model) and base is not None:
        by_first(adapters.save_adapted)(model, directory, base)
        return
    require_room(directory, weights_size(model), "The copy of the base model")
    if is_sharded(model):
        kwargs["state_dict"] = whole_state(model)
    _save_base_model(model, directory, kwargs)


@by_first
def _save_base_model(model: PreTrainedModel, directory: str | Path, arguments: Mapping[str, Any]) -> None:
    before = dict(vars(model.config))
    try:
        with others_bars():
            if adapters.is_adapted(model):
                adapters.save_adapted(model, directory, None)
            else:
                model.save_pretrained(directory, **arguments)
    finally:
        vars(model.config).clear()
        vars(model.config).update(before)


def require_model(name_or_path: str | Path) -> None:
    """Raise FileNotFoundError for a path without a model; a name with one slash at most may be a hub id."""
    if HubPlace.of(name_or_path) is not None:
        return
    path = Path(name_or_path)
    if path.is_dir():
        if not (path / "config.json").is_file() and not (path / ADAPTER_CONFIG).is_file():
            inside = sorted(
                (entry.parent.name for entry in path.glob("*/config.json")), key=lambda name: name != "model"
            )
            hint = f" Did you mean {path / inside[0]}?" if inside else ""
            raise FileNotFoundError(f"The folder {path} holds no model: it has no config.json.{hint}")
    elif path.is_file():
        raise FileNotFoundError(
            f"{name_or_path} is a file, and a model is a folder: give the folder. A delta (export_delta) is applied "
            "with apply_delta(model, …)."
        )
    elif path.is_absolute() or len(path.parts) > 2 or str(name_or_path).startswith((".", "~")):
        raise FileNotFoundError(f"There is no folder {name_or_path}.{home_hint(name_or_path)}")


class AutoTokenizerForLM:
    """Loads the tokenizer of a language model."""

    @staticmethod
    def from_pretrained(name_or_path: str | Path, **kwargs: Any) -> Any:
        """Load a fast tokenizer. Extra arguments go to transformers.

        Raises:
            OSError: No tokenizer has this name.
            ValueError: A folder that transformers can make no tokenizer from, or a tokenizer without any word.
        """
        verify_rewritten(name_or_path, weights=False)
        tokenizer = AutoTokenizer.from_pretrained(name_or_path, use_fast=True, **kwargs)
        # From a folder without tokenizer files, transformers makes a tokenizer with nothing but special tokens.
        if len(tokenizer) <= len(tokenizer.added_tokens_decoder):
            raise ValueError(f"The folder {name_or_path} has no tokenizer's files (tokenizer.json): save it there too.")
        return tokenizer


def load_with_tokenizer(
    model: Any, tokenizer: Any = None, tokenizer_place: Any = None, *, trust_remote_code: bool = False,
    base_model_device_map: Any = None, base_model_max_memory: Any = None, revision: str | None = None, **kwargs: Any,
) -> tuple[Any, Any]:  # fmt: skip
    """(language model, tokenizer), checked.

    Args:
        model: Name or path (also of a folder with the model in `base_model/`), or an instance: the model inside of its
            wrappers is returned (see `inside`).
        tokenizer, tokenizer_place: Name, path or instance of the tokenizer. Default: the place, else the model's name.
        trust_remote_code: Whether code from the hub may run.
        base_model_device_map, base_model_max_memory: Where the parts of a model that is loaded lie, see `placement`.
        revision: The revision of a model on the hub, and of the tokenizer beside it.
        **kwargs: Arguments of `AutoModelForLM.from_pretrained`; an instance must have the given torch_dtype.

    Raises ValueError for weights that are not in memory, or undefined; no tokenizer; an instance of another dtype, or
    on one device although there is a map. See also `placement`.
    """
    mapped = placement(base_model_device_map, base_model_max_memory)
    if isinstance(model, nn.Module):
        model = inside(model)
        if mapped and not is_dispatched(model):
            raise ValueError(
                "base_model_device_map is for models that are loaded, and this one is here already: give its name or "
                "path, or place it with accelerate.dispatch_model(model, …)."
            )
        name, dtype = str(model.name_or_path), quantized.float_dtype(model)
        if dtype != kwargs.get("torch_dtype", dtype):
            raise ValueError(
                f"base_model_dtype={kwargs['torch_dtype']} is for models that are loaded, and this one is here "
                f"already, in {dtype}: convert it with model.to({kwargs['torch_dtype']}), or give its name or path."
            )
    else:
        own = Path(model) / OWN_BASE_MODEL
        name = str(own if own.is_dir() else model)
        model = AutoModelForLM.from_pretrained(
            name, trust_remote_code=trust_remote_code, revision=revision, **mapped, **kwargs
        )
    refuse_absent_weights(model)
    refuse_divided_ties(model)
    refuse_undefined_weights(model)
    if tokenizer is None or isinstance(tokenizer, (str, Path)):
        place = tokenizer or tokenizer_place or _place_of_tokenizer(name, model, revision)
        try:
            at = {"revision": revision} if revision is not None and place == name else {}
            tokenizer = AutoTokenizerForLM.from_pretrained(place, trust_remote_code=trust_remote_code, **at)
        except (OSError, ValueError) as error:
            raise ValueError(
                f"No tokenizer of the {type(model).__name__} can be loaded from {str(place)!r}: {error} "
                "Or give the tokenizer: ModelWithGradiend.from_pretrained(model, tokenizer=tokenizer); a trainer takes "
                "the result as its model."
            ) from error
    return model, tokenizer


def _place_of_tokenizer(name: str, model: Any, revision: str | None) -> str:
    """The place of a loaded model's tokenizer: the model's own, or, for an adapter alone, that of its plain model."""
    alone = (Path(name) / ADAPTER_CONFIG).is_file() and not (Path(name) / TOKENIZER_CONFIG_FILE).is_file()
    if HubPlace.of(name) is not None and adapters.is_adapted(model):
        try:
            cached_file(name, TOKENIZER_CONFIG_FILE, revision=revision)
        except OSError:
            alone = True
    return adapters.name_under_adapter(model) or name if alone else name
