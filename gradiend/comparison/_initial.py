"""How much of the similarity of two models comes from the initial weights that both drew with the same seed.

Trained weights are what is left of the initial weights w_0 and what the training has added: w_i = a_i·w_0/‖w_0‖ + r_i
with r_i orthogonal to w_0. So cos(w_i, w_j) = cos(w_i, w_0)·cos(w_j, w_0) + r_i·r_j / (‖w_i‖‖w_j‖), and the first term
has nothing to do with what the models have learned. The same holds for centred ranks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from gradiend.comparison._vectors import Floats, Vector, vector_of
from gradiend.model.param_mapped import ParamMappedGradiendModel
from gradiend.util._isolation import RANDOM_STATE, exclusive


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


def by_model(signed: Floats, initial: Sequence[InitialWeights], names: Sequence[str]) -> Mapping[str, float]:
    """Model → its similarity with its initial weights, of those that share them with another model."""
    count = len(signed) - len(initial)
    return {
        names[member]: float(signed[member, number])
        for number, weights in enumerate(initial, start=count)
        for member in weights.members
    }
