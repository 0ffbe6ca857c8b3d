"""What the probes of a search for a learning rate share: gradients, of all entries of the GRADIEND or of a sample.

The entries of a GRADIEND with one latent meet in two numbers only, W_e · s and Σ r · W_d; everything else in a step
concerns one entry. Where there are many entries, a probe therefore has a sample of them, and estimates both sums: entry
number i is in the sample with probability q_i, in proportion to the size of its gradients, and counts 1/q_i times
(Horvitz & Thompson 1952). Gradients, Adam's moments and its epsilon are those that the entry has in the whole network.
A sample of all entries makes exactly the steps of the training.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gradiend.model.model import GradiendModel
from gradiend.trainer.core._step import (
    GradiendOptimizer,
    SampledOptimizer,
    optimizer_for,
    steps_analytically,
    training_pair,
)
from gradiend.trainer.core.arguments import TrainingArguments
from gradiend.util._isolation import RANDOM_STATE, exclusive

ENTRIES = 1 << 18
"""A probe has all entries of a GRADIEND with at most so many; of a larger one, a sample of about half as many."""
HELD_OUT = 12
"""Held-out examples of each of the two classes, by which probes are judged."""
SIDES = ("source", "target")

Examples = Callable[[], Iterable[Mapping[str, Any]]]
"""Gives held-out examples: dicts with `source`, flat, which the next one may overwrite, and `label`."""


def is_sampled(gradiend: GradiendModel, arguments: TrainingArguments) -> bool:
    """Whether probes have a sample of the entries instead of all of them."""
    return gradiend.input_dim > ENTRIES and steps_analytically(gradiend, arguments) and not arguments.supervised


@dataclass(frozen=True)
class Sample:
    """Entries of a GRADIEND, and how often each of them counts; None stands for all entries, once."""

    places: Tensor | None = None
    weights: Tensor | None = None

    @classmethod
    def draw(cls, batches: Sequence[Mapping[str, Any]], size: int) -> Sample:
        """About `size` entries, drawn by the size of their gradients in `batches`; half of the draws are even."""
        importance = torch.zeros_like(batches[0]["source"].reshape(-1))
        for side in SIDES:
            for batch in batches:
                values = batch[side].reshape(-1).to(importance).abs()
                importance += values / values.sum().clamp_(min=torch.finfo(values.dtype).tiny)
        n = importance.numel()
        probability = (importance.mul_(size / 2 / importance.sum()).add_(size / 2 / n)).clamp_(max=1)
        drawn = torch.rand(n, generator=torch.Generator().manual_seed(0)).to(probability.device) < probability
        places = drawn.nonzero().squeeze(1)
        return cls(places, 1 / probability[places])

    def of(self, vector: Tensor) -> Tensor:
        """A copy of the sampled entries of a vector over all entries."""
        return vector.clone() if self.places is None else vector[self.places.to(vector.device)]

    def of_batch(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """A batch with copies of the sampled entries of its gradients."""
        gradients = {side: batch[side] for side in SIDES if batch.get(side) is not None}
        return {**batch, **{side: self.of(gradient.reshape(-1)) for side, gradient in gradients.items()}}

    def network(self, gradiend: GradiendModel) -> GradiendModel:
        """A network of the sampled entries, with a copy of their weights."""
        if self.places is None:
            return copy.deepcopy(gradiend)
        # A new network draws its weights, which no other number of the training may depend on.
        with exclusive(RANDOM_STATE), torch.random.fork_rng():
            small = GradiendModel(
                len(self.places), gradiend.latent_dim, gradiend.activation_encoder, gradiend.activation_decoder,
                gradiend.bias_decoder, gradiend.torch_dtype, device_encoder=gradiend.device_encoder,
                device_decoder=gradiend.device_decoder,
            )  # fmt: skip
        (encoder, decoder), (whole_encoder, whole_decoder) = (
            (one.encoder_linear, one.decoder_linear) for one in (small, gradiend)
        )
        with torch.no_grad():
            encoder.weight.copy_(whole_encoder.weight[:, self.places.to(whole_encoder.weight.device)])
            decoder.weight.copy_(whole_decoder.weight[self.places.to(whole_decoder.weight.device)])
            for own, given in ((encoder.bias, whole_encoder.bias), (decoder.bias, whole_decoder.bias)):
                if own is not None and given is not None:
                    own.copy_(given if len(given) == len(own) else given[self.places.to(given.device)])
        return small

    def optimizer(self, network: GradiendModel, arguments: TrainingArguments, entries: int) -> GradiendOptimizer:
        """The optimizer of a network of the sampled entries, out of `entries`."""
        if self.weights is None:
            return optimizer_for(network, arguments)
        return SampledOptimizer(network, arguments, self.weights, entries)

    def weighted(self, sources: Tensor) -> Tensor:
        """Sampled source gradients (…, sampled entries) as the encoder of a sampled network reads them."""
        return sources if self.weights is None else sources * self.weights

    def loss_of_zeros(self, target: Tensor, arguments: TrainingArguments, entries: int) -> float:
        """The loss of zeros in place of a batch's target, which is sampled out of `entries`."""
        assert arguments.criterion is not None
        if self.weights is None:
            return float(arguments.criterion(torch.zeros_like(target), target))
        return float((self.weights * target * target).sum() / entries)


