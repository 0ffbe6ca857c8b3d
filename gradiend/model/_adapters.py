"""PEFT adapters in a base model: their parameters, what is refused of them, and the folder that PEFT loads.

The folder has adapter_config.json, which names the plain model, and adapter_model.safetensors. Where no name loads the
plain model, its own config.json and weights lie beside them; transformers loads such a folder as one model.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils import find_adapter_config_file

from gradiend.util._files import read_json
from gradiend.util._imports import require_package
from gradiend.util._progress import others_bars
from gradiend.util.paths import ADAPTER_CONFIG, CONFIG_FILE

ADAPTER_WEIGHTS = "adapter_model.safetensors"
"""The file with an adapter's tensors."""
ADAPTER = "adapter"
"""The key of a checkpoint's metadata for the name of its base model's active adapter."""
PREFIX = "base_model.model."
"""The beginning of the name of each tensor in a file of PEFT."""
DEFAULT = "default"
"""The name under which PEFT loads an adapter."""
KINDS = ("LORA", "ADALORA", "LOHA", "LOKR", "OFT", "IA3")
"""The kinds of adapters that are supported: their whole effect lies in the layers that PEFT puts into a model."""
MERGE = "merge_and_unload() of the PeftModel gives a plain model with the adapter's weights in it"


def _layers(model: nn.Module) -> list[Any]:
    """The layers that PEFT has put into a model."""
    if "peft" not in sys.modules:
        return []
    from peft.tuners.tuners_utils import BaseTunerLayer  # noqa: PLC0415 - an optional package
    from peft.utils.other import AuxiliaryTrainingWrapper  # noqa: PLC0415

    return [part for part in model.modules() if isinstance(part, (BaseTunerLayer, AuxiliaryTrainingWrapper))]


def is_adapted(model: nn.Module) -> bool:
    """Whether a model has adapter layers of PEFT inside."""
    return bool(_layers(model))


def adapter_name(model: nn.Module) -> str:
    """The name of the active adapter of a model with adapter layers."""
    return _layers(model)[0].active_adapters[0]


def _holder(model: Any) -> Any:
    """The module that has the configurations of the adapters; an auxiliary head may lie around it."""
    return model.to_original_model() if hasattr(model, "to_original_model") else model


def _config(model: nn.Module) -> Any:
    """The configuration of the active adapter."""
    return _holder(model).peft_config[adapter_name(model)]


def name_under_adapter(model: nn.Module) -> str | None:
    """The name or path of the plain model under an adapter; None if the adapter does not name one.

    The folder of a whole model with its adapter is no such path.
    """
    name = _config(model).base_model_name_or_path
    return str(name) if name and not (Path(name) / ADAPTER_CONFIG).is_file() else None


def problem_of_adapters(model: Any) -> str | None:
    """Why the adapters of a model cannot be used, with the way out, as the rest of a sentence; None if they can be."""
    layers = _layers(model)
    if not layers:
        return None
    active = {tuple(layer.active_adapters) for layer in layers}
    if any(layer.disable_adapters for layer in layers):
        return "one with an adapter that is switched off: call enable_adapters(), or remove the adapter."
    if len(active) > 1 or len(next(iter(active))) != 1:
        names = sorted({name for names in active for name in names})
        return f"one with several active adapters ({', '.join(names)}): choose one with set_adapter(name)."
    # Modules that are only kept with an adapter are never merged.
    if any(getattr(layer, "merged", False) for layer in layers):
        return f"one whose adapter is merged but still attached: call unmerge_adapter(), or {MERGE}."
    return _problem_of_kind(_config(model))


def _problem_of_kind(config: Any) -> str | None:
    kind = str(getattr(config.peft_type, "value", config.peft_type))
    if kind in KINDS and not (kind == "LORA" and config.alora_invocation_tokens):
        return None
    called = "aLoRA" if kind in KINDS else kind
    return (
        f"one with an adapter of the kind {called}, and the kinds that GRADIENDs can be made for are "
        f"{', '.join(KINDS[:-1])} and {KINDS[-1]}. Merge it, if its kind can be merged: {MERGE}."
    )


def inner_model(peft_model: Any) -> Any:
    """The model of transformers, with adapter layers, in a PeftModel. Raises ValueError for an unsupported kind."""
    if problem := _problem_of_kind(peft_model.peft_config[peft_model.active_adapter]):
        raise ValueError(f"The base model is {problem}")
    return peft_model.get_base_model()


