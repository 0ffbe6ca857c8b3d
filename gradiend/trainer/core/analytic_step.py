"""The analytic GRADIEND step: the gradient of the usual objective is known, so no autograd graph is needed."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from gradiend.model._architecture import ACTIVATIONS
from gradiend.model.model import GradiendModel
from gradiend.trainer.core.arguments import TrainingArguments
from gradiend.trainer.core.optimizers import BETAS, OPTIMIZERS

CHUNK = 1 << 18
"""Entries per chunk of the update on a CPU: its dozen float32 vectors then stay in the cache."""


def steps_analytically(gradiend: GradiendModel, arguments: TrainingArguments) -> bool:
    """Whether the analytic optimizer applies; the weights need not exist."""
    return (
        gradiend.latent_dim == 1
        and ACTIVATIONS[gradiend.activation_encoder].slope is not None
        and gradiend.activation_decoder == "id"
        and gradiend.torch_dtype in (torch.float32, torch.float64)
        and gradiend.device_encoder == gradiend.device_decoder
        and type(arguments.criterion) is nn.MSELoss
        and arguments.criterion.reduction == "mean"
        and OPTIMIZERS[arguments.optim].decoupled is not None
    )


class _Adam:
    """Adam's or AdamW's update of one parameter, slice by slice (Kingma & Ba 2015; Loshchilov & Hutter 2019).

    torch's own fused kernel reads and writes each vector once; the optimizer classes of torch.optim would call it too,
    but on whole parameters only, after the gradient of length n has been written to memory.
    """

    def __init__(self, parameter: Tensor, arguments: TrainingArguments) -> None:
        self.values = parameter.detach().view(-1)
        self.first = torch.zeros_like(self.values)
        self.second = torch.zeros_like(self.values)
        self.kernel = torch._fused_adamw_ if OPTIMIZERS[arguments.optim].decoupled else torch._fused_adam_
        self.settings: dict[str, Any] = {
            "lr": float(arguments.learning_rate),
            "beta1": BETAS[0],
            "beta2": BETAS[1],
            "weight_decay": float(arguments.weight_decay),
            "eps": float(arguments.adam_epsilon),
        }

    def update(self, place: slice, gradient: Tensor, step: Tensor) -> None:
        """Update `values[place]` with `gradient`; `step` counts from 1."""
        parts = [self.values[place]], [gradient], [self.first[place]], [self.second[place]]
        self.kernel(*parts, [], [step], amsgrad=False, maximize=False, **self.settings)


class AnalyticOptimizer:
    """The closed-form gradient of the one-latent MSE objective, with the update, in cache-sized chunks.

    With p = W_e·s + b_e, h = act(p), r = W_d h + b_d − t and loss = Σ r² / n:
        ∂W_d = 2 r h / n,  ∂b_d = 2 r / n,  δ = act'(p) Σ 2 r W_d / n,  ∂W_e = δ s,  ∂b_e = δ.
    One pass over W_e and s for p, one over the decoder for r (its update included), one over W_e for its update:
    about 22 n numbers are read or written. h, δ and the loss stay tensors, so that no step waits for the device.
    """

    def __init__(self, gradiend: GradiendModel, arguments: TrainingArguments) -> None:
        self.gradiend = gradiend
        slope = ACTIVATIONS[gradiend.activation_encoder].slope
        assert slope is not None
        self.slope = slope
        encoder, decoder = gradiend.encoder_linear, gradiend.decoder_linear
        self.encoder_weight = _Adam(encoder.weight, arguments)
        assert encoder.bias is not None
        self.encoder_bias = _Adam(encoder.bias, arguments)
        self.decoder_weight = _Adam(decoder.weight, arguments)
        self.decoder_bias = None if decoder.bias is None else _Adam(decoder.bias, arguments)
        values = self.encoder_weight.values
        self.steps = torch.zeros((), dtype=torch.float32, device=values.device)
        size = min(CHUNK, len(values)) if values.device.type == "cpu" else len(values)
        self.chunks = [slice(start, min(start + size, len(values))) for start in range(0, len(values), size)]
        self.scratch = torch.empty(2, size, dtype=values.dtype, device=values.device)

    @torch.no_grad()
    def step(self, source: Tensor, target: Tensor) -> Tensor:
        """See `GradiendOptimizer.step`."""
        self.steps += 1
        source, target = (tensor.to(self.encoder_weight.values) for tensor in (source, target))
        n = source.numel()
        latent = self.gradiend.forward_encoder(source).squeeze()
        squares, backward = torch.zeros_like(latent), torch.zeros_like(latent)
        for place in self.chunks:
            residual, gradient = self.scratch[:, : place.stop - place.start]
            weight = self.decoder_weight.values[place]
            if self.decoder_bias is None:
                torch.neg(target[place], out=residual)
            else:
                torch.sub(self.decoder_bias.values[place], target[place], out=residual)
            residual.addcmul_(weight, latent)
            squares += residual @ residual
            backward += residual @ weight
            residual *= 2 / n
            self.decoder_weight.update(place, torch.mul(residual, latent, out=gradient), self.steps)
            if self.decoder_bias is not None:
                self.decoder_bias.update(place, residual, self.steps)
        delta = 2 / n * backward * self.slope(latent)
        for place in self.chunks:
            gradient = torch.mul(source[place], delta, out=self.scratch[0, : place.stop - place.start])
            self.encoder_weight.update(place, gradient, self.steps)
        self.encoder_bias.update(slice(None), delta.reshape(1), self.steps)
        return squares / n

    def invert(self) -> None:
        """See `GradiendOptimizer.invert`."""
        for state in (self.encoder_weight, self.encoder_bias, self.decoder_weight):
            state.first.neg_()
