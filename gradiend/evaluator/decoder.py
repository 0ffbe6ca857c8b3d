"""The decoder grid: rewrite, measure, restore, for every feature factor and learning rate; then choose."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from tqdm.auto import tqdm

from gradiend.evaluator.selection import BASE, SelectionPolicy, compute_metric_summaries
from gradiend.model.parts import parse_rewrite_part
from gradiend.model.rewriting import temporarily_updated
from gradiend.model.sides import Side
from gradiend.util.keywords import nearest

logger = logging.getLogger(__name__)

DEFAULT_LEARNING_RATES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.0)


def derive_feature_factor_for_class(
    trainer: Any, model_with_gradiend: Any = None, class_name: str | None = None, *, strengthen: bool = True
) -> float:
    """The feature factor that strengthens (or weakens) a class: −label of the class, +label for target="alternative".

    With target diff or factual, decoding the label of a class gives the gradient that makes its word less likely
    (docs/method.md).

    Raises:
        ValueError: No or an unknown class, or a model that does not know its encoding direction.
    """
    model = trainer.get_model() if model_with_gradiend is None else model_with_gradiend
    direction = model.feature_class_encoding_direction
    if not direction:
        raise ValueError("The model does not know which class it encodes positive: train it, or set the direction.")
    targets = [name for name, sign in direction.items() if sign]
    if class_name not in targets:
        raise ValueError(
            f"{class_name!r} is no target class of this model; they are {', '.join(targets)}."
            f"{nearest(str(class_name), targets)}"
        )
    sign = float(direction[str(class_name)])
    return sign if (model.target == Side.ALTERNATIVE.value) == strengthen else -sign


derive_default_feature_factor = derive_feature_factor_for_class


def default_decoder_feature_factors(trainer: Any, model_with_gradiend: Any = None) -> list[float]:
    """The strengthening factor of each target class, in their order.

    Raises:
        ValueError: No target classes, or no encoding direction.
    """
    classes = trainer.target_classes or trainer.config.target_classes
    if not classes:
        raise ValueError(
            "The trainer has no target_classes, so there is no default feature factor: pass feature_factors."
        )
    return [derive_feature_factor_for_class(trainer, model_with_gradiend, name) for name in classes]


def _numbers(name: str, given: Any, otherwise: Any) -> list[float] | None:
    """`given`, or else `otherwise`, as floats; one number is a list of one. None if both are."""
    values = otherwise if given is None else given
    if values is None:
        return None
    values = [values] if isinstance(values, (int, float)) else list(values)
    if not values or not all(isinstance(value, (int, float)) for value in values):
        raise ValueError(f"{name} must be one or several numbers; got {given!r}.")
    return [float(value) for value in values]


def require_plot_directory(experiment_dir: str | None) -> None:
    """Raise ValueError, before any work, for a plot that would be neither shown nor saved."""
    if experiment_dir is None:
        raise ValueError(
            "A plot with show=False needs a place: give the trainer TrainingArguments(experiment_dir=…), or show it."
        )


@dataclass(frozen=True)
class _Goal:
    """One class to strengthen or weaken: which rows show it, which metric says how well, which factor does it."""

    summary: str
    metric: str
    dataset: str
    factor: float

    def accepts(self, factor: float, given: Sequence[float] | None) -> bool:
        """Whether a rewrite with `factor` is a candidate: any that the user has given, otherwise the goal's own.

        A plot measures both directions on all texts; the wrong one must not be chosen because the right one fails.
        """
        return given is not None or factor == self.factor


class DecoderEvaluator:
    """Grid search over rewrites of a trained model."""

    def evaluate_decoder(
        self,
        trainer: Any,
        model_with_gradiend: Any = None,
        feature_factors: Sequence[float] | None = None,
        lrs: Sequence[float] | None = None,
        part: str = "decoder",
        selector: SelectionPolicy | None = None,
        max_size_training_like: int | None = None,
        max_size_neutral: int | None = None,
        eval_batch_size: int | None = None,
        training_like_df: pd.DataFrame | None = None,
        neutral_df: pd.DataFrame | None = None,
        target_class: str | Sequence[str] | None = None,
        increase_target_probabilities: bool = True,
        plot: bool = False,
        show: bool | None = None,
    ) -> dict[str, Any]:
        """Measure every rewrite of the grid and choose one per class.

        Strengthening a class is measured on the *other* class's texts, weakening it on its own; only those
        measurements are made (all of them with `plot=True`). The base model is changed in place and restored bit by
        bit after each candidate.

        Args:
            trainer: A `Trainer`.
            model_with_gradiend: Default: the trainer's.
            feature_factors: Default: for each class the one that strengthens (weakens) it.
            lrs: Default: the training arguments', else 0.001, 0.003, 0.01, 0.03, 0.1, 0.
            part: What is added to the weights, see `ModelWithGradiend.update_vector`.
            selector: Default: `LMSThresholdPolicy()`.
            max_size_training_like: Cap on rows per dataset class.
            max_size_neutral: Cap on neutral texts.
            eval_batch_size: Texts per forward pass.
            training_like_df: Rows to use instead of the test split.
            neutral_df: Neutral texts to use (column `text`).
            target_class: One or several classes. Default: all target classes.
            increase_target_probabilities: False weakens.
            plot: Also draw the probability shifts.
            show: Whether to show the plot. Default: True.

        Returns:
            For each class `"X"` (or `"X_weaken"`): value, feature_factor, learning_rate, id, strengthen, part, lms,
            base_lms; "grid": {"base" or (feature_factor, learning_rate): measurements}; with a plot, "plot_path" and
            "plot_paths".

        Raises:
            ValueError: An unknown class or part, no usable rows, or a plot that is neither shown nor saved; all before
                the first measurement.
        """
        part = parse_rewrite_part(part)
        if plot and show is False:
            require_plot_directory(trainer.experiment_dir)
        model = trainer.get_model() if model_with_gradiend is None else model_with_gradiend
        goals = _goals(trainer, model, target_class, increase_target_probabilities)
        arguments = trainer.training_args
        rates = _numbers("lrs", lrs, arguments.decoder_eval_lrs) or list(DEFAULT_LEARNING_RATES)
        factors = _numbers("feature_factors", feature_factors, arguments.decoder_eval_feature_factors)
        batch_size = eval_batch_size or arguments.eval_batch_size
        rows, neutral = trainer._get_decoder_eval_dataframe(
            model.tokenizer,
            max_size_training_like=max_size_training_like or arguments.decoder_eval_max_size_training_like,
            max_size_neutral=max_size_neutral or arguments.decoder_eval_max_size_neutral,
            cached_training_like_df=training_like_df,
            cached_neutral_df=neutral_df,
        )
        measure = trainer.prepare_base_model_evaluation(
            model.base_model, model.tokenizer, rows, neutral, eval_batch_size=batch_size
        )
        # A plot shows both datasets for every rewrite; the choice needs one for each.
        datasets = None if plot else list(dict.fromkeys(goal.dataset for goal in goals))
        needed = _datasets_by_factor(goals, factors, datasets)
        grid: dict[Any, dict[str, Any]] = {BASE: {"id": BASE, **measure(datasets)}}
        points = [(factor, rate) for factor in needed for rate in rates]
        for factor, rate in tqdm(points, desc="Decoder grid", unit="model"):
            scale = rate if part == "decoder" else rate * factor
            update = scale * model.update_vector(factor, part).float()
            with temporarily_updated(model.base_model, model.gradiend.mapping, update):
                measured = measure(needed[factor])
            grid[factor, rate] = {"id": {"feature_factor": factor, "learning_rate": rate}, **measured}
        result: dict[str, Any] = {}
        for goal in goals:
            candidates = {key: entry for key, entry in grid.items() if key == BASE or goal.accepts(key[0], factors)}
            summary = compute_metric_summaries(
                candidates, {goal.summary: goal.metric}, selector=selector, strengthen=increase_target_probabilities
            )
            if not summary:
                logger.warning("No candidate for %s keeps the language-modelling score: try smaller lrs.", goal.summary)
            result.update({name: {**chosen, "part": part} for name, chosen in summary.items()})
        result["grid"] = grid
        if plot:
            path = trainer.plot_probability_shifts(
                decoder_results=result,
                target_class=target_class,
                increase_target_probabilities=increase_target_probabilities,
                show=True if show is None else show,
            )
            result.update(plot_path=path, plot_paths=[path])
        return result


def _goals(trainer: Any, model: Any, target_class: str | Sequence[str] | None, strengthen: bool) -> list[_Goal]:
    classes = list(trainer.target_classes)
    chosen = (
        classes if target_class is None else [target_class] if isinstance(target_class, str) else list(target_class)
    )
    goals = []
    for name in chosen:
        factor = derive_feature_factor_for_class(trainer, model, name, strengthen=strengthen)
        if strengthen:
            other = next(c for c in classes if c != name)
            goals.append(_Goal(name, other, other, factor))
        else:
            goals.append(_Goal(f"{name}_weaken", f"{name}_weaken", name, factor))
    return goals


def _datasets_by_factor(
    goals: Sequence[_Goal], factors: Sequence[float] | None, datasets: Sequence[str] | None
) -> Mapping[float, Sequence[str] | None]:
    """Feature factor → dataset classes to measure it on (None: all)."""
    if factors is not None:
        return {float(factor): datasets for factor in factors}
    needed = {goal.factor: [other.dataset for other in goals if other.factor == goal.factor] for goal in goals}
    return {factor: None if datasets is None else own for factor, own in needed.items()}
