"""Loss, evaluations and arguments of a training, sent to TensorBoard or Weights & Biases."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from gradiend.trainer.core.arguments import TrainingArguments
from gradiend.trainer.core.callback import TrainingCallback
from gradiend.util._imports import require_package

EXTRA = "tracking"


class TrackingCallback(TrainingCallback):
    """Sends numbers of a training somewhere: train/loss, and after each evaluation what it found.

    Args:
        loss_every: Steps between reports of the loss; each is the mean since the one before.

    Raises:
        ValueError: `loss_every` below 1.
    """

    def __init__(self, loss_every: int = 10) -> None:
        if loss_every < 1:
            raise ValueError(f"loss_every must be at least 1; got {loss_every!r}.")
        self.loss_every = loss_every
        self._losses: list[float] = []

    @abstractmethod
    def log(self, values: Mapping[str, float], step: int) -> None:
        """Send named numbers of a step."""

    def on_step_end(
        self,
        step: int,
        loss: float,
        model: Any,
        config: Any,
        eval_result: Mapping[str, Any] | None = None,
        training_stats: Mapping[str, Any] | None = None,
        last_iteration: bool = False,
        **kwargs: Any,
    ) -> None:
        """Report what is new."""
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
    """eval/correlation, eval/mean/<class> and the norms of encoder and decoder, as far as they are known."""
    values = {"eval/correlation": result.get("correlation")}
    means = result.get("mean_by_feature_class") or result.get("mean_by_class") or {}
    values |= {f"eval/mean/{name}": mean for name, mean in means.items()}
    for name in ("encoder_norms", "decoder_norms"):
        values[f"eval/{name.removesuffix('s')}"] = training_stats.get(name, {}).get(step)
    return {name: float(value) for name, value in values.items() if value is not None}


def name_of(config: TrainingArguments) -> str:
    """The run's name: that of its output directory."""
    return Path(config.output_dir or "run").name


class TensorBoardCallback(TrackingCallback):
    """Writes event files for `tensorboard --logdir DIR`, one run for each training (seed).

    Args:
        log_dir: Where runs go. Default: `tensorboard/` beside the output directory.
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
        root = Path(config.output_dir or ".").parent / "tensorboard" if self.log_dir is None else Path(self.log_dir)
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
        project: Of Weights & Biases.
        loss_every: Steps between reports of the loss.
        **init_arguments: For `wandb.init`: name, group, tags, mode="offline", dir, …

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
