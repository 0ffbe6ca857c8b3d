"""The training loop."""

from __future__ import annotations

import itertools
import logging
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from gradiend.model._checkpoint import refuse_other_model
from gradiend.model.model_with_gradiend import ModelWithGradiend
from gradiend.trainer.core._class_means import initialize_from_class_means, means_batches, require_closed_form
from gradiend.trainer.core._rate_sample import Examples
from gradiend.trainer.core._rate_search import search_rate
from gradiend.trainer.core._resume import KeptStates, random_state, set_random_state
from gradiend.trainer.core._seeds import best_path, intermediate_checkpoints, remove_checkpoint
from gradiend.trainer.core._step import GradiendOptimizer, label_of, optimizer_for, training_pair
from gradiend.trainer.core.arguments import TrainingArguments
from gradiend.trainer.core.callbacks import (
    RECORDED,
    TrainingCallback,
    TrainingControl,
    get_default_callbacks,
    invert,
    require_finite_weights,
    step_of_checkpoint,
    way_out,
)
from gradiend.trainer.core.dataset import GradientBatches, batches_of
from gradiend.trainer.core.stats import class_means, convergence, divergence, write_training_stats
from gradiend.util._files import remove
from gradiend.util._keywords import resolve_keywords
from gradiend.util._processes import processes
from gradiend.util._progress import Progress
from gradiend.util.paths import TRAINING

logger = logging.getLogger(__name__)

LOSS_WINDOW = 20
"""Steps over which the loss in the progress bar is averaged, and after which the losses on an accelerator are read."""
KEPT = (
    "epoch", "position", "epoch_random", "last_losses", "best", "stats", "agreement", "of_nothing", "seconds",
)  # fmt: skip
"""Attributes of a `TrainingRun` that its state holds without any change."""
Hook = Literal["on_train_begin", "on_epoch_begin", "on_step_begin", "on_epoch_end", "on_train_end"]
"""The hooks of callbacks whose result does not count."""
LAST_BATCHES = 8
"""Number of last batches that decide whether a training has diverged and, without an evaluation, its sign."""