@dataclass(frozen=True)
class ProbeData:
    """What all probes of a search share."""

    sample: Sample
    pairs: Sequence[tuple[Tensor, Tensor]]
    """(input, wanted output) of each batch, of the sampled entries."""
    of_nothing: Sequence[float]
    """The loss of zeros on each batch."""
    held_out: Tensor | None
    """Weighted source gradients of held-out examples, (rows, sampled entries); None where no encoder is trained."""
    labels: np.ndarray
    """The labels of the held-out examples, +1 and −1."""

    @property
    def whole(self) -> bool:
        """Whether the probes have all entries."""
        return self.sample.places is None

    @classmethod
    def read(
        cls, batches: Iterable[Mapping[str, Any]], held_out: Examples | None, gradiend: GradiendModel,
        arguments: TrainingArguments,
    ) -> ProbeData:  # fmt: skip
        """Read the batches and the held-out examples; without examples, batches of both classes are held out."""
        reader = iter(batches)
        sample, first = Sample(), list[Mapping[str, Any]]()
        if is_sampled(gradiend, arguments):
            # Classes take turns: two batches show where the gradients of both are large.
            first = [
                {name: value.clone() if isinstance(value, Tensor) else value for name, value in batch.items()}
                for batch in itertools.islice(reader, 2)
            ]
            sample = Sample.draw(first, ENTRIES // 2)
        kept: list[Mapping[str, Any]] = [sample.of_batch(batch) for batch in itertools.chain(first, reader)]
        del first
        sources, labels = _held_out_examples(held_out, sample) if arguments.trains_encoder else ([], [])
        if arguments.trains_encoder and len(set(labels)) < 2:
            kept, sources, labels = _without_held_out(kept)
        pairs = [training_pair(batch, arguments) for batch in kept]
        nothing = [sample.loss_of_zeros(target, arguments, gradiend.input_dim) for _, target in pairs]
        judged = sample.weighted(torch.stack(sources)) if len(set(labels)) == 2 else None
        return cls(sample, pairs, nothing, judged, np.array(labels))


def _held_out_examples(examples: Examples | None, sample: Sample) -> tuple[list[Tensor], list[float]]:
    """Sampled source gradients and labels of the first examples of both classes."""
    sources, labels = list[Tensor](), list[float]()
    for example in () if examples is None else examples():
        label = float(np.mean(example["label"]))
        if label in (1.0, -1.0) and labels.count(label) < HELD_OUT:
            sources.append(sample.of(example["source"].reshape(-1)))
            labels.append(label)
        if min(labels.count(1.0), labels.count(-1.0)) >= HELD_OUT:
            break
    return sources, labels


def _without_held_out(
    batches: Sequence[Mapping[str, Any]],
) -> tuple[list[Mapping[str, Any]], list[Tensor], list[float]]:
    """Batches without the last ones of both classes, and the sources and labels of these."""
    rest, sources, labels = list[Mapping[str, Any]](), list[Tensor](), list[float]()
    for batch in reversed(batches):
        label = float(np.mean(batch["label"])) if "label" in batch else 0.0
        if label in (1.0, -1.0) and labels.count(label) < max(1, len(batches) // 8):
            sources.append(batch["source"])
            labels.append(label)
        else:
            rest.insert(0, batch)
    return (rest, sources, labels) if len(set(labels)) == 2 and rest else (list(batches), [], [])
