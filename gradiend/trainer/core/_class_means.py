"""A GRADIEND in closed form: no training, only means of gradients.

With m± the class means of the source gradient s, and t± those of the target t (docs/method.md):
    W_e = α (m₊ − m₋),  b_e so that the classes come out at ±act⁻¹(0.9),
    W_d = (t₊ − t₋) / 2,  b_d = (t₊ + t₋) / 2.
α and b_e are calibrated on batches that the means have not seen: a mean's own batches lie further from 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from gradiend.model._activations import ACTIVATIONS
from gradiend.model._refusals import is_finite
from gradiend.model.model import GradiendModel
from gradiend.trainer.core.arguments import TrainingArguments
from gradiend.util._progress import Progress

LEVEL = 0.9
"""Where the class means of the encodings should lie, with either sign."""
CALIBRATION_BATCHES = 2
"""Batches per class by which α and b_e are calibrated."""


def batches_for_class_means(arguments: TrainingArguments) -> int:
    """Number of batches of both classes together that the initialization reads; 0 without this initialization."""
    if arguments.init != "class_means":
        return 0
    return 2 * (means_batches(arguments) + CALIBRATION_BATCHES)


def means_batches(arguments: TrainingArguments) -> int:
    """Number of batches of each class that hold `init_samples` examples."""
    return math.ceil(arguments.init_samples / arguments.train_batch_size)


def require_closed_form(gradiend: GradiendModel) -> None:
    """Raise ValueError for a network for which the closed form does not hold."""
    known = [name for name, entry in ACTIVATIONS.items() if entry.odd and entry.inverse is not None]
    if gradiend.latent_dim != 1 or gradiend.activation_encoder not in known or gradiend.activation_decoder != "id":
        raise ValueError(
            f"init='class_means' is for one latent, an odd encoder activation ({', '.join(known)}) and the decoder "
            f"activation id; this network has latent_dim={gradiend.latent_dim}, {gradiend.activation_encoder} and "
            f"{gradiend.activation_decoder}. Use init='random'."
        )


@torch.no_grad()
def initialize_from_class_means(gradiend: GradiendModel, batches: Iterable[Mapping[str, Any]], per_class: int) -> None:
    """Set the weights of a GRADIEND from `per_class` batches of each class, and scale the weights on two further ones.

    Batches are dicts with source and target (input_dim,) and label (+1 or −1; other labels are skipped), in any order.
    Reading stops when both classes have enough; no batch_id is used twice. The sums are accumulated in the weights
    themselves, so that no other vector of length n is needed.
    """
    require_closed_form(gradiend)
    encoder, decoder = gradiend.encoder_linear, gradiend.decoder_linear
    direction, half, middle = encoder.weight.view(-1), decoder.weight.view(-1), decoder.bias
    for vector in (direction, half) if middle is None else (direction, half, middle):
        vector.zero_()
    seen = {1.0: 0, -1.0: 0}
    projections: dict[float, list[Tensor]] = {1.0: [], -1.0: []}
    wanted = per_class + CALIBRATION_BATCHES
    used: set[Any] = set()
    with Progress("class means", 2 * wanted, "batch", brief=True) as bar:
        waiting: list[tuple[float, Tensor]] = []
        for batch in _finite(batches):
            label, name = float(batch["label"]), batch.get("batch_id")
            if label not in seen or seen[label] >= wanted or (name is not None and name in used):
                continue
            used.add(name)
            seen[label] += 1
            bar.advance()
            source = batch["source"].reshape(-1).to(direction)
            if seen[label] <= per_class:
                target = batch["target"].reshape(-1).to(half)
                direction.add_(source, alpha=label / per_class)
                half.add_(target, alpha=label / (2 * per_class))
                if middle is not None:
                    middle.add_(target, alpha=1 / (2 * per_class))
            elif min(seen.values()) < per_class:
                waiting.append((label, source.clone()))  # the direction is not complete yet
            else:
                projections[label].append(encoder.team.sum_(direction @ source))
            if min(seen.values()) >= wanted:
                break
        for label, source in waiting:
            projections[label].append(encoder.team.sum_(direction @ source))
    if min(seen.values()) < wanted:
        raise ValueError(
            f"init='class_means' needs {wanted} batches of each class ({per_class} for the means and "
            f"{CALIBRATION_BATCHES} to scale them), but there are {min(seen.values())} of one: lower init_samples "
            "or train_batch_size."
        )
    positive, negative = (torch.stack(projections[label]).mean().item() for label in (1.0, -1.0))
    if not positive > negative:
        raise ValueError(
            "init='class_means' found no difference between the classes that other examples share: their gradients "
            f"project to {positive:.3g} and {negative:.3g}. More init_samples may help; or use init='random'."
        )
    inverse = ACTIVATIONS[gradiend.activation_encoder].inverse
    assert inverse is not None
    scale = 2 * inverse(LEVEL) / (positive - negative)
    direction.mul_(scale)
    assert encoder.bias is not None
    encoder.bias.fill_(-scale * (positive + negative) / 2)


def _finite(batches: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """The same batches, made with autograd switched on; raises FloatingPointError for gradients that are not finite."""
    iterator = iter(batches)
    while True:
        with torch.enable_grad():
            batch = next(iterator, None)
        if batch is None:
            return
        for side in ("source", "target"):
            if not is_finite(batch[side]):
                place = f"the label {float(batch['label']):+g} (batch {batch.get('batch_id')})"
                raise FloatingPointError(
                    f"init='class_means' reads a {side} gradient of the class with {place} that is infinite or "
                    "undefined: load the base model in float32, or leave texts out."
                )
        yield batch
