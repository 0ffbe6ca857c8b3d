"""Groups of a base model's parameters: each for itself, by layer, by component, or as the caller says."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from gradiend.util._keywords import nearest, one_of

GroupBy = str | Mapping[str, str | Sequence[str]] | Callable[[str], str]

OTHER = "other"
BY_NAME = ("param", "layer", "component")

_LAYER = re.compile(r"(?:^|\.)(?:layers?|h|blocks?|transformer|encoder|decoder)\.(\d+)(?:\.|$)")
_COMPONENTS = (
    # The first that matches counts: a normalization within an attention is a normalization.
    ("normalization", r"layer_?norm|layernorm|\bln\w*\b|norm"),
    ("embeddings", r"embed|\bw[tp]e\b"),
    ("attention_query", r"\bquery\b|\bq_?(?:proj|lin)\b|\bq\b"),
    ("attention_key", r"\bkey\b|\bk_?(?:proj|lin)\b|\bk\b"),
    ("attention_value", r"\bvalue\b|\bv_?(?:proj|lin)\b|\bv\b"),
    (
        "attention_output",
        r"attention\.output|attention\.dense|attn\.c_proj|\bo_?proj\b|\bout_?(?:proj|lin)\b|attn\.wo\b|attention\.o\b",
    ),
    (
        "mlp_up",
        r"intermediate|c_fc\b|\b(?:gate_)?up_proj\b|\bgate_proj\b|\bfc1\b|\blin1\b|h_to_4h|\bwi(?:_\d)?\b|\bw[13]\b",
    ),
    ("mlp_down", r"output\.dense|mlp\.c_proj|\bdown_proj\b|\bfc2\b|\blin2\b|4h_to_h|\bwo\b|\bw2\b"),
    ("head", r"\bcls\b|head|pooler|predictions|classifier|score|\bvocab_"),
)
_COMPONENT = [(name, re.compile(pattern, re.IGNORECASE)) for name, pattern in _COMPONENTS]


def layer_of(parameter: str) -> str:
    """`layer_N` after the first number that follows a name such as layer, h or block; otherwise `other`."""
    found = _LAYER.search(parameter)
    return f"layer_{found[1]}" if found else OTHER


def component_of(parameter: str) -> str:
    """What a parameter is a part of, by its name.

    One of embeddings, attention_query, attention_key, attention_value, attention_output, mlp_up, mlp_down,
    normalization, head, other. Weights that compute query, key and value at once (GPT-2's c_attn) are other.
    """
    return next((name for name, pattern in _COMPONENT if pattern.search(parameter)), OTHER)


def grouped(sizes: Mapping[str, int], group_by: GroupBy) -> dict[str, dict[str, int]]:
    """Group → {parameter: its size}, in the order of the parameters.

    `group_by` is "param", "layer", "component"; a dict of parameter → group or of group → parameters, the rest being
    `other`; or a function of a parameter's name.

    Raises:
        ValueError: An unknown name, a parameter that no model has, or a parameter in two groups.
        TypeError: A group is no string, or group_by is of another type.
    """
    function: Callable[[str], str]
    if isinstance(group_by, str):
        one_of("group_by", group_by, BY_NAME)
        function = {"layer": layer_of, "component": component_of}.get(group_by, str)
    elif isinstance(group_by, Mapping):
        named = _by_parameter(group_by, sizes)
        function = lambda parameter: named.get(parameter, OTHER)  # noqa: E731 - one of three
    elif callable(group_by):
        function = group_by
    else:
        raise TypeError(f"group_by must be one of {', '.join(BY_NAME)}, a dict or a function; got {group_by!r:.60}.")
    groups: dict[str, dict[str, int]] = {}
    for parameter, size in sizes.items():
        group = function(parameter)
        if not isinstance(group, str):
            raise TypeError(f"group_by must give the name of a group; got {group!r:.60} for {parameter!r}.")
        groups.setdefault(group, {})[parameter] = size
    return groups


def _by_parameter(group_by: Mapping[str, str | Sequence[str]], sizes: Mapping[str, int]) -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in group_by.items():
        pairs = [(key, value)] if isinstance(value, str) else [(parameter, key) for parameter in value]
        for parameter, group in pairs:
            if parameter not in sizes:
                hint = nearest(str(parameter), list(sizes))
                raise ValueError(f"group_by names {parameter!r}, which no model maps.{hint}")
            if found.setdefault(parameter, group) != group:
                raise ValueError(f"group_by has {parameter!r} in two groups, {found[parameter]!r} and {group!r}.")
    return found
