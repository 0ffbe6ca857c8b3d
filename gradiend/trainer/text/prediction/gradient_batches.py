"""The gradients of training batches, made by the engine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from gradiend.model.sides import Side
from gradiend.trainer.core._kept_gradients import GradientCache, GradientStore, words_key
from gradiend.trainer.core.dataset import GradientBatches, take_turns
from gradiend.trainer.text.prediction.dataset import TextTrainingDataset


class TextGradientBatches(GradientBatches):
    """(source, target) gradients of a `TextTrainingDataset`, batch by batch; what the trainer trains on.

    Args:
        training_data: The batches.
        model: A `TextPredictionModelWithGradiend`, whose engine makes the gradients.
        source: factual, alternative, diff, or None, which computes nothing for that side.
        target: Likewise.
        kept: Where gradients are kept for the next time; batches are composed from the data's seed, so later epochs,
            seeds and runs meet the same ones. A `GradientCache` of the model's is for good; a `GradientStore`
            may be shared by instances over the same batches and model weights.
        bf16: Compute them under bfloat16 autocast.
    """

    def __init__(
        self,
        training_data: TextTrainingDataset,
        model: Any,
        *,
        source: str | None,
        target: str | None,
        kept: GradientCache | GradientStore | None = None,
        bf16: bool = False,
    ) -> None:
        self.training_data = training_data
        self.model = model
        named = {"source": source, "target": target}
        self.sides = {name: Side.parse(name, side) for name, side in named.items() if side is not None}
        self.cache = kept if isinstance(kept, GradientCache) else None
        self.store = kept if isinstance(kept, GradientStore) else None
        self.bf16 = bf16
        # Tokenized here, so that bad words are an error before the first step.
        self._factual, self._alternative = training_data.tokenized

    def __len__(self) -> int:
        """Batches per epoch."""
        return self.training_data.n_turns

    def epoch(self, index: int, seed: int | None) -> Iterator[Mapping[str, Any]]:
        """See `GradientBatches.epoch`; `source` and `target` are overwritten by the next batch."""
        data = self.training_data
        engine = self.model.engine
        buffers = [
            torch.empty(engine.mapping.size, dtype=engine.dtype, device=engine.scorer.device) for _ in self.sides
        ]
        if self.cache is not None:
            self.cache.refresh()
        for group, number in take_turns(data.batches, index, seed):
            rows = data.batches[group][number]
            first = data.data.iloc[rows[0]]
            key = (engine.mapping.hash, *self.sides.values(), group, number)
            known = None if self.store is None else self.store.get(key)
            gradients = self._gradients(rows, buffers) if known is None else known
            if known is None and self.store is not None:
                self.store.keep(key, gradients)
            yield {
                **dict(zip(self.sides, gradients, strict=True)),
                "batch_id": (group, number),
                "label": first[data.target_key],
                "feature_class_id": first["feature_class_id"],
            }

    def _gradients(self, rows: Iterable[int], buffers: list[Tensor]) -> Sequence[Tensor]:
        factual, alternative = zip(*((self._factual[row], self._alternative[row]) for row in rows), strict=True)
        sides = list(self.sides.values())
        if self.cache is None:
            return self.model.engine.gradients(factual, alternative, sides, out=buffers, bf16=self.bf16)
        paths = {side: self.cache.path(side.value, words_key(side, factual, alternative, self.bf16)) for side in sides}
        unknown = [side for side in paths if not paths[side].is_file()]
        if unknown:
            made = self.model.engine.gradients(
                factual, alternative, unknown, out=buffers[: len(unknown)], bf16=self.bf16
            )
            for side, gradient in zip(unknown, made, strict=True):
                self.cache.write(paths[side], gradient)
        return [self.cache.read(paths[side]) for side in sides]
