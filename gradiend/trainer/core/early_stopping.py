"""Ending a training when more steps do not help, or are not needed."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from gradiend.trainer.core.callback import GLANCE, TrainingCallback, TrainingControl

logger = logging.getLogger(__name__)


class EarlyStoppingCallback(TrainingCallback):
    """Ends a training by its evaluations: when they stop improving, or when one is good enough.

    Args:
        patience: Evaluations in a row that may fail to improve on the best before the training ends. None: any number.
        min_improvement: By how much |correlation| must exceed the best to be an improvement.
        threshold: |correlation| at which the training ends at once. None: no such end.

    Raises:
        ValueError: A number outside its range, or neither patience nor threshold.
    """

    def __init__(self, patience: int | None = 3, min_improvement: float = 0.0, threshold: float | None = None) -> None:
        if patience is None and threshold is None:
            raise ValueError("EarlyStoppingCallback needs patience, threshold, or both: otherwise it never stops.")
        if patience is not None and (not isinstance(patience, int) or patience < 1):
            raise ValueError(f"patience counts evaluations: an int of at least 1, or None; got {patience!r}.")
        if min_improvement < 0:
            raise ValueError(f"min_improvement must be at least 0; got {min_improvement!r}.")
        if threshold is not None and not 0 < threshold <= 1:
            raise ValueError(f"threshold is a |correlation|, above 0 and at most 1; got {threshold!r}.")
        self.patience = patience
        self.min_improvement = min_improvement
        self.threshold = threshold
        self._start()

    def settings(self) -> Mapping[str, Any]:
        """See `TrainingCallback.settings`."""
        return {"patience": self.patience, "min_improvement": self.min_improvement, "threshold": self.threshold}

    def _start(self) -> None:
        self.best_score: float | None = None
        self.evaluations_without_improvement = 0

    def on_train_begin(self, config: Any, **kwargs: Any) -> None:
        """Forget an earlier training (another seed)."""
        self._start()

    def on_step_end(
        self,
        step: int,
        loss: float,
        model: Any,
        config: Any,
        eval_result: Mapping[str, Any] | None = None,
        control: TrainingControl | None = None,
        **kwargs: Any,
    ) -> None:
        """Look at the evaluation of this step, if there was one."""
        if eval_result is None or GLANCE in eval_result:
            return
        correlation = eval_result.get("correlation")
        if correlation is None or control is None:
            return
        score = abs(correlation)
        if self.best_score is None or score > self.best_score + self.min_improvement:
            self.best_score, self.evaluations_without_improvement = score, 0
        else:
            self.evaluations_without_improvement += 1
        reason = None
        if self.threshold is not None and score >= self.threshold:
            reason = f"|correlation| {score:.3f} has reached {self.threshold:g}"
        elif self.patience is not None and self.evaluations_without_improvement >= self.patience:
            reason = f"|correlation| has not improved on {self.best_score:.3f} in {self.patience} evaluations"
        if reason is not None:
            logger.info("The training ends after step %d: %s.", step, reason)
            control.should_stop = True
