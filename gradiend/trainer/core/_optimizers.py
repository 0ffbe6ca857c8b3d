"""The optimizers by name; `gradiend.trainer.core._step` trains with them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

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
