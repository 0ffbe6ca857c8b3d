"""Projections of words' gradients on many directions: each distinct word is differentiated once for all GRADIENDs.

Forward mode makes one pass for each direction, over a batch of texts. A backward pass gives the whole gradient of one
word, whose projections on any number of directions are dot products. On a CPU, a backward pass for a word costs about
as much as forward mode along four directions, so forward mode serves comparisons of few GRADIENDs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gradiend.gradients import GradientEngine, TokenizedWord, undefined_gradient
from gradiend.model._context import Side
from gradiend.model._parameter_map import ParameterMap
from gradiend.model._refusals import is_finite
from gradiend.util._isolation import plain_modes
from gradiend.util._processes import processes
from gradiend.util._progress import Progress

BACKWARD_FROM = 5
"""The number of directions from which on a backward pass for each word costs less than forward mode."""
BUFFER = 1 << 28
"""The most bytes of gradients that are held at once."""
MOST_WORDS = 32
"""The most words whose gradients are held at once."""
WHOLE = 0.2
"""If the maps have this share of a parameter's entries or more, all its entries are read, which costs less."""


@dataclass(frozen=True, eq=False)
class RandomDirections:
    """Random directions of equal norm on the entries of a map: each entry belongs to one of them, with a random sign.

    The directions are orthogonal, and take no more than one sign for each entry together.
    """

    count: int
    norm: float
    seed: int

    def signs(self, size: int) -> Tensor:
        """+1 or −1 for each entry, int8 (size,)."""
        generator = torch.Generator().manual_seed(self.seed)
        return torch.randint(0, 2, (size,), generator=generator, dtype=torch.int8) * 2 - 1

    def project(self, gradients: Tensor, signs: Tensor) -> Tensor:
        """Gradients (B, size) → (count, B)."""
        n_words, size = gradients.shape
        padded = gradients.new_zeros(n_words, -(-size // self.count) * self.count)
        torch.mul(gradients, signs.to(gradients.device), out=padded[:, :size])
        return padded.view(n_words, -1, self.count).sum(1).T * (self.norm * (self.count / size) ** 0.5)


@dataclass(frozen=True, eq=False)
class Directions:
    """The directions on which gradients are projected for one GRADIEND."""

    mapping: ParameterMap
    """The entries of the directions."""
    given: Sequence[Tensor]
    """Matrices (k, mapping.size)."""
    random: RandomDirections | None = None

    @property
    def count(self) -> int:
        """How many directions there are."""
        return sum(map(len, self.given)) + (self.random.count if self.random else 0)


class GradientReader:
    """Gradients of the loss of words on the union of some maps, a bounded number of words at a time.

    The base model of `model` is that of all GRADIENDs.
    """

    def __init__(self, model: Any, mappings: Sequence[ParameterMap]) -> None:
        self.union = ParameterMap.union(mappings, WHOLE)
        self.engine = GradientEngine(model.base_model, self.union, model.objective)
        by_hash: dict[str, Tensor | None] = {}
        for mapping in mappings:
            if mapping.hash not in by_hash:
                by_hash[mapping.hash] = self.union.places(mapping)
        self._places = by_hash

    @plain_modes()
    def read(
        self, words: Sequence[TokenizedWord], use: Callable[[Sequence[int], Tensor], Tensor | None], label: str
    ) -> list[tuple[Sequence[int], Tensor | None]]:
        """Apply a function to the gradients of words, a few words at a time; the processes of a run divide the words.

        `use` gets the numbers of B words and their gradients (B, union.size), which the next words overwrite. Returns
        the numbers of the words and the result of every call. UndefinedGradientError: one is infinite or undefined.
        """
        engine = self.engine
        size = max(1, min(MOST_WORDS, BUFFER // max(1, self.union.size * engine.dtype.itemsize)))
        order = sorted(range(len(words)), key=lambda number: -len(words[number].input_ids))
        batches = [order[start : start + size] for start in range(0, len(order), size)]
        buffer = torch.empty(size, self.union.size, dtype=engine.dtype, device=engine.scorer.device)

        def gradients_of(batch: Sequence[int]) -> tuple[Sequence[int], Tensor | None]:
            for number, row in zip(batch, buffer, strict=False):
                engine.gradients([words[number]], [words[number]], [Side.FACTUAL], out=[row])
                if not is_finite(row):
                    raise undefined_gradient(engine, words[number], number)
                bar.advance()
            with torch.no_grad():
                return batch, use(batch, buffer[: len(batch)])

        with Progress(label, len(words), "word", brief=True) as bar:
            return processes().compute(batches, gradients_of)

    def on(self, mapping: ParameterMap, gradients: Tensor) -> Tensor:
        """The entries of a map in gradients on the union, (B, mapping.size)."""
        places = self._places[mapping.hash]
        return gradients if places is None else gradients.index_select(1, places.to(gradients.device))


def project(model: Any, words: Sequence[TokenizedWord], wanted: Sequence[Directions]) -> list[Tensor]:
    """The gradient of the loss of N distinct words along every direction, with a model on the GRADIENDs' base model.

    Returns (directions, N) float64 on the CPU for each GRADIEND: the rows of `given`, then the random ones.
    UndefinedGradientError: a gradient is infinite or undefined.
    """
    by_gradients = sum(one.count for one in wanted) >= BACKWARD_FROM or any(one.random for one in wanted)
    found = _by_gradients(model, words, wanted) if by_gradients else _by_forward_mode(model, words, wanted)
    for values in found:
        if not is_finite(values):
            bad = int((~values.isfinite()).any(0).nonzero()[0])
            raise undefined_gradient(GradientEngine(model.base_model, wanted[0].mapping, model.objective), words[bad])
    return found


@plain_modes()
def _by_forward_mode(model: Any, words: Sequence[TokenizedWord], wanted: Sequence[Directions]) -> list[Tensor]:
    found = []
    for one in wanted:
        engine = GradientEngine(model.base_model, one.mapping, model.objective)
        with torch.no_grad():
            slopes = engine.directional_derivatives(words, torch.cat(list(one.given)), progress="encoding")
        found.append(-slopes.double())
    return found


def _by_gradients(model: Any, words: Sequence[TokenizedWord], wanted: Sequence[Directions]) -> list[Tensor]:
    reader = GradientReader(model, [one.mapping for one in wanted])
    signs = [one.random.signs(one.mapping.size) if one.random else None for one in wanted]
    found = [torch.empty(one.count, len(words), dtype=torch.float64) for one in wanted]

    def use(_: Sequence[int], gradients: Tensor) -> Tensor:
        """The projections of a batch's gradients, (directions of all GRADIENDs in turn, words)."""
        rows = []
        own, read = gradients, None
        for one, some in zip(wanted, signs, strict=True):
            if read is None or one.mapping.hash != read:
                own, read = reader.on(one.mapping, gradients), one.mapping.hash
            rows += [matrix.to(own) @ own.T for matrix in one.given]
            if one.random and some is not None:
                rows.append(one.random.project(own, some))
        return torch.cat(rows).double().cpu()

    counts = [one.count for one in wanted]
    for batch, values in reader.read(words, use, "encoding"):
        assert values is not None
        for place, part in zip(found, values.split(counts), strict=True):
            place[:, list(batch)] = part
    return found
