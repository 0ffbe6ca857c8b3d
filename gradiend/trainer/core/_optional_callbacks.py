"""Callbacks that a user adds: early stopping, TensorBoard, Weights & Biases."""

from __future__ import annotations

import json
import logging
from abc import abstractmethod
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from gradiend.trainer.core._callback import GLANCE, TrainingCallback, TrainingControl
from gradiend.trainer.core.arguments import TrainingArguments
from gradiend.util._imports import require_package
from gradiend.util.paths import TENSORBOARD_DIR

logger = logging.getLogger(__name__)


class EarlyStoppingCallback(TrainingCallback):
    """Ends a training when its evaluations stop improving, or when one evaluation is good enough.

    Args:
        patience: Evaluations in a row that may fail to improve on the best before the training ends. None: any number.
        min_improvement: By how much `|correlation|` must exceed the best one to be an improvement.
        threshold: `|correlation|` at which the training ends at once. None: there is no such end.

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
        """Forget the evaluations of an earlier training (another seed)."""
        self._start()

    def on_step_end(
        self, step: int, loss: float, model: Any, config: Any, eval_result: Mapping[str, Any] | None = None,
        control: TrainingControl | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        """Stop the training if the evaluation of this step, if there is one, says so."""
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


EXTRA = "tracking"


class TrackingCallback(TrainingCallback):
    """Sends numbers of a training to a tracker: train/loss, and the results of each evaluation.

    Args:
        loss_every: Steps between reports of the loss; a report is the mean loss since the previous report.

    Raises:
        ValueError: `loss_every` below 1.
    """

    def __init__(self, loss_every: int = 10) -> None:
        if loss_every < 1:
            raise ValueError(f"loss_every must be at least 1; got {loss_every!r}.")
        self.loss_every = loss_every
        self._losses: list[float] = []

    def state_dict(self) -> dict[str, Any]:
        """See `TrainingCallback.state_dict`."""
        return {"_losses": list(self._losses)}

    @abstractmethod
    def log(self, values: Mapping[str, float], step: int) -> None:
        """Send the named numbers of a step to the tracker."""

    def on_step_end(
        self, step: int, loss: float, model: Any, config: Any, eval_result: Mapping[str, Any] | None = None,
        training_stats: Mapping[str, Any] | None = None, last_iteration: bool = False, **kwargs: Any,
    ) -> None:  # fmt: skip
        """Report the loss and the evaluation of this step, if they are due."""
        values: dict[str, float] = {}
        self._losses.append(loss)
        if step % self.loss_every == 0 or last_iteration:
            values["train/loss"] = sum(self._losses) / len(self._losses)
            self._losses.clear()
        if eval_result is not None:
            values |= evaluation_numbers(eval_result, training_stats or {}, step)
        if values:
            self.log(values, step)


def evaluation_numbers(result: Mapping[str, Any], training_stats: Mapping[str, Any], step: int) -> dict[str, float]:
    """The known numbers among eval/correlation, eval/mean/<class> and the norms of encoder and decoder."""
    values = {"eval/correlation": result.get("correlation")}
    means = result.get("mean_by_feature_class") or result.get("mean_by_class") or {}
    values |= {f"eval/mean/{name}": mean for name, mean in means.items()}
    for name in ("encoder_norms", "decoder_norms"):
        values[f"eval/{name.removesuffix('s')}"] = training_stats.get(name, {}).get(step)
    return {name: float(value) for name, value in values.items() if value is not None}


def name_of(config: TrainingArguments) -> str:
    """The name of a run, which is the name of its output directory."""
    return Path(config.output_dir or "run").name


class TensorBoardCallback(TrackingCallback):
    """Writes event files for `tensorboard --logdir DIR`, one run for each training (seed).

    Args:
        log_dir: Directory of the runs. Default: `tensorboard/` beside the output directory.
        loss_every: Steps between reports of the loss.

    Raises:
        ImportError: tensorboard is not installed.
    """

    def __init__(self, log_dir: str | Path | None = None, loss_every: int = 10) -> None:
        super().__init__(loss_every)
        require_package("tensorboard", "TensorBoardCallback", EXTRA)
        self.log_dir = log_dir
        self._writer: Any = None

    def on_train_begin(self, config: Any, **kwargs: Any) -> None:
        """Open the run's event file, and write the arguments into it."""
        root = Path(config.output_dir or ".").parent / TENSORBOARD_DIR if self.log_dir is None else Path(self.log_dir)
        self._writer = import_module("torch.utils.tensorboard").SummaryWriter(str(root / name_of(config)))
        self._writer.add_text("arguments", f"```\n{json.dumps(config.to_dict(), indent=2, default=str)}\n```")

    def log(self, values: Mapping[str, float], step: int) -> None:
        """See `TrackingCallback.log`."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def on_train_end(self, config: Any, **kwargs: Any) -> None:
        """Close the event file."""
        self._writer.close()


class WandbCallback(TrackingCallback):
    """Logs to Weights & Biases, one run for each training (seed).

    Args:
        project: Name of the Weights & Biases project.
        loss_every: Steps between reports of the loss.
        **init_arguments: Arguments of `wandb.init`: name, group, tags, mode="offline", dir, …

    Raises:
        ImportError: wandb is not installed.
    """

    def __init__(self, project: str = "gradiend", loss_every: int = 10, **init_arguments: Any) -> None:
        super().__init__(loss_every)
        require_package("wandb", "WandbCallback", EXTRA)
        self.project = project
        self.init_arguments = init_arguments
        self._run: Any = None

    def on_train_begin(self, config: Any, **kwargs: Any) -> None:
        """Start a run with the arguments as its configuration."""
        arguments = {"name": name_of(config), **self.init_arguments}
        self._run = import_module("wandb").init(project=self.project, config=config.to_dict(), **arguments)

    def log(self, values: Mapping[str, float], step: int) -> None:
        """See `TrackingCallback.log`."""
        self._run.log(dict(values), step=step)

    def on_train_end(self, config: Any, **kwargs: Any) -> None:
        """Finish the run."""
        self._run.finish()
