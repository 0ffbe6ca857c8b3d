"""The weights of several GRADIENDs in the space of the base model's parameters, without a vector of that space.

A weight belongs to an entry of a named parameter, so models that were pruned differently, or made of other parameters,
are comparable: an entry that a model does not have counts as 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gradiend.model._parameter_map import ParameterMap, bits
from gradiend.model._topk import flipped, ranking, topk_count
from gradiend.model.model_with_gradiend import ModelWithGradiend
from gradiend.model.param_mapped import ParamMappedGradiendModel
from gradiend.util._bootstrap import Floats

Places = NDArray[np.int64]

CHUNK = 1 << 20
"""How many entries of each model are multiplied at once."""


@dataclass(frozen=True)
class Block:
    """The weights of one model at one parameter."""

    places: Places | None
    """The flat positions within the parameter, each once; None for all."""
    values: NDArray[Any]
    """The weights, (positions, latents)."""


Vector = Mapping[str, Block]
"""The weights of one model: parameter → block; a parameter that is missing is zero."""


def network_of(name: str, model: Any) -> ParamMappedGradiendModel:
    """The GRADIEND of a model, or the GRADIEND itself; TypeError for neither, ValueError for one that is sharded."""
    gradiend = model.gradiend if isinstance(model, ModelWithGradiend) else model
    if not isinstance(gradiend, ParamMappedGradiendModel):
        raise TypeError(
            f"Weights of models with a GRADIEND are compared (ModelWithGradiend, ParamMappedGradiendModel, or a "
            f"SeedModelGroup of them); {name!r} is a {type(model).__name__}."
        )
    if gradiend.shards is not None:
        raise ValueError(
            f"The GRADIEND of {name!r} is sharded over processes: save it, and compare the checkpoints in one process."
        )
    return gradiend


def sizes_of_parameters(networks: Mapping[str, ParamMappedGradiendModel]) -> dict[str, int]:
    """Parameter → its number of entries, for all parameters in the map of any model, in the order of the models.

    ValueError: a parameter has two shapes, or two models have no parameter in common.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    owner: dict[str, str] = {}
    for name, network in networks.items():
        own = {entry.name: entry.shape for entry in network.mapping}
        if shapes and not own.keys() & shapes.keys():
            raise ValueError(
                f"{name!r} has no parameter in common with {next(iter(networks))!r} ({next(iter(own))} and "
                f"{next(iter(shapes))}): weights are comparable only between GRADIENDs of the same base model."
            )
        for parameter, shape in own.items():
            if shapes.setdefault(parameter, shape) != shape:
                raise ValueError(
                    f"{parameter} has shape {shape} for {name!r} and {shapes[parameter]} for {owner[parameter]!r}: "
                    "weights are comparable only between GRADIENDs of the same base model."
                )
            owner.setdefault(parameter, name)
    return {parameter: math.prod(shape) for parameter, shape in shapes.items()}


def vector_of(name: str, network: ParamMappedGradiendModel, part: str, topk: int | float | None) -> Vector:
    """The weights of a part; with `topk`, only those of the most important dimensions.

    ValueError: a weight is infinite or undefined, the part is unknown, or topk is out of range.
    """
    flat = network.get_update_vector(part).cpu()
    if not flat.isfinite().all():
        raise ValueError(f"The weights of {name!r} ({part}) have infinite or undefined entries.")
    flat = flat if flat.dtype == torch.float64 else flat.float()
    # W_e has a row for each latent, W_d a column.
    by_entry = flat.view(network.latent_dim, -1).T if part == "encoder-weight" else flat.view(network.input_dim, -1)
    values = by_entry.numpy()
    if topk is None:
        return entries_of(network, values)
    chosen = most_important(network, part, topk)[0].sort().values
    return {entry_name: Block(places, values[local]) for entry_name, places, local in located(network.mapping, chosen)}


def entries_of(network: ParamMappedGradiendModel, values: NDArray[Any] | None = None) -> Vector:
    """The entries that a model has, with weights (entries, latents); by default zeros, which take no memory."""
    values = np.broadcast_to(np.float32(0), (network.mapping.size, 1)) if values is None else values
    return {
        entry.name: Block(None if entry.selection is None else entry.indices().numpy(), values[place])
        for entry, place in network.mapping.slices()
    }


def most_important(network: ParamMappedGradiendModel, part: str, topk: int | float) -> tuple[Tensor, Tensor]:
    """The input dimensions with the largest importance, and the importance of each, both by falling importance."""
    importance = network.get_weight_importance(part)
    chosen = ranking(importance, topk_count(topk, len(importance)))
    return chosen, importance[chosen]


def located(mapping: ParameterMap, chosen: Tensor) -> list[tuple[str, Places, Places]]:
    """(parameter, flat positions within it, input dimensions) for each parameter of some rising input dimensions."""
    result = []
    starts = [place.start for _, place in mapping.slices()]
    bounds = torch.searchsorted(chosen, torch.tensor([*starts, mapping.size]))
    for number, (entry, place) in enumerate(mapping.slices()):
        local = chosen[bounds[number] : bounds[number + 1]]
        within = local - place.start
        if entry.selection is not None:
            within = entry.indices()[within]
        result.append((entry.name, within.numpy(), local.numpy()))
    return result


