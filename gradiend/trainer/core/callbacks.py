"""The callbacks of every training: evaluation, normalisation, checkpoints and logging."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

import torch

from gradiend.evaluator._encoder_statistics import SPREAD
from gradiend.model.model_with_gradiend import ModelWithGradiend
from gradiend.trainer.core._callback import GLANCE, TrainingCallback
from gradiend.trainer.core._callback import TrainingControl as TrainingControl
from gradiend.trainer.core._optional_callbacks import EarlyStoppingCallback as EarlyStoppingCallback
from gradiend.trainer.core._optional_callbacks import TensorBoardCallback as TensorBoardCallback
from gradiend.trainer.core._optional_callbacks import WandbCallback as WandbCallback
from gradiend.trainer.core._seeds import intermediate_checkpoints, remove_checkpoint
from gradiend.trainer.core.arguments import DefaultWhole, TrainingArguments
from gradiend.trainer.core.stats import load_training_stats
from gradiend.util._processes import processes
from gradiend.util.paths import has_saved_model

logger = logging.getLogger(__name__)

GROUPED = ("class", "feature_class")
RECORDED = tuple(f"{what}_by_{name}" for name in GROUPED for what in ("mean", *SPREAD))
"""Results of an evaluation that are recorded for its step, beside the correlation."""
NEGATED = {"mean": "mean", "min": "max", "max": "min", "q1": "q3", "q3": "q1"}
"""Statistic → the statistic that is minus it when the encoding changes its sign; std and n stay as they are."""

INVERT_BELOW = -0.5
"""Correlation below which the encoding is inverted during training."""

CURVE_POINTS = 10
"""Number of evaluations that make a curve."""

LEAST_STEPS_BETWEEN = 5
"""Fewest steps between glances, so that glances take a small share of the time of the steps."""


def glance_every(steps: int, eval_steps: int) -> int | None:
    """Steps between glances, for a training of `steps` steps to which the default `eval_steps` gives no curve.

    None means no glances: the user has set `eval_steps`, or there are enough evaluations, or very few steps.
    """
    every = max(LEAST_STEPS_BETWEEN, steps // CURVE_POINTS)
    wanted = isinstance(eval_steps, DefaultWhole) and every < eval_steps and steps >= 4 * LEAST_STEPS_BETWEEN
    return every if wanted else None


@dataclass(frozen=True)
class CurveEvaluation:
    """An evaluation during training, with glances in between."""

    full: Callable[..., Mapping[str, Any]]
    """The evaluation on all rows, see `EvaluationCallback`."""
    glance: Callable[[], Mapping[str, Any]]
    """The same evaluation on a few rows."""
    every: int
    """Steps between glances."""

    def __call__(self, **kwargs: Any) -> Mapping[str, Any]:
        """The full evaluation."""
        return self.full(**kwargs)


class EvaluationCallback(TrainingCallback):
    """Evaluates every `n_evaluation` steps and at the last step.

    Args:
        evaluate_fn: Function that is called with config= and training_stats= and returns a dict with `correlation`, and
            optionally `mean_by_class`, `mean_by_feature_class`, and min, max, q1, q3, std and n by these. None never
            evaluates.
        n_evaluation: Steps between evaluations.
        do_eval: False never evaluates.

    Raises:
        ValueError: An n_evaluation below 1.
    """

    def __init__(
        self, evaluate_fn: Callable[..., Mapping[str, Any]] | None, n_evaluation: int = 250, do_eval: bool = True
    ) -> None:
        _require_steps("n_evaluation", n_evaluation, "do_eval=False")
        self.evaluate_fn = evaluate_fn
        self.n_evaluation = n_evaluation
        self.do_eval = do_eval
        self.last_eval_step = -1

    def state_dict(self) -> dict[str, Any]:
        """See `TrainingCallback.state_dict`."""
        return {"last_eval_step": self.last_eval_step}

    def on_step_end(
        self, step: int, loss: float, model: Any, config: Any, training_stats: dict[str, Any] | None = None,
        last_iteration: bool = False, **kwargs: Any,
    ) -> Mapping[str, Any] | None:  # fmt: skip
        """Evaluate if an evaluation is due, and record the result in `training_stats`."""
        due = last_iteration or step % self.n_evaluation == 0
        glances = isinstance(self.evaluate_fn, CurveEvaluation) and step % self.evaluate_fn.every == 0
        if not self.do_eval or self.evaluate_fn is None or not (due or glances):
            return None
        training_stats = {} if training_stats is None else training_stats
        if due:
            result = self.evaluate_fn(config=config, training_stats=training_stats)
            self.last_eval_step = step
        else:
            assert isinstance(self.evaluate_fn, CurveEvaluation)
            result = {**self.evaluate_fn.glance(), GLANCE: True}
        if not isinstance(result, Mapping) or not isinstance(result.get("correlation", 0.0), (Real, type(None))):
            raise TypeError(
                f"evaluate_fn must return a dict whose 'correlation' is a number or None; it returned {result!r:.80}."
            )
        record_evaluation(training_stats, step, result)
        if model is not None:
            training_stats.setdefault("encoder_norms", {})[step] = model.gradiend.encoder_norm
            training_stats.setdefault("decoder_norms", {})[step] = model.gradiend.decoder_norm
        return result


def record_evaluation(training_stats: dict[str, Any], step: int, result: Mapping[str, Any]) -> None:
    """Write an evaluation result into the statistics of `step`, in place of an earlier result."""
    if GLANCE not in result:
        training_stats["correlation"] = result.get("correlation")
    training_stats.setdefault("scores", {})[step] = result.get("correlation")
    for key in RECORDED:
        if key in result:
            training_stats.setdefault(key, {})[step] = result[key]
    if "label_value_to_class_name" in result:
        training_stats["label_value_to_class_name"] = result["label_value_to_class_name"]


class NormalizationCallback(TrainingCallback):
    """Inverts the encoding when the first class clearly encodes negative.

    W_e, b_e and W_d change sign, and so do the optimizer's first moments and the results reported for the step. A
    network with several latents, or an activation that is not odd, does not change, and a warning says so.

    Args:
        normalize: False never inverts.
    """

    def __init__(self, normalize: bool = True) -> None:
        self.normalize = normalize

    def on_step_end(
        self, step: int, loss: float, model: Any, config: Any, eval_result: Mapping[str, Any] | None = None,
        training_stats: dict[str, Any] | None = None, optimizer: Any = None, **kwargs: Any,
    ) -> Mapping[str, Any] | None:  # fmt: skip
        """Invert the encoding if the evaluation of this step has a correlation below −0.5."""
        correlation = None if eval_result is None else eval_result.get("correlation")
        # The comparison is negated, because an undefined correlation is not below any number.
        if not self.normalize or correlation is None or not correlation < INVERT_BELOW:
            return None
        return invert(model, eval_result, training_stats, optimizer, step)


def invert(
    model: Any, eval_result: Mapping[str, Any] | None, training_stats: dict[str, Any] | None, optimizer: Any, step: int
) -> Mapping[str, Any] | None:
    """Invert a one-latent encoding, the optimizer's moments and the results of `step`; returns the inverted result."""
    if model.gradiend.latent_dim != 1 or not model.invert_encoding(update_direction=False):
        logger.warning(
            "The first class encodes negative, and this network cannot be inverted: the signs stay as they are."
        )
        return None
    if optimizer is not None:
        optimizer.invert()
    inverted = inverted_result(eval_result or {})
    if training_stats is not None:
        record_evaluation(training_stats, step, inverted)
    return inverted