def adapter_state(model: Any, state: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """Name in the active adapter's file → tensor. The tensors of `state` replace those of the model."""
    from peft import get_peft_model_state_dict  # noqa: PLC0415 - an optional package

    state = model.state_dict(keep_vars=True) if state is None else dict(state)
    found = get_peft_model_state_dict(_holder(model), state, adapter_name(model), save_embedding_layers=False)
    return {PREFIX + name: tensor for name, tensor in found.items()}


def adapter_parameters(model: Any) -> set[str]:
    """The names of the parameters that the folder of the active adapter holds; empty for a plain model."""
    if not is_adapted(model):
        return set()
    saved = {id(tensor) for tensor in adapter_state(model).values()}
    return {name for name, parameter in model.named_parameters() if id(parameter) in saved}


def without_adapter(model: Any) -> Any:
    """The plain model: other modules around the same tensors, under the names of a model without adapter."""
    from peft.tuners.tuners_utils import BaseTunerLayer  # noqa: PLC0415 - an optional package
    from peft.utils.other import AuxiliaryTrainingWrapper  # noqa: PLC0415

    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    plain = copy.deepcopy(model, shared)
    for name, part in list(plain.named_modules()):
        if isinstance(part, BaseTunerLayer):
            plain.set_submodule(name, part.get_base_layer())
        elif isinstance(part, AuxiliaryTrainingWrapper):
            plain.set_submodule(name, part.original_module)
    for name in ("peft_config", "_hf_peft_config_loaded"):
        vars(plain).pop(name, None)
    return plain


def outside_adapter(model: nn.Module, names: list[str]) -> list[str]:
    """The `names` of parameters that the folder of the active adapter does not hold; empty for a plain model."""
    inside = adapter_parameters(model)
    return [name for name in names if name not in inside] if inside else []


def save_adapted(model: Any, directory: str | Path, base: str | None, *, place: str | Path | None = None) -> None:
    """Write the active adapter into a folder, as PEFT loads it.

    `base` is the name or path of the plain model. If `base` is None, the plain model's weights are written into the
    folder too, and the adapter names the folder, or the `place` to which the folder will be moved.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    if base is None:
        with others_bars():
            without_adapter(model).save_pretrained(directory)
    config = copy.copy(_config(model))
    config.inference_mode = True
    config.base_model_name_or_path = str(place or directory) if base is None else base
    found = {"base_model_class": type(model).__name__, "parent_library": type(model).__module__}
    config.save_pretrained(directory, auto_mapping_dict=None if config.task_type else found)
    # The format cannot hold shared memory, such as that of a bias that two modules have.
    tensors = {name: tensor.detach().clone().contiguous() for name, tensor in adapter_state(model).items()}
    save_file(tensors, directory / ADAPTER_WEIGHTS, metadata={"format": "pt"})


def as_transformers_adapter(model: Any) -> None:
    """Let save_pretrained of a copy with adapter layers write the adapter's folder, as after `add_adapter`."""
    if isinstance(model, PreTrainedModel) and is_adapted(model):
        model._hf_peft_config_loaded = True


def adapter_config(name_or_path: str | Path, **where: Any) -> dict[str, Any] | None:
    """The content of adapter_config.json at a name or path; None if there is none."""
    path = find_adapter_config_file(str(name_or_path), **where)
    return None if path is None else read_json(path)


def base_of_adapter(name_or_path: str | Path, config: Mapping[str, Any]) -> str:
    """The name or path of the plain model of an adapter's folder. Raises ValueError for a folder that names none."""
    if (Path(name_or_path) / CONFIG_FILE).is_file():
        return str(name_or_path)
    if not (base := config.get("base_model_name_or_path")):
        raise ValueError(
            f"{Path(name_or_path) / ADAPTER_CONFIG} does not name the model that the adapter is for: write its name or "
            "path there as base_model_name_or_path, or give the model in memory, with the adapter attached."
        )
    return str(base)


@torch.no_grad()
def attach_adapter(model: Any, place: str, name: str, base: str, at: Mapping[str, Any]) -> None:
    """Put the adapter of a folder, or of the hub, into the plain model `base`, in place, with PEFT's dtypes.

    `at` is empty, or has the `revision` of an adapter on the hub.
    """
    require_package("peft", f"The adapter in {place}", "large")
    # PeftModel.from_pretrained does the same around one more module.
    from peft import PeftConfig, inject_adapter_in_model, set_peft_model_state_dict  # noqa: PLC0415
    from peft.tuners.tuners_utils import cast_adapter_dtype  # noqa: PLC0415
    from peft.utils.save_and_load import load_peft_weights  # noqa: PLC0415

    config = PeftConfig.from_pretrained(place, **at)
    if problem := _problem_of_kind(config):
        raise ValueError(f"The model in {place} is {problem}")
    config.inference_mode, config.base_model_name_or_path = True, base
    tensors = load_peft_weights(place, device=str(model.device), **at)
    try:
        inject_adapter_in_model(config, model, name)
        cast_adapter_dtype(model, name)
        stripped = {key.removeprefix(PREFIX): tensor for key, tensor in tensors.items()}
        found: Any = set_peft_model_state_dict(model, stripped, adapter_name=name)
    except (RuntimeError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"The adapter in {place} does not fit the {type(model).__name__}: {reason}") from error
    missing = sorted({*found.missing_keys} & adapter_parameters(model))
    if missing or found.unexpected_keys:
        kind, names = ("lacks", missing) if missing else ("also has", found.unexpected_keys)
        raise ValueError(f"The adapter in {place} does not fit the {type(model).__name__}: it {kind} {names[0]}.")
    # The name of the folder loads the model with its adapter.
    model.name_or_path = place