def gram(vectors: Sequence[Vector], parameters: Mapping[str, int]) -> Floats:
    """The scalar products of each two vectors over some parameters, (vectors, vectors)."""
    return _summed(_products, vectors, parameters, np.zeros((len(vectors), len(vectors))))


def common_entries(vectors: Sequence[Vector], parameters: Mapping[str, int]) -> NDArray[np.int64]:
    """How many entries each two vectors both have, over some parameters, (vectors, vectors)."""
    return _summed(_common, vectors, parameters, np.zeros((len(vectors), len(vectors)), dtype=np.int64))


def _summed(
    pairwise: Callable[[Sequence[Block], int], NDArray[Any]], vectors: Sequence[Vector], parameters: Mapping[str, int],
    total: NDArray[Any],
) -> NDArray[Any]:  # fmt: skip
    """Add to `total` what a function makes of each two blocks of a parameter, for all parameters."""
    for parameter, size in parameters.items():
        having = [number for number, vector in enumerate(vectors) if parameter in vector]
        if having:
            total[np.ix_(having, having)] += pairwise([vectors[number][parameter] for number in having], size)
    return total


def _common(blocks: Sequence[Block], size: int) -> NDArray[np.int64]:
    counts = np.zeros((len(blocks), len(blocks)), dtype=np.int64)
    if _have_the_same_places(blocks):
        return counts + len(blocks[0].values)
    for row, block in enumerate(blocks):
        there = np.zeros(size, dtype=bool)
        there[slice(None) if block.places is None else block.places] = True
        for column, other in enumerate(blocks):
            counts[row, column] = np.count_nonzero(there if other.places is None else there[other.places])
    return counts


def _have_the_same_places(blocks: Sequence[Block]) -> bool:
    first = blocks[0].places
    return all(
        block.places is first
        or (first is not None and block.places is not None and np.array_equal(block.places, first))
        for block in blocks
    )


def _products(blocks: Sequence[Block], size: int) -> Floats:
    """The scalar products of each two blocks of one parameter, added up in float64."""
    result = np.zeros((len(blocks), len(blocks)))
    if _have_the_same_places(blocks):
        for start in range(0, len(blocks[0].values), CHUNK):
            rows = np.stack([block.values[start : start + CHUNK].ravel() for block in blocks]).astype(np.float64)
            result += rows @ rows.T
        return result
    for row, block in enumerate(blocks):
        dense = np.zeros((size, block.values.shape[1]), dtype=block.values.dtype)
        dense[slice(None) if block.places is None else block.places] = block.values
        for column, other in enumerate(blocks[row:], start=row):
            facing = dense if other.places is None else dense[other.places]
            for start in range(0, len(other.values), CHUNK):
                piece = slice(start, start + CHUNK)
                product = facing[piece].ravel().astype(np.float64) @ other.values[piece].ravel().astype(np.float64)
                result[row, column] += product
        result[row:, row] = result[row, row:]
    return result


def centred_ranks(vector: Vector, parameters: Mapping[str, int], latents: int) -> tuple[Vector, float]:
    """The centred ranks of a vector over some parameters, each minus the centred rank z of a zero; and z itself.

    Ranks are average ranks among all N entries of the parameters, where an entry that the model does not have is a
    zero. A centred rank is a rank − (N + 1)/2. All zeros tie, so that z = (negative − positive weights)/2. The result
    is 0 at every zero, so that only the entries of the model are sorted.
    """
    names = [name for name in parameters if name in vector]
    values = np.concatenate([vector[name].values.ravel() for name in names]) if names else np.zeros(0, np.float32)
    total = latents * sum(parameters.values())
    negative, positive = np.count_nonzero(values < 0), np.count_nonzero(values > 0)
    of_zero = (negative - positive) / 2
    order, starts = _sorted_runs(values)
    lengths = np.diff(starts, append=len(values))
    ranks = starts + (lengths + 1) / 2
    # The zeros of entries without a weight come after the negative and before the positive weights.
    first_positive = len(values) - positive
    ranks[starts >= first_positive] += total - len(values)
    ranks -= (total + 1) / 2 + of_zero
    ranks[(starts >= negative) & (starts < first_positive)] = 0.0
    # A multiple of 1/2 below 2²³ is exact in float32; a larger one is rounded as the weights themselves are.
    result = np.empty(len(values), dtype=np.float32)
    result[order] = np.repeat(ranks.astype(np.float32), lengths)
    blocks, start = {}, 0
    for name in names:
        block = vector[name]
        stop = start + block.values.size
        blocks[name] = Block(block.places, result[start:stop].reshape(block.values.shape))
        start = stop
    return blocks, of_zero


def _sorted_runs(values: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The order that sorts values, and where each run of equal values starts in it."""
    # PyTorch has a radix sort for integers, several times faster than a sort of floats. The addition of 0 turns a
    # negative zero into zero.
    keys, order = flipped(bits(torch.from_numpy(values) + 0)).sort()
    new = torch.ones(len(keys), dtype=torch.bool)
    new[1:] = keys[1:] != keys[:-1]
    return order.numpy(), new.nonzero().squeeze(1).numpy()
