"""Encodings of a pool by all GRADIENDs, and by null GRADIENDs, which show encodings without the feature.

A null GRADIEND reads the same entries in another direction. Its bias puts 0 in the middle between the means of its two
classes. There are two kinds:
- `shuffle`: the difference of the class means of training gradients (the closed form of docs/method.md) after half of
  the labels of each class were exchanged, times the factor by which the true difference has the encoder's norm;
- `random`: a random direction of the encoder's norm.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gradiend.comparison._features import Feature
from gradiend.comparison._pool import SEED, Pool, Settings, rows_of
from gradiend.comparison._projections import Directions, GradientReader, RandomDirections, project
from gradiend.gradients import TokenizedWord
from gradiend.model._context import Side
from gradiend.util._bootstrap import Floats
from gradiend.util._processes import processes

NULL_TEXTS = 64
"""How many training rows of each class the shuffled class means are made of."""
NULL_BYTES = 1 << 30
"""The most bytes of shuffled directions that are held at once; more of them need further passes."""


@dataclass(frozen=True, eq=False)
class Encoded:
    """The encodings of a pool; the M models of all features follow each other."""

    features: Sequence[Feature]
    pool: Pool
    values: Floats
    """(M, rows): as the models encode, before any orientation."""
    nulls: Floats | None
    """(null GRADIENDs, M, rows), or None."""

    @property
    def owner(self) -> NDArray[np.int64]:
        """(M,): the number of each model's feature."""
        return np.repeat(np.arange(len(self.features)), [len(feature.models) for feature in self.features])


def encode_pool(features: Sequence[Feature], pool: Pool, settings: Settings) -> Encoded:
    """Encode a pool by all models, which share a base model, and by the null GRADIENDs of `settings`.

    Each distinct word goes through the base model once, unless there are few models.

    Raises:
        ValueError: Labels are to be shuffled, and there are too few training rows.
        UndefinedGradientError: A gradient is infinite or undefined.
    """
    null, n_null = settings.null, settings.n_null
    models = [model for feature in features for model in feature.models]
    # Not a set: the processes of a run must go through the words in the same order.
    needed = dict.fromkeys(side for feature in features for side in _sides(feature.side))
    numbers: dict[TokenizedWord, int] = {}
    places = {side: np.array([numbers.setdefault(word, len(numbers)) for word in pool.words[side]]) for side in needed}
    words, encoders = list(numbers), [model.gradiend.encoder_linear.weight.detach()[:1] for model in models]
    found: list[list[Tensor]] = [[] for _ in models]
    for given in _directions(features, models, encoders, null, n_null):
        for parts, part in zip(found, project(models[0], words, given), strict=True):
            parts.append(part)
    projections = [torch.cat(parts).numpy() for parts in found]
    sides = [feature.side for feature in features for _ in feature.models]
    rows = [_of_rows(values, side, places) for values, side in zip(projections, sides, strict=True)]
    biases = [float(model.gradiend.encoder_linear.bias.detach()[0]) for model in models]
    values = [_activated(m, read[0] + bias) for m, read, bias in zip(models, rows, biases, strict=True)]
    nulls = None
    if null is not None:
        owner = [number for number, feature in enumerate(features) for _ in feature.models]
        first, second = pool.sides(features)
        centred = (_centred(read[1:], first[:, own], second[:, own]) for read, own in zip(rows, owner, strict=True))
        nulls = np.stack([_activated(m, own) for m, own in zip(models, centred, strict=True)], axis=1)
    return Encoded(features, pool, np.stack(values), nulls)


def _sides(side: Side) -> tuple[Side, ...]:
    return (Side.FACTUAL, Side.ALTERNATIVE) if side is Side.DIFF else (side,)


def _of_rows(projections: Floats, side: Side, places: dict[Side, NDArray[np.int64]]) -> Floats:
    """(directions, words) → (directions, rows)."""
    first, *second = (projections[:, places[one]] for one in _sides(side))
    return first - second[0] if second else first


def _activated(model: Any, pre_activations: Floats) -> Floats:
    activation = model.gradiend.encoder[1]
    with torch.no_grad():
        return activation(torch.from_numpy(np.ascontiguousarray(pre_activations))).numpy()


def _centred(pre_activations: Floats, first: NDArray[np.bool_], second: NDArray[np.bool_]) -> Floats:
    """Pre-activations (n, rows) minus the middle between the means of two groups of rows."""
    means = [pre_activations[:, rows].mean(axis=1, keepdims=True) for rows in (first, second) if rows.any()]
    return pre_activations - sum(means) / len(means) if means else pre_activations


