"""How similar the weights of several GRADIENDs are, over all entries or over groups of parameters."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from gradiend.comparison._measures import (
    MEASURES,
    OF_VECTORS,
    OVERLAPS,
    VALUES,
    InitialWeights,
    Scores,
    initial_levels,
    overlaps,
    shared_initial_weights,
    top_set,
)
from gradiend.comparison._result import ComparisonResult
from gradiend.comparison._seeds import CellsOfSeeds, Compared
from gradiend.comparison._vectors import Vector, common_entries, entries_of, network_of, sizes_of_parameters, vector_of
from gradiend.model._architecture import parse_weight_part
from gradiend.model._topk import topk_count
from gradiend.model.param_mapped import ParamMappedGradiendModel
from gradiend.util._keywords import known_keywords, nearest, one_of

Models = Mapping[str, Any] | Sequence[Any]
GroupBy = str | Mapping[str, str | Sequence[str]] | Callable[[str], str]


@known_keywords("compute_similarity_matrix")
def compute_similarity_matrix(
    models: Models, *, measure: str = "cosine", part: str | None = None, topk: int | float | None = None,
    value: str = "intersection_frac", seed_aggregate: str = "mean", dispersion: str = "none",
    seed_pairing_mode: str = "matched",
) -> ComparisonResult:  # fmt: skip
    """Compute how similar the weights of each two models are.

    All weights are compared in the space of the base model's parameters, so that models that were pruned differently
    are comparable: an entry that a model does not have is 0 there.

    Args:
        models: {name: model or SeedModelGroup}, a list of models, or one SeedModelGroup, whose seeds are then compared;
            two or more. A model is a ModelWithGradiend or its GRADIEND.
        measure: cosine_signed, spearman_signed (ranks over all entries of the base model's mapped parameters, the
            zeros too), cosine or spearman (their absolute values), topk_overlap (entries that both top-k sets have) or
            mass_overlap (the share of the importance of a top-k set, in the L2 norm, that lies on entries of the other
            set; the mean of both directions).
        part: The weights: encoder-weight, decoder-weight, decoder-bias or decoder-sum. Default: encoder-weight, for
            topk_overlap decoder-weight.
        topk: How many of the most important entries of each model, or which share of them. Overlaps need it; for the
            other measures it leaves out (sets to 0) all other weights.
        value: Of topk_overlap: intersection (a count) or intersection_frac (its share of the smaller set).
        seed_aggregate: How the scores of pairs of seeds become a cell: mean, median, min or max.
        dispersion: What `cell_stats` says of their spread: none, std (population), range (half of max − min) or minmax.
        seed_pairing_mode: matched (equal seeds, or else the seeds in their order) or all_pairs.

    Returns:
        The documented dict. `interval` has [smallest, largest] score over the pairs of seeds, None for a cell with one
        score (`interval_note` says why). `null_level` has what chance gives: the expected absolute cosine of random
        directions on the entries that the models have (for ranks, an approximation for many entries), the expected
        overlap of random sets, and for mass_overlap a bound of it. `same_seed_null` has what the initial weights give
        alone, where two models drew the same ones: the product of the cosines of each model with them (see
        docs/compare.md); None where they differ or are not known. A name with several seeds is compared with itself by
        its pairs of different seeds, so that the diagonal shows stability; that of single models is a model with
        itself, which shows none.

    Raises:
        TypeError: models is no dict, list or group, or a model has no GRADIEND with a map.
        ValueError: There are fewer than two models; an argument is unknown or out of range, or topk is missing; the
            models are of other base models or have other numbers of latents; or seeds cannot be matched.
    """
    part, cells = _checked(measure, part, topk, value), CellsOfSeeds(seed_aggregate, dispersion, seed_pairing_mode)
    compared, networks = _opened(models)
    sizes = sizes_of_parameters(networks)
    if measure in OVERLAPS:
        assert topk is not None
        sets = [top_set(network, part, topk, sizes) for network in networks.values()]
        scores = overlaps(measure, sets, common_entries([*map(entries_of, networks.values())], sizes), value)
        more: dict[str, Any] = {"value": value} if measure == "topk_overlap" else {}
        more["per_model"] = {name: one.entries.tolist() for name, one in zip(networks, sets, strict=True)}
    else:
        scores, more = _over(measure, sizes, *_weights(networks, part, topk), list(networks))
    return _result(measure, part, topk, compared, networks, cells, scores, more)


@known_keywords("compute_grouped_similarity_matrices")
def compute_grouped_similarity_matrices(
    models: Models, *, measure: str = "cosine", part: str | None = None, topk: int | float | None = None,
    group_by: GroupBy = "layer",
) -> dict[str, ComparisonResult]:  # fmt: skip
    """Compute how similar the weights of each two models are, for each group of parameters.

    Args:
        models: See `compute_similarity_matrix`; names with several seeds get the mean over matched seeds.
        measure: cosine, cosine_signed, spearman or spearman_signed; ranks are those within the group.
        part: The weights, see `compute_similarity_matrix`.
        topk: Sets all but the most important weights of each model (over all groups) to 0.
        group_by: "param"; "layer" (`layer_0`, …, and `other`); "component" (embeddings, attention_query, attention_key,
            attention_value, attention_output, mlp_up, mlp_down, normalization, head, other); a dict of parameter →
            group or of group → parameters, the rest being `other`; or a function of a parameter's name.

    Returns:
        {group: the dict of `compute_similarity_matrix`}, in the order of the parameters; `block_dim` is the number of
        entries of the group in the base model, times the number of latents.

    Raises:
        TypeError, ValueError: See `compute_similarity_matrix`; or the measure has no groups, or group_by names a
            parameter that no model has.
    """
    if measure in OVERLAPS:
        raise ValueError(f"measure={measure!r} has no groups; use {', '.join(OF_VECTORS)}.")
    part, cells = _checked(measure, part, topk, VALUES[0]), CellsOfSeeds()
    compared, networks = _opened(models)
    groups = grouped(sizes_of_parameters(networks), group_by)
    weights = _weights(networks, part, topk)
    results = {}
    for group, sizes in groups.items():
        scores, more = _over(measure, sizes, *weights, list(networks))
        results[group] = _result(measure, part, topk, compared, networks, cells, scores, {"group": group, **more})
    return results


def _checked(measure: str, part: str | None, topk: int | float | None, value: str) -> str:
    """The part of the weights; every argument that needs no model is checked."""
    one_of("measure", measure, MEASURES)
    one_of("value", value, VALUES)
    if topk is not None:
        topk_count(topk, 1)
        if topk == 0:
            raise ValueError("topk must be a positive number of weights, or a share up to 1.0; got 0.")
    elif measure in OVERLAPS:
        raise ValueError(f"measure={measure!r} needs topk=…, a number of weights (1000) or a share (0.01).")
    default = "decoder-weight" if measure == "topk_overlap" else "encoder-weight"
    return parse_weight_part(part or default)


def _opened(models: Models) -> tuple[Compared, dict[str, ParamMappedGradiendModel]]:
    compared = Compared.parse(models)
    return compared, {name: network_of(name, model) for name, model in compared.models.items()}


def _weights(
    networks: Mapping[str, ParamMappedGradiendModel], part: str, topk: int | float | None
) -> tuple[list[Vector], list[InitialWeights], int]:
    """The weights of the models, the initial weights that some of them share, and how many weights an entry has."""
    per_latent = part in ("encoder-weight", "decoder-weight")
    found = {name: network.latent_dim if per_latent else 1 for name, network in networks.items()}
    if len(set(found.values())) > 1:
        raise ValueError(f"Weights are compared latent by latent: models need equally many latents; got {found}.")
    vectors = [vector_of(name, one, part, topk) for name, one in networks.items()]
    return vectors, shared_initial_weights(list(networks.values()), part), next(iter(found.values()))


def _over(
    measure: str, sizes: Mapping[str, int], vectors: Sequence[Vector], initial: Sequence[InitialWeights], latents: int,
    names: Sequence[str],
) -> tuple[Scores, dict[str, Any]]:  # fmt: skip
    """The scores of the models over some parameters, and what the result says beside them."""
    signed = OF_VECTORS[measure]([*vectors, *(one.vector for one in initial)], sizes, latents)
    levels = initial_levels(signed.matrix, initial)
    matrix = signed.matrix if measure.endswith("_signed") else np.abs(signed.matrix)
    levels = levels if measure.endswith("_signed") else np.abs(levels)
    of_models = slice(0, len(vectors))
    more: dict[str, Any] = {"block_dim": latents * sum(sizes.values()), "full_zero_filled": True}
    if initial:
        # Each model's similarity with its initial weights, of those that share them with another model.
        more["initial_weights_left"] = {
            names[member]: float(signed.matrix[member, number])
            for number, weights in enumerate(initial, start=len(vectors))
            for member in weights.members
        }
    own = (of_models, of_models)
    return Scores(matrix[own], signed.null[own], signed.common[own], levels), more


def _result(
    measure: str, part: str, topk: int | float | None, compared: Compared,
    networks: Mapping[str, ParamMappedGradiendModel], cells: CellsOfSeeds, scores: Scores, more: Mapping[str, Any],
) -> ComparisonResult:  # fmt: skip
    resolved: dict[str, Any] = {}
    if topk is not None:
        each = {name: topk_count(topk, network.input_dim) for name, network in networks.items()}
        same = len(set(each.values())) == 1
        resolved = {"topk": topk, "resolved_topk": next(iter(each.values())) if same else each}
    # Entries that both models have, of the first seeds where there are several.
    first = [own[0] for own in compared.members]
    found = cells.of(compared, scores.matrix, scores.null, scores.initial)
    counts = scores.common[np.ix_(first, first)].tolist()
    return ComparisonResult(
        measure=measure, model_ids=compared.names, part=part, **resolved, **found, n_matrix=counts, **more
    )


# Groups of parameters

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
    """Group → {parameter: its size}, in the order of the parameters; see `compute_grouped_similarity_matrices`.

    ValueError: an unknown name, a parameter that no model has, or a parameter in two groups. TypeError: another type.
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
