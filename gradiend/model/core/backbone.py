"""The backbone parameters of a base model, and a new GRADIEND over these parameters."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from gradiend.model._adapters import adapter_parameters
from gradiend.model._architecture import Device
from gradiend.model._parameter_map import MappedParameter, ParameterMap, mapped_parameters
from gradiend.model._quantized import is_quantized
from gradiend.model.param_mapped import ParamMappedGradiendModel
from gradiend.util._checks import require_texts
from gradiend.util._isolation import exclusive
from gradiend.util._keywords import known_keywords, nearest

Patterns = Sequence[str]


@known_keywords("get_backbone_module", suggest=False)
def get_backbone_module(model: nn.Module) -> nn.Module:
    """The submodule named by `base_model_prefix`, else `base_model`, else the model itself."""
    children = dict(model.named_children())
    # Only the models of transformers have a base_model_prefix for certain.
    prefix = getattr(model, "base_model_prefix", "")
    return next((children[name] for name in (prefix, "base_model") if name in children), model)


def backbone_prefix(model: nn.Module) -> str:
    """The prefix of the names of backbone parameters, such as "bert."; empty for a model without a head."""
    backbone = get_backbone_module(model)
    return next((f"{name}." for name, child in model.named_children() if child is backbone), "")


@known_keywords("split_backbone_vs_head_params", suggest=False)
def split_backbone_vs_head_params(model: nn.Module) -> tuple[OrderedDict[str, nn.Parameter], list[dict[str, Any]]]:
    """The backbone parameters under their names in the whole model, and a description of each other parameter.

    A tensor shared by backbone and head (tied embeddings) is a backbone parameter.

    Returns:
        (name → parameter in the model's order, [{"name", "shape", "numel"} of each parameter of the head]).
    """
    # Another thread may have other tensors in the place of the parameters for the time of a pass.
    with exclusive(model):
        in_backbone = {id(parameter) for parameter in get_backbone_module(model).parameters()}
        parameters = dict(model.named_parameters())
    backbone: OrderedDict[str, nn.Parameter] = OrderedDict()
    excluded = []
    for name, parameter in parameters.items():
        if id(parameter) in in_backbone:
            backbone[name] = parameter
        else:
            excluded.append({"name": name, "shape": tuple(parameter.shape), "numel": parameter.numel()})
    return backbone, excluded


@known_keywords("debug_param_overlap", suggest=False)
def debug_param_overlap(model: nn.Module) -> dict[str, int]:
    """The numbers of parameter tensors of the model, of its backbone, of its head, and of both."""
    backbone, head = split_backbone_vs_head_params(model)
    occurrences = [id(parameter) for _, parameter in model.named_parameters(remove_duplicate=False)]
    return {
        "model": len(backbone) + len(head),
        "backbone": len(backbone),
        "head": len(head),
        "shared": sum(occurrences.count(id(parameter)) > 1 for parameter in backbone.values()),
    }


def matching_names(names: Sequence[str], patterns: Patterns) -> list[str]:
    """The names that match a pattern (`*` is any substring), in their order.

    Raises ValueError for a pattern that no name matches.
    """
    expressions = {p: re.compile(".*".join(map(re.escape, p.split("*")))) for p in patterns}
    for pattern, expression in expressions.items():
        if not any(expression.fullmatch(name) for name in names):
            raise ValueError(
                f"The pattern {pattern!r} matches no backbone parameter.{nearest(pattern, names)} They are called like "
                f"{', '.join(names[:3])}; '*' stands for any substring."
            )
    return [name for name in names if any(e.fullmatch(name) for e in expressions.values())]


def as_patterns(patterns: str | Patterns) -> list[str]:
    """The patterns as a list; a single string is one pattern."""
    return [patterns] if isinstance(patterns, str) else list(require_texts("params and param_map", patterns))


def select_parameters(
    base_model: nn.Module,
    params: Patterns | None = None,
    param_map: Patterns | Mapping[str, Any] | ParameterMap | None = None,
) -> ParameterMap:
    """The map of the backbone parameters that match `params` and then `param_map`, in the model's order.

    Both are names or wildcards. If both are None, these are the parameters of the active adapter of a model that has
    one (PEFT), and all of any other model. Quantized weights are never among them. `param_map` may also be a finished
    map (or the documented dict), whose order and selections are kept, and which may name parameters of the head.

    Raises ValueError for a pattern without a match or with nothing but quantized weights, nothing left or a map entry
    of another shape, and KeyError for a map entry that the model does not have.
    """
    if isinstance(param_map, (ParameterMap, Mapping)):
        mapping = param_map if isinstance(param_map, ParameterMap) else ParameterMap.from_specs(param_map)
        if params is not None:
            kept = matching_names([entry.name for entry in mapping], as_patterns(params))
            mapping = ParameterMap([entry for entry in mapping if entry.name in kept])
        mapped_parameters(base_model, mapping)
        return mapping
    backbone, _ = split_backbone_vs_head_params(base_model)
    names = list(backbone)
    if params is None and param_map is None and (of_adapter := adapter_parameters(base_model)):
        names = [name for name in names if name in of_adapter]
    for patterns in (params, param_map):
        if patterns is not None:
            names = matching_names(names, as_patterns(patterns))
            _refuse_quantized(backbone, as_patterns(patterns))
    names = [name for name in names if not is_quantized(backbone[name])]
    if not names:
        raise ValueError(f"{type(base_model).__name__} has no backbone parameter to map: see params and param_map.")
    return ParameterMap([MappedParameter(name, tuple(backbone[name].shape)) for name in names])


def _refuse_quantized(parameters: Mapping[str, nn.Parameter], patterns: Patterns) -> None:
    """Raise ValueError for a pattern that matches quantized weights only."""
    for pattern in patterns:
        names = matching_names(list(parameters), [pattern])
        if all(is_quantized(parameters[name]) for name in names):
            free = [name for name, parameter in parameters.items() if not is_quantized(parameter)]
            raise ValueError(
                f"params and param_map name quantized weights ({pattern!r}), which have no gradients and cannot be "
                f"rewritten. What can be mapped here is called like {', '.join(free[:3])}. Or attach an adapter "
                "(PEFT), or load the model without quantization_config."
            )


def build_gradiend_from_base_model(
    base_model: nn.Module, load_directory: str, param_map: Patterns | Mapping[str, Any] | ParameterMap | None = None,
    params: Patterns | None = None, latent_dim: int = 1, torch_dtype: torch.dtype | None = None,
    device_encoder: Device = None, device_decoder: Device = None, lazy_init: bool = False, **kwargs: Any,
) -> ParamMappedGradiendModel:  # fmt: skip
    """A new GRADIEND over a base model's backbone.

    Args:
        base_model: The model whose parameters are mapped.
        load_directory: The name or path of the base model, which the metadata keep as `base_model`.
        param_map: Names or wildcards of the parameters, the documented dict, or a finished map. Default: the backbone,
            or of a model with an adapter (PEFT), the adapter; without quantized weights.
        params: Names or wildcards that restrict the backbone first.
        latent_dim: The number of latent features.
        torch_dtype: The dtype of the GRADIEND. Default: float32.
        device_encoder, device_decoder: The devices of encoder and decoder.
        lazy_init: Whether to create no weights yet.
        **kwargs: Further arguments of `GradiendModel`.

    Raises:
        ValueError: A pattern has no match, nothing is left, or a map entry has another shape than the parameter.
        KeyError: A map entry names a parameter that the model does not have.
    """
    mapping = select_parameters(base_model, params, param_map)
    return ParamMappedGradiendModel(
        mapping.size, latent_dim, mapping, torch_dtype=torch_dtype or torch.float32, device_encoder=device_encoder,
        device_decoder=device_decoder, lazy_init=lazy_init, base_model=load_directory, **kwargs,
    )  # fmt: skip