def _directions(
    features: Sequence[Feature], models: Sequence[Any], encoders: Sequence[Tensor], null: str | None,
    n_null: int,
) -> Iterator[list[Directions]]:  # fmt: skip
    """The directions of every model, in as many parts as memory needs: the encoder itself first, then the null ones."""
    maps = [model.gradiend.mapping for model in models]
    norms = [float(encoder.double().norm()) for encoder in encoders]
    # The seeds of a feature are no independent witnesses, so they get the same null directions.
    owners = [number for number, feature in enumerate(features) for _ in feature.models]
    if null != "shuffle":
        randoms = [
            None if null is None else RandomDirections(n_null, norm, SEED + own)
            for norm, own in zip(norms, owners, strict=True)
        ]
        yield [Directions(*one) for one in zip(maps, [[encoder] for encoder in encoders], randoms, strict=True)]
        return
    labels = [_shuffled(feature, n_null, SEED + number) for number, feature in enumerate(features)]
    each = max(1, NULL_BYTES // sum(encoder.nbytes for encoder in encoders))
    scales: list[float] = []
    for start in range(0, n_null + 1, each):
        some = [labels[own][1][start : start + each] for own in owners]
        shuffled = _closed_forms(models, [labels[own][0] for own in owners], some)
        before = [encoder[:0] for encoder in encoders]
        if start == 0:
            # The scale by which the closed form with the true labels, which is the first one, has the encoder's norm.
            lengths = [max(float(directions[0].double().norm()), 1e-30) for directions in shuffled]
            scales = [norm / length for norm, length in zip(norms, lengths, strict=True)]
            before, shuffled = list(encoders), [directions[1:] for directions in shuffled]
        for directions, scale in zip(shuffled, scales, strict=True):
            directions.mul_(scale)
        yield [Directions(m, [own, other]) for m, own, other in zip(maps, before, shuffled, strict=True)]


def _shuffled(feature: Feature, n_null: int, seed: int) -> tuple[list[TokenizedWord], Tensor]:
    """Words of training rows, and their coefficients (1 + n_null, words) in differences of class means.

    The first difference is that of the true classes; for the others, half of each class has exchanged labels.
    ValueError: the training split has less than two rows of a class.
    """
    data = rows_of(feature, "train")
    generator = np.random.default_rng(seed)
    own = data.rows["source_id"].to_numpy()
    groups = [np.flatnonzero(own == name) for name in feature.classes]
    if min(map(len, groups)) < 2:
        raise ValueError(f"The training split of {feature.id!r} has less than two rows of a class: give another null.")
    kept = [generator.permutation(group)[: min(len(group), NULL_TEXTS) // 2 * 2] for group in groups]
    # Half of the texts of each class get each label, so that a shuffled difference has nothing of the true one.
    halves = [np.argsort(generator.random((n_null, len(some))), axis=1) < len(some) // 2 for some in kept]
    shuffled = np.where(np.concatenate(halves, axis=1), 2.0, -2.0) / sum(map(len, kept))
    true = np.concatenate([np.full(len(some), sign / len(some)) for some, sign in zip(kept, (1, -1), strict=True)])
    weights, rows = np.concatenate([true[None], shuffled]), np.concatenate(kept)
    by_side = {Side.FACTUAL: data.factual, Side.ALTERNATIVE: data.alternative}
    words, columns = [], []
    for sign, side in zip((1, -1), _sides(feature.side), strict=False):
        words += [by_side[side][row] for row in rows]
        columns.append(sign * weights)
    return words, torch.from_numpy(np.concatenate(columns, axis=1))


def _closed_forms(
    models: Sequence[Any], words: Sequence[list[TokenizedWord]], coefficients: Sequence[Tensor]
) -> list[Tensor]:
    """For each model, sums of gradients with the given coefficients, (sums, input_dim)."""
    reader = GradientReader(models[0], [model.gradiend.mapping for model in models])
    dtype, device = reader.engine.dtype, reader.engine.scorer.device
    numbers: dict[TokenizedWord, int] = {}
    places = [torch.tensor([numbers.setdefault(word, len(numbers)) for word in some]) for some in words]
    totals = []
    for place, own in zip(places, coefficients, strict=True):
        totals.append(torch.zeros(len(own), len(numbers), dtype=torch.float64).index_add_(1, place, own))
    sums = [
        torch.zeros(len(own), model.gradiend.mapping.size, dtype=dtype, device=device)
        for model, own in zip(models, coefficients, strict=True)
    ]

    def add(batch: Sequence[int], gradients: Tensor) -> None:
        for model, total, result in zip(models, totals, sums, strict=True):
            factors = total[:, list(batch)]
            if factors.any():
                result.addmm_(factors.to(gradients), reader.on(model.gradiend.mapping, gradients))

    reader.read(list(numbers), add, "shuffled labels")
    return [processes().sum_(result) for result in sums]
