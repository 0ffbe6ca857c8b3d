"""The training loop."""

from __future__ import annotations

import itertools
import logging
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gradiend.model.param_mapped import ParamMappedGradiendModel
from gradiend.trainer.core._class_means import initialize_from_class_means, means_batches, require_closed_form
from gradiend.trainer.core._optimizers import GradiendOptimizer
from gradiend.trainer.core._rate_result import LRSearchResult
from gradiend.trainer.core._rate_sample import ENTRIES, Examples, is_sampled
from gradiend.trainer.core._rate_search import (
    FEWEST_BATCHES,
    MOST_BATCHES,
    batches_to_read,
    find_learning_rate,
    read_batches,
)
from gradiend.trainer.core._seeds import intermediate_checkpoints, remove_checkpoint
from gradiend.trainer.core._step import label_of, optimizer_for, training_pair
from gradiend.trainer.core.arguments import TrainingArguments
from gradiend.trainer.core.callbacks import (
    MEANS,
    TrainingCallback,
    TrainingControl,
    get_default_callbacks,
    invert,
    require_finite_weights,
    way_out,
)
from gradiend.trainer.core.dataset import GradientBatches
from gradiend.trainer.core.stats import class_means, convergence, divergence, write_training_stats
from gradiend.util._keywords import resolve_keywords
from gradiend.util._progress import Progress
from gradiend.util.paths import TRAINING

logger = logging.getLogger(__name__)

LOSS_WINDOW = 20
"""Steps over which the loss in the progress bar is averaged, and after which the losses on an accelerator are read."""
LAST_BATCHES = 8
"""Number of last batches that decide whether a training has diverged and, without an evaluation, its sign."""


def train(
    model_with_gradiend: Any, data: GradientBatches | Iterable[Mapping[str, Any]],
    training_args: TrainingArguments | None = None, callbacks: Sequence[TrainingCallback] | None = None, *,
    held_out: Examples | None = None, **kwargs: Any,
) -> str:  # fmt: skip
    """Train a GRADIEND on (source, target) gradients.

    Args:
        model_with_gradiend: The model whose GRADIEND is trained; its base model does not change.
        data: A pair of gradients for each step: `GradientBatches`, a `GradientTrainingDataset`, a DataLoader with
            batch_size=1, or any other sized iterable of dicts with `source` and `target`, each (input_dim,) or
            (1, input_dim). The supervised modes read `label` in place of `source` or `target`.
        training_args: The arguments; `output_dir` must be set here or as a keyword.
        callbacks: Callbacks, which are called after the default ones.
        held_out: Function that gives examples by which `learning_rate="auto"` judges rates: dicts with `source`
            (input_dim,) and `label` (+1 or −1). Default: some of the batches are held out of the search.
        **kwargs: Fields of `training_args` that are overridden.

    Returns:
        The output directory, which holds the checkpoint and training.json.

    Raises:
        ValueError: An unknown keyword, no data, data without a length, or no output_dir.
        KeyError: A batch without source or target.
        FloatingPointError: A loss or weight is infinite or undefined; nothing is saved then.
        NoConvergentLearningRate: The learning rate is "auto", and every rate diverges.
    """
    arguments = training_args or TrainingArguments()
    try:
        overrides = resolve_keywords("TrainingArguments", kwargs, arguments.names())
    except TypeError as error:
        raise ValueError(str(error)) from error
    arguments = arguments.replace(**overrides)
    if arguments.output_dir is None:
        raise ValueError("train() needs output_dir, the directory for the trained model.")
    if not isinstance(data, Sized):
        raise ValueError(f"The training data must have a length, which decides the steps; got {type(data).__name__}.")
    steps = total_steps(len(data), arguments)
    if arguments.init == "class_means":
        require_closed_form(model_with_gradiend.gradiend)
    Path(arguments.output_dir).mkdir(parents=True, exist_ok=True)
    # An earlier, interrupted run may have left a best model, which does not belong to this run.
    remove_checkpoint(best_path(arguments.output_dir))
    initialize(model_with_gradiend.gradiend, data, arguments)
    found: dict[str, Any] = {}
    if arguments.searches_rate:
        arguments, found = with_found_rate(model_with_gradiend.gradiend, data, arguments, steps, held_out)
    run = TrainingRun(model_with_gradiend, arguments, [*get_default_callbacks(arguments), *(callbacks or ())])
    run.stats |= found
    run.run(data, steps)
    return run.finish()


