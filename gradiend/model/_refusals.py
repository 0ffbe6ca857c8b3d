"""Base models that are unwrapped, or refused before any work: wrapped, quantized, absent or undefined weights."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

from gradiend.model._adapters import inner_model, problem_of_adapters
from gradiend.model._parameter_map import local
from gradiend.model._quantized import WAY_OUT, foreign_quantization, is_quantized, keep_layout
from gradiend.util._processes import processes

logger = logging.getLogger(__name__)

PARALLEL = (nn.DataParallel, nn.parallel.DistributedDataParallel)
PARALLEL_NAMES = ("FullyShardedDataParallel", "DeepSpeedEngine")
ROOM = (
    "Load it where there is room for all of it: on more or larger devices, in bfloat16 (base_model_dtype), with a "
    "larger base_model_max_memory if that was given, or, on the CPU, without device_map."
)


def inside(model: Any) -> Any:
    """The model inside of wrappers that leave what it computes as it is; the wrappers stay as they are.

    These wrappers are DataParallel, DistributedDataParallel, what `torch.compile` returns, and PeftModel. Another
    object is returned itself. Raises ValueError for a PeftModel with an adapter of an unsupported kind.
    """
    found = model
    while (wrapped := _wrapped_in(found)) is not None:
        found = wrapped
    if found is not model:
        logger.info("The %s inside of the %s is used.", type(found).__name__, type(model).__name__)
    if isinstance(found, nn.Module):
        keep_layout(found)
    return found


def _wrapped_in(model: Any) -> Any:
    """The model in the outermost wrapper; None if there is no wrapper."""
    if isinstance(model, PARALLEL):
        return model.module
    # PEFT need not be installed: the name of its module identifies its class.
    if any(cls.__module__ == "peft.peft_model" for cls in type(model).__mro__):
        return inner_model(model)
    return model._modules.get("_orig_mod") if isinstance(model, nn.Module) else None


def unwrapped(model: Any) -> Any:
    """The model inside (see `inside`), which a GRADIEND can be made for.

    Raises ValueError, which names the way out, for any other wrapped or compiled model, for adapters that are merged,
    switched off or of an unsupported kind, and for other quantized weights than those of bitsandbytes. Raises TypeError
    for an object that is no module.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"base_model must be a loaded model; got {model!r:.60}. from_pretrained takes names and paths too."
        )
    model = inside(model)
    problem = next(_wrappings(model), None)
    if problem is not None:
        raise ValueError(f"The base model is {problem}")
    return model


def _wrappings(model: nn.Module) -> Iterator[str]:
    """Yield each problem of a model with its way out, as the rest of a sentence."""
    name = type(model).__name__
    if any(cls.__module__.startswith("peft.") for cls in type(model).__mro__) or hasattr(model, "merge_and_unload"):
        yield f"wrapped by PEFT ({name}): give what {name}.merge_and_unload() returns, a plain model."
    if any(parameter.is_inference() for parameter in model.parameters()):
        yield "made under torch.inference_mode(), so its weights can have no gradients: load it outside of that."
    if name in PARALLEL_NAMES:
        yield f"wrapped by {name}: give the model inside, model.module."
    for path, part in model.named_modules():
        if "_orig_mod" in part._modules:
            yield f"compiled by torch.compile: give the model inside, model.{path}._orig_mod, put back in its place."
        if part._compiled_call_impl is not None:
            yield "compiled in place by model.compile(): load it again, and do not compile it."
    if any(cls.__module__.startswith("adapters.") for part in model.modules() for cls in type(part).__mro__):
        yield "one with adapters of the package adapters attached to its layers: merge them, or load it without them."
    if (problem := problem_of_adapters(model)) is not None:
        yield problem
    if not isinstance(model, PreTrainedModel) and not hasattr(model, "to_original_model"):
        for path, part in model.named_modules():
            if isinstance(part, PreTrainedModel):
                yield f"a {name} around a {type(part).__name__}: give the model inside, model.{path}."
    if (method := foreign_quantization(model)) is not None:
        yield f"quantized by {method}, and its layers pass no gradients on here: {WAY_OUT}"


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
    parameters = model.named_parameters()
    if bad := [name for name, parameter in parameters if not is_quantized(parameter) and not is_finite(parameter)]:
        raise ValueError(
            f"The base model has undefined or infinite weights in {_some(bad)}: everything computed with it would be "
            "undefined too. Its training has diverged, or its file is damaged: use an earlier or the original one."
        )


def is_finite(tensor: Tensor) -> bool:
    """Whether no entry is infinite or undefined."""
    own = local(tensor.detach())
    # The extremes need no second tensor, and are undefined if any entry is undefined.
    bad = bool(own.numel()) and not all(map(torch.isfinite, torch.aminmax(own)))
    return not (processes().anywhere(bad)[0] if isinstance(tensor, DTensor) else bad)


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
