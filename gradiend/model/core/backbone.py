"""Which parameters of a base model are its backbone, and a GRADIEND over them."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import nn

from gradiend.model._architecture import Device
from gradiend.model._parameter_map import MappedParameter, ParameterMap, mapped_parameters
from gradiend.model.param_mapped import ParamMappedGradiendModel
from gradiend.util._keywords import known_keywords, nearest

if TYPE_CHECKING:
    from gradiend.model.model_with_gradiend import ModelWithGradiend

M = TypeVar("M", bound="ModelWithGradiend")
Patterns = Sequence[str]


@known_keywords("get_backbone_module", suggest=False)
def get_backbone_module(model: nn.Module) -> nn.Module:
    """The submodule named by `base_model_prefix`, else `base_model`, else the model itself."""
    children = dict(model.named_children())
    # transformers declares base_model_prefix on every PreTrainedModel; other modules need not have it.
    prefix = getattr(model, "base_model_prefix", "")
    return next((children[name] for name in (prefix, "base_model") if name in children), model)


def backbone_prefix(model: nn.Module) -> str:
    """What the names of backbone parameters start with, such as "bert."; empty for a model without a head."""
    backbone = get_backbone_module(model)
    return next((f"{name}." for name, child in model.named_children() if child is backbone), "")


@known_keywords("split_backbone_vs_head_params", suggest=False)
def split_backbone_vs_head_params(
    model: nn.Module,
) -> tuple[OrderedDict[str, nn.Parameter], list[dict[str, Any]]]:
    """Backbone parameters under their full-model names, and a description of each that is not one.

    A tensor shared by backbone and head (tied embeddings) is a backbone parameter.

    Returns:
        (name → parameter in the model's order, [{"name", "shape", "numel"} of the head's parameters]).
    """
    in_backbone = {id(parameter) for parameter in get_backbone_module(model).parameters()}
    backbone: OrderedDict[str, nn.Parameter] = OrderedDict()
    excluded = []
    for name, parameter in model.named_parameters():
        if id(parameter) in in_backbone:
            backbone[name] = parameter
        else:
            excluded.append({"name": name, "shape": tuple(parameter.shape), "numel": parameter.numel()})
    return backbone, excluded


@known_keywords("debug_param_overlap", suggest=False)
def debug_param_overlap(model: nn.Module) -> dict[str, int]:
    """Numbers of parameter tensors: of the model, its backbone, its head, and those that both use."""
    backbone, head = split_backbone_vs_head_params(model)
    occurrences = [id(parameter) for _, parameter in model.named_parameters(remove_duplicate=False)]
    return {
        "model": len(backbone) + len(head),
        "backbone": len(backbone),
        "head": len(head),
        "shared": sum(occurrences.count(id(parameter)) > 1 for parameter in backbone.values()),
    }


def matching_names(names: Sequence[str], patterns: Patterns) -> list[str]:
    """The names that match at least one pattern, in their own order; `*` is any substring, `.` is literal.

    Raises ValueError for a pattern that matches nothing.
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
    """A list; one string is one pattern."""
    return [patterns] if isinstance(patterns, str) else list(patterns)


def select_parameters(
    base_model: nn.Module,
    params: Patterns | None = None,
    param_map: Patterns | Mapping[str, Any] | ParameterMap | None = None,
) -> ParameterMap:
    """The map of the backbone parameters that pass `params` and then `param_map`, in the model's order.

    Args:
        base_model: Any module with named parameters.
        params: Names or wildcards, or None for all.
        param_map: Names or wildcards; or a finished map, also as the documented dict, whose order and selections are
            kept and which may name head parameters.

    Raises:
        ValueError: A pattern without a match, nothing left, or a map entry of another shape.
        KeyError: A map entry that the model does not have.
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
    for patterns in (params, param_map):
        if patterns is not None:
            names = matching_names(names, as_patterns(patterns))
    if not names:
        raise ValueError(f"{type(base_model).__name__} has no backbone parameter to map.")
    return ParameterMap([MappedParameter(name, tuple(backbone[name].shape)) for name in names])


def build_gradiend_from_base_model(
    base_model: nn.Module,
    load_directory: str,
    param_map: Patterns | Mapping[str, Any] | ParameterMap | None = None,
    params: Patterns | None = None,
    latent_dim: int = 1,
    torch_dtype: torch.dtype | None = None,
    device_encoder: Device = None,
    device_decoder: Device = None,
    lazy_init: bool = False,
    **kwargs: Any,
) -> ParamMappedGradiendModel:
    """A new GRADIEND over a base model's backbone.

    Args:
        base_model: The model whose parameters are mapped.
        load_directory: Name or path of the base model, which the metadata keep as `base_model`.
        param_map: Names or wildcards of the parameters, the documented dict, or a finished map. Default: the backbone.
        params: Names or wildcards that restrict the backbone first.
        latent_dim: Number of latent features.
        torch_dtype: Dtype of the GRADIEND, default float32.
        device_encoder: Where the encoder goes.
        device_decoder: Where the decoder goes.
        lazy_init: Create no weights yet.
        **kwargs: More arguments of `GradiendModel`.

    Raises:
        ValueError, KeyError: See `select_parameters`.
    """
    mapping = select_parameters(base_model, params, param_map)
    return ParamMappedGradiendModel(
        mapping.size,
        latent_dim,
        mapping,
        torch_dtype=torch_dtype or torch.float32,
        device_encoder=device_encoder,
        device_decoder=device_decoder,
        lazy_init=lazy_init,
        base_model=load_directory,
        **kwargs,
    )


def without_parameters(model: M, patterns: Sequence[str]) -> M:
    """A copy whose encoder does not see the gradients of parameters with these names, as if it had no weights for them.

    The base model is shared and stays whole; the biases stay too, so encodings are shifted, each by the same amount
    before the activation. A pattern that matches no parameter of the map, or nothing left, is a ValueError.
    """
    mapping = model.gradiend.mapping
    excluded = set(matching_names([entry.name for entry in mapping], patterns))
    keep = torch.ones(mapping.size, dtype=torch.bool)
    for entry, place in mapping.slices():
        if entry.name in excluded:
            keep[place] = False
    if not keep.any():
        raise ValueError(f"exclude_params={list(patterns)} leaves nothing to encode: the map has no other parameters.")
    return model.prune_gradiend(mask=keep, inplace=False)