def initialize(gradiend: Any, data: Any, arguments: TrainingArguments) -> None:
    """Set the weights before the first step, if the arguments ask for other weights than those of the network."""
    if arguments.init == "class_means":
        initialize_from_class_means(gradiend, batches_of(data, 0, arguments), means_batches(arguments))


def with_found_rate(
    gradiend: Any, data: Any, arguments: TrainingArguments, steps: int, held_out: Examples | None
) -> tuple[TrainingArguments, dict[str, Any]]:
    """The arguments with a learning rate that was searched for, and what training.json says about the search."""
    if not steps:
        logger.info('learning_rate="auto" has no effect on a training without steps.')
        return arguments.replace(learning_rate=TrainingArguments.learning_rate), {}
    result = search_rate(gradiend, data, arguments, steps, held_out)
    return arguments.replace(learning_rate=result.best_lr), {"learning_rate_search": result.to_dict()}


def search_rate(
    gradiend: Any, data: Any, arguments: TrainingArguments, steps: int, held_out: Examples | None,
    initial_lr: float | None = None,
) -> LRSearchResult:  # fmt: skip
    """Search for the learning rate of a training on `data`, see `find_learning_rate`."""
    again = isinstance(data, GradientBatches) and data.reads_again(MOST_BATCHES)
    count = min(batches_to_read(steps, read_again=again), len(data))
    if gradiend.input_dim > ENTRIES and not is_sampled(gradiend, arguments):
        # All entries of every batch are held in memory.
        room = arguments.kept_gradients_size // (2 * gradiend.input_dim * gradiend.torch_dtype.itemsize)
        count = min(count, max(FEWEST_BATCHES // 2, room))
    if not again:
        logger.info(
            "The search for a learning rate computes the gradients of %d of %d batches, which the training computes "
            "again: kept_gradients_size has no room for them.", count, steps,
        )  # fmt: skip
    batches = read_batches(batches_of(data, 0, arguments), count)
    return find_learning_rate(gradiend, batches, held_out, arguments, steps, initial_lr=initial_lr)


def best_path(output_dir: str | Path) -> Path:
    """Directory of the best model so far, which `CheckpointCallback` writes."""
    return Path(f"{output_dir}_best")


def total_steps(batches_per_epoch: int, arguments: TrainingArguments) -> int:
    """Number of steps of a training: max_steps, or those of whole epochs if max_steps is negative.

    Raises:
        ValueError: There are no batches.
    """
    if not batches_per_epoch:
        raise ValueError("There is no training batch: the training data is empty.")
    return arguments.max_steps if arguments.max_steps >= 0 else arguments.num_train_epochs * batches_per_epoch


def batches_of(data: Any, epoch: int, arguments: TrainingArguments) -> Iterator[Mapping[str, Any]]:
    """The batches of an epoch, in the order of the run's seed."""
    return iter(data.epoch(epoch, arguments.seed) if isinstance(data, GradientBatches) else data)


class TrainingRun:
    """One training: its loop, and the state that callbacks see."""

    def __init__(self, model: Any, arguments: TrainingArguments, callbacks: Sequence[TrainingCallback]) -> None:
        self.model = model
        self.arguments = arguments
        self.callbacks = callbacks
        self.optimizer: GradiendOptimizer | None = None
        self.control = TrainingControl()
        self.losses: list[float] = []
        self.unread: list[Tensor] = []
        self.last_losses: list[float] = []
        self.best: dict[str, Any] = {}
        self.stats: dict[str, Any] = {"global_step": 0}
        self.agreement: list[Tensor] = []
        """label · encoding of the last batches, if no evaluation says which class encodes positive."""
        self.of_nothing: dict[int, Tensor] = {}
        """Step → the loss that a GRADIEND with zeros as output would have on the batch of this step."""
        self.seconds = {"total": 0.0, "gradients": 0.0, "gradiend": 0.0, "callbacks": 0.0}

    def run(self, data: Any, steps: int) -> None:
        """Take `steps` steps, in as many epochs as they need; with 0 steps, only evaluate the initial weights."""
        start = time.perf_counter()
        if steps:
            self.optimizer = optimizer_for(self.model.gradiend, self.arguments)
        for callback in self.callbacks:
            callback.on_train_begin(**self._shared())
        if steps:
            self._epochs(data, steps)
        else:
            self._end_step(math.nan, epoch=0, last=True)
        self.seconds["total"] = time.perf_counter() - start
        for callback in self.callbacks:
            callback.on_train_end(**self._shared())

    def _epochs(self, data: Any, steps: int) -> None:
        arguments = self.arguments
        label = "training" if arguments.max_seeds == 1 else f"seed {arguments.seed}"
        with Progress(label, steps) as bar:
            for epoch in itertools.count():
                for callback in self.callbacks:
                    callback.on_epoch_begin(epoch=epoch, **self._shared())
                taken = self.stats["global_step"]
                for batch in itertools.islice(self._epoch(data, epoch), steps - taken):
                    left = steps - self.stats["global_step"]
                    self._step(batch, epoch, left=left)
                    if left <= LAST_BATCHES and self._sign_is_open(batch):
                        encoded = self.model.gradiend.forward_encoder(batch["source"].reshape(-1)).detach()
                        self.agreement.append(encoded.cpu().double() * label_of(batch))
                    self._show(bar)
                    if self.control.should_stop:
                        break
                if self.stats["global_step"] == taken:
                    raise ValueError(f"The training data gave no batch in epoch {epoch + 1}: can it be iterated again?")
                for callback in self.callbacks:
                    callback.on_epoch_end(epoch=epoch, time_stats=self.seconds, **self._shared())
                if self.stats["global_step"] >= steps or self.control.should_stop:
                    break

    def _sign_is_open(self, batch: Mapping[str, Any]) -> bool:
        """Whether only the training batches can tell which class encodes positive."""
        known = self.stats.get("correlation") is not None or self.model.gradiend.latent_dim > 1
        return self.arguments.normalizes and not known and "label" in batch

    def _shared(self) -> dict[str, Any]:
        return {
            "config": self.arguments,
            "model": self.model,
            "training_stats": self.stats,
            "losses": self.losses,
            "last_losses": self.last_losses,
            "best_score_checkpoint": self.best,
            "optimizer": self.optimizer,
            "control": self.control,
        }

    def _epoch(self, data: Any, epoch: int) -> Iterator[Mapping[str, Any]]:
        batches = batches_of(data, epoch, self.arguments)
        while True:
            start = time.perf_counter()
            batch = next(batches, None)
            self.seconds["gradients"] += time.perf_counter() - start
            if batch is None:
                return
            yield batch

    def _step(self, batch: Mapping[str, Any], epoch: int, *, left: int) -> None:
        step, last = self.stats["global_step"] + 1, left == 1
        for callback in self.callbacks:
            callback.on_step_begin(step=step, epoch=epoch, **self._shared())
        source, target = training_pair(batch, self.arguments)
        start = time.perf_counter()
        assert self.optimizer is not None
        loss = self.optimizer.step(source, target)
        self.unread.append(loss)
        self.seconds["gradiend"] += time.perf_counter() - start
        self.stats["global_step"] = step
        # Reading a number makes the host wait for an accelerator; on a CPU reading costs nothing.
        if loss.device.type == "cpu" or last or step % LOSS_WINDOW == 0:
            self._read_losses()
        if last:
            require_finite_weights(self.model, self.arguments)
        self._end_step(loss if self.unread else self.losses[-1], epoch, last=last)
        if left <= LAST_BATCHES or self.control.should_stop:
            # Zeros in place of the target make the loss comparable between batches with gradients of different size.
            assert self.arguments.criterion is not None
            self.of_nothing[step] = self.arguments.criterion(torch.zeros_like(target), target).detach()

    def _end_step(self, loss: Any, epoch: int, *, last: bool) -> None:
        start = time.perf_counter()
        result: Mapping[str, Any] | None = None
        for callback in self.callbacks:
            returned = callback.on_step_end(
                step=self.stats["global_step"], loss=loss, eval_result=result,
                last_iteration=last or self.control.should_stop, epoch=epoch, **self._shared(),
            )  # fmt: skip
            result = result if returned is None else returned
        self.seconds["callbacks"] += time.perf_counter() - start

    def _read_losses(self) -> None:
        read = torch.stack(self.unread).tolist()
        self.unread.clear()
        for step, loss in enumerate(read, start=len(self.losses) + 1):
            if not math.isfinite(loss):
                raise FloatingPointError(
                    f"The loss became {loss} at step {step}. {way_out(self.model, self.arguments)}, or check the base "
                    "model's gradients for infinities."
                )
        self.losses += read
        self.last_losses += read

    def _show(self, bar: Progress) -> None:
        recent, step = self.losses[-LOSS_WINDOW:], self.stats["global_step"]
        loss = f"loss {sum(recent) / len(recent):.2g}" if recent else None
        bar.advance(1, loss, *self._measured(), news=step in self.stats.get("scores", {}))

    def _measured(self) -> list[str]:
        """What the bar says of the latest evaluation; nothing before the first one."""
        scores = self.stats.get("scores", {})
        latest = max(scores, default=None)
        notes = [] if latest is None or scores[latest] is None else [f"correlation {scores[latest]:.3f}"]
        means = self.stats.get("mean_by_class", {}).get(latest, {})
        return [*notes, class_means(means, self.stats.get("label_value_to_class_name", {}), " / ").replace("-", "−")]

    def finish(self) -> str:
        """Take the best model if there is one, make the first class positive, and write the output directory."""
        assert self.arguments.output_dir is not None
        output = Path(self.arguments.output_dir)
        best = best_path(output)
        correlation = self.stats.get("correlation")
        # The moments of the optimizer are twice as large as the weights, and the best model needs room now.
        del self.optimizer
        require_finite_weights(self.model, self.arguments)
        self.model.gradiend.mark_trained()
        self._notice_divergence()
        if best.is_dir():
            gradiend = self.model.gradiend
            self.model.gradiend = ParamMappedGradiendModel.from_pretrained(
                str(best), gradiend.device_encoder, gradiend.device_decoder
            )
            correlation = self.best.get("correlation", correlation)
        if correlation is None and self.agreement:
            correlation = torch.stack(self.agreement).sum().item()
        if self.arguments.normalizes and correlation is not None and correlation < 0:
            self._make_positive()
        # Measurements of an earlier training must not stay beside this model, should the process end too early.
        (output / TRAINING).unlink(missing_ok=True)
        self.model.save_pretrained(str(output))
        outcome = convergence(self.arguments, self.stats, self.best, self.losses)
        write_training_stats(
            output, self.stats, self.best, self.arguments, self.seconds, self.losses, outcome.to_dict()
        )
        remove_checkpoint(best)
        if self.arguments.delete_models:
            for checkpoint in intermediate_checkpoints(output):
                remove_checkpoint(checkpoint)
        return str(output)

    def _notice_divergence(self) -> None:
        """Record and log that the training has diverged, if it has; see `gradiend.trainer.core.stats.divergence`."""
        if self.unread:
            self._read_losses()
        last = sorted(self.of_nothing)
        why = divergence(
            self.losses[:1], [self.losses[step - 1] for step in last], [float(self.of_nothing[step]) for step in last]
        )
        if why is not None:
            self.stats["diverged"] = f"{why}. {way_out(self.model, self.arguments)}"
            logger.warning("The training has diverged and does not count as converged: %s.", self.stats["diverged"])

    def _make_positive(self) -> None:
        """Invert the encoding of the kept model, and the measurements of this model."""
        scores = self.stats.get("scores", {})
        latest = max(scores, default=None)
        kept = self.best.get("global_step", latest)
        measured = None
        if kept in scores:
            means = {name: self.stats[name][kept] for name in MEANS if kept in self.stats.get(name, {})}
            measured = {"correlation": scores[kept], **means}
        last = self.stats.get("correlation")
        if invert(self.model, measured, None if measured is None else self.stats, None, kept or 0) is None:
            return
        if kept != latest:
            self.stats["correlation"] = last
        if "correlation" in self.best:
            self.best["correlation"] = -self.best["correlation"]
