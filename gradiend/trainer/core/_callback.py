"""The hooks around the steps of a training that a callback may override."""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

GLANCE = "glance"
"""Key of an `eval_result` that only a few rows gave: a point of the training's curve that decides nothing."""


@dataclass
class TrainingControl:
    """What callbacks ask of the training loop."""

    should_stop: bool = False
    """Whether the training ends after this step; the result is then the best model so far, or else the last one."""


class TrainingCallback(ABC):  # noqa: B024 - every hook is optional
    """The hooks of a training, to be overridden as needed; the loop calls them by keyword and may pass more
    keywords."""

    only_watches: bool = False
    """Whether the callback changes nothing of the training, so that `use_cache` does not ask for it."""

    def settings(self) -> Mapping[str, Any]:
        """The settings of the callback that change a training, as JSON values: `use_cache` compares them.

        By default there are none, so that `use_cache` compares the class alone.
        """
        return {}

    def state_dict(self) -> dict[str, Any]:
        """What the callback remembers between steps, so that a stopped training can go on: by default, its attributes.

        The values are numbers, texts, tensors, None, and dicts, lists and tuples of such values. A callback with other
        attributes, such as an open file, overrides this method and `load_state_dict`; else no state of the training is
        kept. A callback that only watches is not asked.
        """
        return dict(vars(self))

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Undo `state_dict`; called after `on_train_begin` of a training that goes on."""
        vars(self).update(state)

    def on_train_begin(self, config: Any, **kwargs: Any) -> None:
        """Called before the first step, also of a training that goes on after it was stopped."""

    def on_train_end(self, config: Any, **kwargs: Any) -> None:
        """Called after the last step."""

    def on_epoch_begin(self, epoch: int, config: Any, **kwargs: Any) -> None:
        """Called before each epoch; epochs count from 0."""

    def on_step_begin(self, step: int, config: Any, **kwargs: Any) -> None:
        """Called before each step; steps count from 1."""

    def on_step_end(self, step: int, loss: float, model: Any, config: Any, **kwargs: Any) -> Mapping[str, Any] | None:
        """Called after each step.

        Args:
            step: Number of the step, from 1.
            loss: Loss of the step; at most steps on an accelerator, a tensor () that nobody has read yet.
            model: The `ModelWithGradiend`.
            config: The `TrainingArguments`.
            **kwargs: training_stats, eval_result (what an earlier callback returned at this step), losses, last_losses,
                last_iteration, best_score_checkpoint, epoch, optimizer, control (a `TrainingControl`).

        Returns:
            An evaluation result for the later callbacks, or None.
        """

    def on_epoch_end(self, epoch: int, model: Any, config: Any, **kwargs: Any) -> None:
        """Called after each epoch."""
