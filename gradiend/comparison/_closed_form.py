"""The directions of all pairs of classes in closed form, from one mean gradient of each class."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gradiend.comparison._result import ComparisonResult
from gradiend.gradients import TokenizedWord
from gradiend.model._context import Side
from gradiend.model._parameter_map import ParameterMap
from gradiend.util._isolation import plain_modes
from gradiend.util._keywords import nearest
from gradiend.util._progress import Progress


@dataclass(frozen=True, eq=False)
class ClosedForm:
    """Mean gradients m of K classes. The direction of a pair (a, b) is m_a − m_b.

    This is the closed form of the encoder of a GRADIEND with source and target `factual` (docs/method.md), up to its
    scale.
    """

    classes: tuple[str, ...]
    """The names of the classes."""
    means: Tensor
    """(K, n) mean gradient of −log p(word) over the texts of each class."""
    mapping: ParameterMap
    """The n entries."""

    def direction(self, first: str, second: str) -> Tensor:
        """(n,) m_first − m_second. Raises KeyError for an unknown class."""
        places = [self._place(name) for name in (first, second)]
        return self.means[places[0]] - self.means[places[1]]

    def _place(self, name: str) -> int:
        if name not in self.classes:
            raise KeyError(f"There is no class {name!r}, only {', '.join(self.classes)}.{nearest(name, self.classes)}")
        return self.classes.index(name)

    def similarity(self, pairs: Sequence[Sequence[str]] | None = None) -> ComparisonResult:
        """Signed cosines between the directions of pairs, by default all pairs.

        All follow from the K × K products of the means, so that no direction is made:
        (m_a − m_b) · (m_c − m_d) = G_ac − G_ad − G_bc + G_bd.
        """
        chosen = list(itertools.combinations(self.classes, 2)) if pairs is None else [tuple(pair) for pair in pairs]
        signs = torch.zeros(len(chosen), len(self.classes), dtype=torch.float64)
        for row, (first, second) in enumerate(chosen):
            signs[row, self._place(first)] += 1
            signs[row, self._place(second)] -= 1
        products = signs @ self._products() @ signs.T
        lengths = products.diagonal().clamp_min(0).sqrt()
        lengths[lengths == 0] = torch.inf
        names = [f"{first} <-> {second}" for first, second in chosen]
        return ComparisonResult(
            measure="cosine_signed", model_ids=names, matrix=(products / lengths[:, None] / lengths).tolist(),
            part="closed form", topk=None,
        )  # fmt: skip

    def _products(self) -> Tensor:
        """(K, K) products of the means in float64, summed over blocks, so that no copy of the means is made."""
        total = torch.zeros(len(self.classes), len(self.classes), dtype=torch.float64)
        for block in self.means.split(1 << 18, dim=1):
            wide = block.double()
            total += (wide @ wide.T).cpu()
        return total


@plain_modes()
def closed_form(model: Any, words: Mapping[str, Sequence[TokenizedWord]], batch_size: int = 32) -> ClosedForm:
    """The mean gradient of each class, one pass over its texts.

    Args:
        model: A `TextPredictionModelWithGradiend`, whose map says which entries count.
        words: Class → its words in their texts, tokenized by the model's objective.
        batch_size: Texts of one pass.

    Raises:
        ValueError: Fewer than two classes, or a class without texts.
    """
    empty = [name for name, own in words.items() if not len(own)]
    if len(words) < 2 or empty:
        raise ValueError(f"A closed form needs two or more classes with texts; got {list(words)}, empty: {empty}.")
    engine = model.engine
    means = torch.zeros(len(words), engine.mapping.size, dtype=engine.dtype, device=engine.scorer.device)
    batches = [(row, own[start : start + batch_size], len(own))
               for row, own in enumerate(words.values()) for start in range(0, len(own), batch_size)]  # fmt: skip
    with Progress("class means", len(batches), "batch", brief=True) as bar:
        for row, batch, n_words in bar.over(batches):

            def add(_: Side, place: slice, gradient: Tensor, row: int = row) -> None:
                means[row, place] += gradient

            engine.stream(batch, batch, [Side.FACTUAL], add, weight=len(batch) / n_words)
    return ClosedForm(tuple(words), means, engine.mapping)
