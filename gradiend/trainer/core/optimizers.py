"""One GRADIEND step: the loss between decoded source and target, and the optimizer update.

`AutogradOptimizer` is for every network and criterion; `AnalyticOptimizer` and `CompiledOptimizer` do the same to the
usual one (one latent, tanh or id, identity decoder, MSE) without an intermediate of length n.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from gradiend.model.model import GradiendModel
from gradiend.trainer.core.analytic_step import BETAS, AnalyticOptimizer, steps_analytically
from gradiend.trainer.core.arguments import TrainingArguments
from gradiend.trainer.core.compiled_step import CompiledOptimizer
from gradiend.util.logging import get_logger

logger = get_logger(__name__)


class GradiendOptimizer(Protocol):
    """Trains a GRADIEND in place."""

    def step(self, source: Tensor, target: Tensor) -> Tensor:
        """One update on flat gradients (input_dim,); returns the loss before it, ()."""

    def invert(self) -> None:
        """Negate the first moments of what `GradiendModel.invert_encoding` negates."""


def create_optimizer(gradiend: GradiendModel, arguments: TrainingArguments) -> GradiendOptimizer:
    """The analytic optimizer where it applies, compiled if that is asked for; otherwise autograd."""
    if steps_analytically(gradiend, arguments):
        return (CompiledOptimizer if arguments.torch_compile else AnalyticOptimizer)(gradiend, arguments)
    if arguments.torch_compile:
        logger.warning(
            "torch_compile has no effect: it is for one latent, tanh or id, a decoder without activation and MSE."
        )
    return AutogradOptimizer(gradiend, arguments)


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
            eps=arguments.adam_epsilon,
            weight_decay=arguments.weight_decay,
        )

    def step(self, source: Tensor, target: Tensor) -> Tensor:
        """See `GradiendOptimizer.step`."""
        predicted = self.predict(source)
        loss = self.criterion(predicted, target.to(predicted))
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def predict(self, source: Tensor) -> Tensor:
        """What the target is compared with."""
        return self.gradiend(source)

    def invert(self) -> None:
        """See `GradiendOptimizer.invert`."""
        for parameter in self.gradiend.inverted_parameters():
            if parameter in self.optimizer.state:
                self.optimizer.state[parameter]["exp_avg"].neg_()
