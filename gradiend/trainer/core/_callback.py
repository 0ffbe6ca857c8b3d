"""What happens around the steps of a training: the hooks that a callback may override."""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

GLANCE = "glance"
"""Key of an `eval_result` that few rows gave: a point of the training's curve, by which nothing is chosen or ended."""


@dataclass
class TrainingControl:
    """Set by callbacks, read by the loop."""

    should_stop: bool = False
    """End the training after this step. The result is the best model evaluated so far, or without one the last."""


class TrainingCallback(ABC):  # noqa: B024 - every hook is optional
    """Override what you need. The loop passes everything by keyword and may pass more than is named here."""

    def settings(self) -> Mapping[str, Any]:
        """What it was made with, where that changes a training: JSON values, by which `use_cache` tells trainings
        apart. Default: nothing, so that the class alone counts.
        """
        return {}

    def on_train_begin(self, config: Any, **kwargs: Any) -> None:
        """Before the first step."""

    def on_train_end(self, config: Any, **kwargs: Any) -> None:
        """After the last step."""

    def on_epoch_begin(self, epoch: int, config: Any, **kwargs: Any) -> None:
        """Before an epoch; they count from 0."""

    def on_step_begin(self, step: int, config: Any, **kwargs: Any) -> None:
        """Before a step; they count from 1."""

    def on_step_end(self, step: int, loss: float, model: Any, config: Any, **kwargs: Any) -> Mapping[str, Any] | None:
        """After a step.

        Args:
            step: Counts from 1.
            loss: Of this step; on an accelerator a tensor () that is not yet read, at most steps.
            model: The `ModelWithGradiend`.
            config: The `TrainingArguments`.
            **kwargs: training_stats, eval_result (what a callback before this one returned at this step), losses,
                last_losses, last_iteration, best_score_checkpoint, epoch, optimizer, control (a `TrainingControl`).

        Returns:
            An evaluation result for the callbacks after this one, or None.
        """

    def on_epoch_end(self, epoch: int, model: Any, config: Any, **kwargs: Any) -> None:
        """After an epoch."""
