"""The gradients of several trainings on one base model: of each batch of texts, one for each word that any needs.

Two trainings that have a class in common have the same batches of it. Their gradients differ in the word that is put
into the texts and in the entries that are kept, so a batch has one forward pass for all words, and one backward pass
for each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from gradiend.evaluator.encoder import EncoderData, latent_column
from gradiend.gradients import GradientEngine
from gradiend.model._context import Side
from gradiend.model._parameter_map import ParameterMap
from gradiend.trainer.text.prediction.dataset import TextGradientBatches, Words
from gradiend.util._isolation import plain_modes
from gradiend.util._progress import Progress

MOST_BYTES = 2**29
"""Bytes of the gradients of one pass; more words of a batch take a further pass."""


@dataclass(frozen=True)
class Request:
    """The gradients that one training needs of one batch of texts."""

    texts: tuple[str, ...]
    """The texts, with a placeholder."""
    factual: Words
    """The factual words of the texts."""
    alternative: Words
    """The alternative words of the texts."""
    mapping: ParameterMap
    """The entries that the training keeps."""
    keep: Callable[[Mapping[Side, Tensor]], None]
    """Takes the gradient of each side, (mapping.size,)."""


@dataclass(frozen=True)
class KeptRows(EncoderData):
    """Rows to encode whose gradients are kept, so that encoding them takes no pass over the base model."""

    kept: Tensor = field(default_factory=lambda: torch.empty(0))
    """The source gradient of each row, (rows, input_dim)."""

    def keep(self, number: int, side: Side, gradients: Mapping[Side, Tensor]) -> None:
        """Keep the gradient of one side for a row."""
        self.kept[number] = gradients[side]

    @torch.no_grad()
    def encode(
        self, model: Any, *, source: str | None = None, batch_size: int = 32, progress: str | None = None
    ) -> pd.DataFrame:
        """See `EncoderData.encode`; the source is that of the kept gradients."""
        del source, batch_size, progress
        linear = model.gradiend.encoder_linear
        latents = model.gradiend.encoder(self.kept.to(linear.weight)).cpu()
        return self.rows.assign(**{latent_column(i): column.numpy() for i, column in enumerate(latents.T)})


def kept_rows(
    data: EncoderData, mapping: ParameterMap, source: str, dtype: torch.dtype
) -> tuple[KeptRows, list[Request]]:
    """Rows whose gradients are kept once the requests are answered."""
    side = Side.parse("source", source)
    rows = KeptRows(data.rows, data.factual, data.alternative, torch.empty(len(data), mapping.size, dtype=dtype))

    words = zip(data.rows["input_text"], data.factual, data.alternative, strict=True)
    requests = [
        Request((text,), (factual,), (alternative,), mapping, partial(rows.keep, number, side))
        for number, (text, factual, alternative) in enumerate(words)
    ]
    return rows, requests


def requests_of(training: TextGradientBatches, turns: Sequence[tuple[int, int]]) -> Iterator[Request]:
    """The requests of a training for its first batches, as many as its `GradientStore` has room for."""
    engine, store, data = training.model.engine, training.store, training.training_data
    assert store is not None
    texts = data.data["masked"]

    def keep(key: Any, gradients: Mapping[Side, Tensor]) -> None:
        store.keep(key, [gradients[side] for side in training.sides.values()])

    for turn in turns[: store.capacity(len(training.sides), engine.mapping.size, engine.dtype)]:
        rows = data.batches[turn[0]][turn[1]]
        yield Request(tuple(texts.iloc[rows]), *training.words(turn), engine.mapping, partial(keep, training.key(turn)))


@plain_modes()
def answer(requests: Iterable[Request], like: GradientEngine, *, bf16: bool = False) -> int:
    """Compute each gradient that several requests need once, for all of them; returns the number of backward passes.

    The gradient of the difference of two losses is the difference of their gradients here, which a training alone
    computes in one pass: the two differ by rounding. `like` is an engine of the base model, whose settings hold.
    """
    batches: dict[tuple[str, ...], list[Request]] = {}
    for one in requests:
        batches.setdefault(one.texts, []).append(one)
    maps = {one.mapping.hash: one.mapping for some in batches.values() for one in some}
    if not maps:
        return 0
    union = ParameterMap.union(list(maps.values()))
    places = {key: union.places(one) for key, one in maps.items()}
    engine = GradientEngine(like.model, union, like.objective)
    engine.checkpoints_layers = like.checkpoints_layers
    passes = 0
    with Progress("gradients of all trainings", len(batches), "batch") as bar:
        for some in bar.over(list(batches.values())):
            for part in _parts(some, union.size * engine.dtype.itemsize):
                words = list(dict.fromkeys(words for one in part for words in (one.factual, one.alternative)))
                passes += len(words)
                gradients = dict(zip(words, _of_words(engine, words, bf16=bf16), strict=True))
                for one in part:
                    place = places[one.mapping.hash]
                    sides = {Side.FACTUAL: gradients[one.factual], Side.ALTERNATIVE: gradients[one.alternative]}
                    if place is not None:
                        sides = {side: gradient[place] for side, gradient in sides.items()}
                    one.keep({**sides, Side.DIFF: sides[Side.FACTUAL] - sides[Side.ALTERNATIVE]})
    return passes


def _parts(requests: Sequence[Request], nbytes: int) -> Iterator[list[Request]]:
    """The requests of one batch in parts whose gradients take at most `MOST_BYTES`, or are two."""
    most, words, part = max(2, MOST_BYTES // nbytes), set[Words](), list[Request]()
    for one in requests:
        needed = {one.factual, one.alternative}
        if len(words | needed) > most:
            yield part
            words, part = set(), []
        words |= needed
        part.append(one)
    yield part


def _of_words(engine: GradientEngine, words: Sequence[Words], *, bf16: bool) -> list[Tensor]:
    """The gradient of the mean loss of each of the words, (size,)."""
    made = [torch.zeros(engine.mapping.size, dtype=engine.dtype, device=engine.scorer.device) for _ in words]

    def store(number: int, place: slice, gradient: Tensor) -> None:
        made[number][place] = gradient

    engine.stream_each(words, store, bf16=bf16)
    return made
