"""Six measures of similarity between the weights of each two models, and their levels by chance and initial weights.

Trained weights have a part along the initial weights w_0 and a part r_i orthogonal to w_0 that the training has added:
w_i = a_i·w_0/‖w_0‖ + r_i. So cos(w_i, w_j) = cos(w_i, w_0)·cos(w_j, w_0) + r_i·r_j / (‖w_i‖‖w_j‖), and the first term
has nothing to do with what the models have learned. The same holds for centred ranks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from gradiend.comparison._vectors import (
    Places,
    Vector,
    centred_ranks,
    common_entries,
    gram,
    located,
    most_important,
    vector_of,
)
from gradiend.model.param_mapped import ParamMappedGradiendModel
from gradiend.util._bootstrap import Floats
from gradiend.util._isolation import RANDOM_STATE, exclusive

VALUES = ("intersection", "intersection_frac")


@dataclass(frozen=True)
class Scores:
    """The similarities of each two models, (models, models) each."""

    matrix: Floats
    null: Floats
    """The level that chance alone gives."""
    common: NDArray[np.int64]
    """How many entries of the base model both models have; for overlaps, how many of their top-k."""
    initial: Floats | None = None
    """The level that shared initial weights give alone; NaN where they are not shared or not known."""


def cosines(vectors: Sequence[Vector], parameters: Mapping[str, int], latents: int) -> Scores:
    """v_i·v_j / (‖v_i‖‖v_j‖), and 0 where a norm is 0."""
    common = common_entries(vectors, parameters)
    return Scores(_normalised(gram(vectors, parameters)), random_cosines(common * latents), common)


def rank_correlations(vectors: Sequence[Vector], parameters: Mapping[str, int], latents: int) -> Scores:
    """The Pearson correlations of the average ranks of the zero-filled vectors, and 0 where the variance is 0.

    With r = d + z, where d is 0 wherever a model has no weight: Σ r_i·r_j = Σ d_i·d_j − N·z_i·z_j, see `centred_ranks`.
    """
    ranked = [centred_ranks(vector, parameters, latents) for vector in vectors]
    zeros = np.array([zero for _, zero in ranked])
    total = latents * sum(parameters.values())
    covariance = gram([ranks for ranks, _ in ranked], parameters) - total * np.outer(zeros, zeros)
    common = common_entries(vectors, parameters)
    return Scores(_normalised(covariance), random_cosines(common * latents), common)


VectorMeasure = Callable[[Sequence[Vector], Mapping[str, int], int], Scores]
OF_VECTORS: dict[str, VectorMeasure] = {
    "cosine": cosines, "cosine_signed": cosines, "spearman": rank_correlations, "spearman_signed": rank_correlations,
}  # fmt: skip
"""Measure → its signed scores; the measures without "_signed" take their absolute values."""
OVERLAPS = ("topk_overlap", "mass_overlap")
MEASURES = (*OF_VECTORS, *OVERLAPS)


def _normalised(products: Floats) -> Floats:
    norms = np.sqrt(np.maximum(np.diag(products), 0.0))
    scale = np.outer(norms, norms)
    result = np.divide(products, scale, out=np.zeros_like(products), where=scale > 0)
    np.fill_diagonal(result, np.where(norms > 0, 1.0, 0.0))
    bounded: Floats = np.clip(result, -1.0, 1.0)
    return bounded


def random_cosines(common: NDArray[np.int64]) -> Floats:
    """The expected |cosine| of two random directions on the same entries as the models have.

    For directions that are uniform on the spheres of n_i and n_j entries, m of them common, the cosine is the product
    of the lengths of both projections on the common entries and of the cosine there, all independent:
    E|cos| = Γ(m/2) / (√π·Γ((m+1)/2)) · ∏ Γ((m+1)/2)·Γ(n/2) / (Γ(m/2)·Γ((n+1)/2)), from the means of beta variables.

    Args:
        common: m for each two models; n on the diagonal.
    """
    ratio = np.vectorize(_gamma_ratio, otypes=[np.float64])
    there = ratio(common)
    own = np.diag(there)
    result = np.divide(there, np.sqrt(np.pi) * np.outer(own, own), where=common > 0, out=np.zeros(common.shape))
    expected: Floats = result
    return expected


def _gamma_ratio(n: int) -> float:
    """Γ((n+1)/2) / Γ(n/2), which is √(n/2) for many entries."""
    if n > 10_000:
        # The difference of two logarithms of huge numbers would have few digits left (DLMF 5.11.13).
        return math.sqrt(n / 2) * (1 - 1 / (4 * n) + 1 / (32 * n * n))
    return math.exp(math.lgamma((n + 1) / 2) - math.lgamma(n / 2)) if n else 0.0


@dataclass(frozen=True)
class TopSet:
    """The top-k entries of a model."""

    entries: Places
    """Positions in the concatenation of all parameters, rising."""
    importance: Floats
    available: int
    """The number of entries to choose from."""


def top_set(network: ParamMappedGradiendModel, part: str, topk: int | float, sizes: Mapping[str, int]) -> TopSet:
    """The entries with the largest importance, in the space of `sizes`."""
    starts = dict(zip(sizes, np.cumsum([0, *sizes.values()]).tolist(), strict=False))
    chosen, importance = most_important(network, part, topk)
    chosen, order = chosen.sort()
    places = [starts[name] + within for name, within, _ in located(network.mapping, chosen)]
    entries = np.concatenate(places)
    rising = np.argsort(entries, kind="stable")
    return TopSet(entries[rising], importance[order].double().numpy()[rising], network.input_dim)


def overlaps(measure: str, sets: Sequence[TopSet], shared: NDArray[np.int64], value: str) -> Scores:
    """The overlaps of each two sets by a measure (and, for topk_overlap, a value) of the public function.

    `shared` says how many entries each two models both have.
    """
    count = len(sets)
    matrix, common = np.zeros((count, count)), np.zeros((count, count), dtype=np.int64)
    norms = [float(np.linalg.norm(one.importance)) for one in sets]
    for i, one in enumerate(sets):
        for j, other in enumerate(sets[i:], start=i):
            _, here, there = np.intersect1d(one.entries, other.entries, assume_unique=True, return_indices=True)
            common[i, j] = common[j, i] = len(here)
            held = [np.linalg.norm(one.importance[here]), np.linalg.norm(other.importance[there])]
            shares = [part / norm if norm else 0.0 for part, norm in zip(held, (norms[i], norms[j]), strict=True)]
            matrix[i, j] = matrix[j, i] = sum(shares) / 2
    sizes = np.array([len(one.entries) for one in sets])
    chosen = sizes / np.array([one.available for one in sets])
    expected = shared.astype(np.float64) * np.outer(chosen, chosen)
    least = np.minimum.outer(sizes, sizes)
    if measure == "mass_overlap":
        share = np.sqrt(expected / sizes[:, None])
        return Scores(matrix, (share + share.T) / 2, common)
    if value == "intersection":
        return Scores(common.astype(np.float64), expected, common)
    return Scores(common / least, expected / least, common)


# Initial weights that both models drew with the same seed


@dataclass(frozen=True)
class InitialWeights:
    """The initial weights of several models."""

    members: list[int]
    """The positions of the models that began with them."""
    vector: Vector


def shared_initial_weights(networks: Sequence[ParamMappedGradiendModel], part: str) -> list[InitialWeights]:
    """The initial weights that two or more models drew with the same seed, as a training on a CPU draws them.

    A model counts if its checkpoint says how it was trained: with a known seed, from random weights, and not pruned
    after the training.
    """
    found: dict[tuple[object, ...], list[int]] = {}
    for number, network in enumerate(networks):
        arguments = (network.kwargs.get("training") or {}).get("training_args") or {}
        seed = arguments.get("seed")
        if seed is None or arguments.get("init") != "random" or arguments.get("post_prune_config") is not None:
            continue
        key = (seed, network.param_map_hash, network.latent_dim, network.torch_dtype, network.bias_decoder)
        found.setdefault(key, []).append(number)
    return [
        InitialWeights(members, vector_of("initial weights", drawn(networks[members[0]], seed), part, None))
        for (seed, *_), members in found.items()
        if len(members) > 1 and isinstance(seed, int)
    ]


def drawn(network: ParamMappedGradiendModel, seed: int) -> ParamMappedGradiendModel:
    """A GRADIEND of the same shape and map with the weights that a training with this seed begins with."""
    empty = network.without_weights().cpu()
    with exclusive(RANDOM_STATE), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return empty.build()


def initial_levels(signed: Floats, initial: Sequence[InitialWeights]) -> Floats:
    """cos(w_i, w_0)·cos(w_j, w_0) for each two models that began with the same w_0, NaN for others and on the diagonal.

    `signed` has the similarities of all models and, after them, of their initial weights.
    """
    count = len(signed) - len(initial)
    levels = np.full((count, count), np.nan)
    for number, weights in enumerate(initial, start=count):
        left = signed[weights.members, number]
        levels[np.ix_(weights.members, weights.members)] = np.outer(left, left)
    np.fill_diagonal(levels, np.nan)
    return levels