def inverted_result(result: Mapping[str, Any]) -> dict[str, Any]:
    """An evaluation result for the same encodings with the opposite sign."""
    inverted = dict(result)
    if inverted.get("correlation") is not None:
        inverted["correlation"] = -inverted["correlation"]
    for what, other in NEGATED.items():
        for name in GROUPED:
            if f"{other}_by_{name}" in result:
                inverted[f"{what}_by_{name}"] = {key: -value for key, value in result[f"{other}_by_{name}"].items()}
    return inverted


class CheckpointCallback(TrainingCallback):
    """Saves the model with the best score to `output` + "_best", and further checkpoints if they are asked for.

    Args:
        output: Path of the final model; checkpoints get a suffix.
        checkpoints: False saves only the best model; True also saves `_step_<n>` every `checkpoint_interval` steps; an
            int is an interval of its own.
        keep_only_best: False also saves `_epoch_<n>` after each epoch.
        checkpoint_interval: See `checkpoints`.
        use_loss_for_best: Whether the best model has the lowest loss instead of the highest `|correlation|`.
        keep_best: False never saves a best model, so that the last model is the result.
        total_limit: Most checkpoints `_step_<n>`, of which the oldest is removed first. None: all are kept.
    """

    def __init__(
        self, output: str, checkpoints: bool | int = False, keep_only_best: bool = True,
        checkpoint_interval: int = 5000, use_loss_for_best: bool = False, keep_best: bool = True,
        total_limit: int | None = None,
    ) -> None:  # fmt: skip
        self.keep_best = keep_best
        self.total_limit = total_limit
        self.output = output
        self.keep_only_best = keep_only_best
        self.use_loss_for_best = use_loss_for_best
        self.checkpoint_step = (
            (checkpoint_interval if checkpoints else 0) if isinstance(checkpoints, bool) else checkpoints
        )
        self.best_score: float | None = None

    def state_dict(self) -> dict[str, Any]:
        """See `TrainingCallback.state_dict`."""
        return {"best_score": self.best_score}

    def on_step_end(
        self, step: int, loss: float, model: Any, config: Any, training_stats: Mapping[str, Any] | None = None,
        eval_result: Mapping[str, Any] | None = None, best_score_checkpoint: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:  # fmt: skip
        """Save what is due after this step."""
        if self.checkpoint_step and step % self.checkpoint_step == 0:
            save_finite(model, f"{self.output}_step_{step}", config)
            if self.total_limit is not None:
                for older in intermediate_checkpoints(self.output, "step")[: -self.total_limit]:
                    remove_checkpoint(older)
        score = loss if self.use_loss_for_best else (training_stats or {}).get("correlation")
        if not self.keep_best or score is None or math.isnan(score) or step < 2 or not self._is_better(score):
            return
        self.best_score = score
        save_finite(model, f"{self.output}_best", config, step)
        if best_score_checkpoint is not None:
            best_score_checkpoint.clear()
            metric = "loss" if self.use_loss_for_best else "correlation"
            best_score_checkpoint.update({"global_step": step, metric: score, "loss": loss})

    def _is_better(self, score: float) -> bool:
        if self.best_score is None:
            return True
        return score < self.best_score if self.use_loss_for_best else abs(score) > abs(self.best_score)

    def on_epoch_end(
        self, epoch: int, model: Any, config: Any, training_stats: Mapping[str, Any] | None = None,
        losses: list[float] | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        """Save the model of the epoch if that is asked for; without evaluations, save it as the best one."""
        if not self.keep_only_best:
            save_finite(model, f"{self.output}_epoch_{epoch + 1}", config)
        elif self.keep_best and self.best_score is None and config.get("evaluate_fn") is None:
            save_finite(model, f"{self.output}_best", config)


def save_finite(model: Any, directory: str, config: Any, step: int | None = None) -> None:
    """Save a model in training; weights that are not finite are an error, so that they never replace earlier ones.

    With a `step`, the checkpoint says of which step it is, see `step_of_checkpoint`.
    """
    if not isinstance(model, ModelWithGradiend):
        model.save_pretrained(directory)
        return
    require_finite_weights(model, config)
    said: dict[str, Any] = {} if step is None else {"training": {"global_step": step}}
    model.save_pretrained(directory, **said)


def step_of_checkpoint(directory: str | Path) -> int | None:
    """The step that a checkpoint of `save_finite` is of; None if there is no whole checkpoint, or it says no step."""
    stats = load_training_stats(directory) if has_saved_model(directory) else None
    return None if stats is None else stats.get("global_step")


def require_finite_weights(model: Any, config: Any) -> None:
    """Raise FloatingPointError if a weight of the GRADIEND is infinite or undefined: the training has diverged."""
    for name, parameter in model.gradiend.named_parameters():
        # The weights are read in pieces, because memory may have no room for another vector of full width.
        bad = not all(piece.isfinite().all() for piece in parameter.detach().reshape(-1).split(1 << 22))
        if processes().anywhere(bad)[0]:
            raise FloatingPointError(
                f"The training has diverged: {name} has infinite or undefined entries. {way_out(model, config)}."
            )


def way_out(model: Any, config: Any) -> str:
    """The advice for numbers that grow out of range."""
    if model.gradiend.torch_dtype == torch.float16:
        return (
            "float16 loses the small numbers of an optimizer (its epsilon, the squares of gradients): set torch_dtype "
            "to bfloat16 or float32"
        )
    return f"Lower learning_rate (now {config.learning_rate:g})"


class LoggingCallback(TrainingCallback):
    """Logs the mean loss, and the latest correlation, every `n_loss_report` steps (level INFO).

    Args:
        n_loss_report: Steps between reports.
        loss_only: Whether the correlation is left out.

    Raises:
        ValueError: An n_loss_report below 1.
    """

    def __init__(self, n_loss_report: int = 100, loss_only: bool = False) -> None:
        _require_steps("n_loss_report", n_loss_report, "a logging level above INFO")
        self.n_loss_report = n_loss_report
        self.loss_only = loss_only

    def on_step_end(
        self, step: int, loss: float, model: Any, config: Any, last_losses: list[float] | None = None,
        training_stats: Mapping[str, Any] | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        """Log a report if one is due; a report empties `last_losses`."""
        if step % self.n_loss_report or not last_losses:
            return
        mean = torch.tensor(last_losses).mean().item()
        correlation = (training_stats or {}).get("correlation")
        suffix = "" if self.loss_only or correlation is None else f", correlation {correlation:.3f}"
        logger.info("step %d: mean loss %.4g over the last %d steps%s", step, mean, len(last_losses), suffix)
        last_losses.clear()

    def on_epoch_end(
        self, epoch: int, model: Any, config: Any, time_stats: Mapping[str, float] | None = None, **kwargs: Any
    ) -> None:
        """Log the times of the epoch at level DEBUG."""
        logger.debug("epoch %d done: %s", epoch + 1, dict(time_stats or {}))


def _require_steps(name: str, value: int, otherwise: str) -> None:
    if value < 1:
        raise ValueError(f"{name} counts steps, at least 1; got {value!r}. For none at all use {otherwise}.")


def get_default_callbacks(config: TrainingArguments | Mapping[str, Any]) -> list[TrainingCallback]:
    """The callbacks [Evaluation, Normalization, Checkpoint, Logging] for arguments, or for a dict of some of them."""
    arguments = config if isinstance(config, TrainingArguments) else TrainingArguments(**config)
    return [
        EvaluationCallback(
            arguments.evaluate_fn, arguments.eval_steps, arguments.do_eval and arguments.eval_strategy != "no"
        ),
        # In supervised modes the labels say which class is positive.
        NormalizationCallback(arguments.normalizes),
        CheckpointCallback(
            arguments.output_dir or "", arguments.save_strategy == "steps", arguments.save_only_best,
            arguments.save_steps, keep_best=arguments.save_strategy != "no", total_limit=arguments.save_total_limit,
        ),
        LoggingCallback(),
    ]  # fmt: skip
