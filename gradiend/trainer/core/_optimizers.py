"""The optimizers by name, and a GRADIEND step: the loss between decoded source and target, and the update.

`AutogradOptimizer` is for every network, criterion and optimizer. `AnalyticOptimizer` and `CompiledOptimizer` make the
same step for usual networks (`steps_analytically`) without an intermediate of length n.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from gradiend.model.model import GradiendModel

if TYPE_CHECKING:
    from gradiend.trainer.core.arguments import TrainingArguments

BETAS = (0.9, 0.999)


@dataclass(frozen=True)
class OptimizerKind:
    """An optimizer that `TrainingArguments(optim=…)` may name."""

    create: Callable[..., torch.optim.Optimizer]
    """Makes the optimizer; called with the weights and lr=, betas=, eps= and weight_decay=."""
    state: int
    """Numbers that the optimizer keeps for each weight."""
    moments: tuple[str, ...] = ()
    """Names of the entries of the optimizer's state that change sign when the weights do."""
    decoupled: bool | None = None
    """For Adam's formula, which the analytic and the compiled step know: whether the weight decay is applied to the
    weights (True) or added to the gradient (False). None: an optimizer with another formula, which needs autograd."""


OPTIMIZERS: dict[str, OptimizerKind] = {
    "adamw": OptimizerKind(torch.optim.AdamW, state=2, moments=("exp_avg",), decoupled=True),
    "adam": OptimizerKind(torch.optim.Adam, state=2, moments=("exp_avg",), decoupled=False),
}


class GradiendOptimizer(Protocol):
    """Trains a GRADIEND in place."""

    def step(self, source: Tensor, target: Tensor) -> Tensor:
        """One update on flat gradients (input_dim,); returns the loss before the update, ()."""

    def invert(self) -> None:
        """Negate the first moments of the weights that `GradiendModel.invert_encoding` negates."""

    def state_dict(self) -> dict[str, Any]:
        """What the optimizer remembers between steps; tensors may be those that it goes on changing."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Undo `state_dict`."""


class AutogradOptimizer:
    """An optimizer of torch on the autograd graph of the network."""

    def __init__(self, gradiend: GradiendModel, arguments: TrainingArguments) -> None:
        self.gradiend = gradiend
        assert arguments.criterion is not None
        self.criterion = arguments.criterion
        size = gradiend.latent_dim if arguments.supervised_encoder else gradiend.input_dim
        nothing = next(gradiend.parameters()).detach().new_zeros(size)
        tried = self.criterion(nothing, nothing)
        if not isinstance(tried, Tensor) or tried.numel() != 1:
            what = f"shape {tuple(tried.shape)}" if isinstance(tried, Tensor) else f"a {type(tried).__name__}"
            raise TypeError(f"criterion must return a tensor of one number; it returned {what}.")
        self.kind = OPTIMIZERS[arguments.optim]
        self.optimizer = self.kind.create(
            gradiend.parameters(), lr=arguments.learning_rate, betas=BETAS, eps=arguments.adam_epsilon,
            weight_decay=arguments.weight_decay,
        )  # fmt: skip

    @torch.enable_grad()
    def step(self, source: Tensor, target: Tensor) -> Tensor:
        predicted = self.predict(source)
        loss = self.criterion(predicted, target.to(predicted))
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        # An activation such as tanh hides an infinite source; zero times infinity does not.
        return loss.detach() + source.detach().mul(0).sum().to(loss)

    def predict(self, source: Tensor) -> Tensor:
        """The prediction, which the loss compares with the target."""
        return self.gradiend(source)

    def state_dict(self) -> dict[str, Any]:
        return self.optimizer.state_dict()["state"]

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": dict(state)})

    def invert(self) -> None:
        for parameter in self.gradiend.inverted_parameters():
            for name in self.kind.moments if parameter in self.optimizer.state else ():
                self.optimizer.state[parameter][name].neg_()