def train(
    model_with_gradiend: Any, data: GradientBatches | Iterable[Mapping[str, Any]],
    training_args: TrainingArguments | None = None, callbacks: Sequence[TrainingCallback] | None = None, *,
    held_out: Examples | None = None, kept: KeptStates | None = None, **kwargs: Any,
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
        kept: The states of this training, from the newest of which it goes on. They and the best model stay until the
            caller calls `kept.forget()`. Default: none are kept.
        **kwargs: Fields of `training_args` that are overridden.

    Returns:
        The output directory, which holds the checkpoint and training.json.

    Raises:
        ValueError: An unknown keyword, no data, data without a length, no output_dir, or one that holds a model of
            transformers.
        KeyError: A batch without source or target.
        FloatingPointError: A loss or weight is infinite or undefined; the last good state and best model stay.
        RuntimeError: The best model was removed, or replaced, while the training ran.
        Interrupted: `kept` says that the training should stop; its state is kept.
        NoConvergentLearningRate: The learning rate is "auto", and every rate diverges.
    """
    arguments = training_args or TrainingArguments()
    try:
        overrides = resolve_keywords("TrainingArguments", kwargs, arguments.names())
    except TypeError as error:
        raise ValueError(str(error)) from error
    arguments = arguments.replace(**overrides)
    output = arguments.output_dir
    if output is None:
        raise ValueError("train() needs output_dir, the directory for the trained model.")
    refuse_other_model(output)
    if not isinstance(data, Sized):
        raise ValueError(f"The training data must have a length, which decides the steps; got {type(data).__name__}.")
    steps = total_steps(len(data), arguments)
    if arguments.init == "class_means":
        require_closed_form(model_with_gradiend.gradiend)
    Path(output).mkdir(parents=True, exist_ok=True)
    state = None if kept is None else kept.take()
    found: dict[str, Any] = {}
    if state is not None:
        arguments = arguments.replace(learning_rate=state["learning_rate"])
    else:
        # An earlier, interrupted run may have left a best model, which does not belong to this run.
        remove_checkpoint(best_path(output))
        initialize(model_with_gradiend.gradiend, data, arguments)
        if arguments.searches_rate:
            arguments, found = with_found_rate(model_with_gradiend.gradiend, data, arguments, steps, held_out)
    run = TrainingRun(model_with_gradiend, arguments, [*get_default_callbacks(arguments), *(callbacks or ())], kept)
    run.stats |= found
    run.run(data, steps, state)
    return run.finish()


def initialize(gradiend: Any, data: Any, arguments: TrainingArguments) -> None:
    """Set the weights before the first step, if the arguments ask for other weights than those of the network."""
    if arguments.init == "class_means":
        initialize_from_class_means(gradiend, batches_of(data, 0, arguments.seed), means_batches(arguments))


def with_found_rate(
    gradiend: Any, data: Any, arguments: TrainingArguments, steps: int, held_out: Examples | None
) -> tuple[TrainingArguments, dict[str, Any]]:
    """The arguments with a learning rate that was searched for, and what training.json says about the search."""
    if not steps:
        logger.info('learning_rate="auto" has no effect on a training without steps.')
        return arguments.replace(learning_rate=TrainingArguments.learning_rate), {}
    result = search_rate(gradiend, data, arguments, steps, held_out)
    return arguments.replace(learning_rate=result.best_lr), {"learning_rate_search": result.to_dict()}


def total_steps(batches_per_epoch: int, arguments: TrainingArguments) -> int:
    """Number of steps of a training: max_steps, or those of whole epochs if max_steps is negative."""
    if not batches_per_epoch:
        raise ValueError("There is no training batch: the training data is empty.")
    return arguments.max_steps if arguments.max_steps >= 0 else arguments.num_train_epochs * batches_per_epoch


class TrainingRun:
    """One training: its loop, and the state that callbacks see."""

    def __init__(
        self, model: Any, arguments: TrainingArguments, callbacks: Sequence[TrainingCallback],
        kept: KeptStates | None = None,
    ) -> None:  # fmt: skip
        self.model = model
        self.arguments = arguments
        self.output = Path(arguments.output_dir or "")
        self.callbacks = callbacks
        self.kept = kept
        self.optimizer: GradiendOptimizer | None = None
        self.control = TrainingControl()
        self.losses: list[float] = []
        self.unread: list[tuple[Tensor, Mapping[str, Any]]] = []
        """Losses that are not read from an accelerator yet, and what is known of their batches."""
        self.last_losses: list[float] = []
        self.best: dict[str, Any] = {}
        self.stats: dict[str, Any] = {"global_step": 0}
        self.agreement: list[Tensor] = []
        """label · encoding of the last batches, if no evaluation says which class encodes positive."""
        self.of_nothing: dict[int, Tensor] = {}
        """Step → the loss that a GRADIEND with zeros as output would have on the batch of this step."""
        self.seconds = {"total": 0.0, "gradients": 0.0, "gradiend": 0.0, "callbacks": 0.0}
        self.epoch = 0
        self.position = 0
        """Batches of the epoch that were taken."""
        self.epoch_random: dict[str, Any] = {}
        """The random generators at the begin of the epoch, by which data that draws its order draws it again."""

    def run(self, data: Any, steps: int, state: Mapping[str, Any] | None = None) -> None:
        """Take `steps` steps, in as many epochs as they need; with 0 steps, only evaluate the initial weights.

        With a `state`, the training goes on from there.
        """
        if steps:
            self.optimizer = optimizer_for(self.model.gradiend, self.arguments)
        self._call("on_train_begin")
        if state is not None:
            self._restore(state)
        start = time.perf_counter() - self.seconds["total"]
        if steps:
            with nullcontext() if self.kept is None else self.kept.stop.waiting():
                self._epochs(data, steps, start)
        else:
            self._end_step(math.nan, last=True)
        self.seconds["total"] = time.perf_counter() - start
        self._call("on_train_end")

    def _epochs(self, data: Any, steps: int, start: float) -> None:
        arguments = self.arguments
        label = "training" if arguments.max_seeds == 1 else f"seed {arguments.seed}"
        with Progress(label, steps, done=self.stats["global_step"]) as bar:
            while True:
                if not self.position:
                    self.epoch_random = random_state()
                    self._call("on_epoch_begin", epoch=self.epoch)
                for batch in itertools.islice(self._batches(data), steps - self.stats["global_step"]):
                    left = steps - self.stats["global_step"]
                    self._step(batch, left=left)
                    if left <= LAST_BATCHES and self._sign_is_open(batch):
                        encoded = self.model.gradiend.forward_encoder(batch["source"].reshape(-1)).detach()
                        self.agreement.append(encoded.cpu().double() * label_of(batch))
                    self.position += 1
                    self._show(bar)
                    if self.control.should_stop:
                        break
                    if left > 1:
                        self.seconds["total"] = time.perf_counter() - start
                        self._keep(steps)
                if not self.position:
                    raise ValueError(
                        f"The training data gave no batch in epoch {self.epoch + 1}: can it be iterated again?"
                    )
                self._call("on_epoch_end", epoch=self.epoch, time_stats=self.seconds)
                if self.stats["global_step"] >= steps or self.control.should_stop:
                    break
                self.epoch, self.position = self.epoch + 1, 0

    # The state, by which a stopped training goes on

    def _keep(self, steps: int) -> None:
        """Keep the state if that is due, or if the training should stop, which it then does."""
        if self.kept is None:
            return
        step = self.stats["global_step"]
        stops, due = processes().anywhere(self.kept.stop.wanted, self.kept.due(step))
        if stops or due:
            self._read_losses()
            require_finite_weights(self.model, self.arguments)
            self.kept.save(self._state())
        if stops:
            taken = f"The training has taken {step:,} of {steps:,} steps."
            raise self.kept.stop.interruption(f"{taken} {self.kept.described()}")

    def _state(self) -> dict[str, Any]:
        assert self.optimizer is not None
        gradiend = self.model.gradiend
        return {
            "step": self.stats["global_step"],
            "learning_rate": self.arguments.learning_rate,
            "entries": gradiend.mapping.base_indices() if self.arguments.pre_prune_config else None,
            "gradiend": dict(gradiend.state_dict()),
            "optimizer": self.optimizer.state_dict(),
            "random": random_state(),
            "callbacks": self._changing,
            "losses": torch.tensor(self.losses, dtype=torch.float64),
            **{name: vars(self)[name] for name in KEPT},
        }

    def _restore(self, state: Mapping[str, Any]) -> None:
        assert self.optimizer is not None
        self.model.gradiend.load_state_dict(state["gradiend"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.losses = state["losses"].tolist()
        for name in KEPT:
            setattr(self, name, state[name])
        for callback, own in zip(self._changing, state["callbacks"], strict=True):
            callback.load_state_dict(own)
        set_random_state(state["random"])

    @property
    def _changing(self) -> list[TrainingCallback]:
        """The callbacks that may change the training."""
        return [callback for callback in self.callbacks if not callback.only_watches]

    def _sign_is_open(self, batch: Mapping[str, Any]) -> bool:
        """Whether only the training batches can tell which class encodes positive."""
        known = self.stats.get("correlation") is not None or self.model.gradiend.latent_dim > 1
        return self.arguments.normalizes and not known and "label" in batch

    def _shared(self) -> dict[str, Any]:
        return {
            "config": self.arguments, "model": self.model, "training_stats": self.stats, "losses": self.losses,
            "last_losses": self.last_losses, "best_score_checkpoint": self.best, "optimizer": self.optimizer,
            "control": self.control,
        }  # fmt: skip

    def _call(self, hook: Hook, **more: Any) -> None:
        """Call a hook of all callbacks."""
        for callback in self.callbacks:
            getattr(callback, hook)(**more, **self._shared())

    def _batches(self, data: Any) -> Iterator[Mapping[str, Any]]:
        """The batches of the epoch that are not taken yet."""
        if self.position:
            # Data may draw its order from the generators when an epoch begins.
            now = random_state()
            set_random_state(self.epoch_random)
            batches = batches_of(data, self.epoch, self.arguments.seed, self.position)
            set_random_state(now)
        else:
            batches = batches_of(data, self.epoch, self.arguments.seed)
        while True:
            start = time.perf_counter()
            batch = next(batches, None)
            self.seconds["gradients"] += time.perf_counter() - start
            if batch is None:
                return
            yield batch

    def _step(self, batch: Mapping[str, Any], *, left: int) -> None:
        step, last = self.stats["global_step"] + 1, left == 1
        self._call("on_step_begin", step=step, epoch=self.epoch)
        source, target = training_pair(batch, self.arguments)
        start = time.perf_counter()
        assert self.optimizer is not None
        loss = self.optimizer.step(source, target)
        self.unread.append((loss, {name: batch[name] for name in ("batch_id", "label") if name in batch}))
        self.seconds["gradiend"] += time.perf_counter() - start
        self.stats["global_step"] = step
        # Reading a number makes the host wait for an accelerator; on a CPU reading costs nothing.
        if loss.device.type == "cpu" or last or step % LOSS_WINDOW == 0:
            self._read_losses()
        if last:
            require_finite_weights(self.model, self.arguments)
        self._end_step(loss if self.unread else self.losses[-1], last=last)
        if left <= LAST_BATCHES or self.control.should_stop:
            # Zeros in place of the target make the loss comparable between batches with gradients of different size.
            assert self.arguments.criterion is not None
            self.of_nothing[step] = self.arguments.criterion(torch.zeros_like(target), target).detach()

    def _described(self, batch: Mapping[str, Any]) -> str:
        """Which batch it is, for an error."""
        label = float(label_of(batch)) if "label" in batch else None
        direction = self.model.feature_class_encoding_direction if isinstance(self.model, ModelWithGradiend) else None
        names = [name for name, sign in (direction or {}).items() if sign == label]
        known = [str(batch["batch_id"])] if "batch_id" in batch else []
        known += [f"of class {' or '.join(names)}"] if names else []
        return f", on batch {' '.join(known)}" if known else ""

    def _end_step(self, loss: Any, *, last: bool) -> None:
        start = time.perf_counter()
        result: Mapping[str, Any] | None = None
        for callback in self.callbacks:
            returned = callback.on_step_end(
                step=self.stats["global_step"], loss=loss, eval_result=result,
                last_iteration=last or self.control.should_stop, epoch=self.epoch, **self._shared(),
            )  # fmt: skip
            result = result if returned is None else returned
        self.seconds["callbacks"] += time.perf_counter() - start

    def _read_losses(self) -> None:
        if not self.unread:
            return
        losses, batches = zip(*self.unread, strict=True)
        read = torch.stack(losses).tolist()
        self.unread.clear()
        for step, (loss, batch) in enumerate(zip(read, batches, strict=True), start=len(self.losses) + 1):
            if not math.isfinite(loss):
                at, advice = f"step {step}{self._described(batch)}", way_out(self.model, self.arguments)
                raise FloatingPointError(
                    f"The loss became {loss} at {at}. {advice}, or check the base model's weights and its gradients of "
                    f"this batch for infinities.{self._still_there()}"
                )
        self.losses += read
        self.last_losses += read

    def _still_there(self) -> str:
        """What a training that fails leaves behind, for an error."""
        best, kept = self.best.get("global_step"), None if self.kept is None else self.kept.step
        there = [] if best is None else [f"the best model, of step {best}, in {best_path(self.output)}"]
        if self.kept is not None and kept is not None:
            there.append(f"the state after step {kept} in {self.kept.directory}")
        return f" Still there: {' and '.join(there)}." if there else ""

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
        output, best = self.output, best_path(self.output)
        noted = self.best.get("global_step")
        if noted is not None and step_of_checkpoint(best) != noted:
            raise RuntimeError(
                f"{best} does not hold the best model, of step {noted}, any more: it was removed or replaced while the "
                "training ran. Nothing is saved; train again, and let nothing else write there."
            )
        correlation = self.stats.get("correlation")
        # The moments of the optimizer are twice as large as the weights, and the best model needs room now.
        del self.optimizer
        require_finite_weights(self.model, self.arguments)
        self.model.gradiend.mark_trained()
        self._notice_divergence()
        if best.is_dir():
            self.model.gradiend = self.model.gradiend.from_checkpoint(str(best))
            correlation = self.best.get("correlation", correlation)
        if correlation is None and self.agreement:
            correlation = torch.stack(self.agreement).sum().item()
        if self.arguments.normalizes and correlation is not None and correlation < 0:
            self._make_positive()
        # If the process ends before the new measurements are written, no earlier ones may lie beside this model.
        remove(output / TRAINING)
        self.model.save_pretrained(str(output))
        outcome = convergence(self.arguments, self.stats, self.best, self.losses)
        write_training_stats(
            output, self.stats, self.best, self.arguments, self.seconds, self.losses, outcome.to_dict()
        )
        # A later save of the same model, such as that of a pruned one, must not write what it was loaded with.
        self.model.gradiend.kwargs.pop("training", None)
        if self.kept is None:
            # A training that can be resumed may need it until its caller knows that the result is whole.
            remove_checkpoint(best)
        if self.arguments.delete_models:
            for checkpoint in intermediate_checkpoints(output):
                remove_checkpoint(checkpoint)
        return str(output)

    def _notice_divergence(self) -> None:
        """Record and log that the training has diverged, if it has; see `gradiend.trainer.core.stats.divergence`."""
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
            means = {name: self.stats[name][kept] for name in RECORDED if kept in self.stats.get(name, {})}
            measured = {"correlation": scores[kept], **means}
        last = self.stats.get("correlation")
        if invert(self.model, measured, None if measured is None else self.stats, None, kept or 0) is None:
            return
        if kept != latest:
            self.stats["correlation"] = last
        if "correlation" in self.best:
            self.best["correlation"] = -self.best["correlation"]
