"""Base models whose weight matrices bitsandbytes holds in 8 or 4 bits.

Such a matrix has no gradient and cannot be rewritten, but gradients pass through its layer: what is not quantized
(norms, biases, embeddings, adapters) can be mapped.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import BitsAndBytesConfig, PreTrainedModel

from gradiend.util._imports import require_package

PACKAGE = "bitsandbytes"
"""The name of the package, and of the method in a quantization_config."""
PACKS = "support_avx512bf16_for_cpu"
"""The attribute of 4-bit layers that says whether they may pack their weights."""
QUANTIZATION = "quantization_config"
"""The key of a checkpoint's metadata for how its base model was quantized."""
WAY_OUT = (
    "load it with BitsAndBytesConfig(load_in_8bit=True) or BitsAndBytesConfig(load_in_4bit=True), or without "
    "quantization_config, in float32, bfloat16 or float16."
)


def is_quantized(parameter: Tensor) -> bool:
    """Whether a parameter holds codes of a quantized weight, which may be stored in a floating-point type too."""
    return not parameter.is_floating_point() or parameter.dtype.itemsize < 2 or _is_of_package(parameter)


def _is_of_package(parameter: Tensor) -> bool:
    """Whether bitsandbytes has quantized a parameter. It need not be installed: a module's name identifies a class."""
    return any(cls.__module__.partition(".")[0] == PACKAGE for cls in type(parameter).__mro__)


def float_dtype(model: nn.Module) -> torch.dtype:
    """The dtype of the first parameter that is not quantized."""
    return next(parameter.dtype for parameter in model.parameters() if not is_quantized(parameter))


def quantization_of(config: Any) -> dict[str, Any] | None:
    """The quantization_config of a model's config, as JSON; None for a model that is not quantized."""
    found = config.to_dict().get(QUANTIZATION)
    return as_json(found) if found else None


def as_json(quantization: Any) -> dict[str, Any]:
    """A quantization_config of transformers as JSON."""
    content = quantization if isinstance(quantization, Mapping) else quantization.to_dict()
    return {key: getattr(value, "value", value) for key, value in content.items()}


def as_config(quantization: Mapping[str, Any]) -> BitsAndBytesConfig:
    """Undo `as_json`."""
    return BitsAndBytesConfig.from_dict(dict(quantization))


def quantization_of_model(model: nn.Module) -> dict[str, Any] | None:
    """The result of `quantization_of` for a model; None also for a module that is no model of transformers."""
    return quantization_of(model.config) if isinstance(model, PreTrainedModel) else None


def bits_of(quantization: Mapping[str, Any]) -> str:
    """The precision of a quantized model, for people: "8 bits" or "4 bits (nf4)"."""
    return f"4 bits ({quantization.get('bnb_4bit_quant_type')})" if quantization.get("load_in_4bit") else "8 bits"


def require_differentiable(quantization: Any, name: str) -> None:
    """Raise ValueError for weights that another method than bitsandbytes quantizes, ImportError without it."""
    content = as_json(quantization)
    method = str(content.get("quant_method") or (PACKAGE if {"load_in_8bit", "load_in_4bit"} & content.keys() else ""))
    if not method.startswith(PACKAGE):
        raise ValueError(
            f"{name} is quantized by {method or 'an unknown method'} (quantization_config), and its layers pass no "
            f"gradients on here. Use the checkpoint that it was made from: {WAY_OUT}"
        )
    require_package(PACKAGE, f"{name}, which is quantized,", "large")
    _say_once()


def keep_layout(model: nn.Module) -> None:
    """Let the 4-bit layers of a model on a CPU keep the layout of their weights, also if they have packed them.

    On processors with bfloat16 instructions, these layers pack their weights at the first pass without gradients: then
    no gradient passes through them, their scales are rounded to bfloat16, and reading their state mixes these up.
    """
    layers: list[Any] = [part for part in model.modules() if vars(part).get(PACKS)]
    for layer in layers:
        setattr(layer, PACKS, False)
        scales = layer.weight.quant_state
        if getattr(scales, "packing_format_for_cpu", False):
            layer.state_dict()
        if scales.absmax.dim() == 2:
            # Reading the state undoes the packing of the codes, but not that of the scales.
            scales.absmax = scales.absmax.T.reshape(-1).float()


@functools.cache
def _say_once() -> None:
    """Let bitsandbytes say only once that an 8-bit layer casts its inputs, not in every layer of every pass."""
    seen: set[str] = set()

    def is_new(record: logging.LogRecord) -> bool:
        before = len(seen)
        seen.add(record.getMessage())
        return len(seen) > before

    logging.getLogger("bitsandbytes.autograd._functions").addFilter(is_new)


def foreign_quantization(model: nn.Module) -> str | None:
    """The method other than bitsandbytes that quantizes a model, for a sentence; None if there is no such method."""
    quantization = quantization_of_model(model)
    quantized = [parameter for parameter in model.parameters() if is_quantized(parameter)]
    method = None if quantization is None else str(quantization.get("quant_method", ""))
    if quantized and all(map(_is_of_package, quantized)) and (method is None or method.startswith(PACKAGE)):
        _say_once()
        return None
    if any(".ao.nn" in type(part).__module__ for part in model.modules()):
        return "torch.ao"
    if quantization is not None and not quantized:
        return f"{method or 'an unknown method'}, as its config says (quantization_config)"
    if quantized or vars(model).get("hf_quantizer") is not None:
        return method or "an unknown method"
    return None
