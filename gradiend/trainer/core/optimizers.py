"""One GRADIEND step: the loss between decoded source and target, and the optimizer update.

Two implementations with the same numbers: `AutogradOptimizer` for every network and criterion, and `AnalyticOptimizer`
for the usual one (one latent, tanh or id, identity decoder, MSE), which needs no intermediate of length n.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn

from gradiend.model.model import GradiendModel
from gradiend.trainer.core.arguments import TrainingArguments

BETAS = (0.9, 0.999)
CHUNK = 1 << 16
"""Entries per chunk of the analytic update: its dozen float32 vectors then stay in a core's cache."""


SLOPES: dict[str, Callable[[float], float]] = {"tanh": lambda h: 1 - h * h, "id": lambda _: 1.0}
"""act'(p) as a function of h = act(p), for the encoder activations of the analytic update."""


class GradiendOptimizer(Protocol):
    """Trains a GRADIEND in place."""

    def step(self, source: Tensor, target: Tensor) -> float:
        """One update on flat gradients (input_dim,); returns the loss before it."""

    def invert(self) -> None:
        """Negate the first moments of what `GradiendModel.invert_encoding` negates."""


def create_optimizer(gradiend: GradiendModel, arguments: TrainingArguments) -> GradiendOptimizer:
    """The analytic optimizer where it applies, otherwise autograd."""
    analytic = (
        gradiend.latent_dim == 1
        and gradiend.activation_encoder in SLOPES
        and gradiend.activation_decoder == "id"
        and gradiend.torch_dtype in (torch.float32, torch.float64)
        and gradiend.device_encoder == gradiend.device_decoder
        and type(arguments.criterion) is nn.MSELoss
        and arguments.criterion.reduction == "mean"
    )
    return (AnalyticOptimizer if analytic else AutogradOptimizer)(gradiend, arguments)


class AutogradOptimizer:
    """torch.optim.Adam or AdamW on the autograd graph of the network."""

    def __init__(self, gradiend: GradiendModel, arguments: TrainingArguments) -> None:
        self.gradiend = gradiend
        assert arguments.criterion is not None
        self.criterion = arguments.criterion
        kind = torch.optim.AdamW if arguments.optim == "adamw" else torch.optim.Adam
        self.optimizer = kind(
            gradiend.parameters(),
            lr=arguments.learning_rate,
            betas=BETAS,
            # float16 cannot hold 1e-8.
            eps=0.0 if gradiend.torch_dtype == torch.float16 else arguments.adam_epsilon,
            weight_decay=arguments.weight_decay,
        )

    def step(self, source: Tensor, target: Tensor) -> float:
        """See `GradiendOptimizer.step`."""
        predicted = self.predict(source)
        loss = self.criterion(predicted, target.to(predicted))
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def predict(self, source: Tensor) -> Tensor:
        """What the target is compared with."""
        return self.gradiend(source)

    def invert(self) -> None:
        """See `GradiendOptimizer.invert`."""
        for parameter in self.gradiend.inverted_parameters():
            if parameter in self.optimizer.state:
                self.optimizer.state[parameter]["exp_avg"].neg_()


class _Adam:
    """Adam's or AdamW's update of one parameter, slice by slice (Kingma & Ba 2015; Loshchilov & Hutter 2019)."""

    def __init__(self, parameter: Tensor, arguments: TrainingArguments) -> None:
        self.values = parameter.detach().view(-1)
        self.first = torch.zeros_like(self.values)
        self.second = torch.zeros_like(self.values)
        self.arguments = arguments

    def update(self, place: slice, gradient: Tensor, step: int) -> None:
        """Update `values[place]` with `gradient`, which may be overwritten; `step` counts from 1."""
        lr, decay = self.arguments.learning_rate, self.arguments.weight_decay
        values, first, second = self.values[place], self.first[place], self.second[place]
        if self.arguments.optim == "adamw":
            values.mul_(1 - lr * decay)
        elif decay:
            gradient = gradient.add_(values, alpha=decay)
        first.lerp_(gradient, 1 - BETAS[0])
        second.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
        denominator = torch.sqrt(second, out=gradient)
        denominator.div_(math.sqrt(1 - BETAS[1] ** step)).add_(self.arguments.adam_epsilon)
        values.addcdiv_(first, denominator, value=-lr / (1 - BETAS[0] ** step))


class AnalyticOptimizer:
    """The closed-form gradient of the one-latent MSE objective, with the update, in cache-sized chunks.

    With p = W_e·s + b_e, h = act(p), r = W_d h + b_d − t and loss = Σ r² / n:
        ∂W_d = 2 r h / n,  ∂b_d = 2 r / n,  δ = act'(p) Σ 2 r W_d / n,  ∂W_e = δ s,  ∂b_e = δ.
    One pass over W_e and s for p, one over the decoder for r (its update included), one over W_e for its update.
    """

    def __init__(self, gradiend: GradiendModel, arguments: TrainingArguments) -> None:
        self.gradiend = gradiend
        encoder, decoder = gradiend.encoder_linear, gradiend.decoder_linear
        self.encoder_weight = _Adam(encoder.weight, arguments)
        assert encoder.bias is not None
        self.encoder_bias = _Adam(encoder.bias, arguments)
        self.decoder_weight = _Adam(decoder.weight, arguments)
        self.decoder_bias = None if decoder.bias is None else _Adam(decoder.bias, arguments)
        self.steps = 0

    @torch.no_grad()
    def step(self, source: Tensor, target: Tensor) -> float:
        """See `GradiendOptimizer.step`."""
        self.steps += 1
        source, target = (tensor.to(self.encoder_weight.values) for tensor in (source, target))
        n = source.numel()
        latent = self.gradiend.forward_encoder(source).item()
        chunks = [slice(start, start + CHUNK) for start in range(0, n, CHUNK)]
        residual, scratch = torch.empty_like(source[:CHUNK]), torch.empty_like(source[:CHUNK])
        squares = backward = source.new_zeros(())
        for place in chunks:
            size = source[place].numel()
            weight = self.decoder_weight.values[place]
            difference = torch.mul(weight, latent, out=residual[:size])
            if self.decoder_bias is not None:
                difference += self.decoder_bias.values[place]
            difference -= target[place]
            squares = squares + difference @ difference
            backward = backward + difference @ weight
            difference *= 2 / n
            gradient = torch.mul(difference, latent, out=scratch[:size])
            self.decoder_weight.update(place, gradient, self.steps)
            if self.decoder_bias is not None:
                self.decoder_bias.update(place, difference, self.steps)
        delta = 2 / n * backward.item() * SLOPES[self.gradiend.activation_encoder](latent)
        for place in chunks:
            gradient = torch.mul(source[place], delta, out=scratch[: source[place].numel()])
            self.encoder_weight.update(place, gradient, self.steps)
        self.encoder_bias.update(slice(None), torch.full_like(self.encoder_bias.values, delta), self.steps)
        return squares.item() / n

    def invert(self) -> None:
        """See `GradiendOptimizer.invert`."""
        for state in (self.encoder_weight, self.encoder_bias, self.decoder_weight):
            state.first.neg_()
