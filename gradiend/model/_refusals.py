"""Base models that are refused before any work: wrapped, quantized, absent or undefined weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

from gradiend.model._parameter_map import local
from gradiend.util._processes import processes

ADAPTER_CONFIG = "adapter_config.json"
"""The file in which PEFT saves the configuration of an adapter."""
PARALLEL = (nn.DataParallel, nn.parallel.DistributedDataParallel)
PARALLEL_NAMES = ("FullyShardedDataParallel", "DeepSpeedEngine")
ROOM = (
    "Load it where there is room for all of it: on more or larger devices, in bfloat16 (base_model_dtype), with a "
    "larger base_model_max_memory if that was given, or, on the CPU, without device_map."
)
MERGE = "merge_and_unload() of the PeftModel gives a plain model with the adapter's weights in it"


def refuse_adapter_folder(name_or_path: str | Path) -> None:
    """Raise ValueError for a folder with a PEFT adapter, which transformers attaches if peft is installed."""
    if (Path(name_or_path) / ADAPTER_CONFIG).is_file():
        raise ValueError(
            f"The folder {name_or_path} holds a PEFT adapter ({ADAPTER_CONFIG}), and GRADIENDs are made for plain "
            f"models. Merge it first: {MERGE}; save that, with its tokenizer, in a folder of its own. Or move the "
            "adapter's files away, if the plain model is meant."
        )


def refuse_quantized_config(config: Any, name: str) -> None:
    """Raise ValueError for a checkpoint whose weights are stored quantized."""
    if config.to_dict().get("quantization_config"):
        raise ValueError(
            f"{name} is quantized (quantization_config), and its weights have neither gradients nor can they be "
            "rewritten: use the checkpoint that it was made from, in float32, bfloat16 or float16."
        )


def refuse_wrapped(model: nn.Module) -> None:
    """Raise a ValueError, which names the way out, for a compiled, wrapped, quantized or PEFT model.

    Raises TypeError for an object that is no module.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"base_model must be a loaded model; got {model!r:.60}. from_pretrained takes names and paths too."
        )
    problem = next(_wrappings(model), None)
    if problem is not None:
        raise ValueError(f"The base model is {problem}")


def _wrappings(model: nn.Module) -> Iterator[str]:
    """Yield each problem of a model with its way out, as the rest of a sentence."""
    name = type(model).__name__
    # PEFT and bitsandbytes need not be installed: the names of their packages identify their classes.
    packages = {cls.__module__.partition(".")[0] for part in model.modules() for cls in type(part).__mro__}
    if any(cls.__module__.startswith("peft.") for cls in type(model).__mro__) or hasattr(model, "merge_and_unload"):
        yield f"wrapped by PEFT ({name}): give what {name}.merge_and_unload() returns, a plain model."
    if any(parameter.is_inference() for parameter in model.parameters()):
        yield "made under torch.inference_mode(), so its weights can have no gradients: load it outside of that."
    if isinstance(model, PARALLEL) or name in PARALLEL_NAMES:
        yield f"wrapped by {name}: give the model inside, model.module."
    for path, part in model.named_modules():
        if "_orig_mod" in part._modules:
            inside = f"model.{path}._orig_mod, put back in its place" if path else "model._orig_mod"
            yield f"compiled by torch.compile: give the model inside, {inside}."
        if part._compiled_call_impl is not None:
            yield "compiled in place by model.compile(): load it again, and do not compile it."
    if vars(model).get("_hf_peft_config_loaded") or packages & {"peft", "adapters"}:
        yield (
            "one with adapters attached to its layers (PEFT), so its weights are not those of a plain model. Save the "
            f"adapter, load it with PeftModel.from_pretrained, and merge it: {MERGE}. Or load the model without it."
        )
    if not isinstance(model, PreTrainedModel) and not hasattr(model, "to_original_model"):
        for path, part in model.named_modules():
            if isinstance(part, PreTrainedModel):
                yield f"a {name} around a {type(part).__name__}: give the model inside, model.{path}."
    dtypes = {parameter.dtype for parameter in model.parameters()}
    if (
        vars(model).get("hf_quantizer") is not None
        or (isinstance(model, PreTrainedModel) and model.config.to_dict().get("quantization_config"))
        or "bitsandbytes" in packages
        or any(".ao.nn" in type(part).__module__ for part in model.modules())
        or any(not dtype.is_floating_point or dtype.itemsize < 2 for dtype in dtypes)
    ):
        yield (
            "quantized, so its weights have no gradients and cannot be rewritten: load it without quantization_config "
            "(load_in_8bit, load_in_4bit), in float32, bfloat16 or float16."
        )


def refuse_absent_weights(model: nn.Module) -> None:
    """Raise ValueError for weights that are offloaded to disk or on the meta device."""
    if "disk" in map(str, (vars(model).get("hf_device_map") or {}).values()):
        raise ValueError(
            f"The base model is partly offloaded to disk, because its devices have no room for it (device_map). {ROOM}"
        )
    if meta := [path for path, parameter in model.named_parameters() if parameter.device.type == "meta"]:
        raise ValueError(
            f"The base model is not in memory: {_some(meta)} on the meta device (offloaded by device_map, or never "
            f"loaded). {ROOM}"
        )


def refuse_undefined_weights(model: nn.Module) -> None:
    """Raise ValueError for parameters with undefined or infinite entries, which would make every result undefined."""
    bad = list(_undefined(model))
    if bad:
        raise ValueError(
            f"The base model has undefined or infinite weights in {_some(bad)}: everything computed with it would be "
            "undefined too. Its training has diverged, or its file is damaged: use an earlier or the original one."
        )


def _undefined(model: nn.Module) -> Iterator[str]:
    for name, parameter in model.named_parameters():
        if not is_finite(parameter):
            yield name


def is_finite(tensor: Tensor) -> bool:
    """Whether no entry is infinite or undefined."""
    own = local(tensor.detach())
    # The extremes need no second tensor, and are undefined if any entry is undefined.
    bad = bool(own.numel()) and not all(map(torch.isfinite, torch.aminmax(own)))
    return not (processes().anywhere(bad)[0] if isinstance(tensor, DTensor) else bad)


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
