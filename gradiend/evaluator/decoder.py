"""The decoder evaluation: measure a grid of rewrites, and choose one per class."""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import pandas as pd

from gradiend.evaluator._measurements import BaseModelMeasurement, WholeMeasurement, dataset_column
from gradiend.evaluator.fingerprints import (
    KnowsItsData,
    frame_part,
    model_parts,
    require_trained,
    tokenizer_of,
    wants_cache,
)
from gradiend.evaluator.goals import (
    RESULT_KEYS,
    Goal,
    datasets_by_factor,
    default_decoder_feature_factors,
    derive_default_feature_factor,
    derive_feature_factor_for_class,
    goals_of,
)
from gradiend.evaluator.grid import GridMeasurer
from gradiend.evaluator.grid_cache import CandidateFiles, Key, write_results
from gradiend.evaluator.selection import (
    BASE,
    BaseContext,
    Candidate,
    Extractor,
    LMSThresholdPolicy,
    LMSTimesMetricPolicy,
    SelectionPolicy,
    compute_metric_summaries,
    default_extract_candidates,
    edge_of_grid,
    metrics_of,
    summarise_choice,
)
from gradiend.evaluator.stats_files import read_decoder_stats_file
from gradiend.model.model_with_gradiend import ModelWithGradiend
from gradiend.model.parts import parse_rewrite_part
from gradiend.util.checks import AS_IN_ARGUMENTS, numbers, require_flag, require_path, require_texts, require_whole
from gradiend.util.files import require_directory
from gradiend.util.fingerprint import Fingerprint
from gradiend.util.keywords import known_keywords, nearest_first
from gradiend.util.optional import without_package
from gradiend.util.paths import resolve_decoder_grid_cache_path
from gradiend.visualizer.output import plot_is_possible

logger = logging.getLogger(__name__)

DEFAULT_LEARNING_RATES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.0)

__all__ = [
    "BaseContext",
    "Candidate",
    "DecoderEvaluator",
    "LMSThresholdPolicy",
    "LMSTimesMetricPolicy",
    "SelectionPolicy",
    "compute_metric_summaries",
    "default_decoder_feature_factors",
    "default_extract_candidates",
    "derive_default_feature_factor",
    "derive_feature_factor_for_class",
    "read_decoder_stats_file",
]


@runtime_checkable
class PreparesMeasurements(Protocol):
    """A trainer that does the shared work of many measurements once; of others, `evaluate_base_model` is called."""

    def prepare_base_model_evaluation(
        self, model: Any, tokenizer: Any, training_like_df: Any, neutral_df: Any, *, eval_batch_size: int
    ) -> BaseModelMeasurement:
        """The measurement of a base model."""


@runtime_checkable
class ChoosesMeasuredTexts(Protocol):
    """A trainer whose configuration may let strengthening be measured on the class's own texts."""

    @property
    def strengthens_on_other_classes(self) -> bool:
        """Whether P(class) is measured on the other classes' texts."""


class DecoderEvaluator:
    """Grid search over rewrites of a trained model."""

    @known_keywords("evaluate_decoder")
    def evaluate_decoder(
        self,
        trainer: Any,
        model_with_gradiend: Any = None,
        feature_factors: Sequence[float] | None = None,
        lrs: Sequence[float] | None = None,
        part: str = "decoder",
        output_path: str | None = None,
        selector: SelectionPolicy | None = None,
        summary_extractor: Extractor | None = None,
        use_cache: bool | None = None,
        max_size_training_like: int | None = None,
        max_size_neutral: int | None = None,
        eval_batch_size: int | None = None,
        training_like_df: pd.DataFrame | None = None,
        neutral_df: pd.DataFrame | None = None,
        summary_metrics: str | Sequence[str] | None = None,
        target_class: str | Sequence[str] | None = None,
        increase_target_probabilities: bool = True,
        plot: bool = False,
        show: bool | None = None,
        complete: bool = False,
        known: Mapping[Any, Mapping[str, Any]] | None = None,
    ) -> dict[str, Any]:
        """Measure every rewrite of the grid and choose one per class.

        Strengthening a class is measured on the *other* classes' texts, weakening it on its own; only those
        measurements are made (all of them with `plot=True`). Under the default policy a rewrite whose
        language-modelling score is too low to be chosen is not measured further, and its entry says so under "skipped".
        The base model is changed in place and restored bit by bit after each candidate.

        With an experiment directory every measurement is written to `decoder/` there as soon as it is made, and the
        results to `decoder_grid_cache.json` and `decoder_stats_metric_name_<class>.json`.

        Args:
            trainer: A `Trainer`.
            model_with_gradiend: Default: the trainer's.
            feature_factors: Default: for each class the one that strengthens (weakens) it.
            lrs: Default: the training arguments', else 0.001, 0.003, 0.01, 0.03, 0.1, 0.
            part: What is added to the weights, see `ModelWithGradiend.update_vector`.
            output_path: File of the results, instead of that in the experiment directory.
            selector: Default: `LMSThresholdPolicy()`.
            summary_extractor: Reads candidates off the grid; see `gradiend.evaluator.selection.extract_candidates`.
            use_cache: Read measurements of the same model, rows and texts instead of making them again. Default: the
                training arguments'.
            max_size_training_like: Cap on rows per dataset class.
            max_size_neutral: Cap on neutral texts.
            eval_batch_size: Texts per forward pass.
            training_like_df: Rows to use instead of the test split: unified ones, or with the columns of the training
                data.
            neutral_df: Neutral texts to use (column `text`).
            summary_metrics: One or several metrics to choose for instead of the classes; names of classes are allowed.
            target_class: One or several classes. Default: all target classes.
            increase_target_probabilities: False weakens.
            plot: Also draw the probability shifts; without matplotlib they are left out, with a warning before the
                work.
            show: Whether to show the plot. Default: True.
            complete: Measure every candidate on all dataset classes, as `plot` does.
            known: A grid of the same evaluation; what it has is not measured again.

        Returns:
            For each class `"X"` (or `"X_weaken"`): value, base_value (the same of the unchanged model: P before;
            None where an extractor gave the candidates), feature_factor, learning_rate, id, strengthen, part, lms,
            base_lms; "grid": {"base" or (feature_factor, learning_rate): measurements}; with a plot, "plot_path" and
            "plot_paths". A step that changes nothing, such as 0, is never chosen: where no other is acceptable, the
            learning_rate of the class is None, and "reason" says why. "note" says that a choice is at the edge of the
            grid. JSON has no tuples as keys: `gradiend.util.convert_tuple_keys_recursively` makes them text.

        Raises:
            TypeError: A size that is no whole number, a selector, extractor or metric of another kind, or no flag.
            ValueError: No class, an unknown class or part, a size below 1, no usable rows, use_cache without a place
                for it, or a plot that is neither shown nor saved; all before the first measurement.
        """
        part = parse_rewrite_part(part)
        require_whole("max_size_training_like", max_size_training_like, 1, none_means=AS_IN_ARGUMENTS)
        require_whole("max_size_neutral", max_size_neutral, 1, none_means=AS_IN_ARGUMENTS)
        require_whole("eval_batch_size", eval_batch_size, 1, none_means=AS_IN_ARGUMENTS)
        require_flag("increase_target_probabilities", increase_target_probabilities)
        require_flag("plot", plot)
        _check_choice(selector, summary_extractor, summary_metrics, output_path)
        if plot and show is False:
            require_plot_directory(trainer.experiment_dir)
        plot = plot and plot_is_possible()
        use_cache = wants_cache(trainer, use_cache, "evaluate_decoder", output_path)
        arguments = trainer.training_args
        rates = _numbers("lrs", lrs, arguments.decoder_eval_lrs) or list(DEFAULT_LEARNING_RATES)
        factors = _numbers("feature_factors", feature_factors, arguments.decoder_eval_feature_factors)
        model = trainer.get_model() if model_with_gradiend is None else model_with_gradiend
        require_trained(trainer, model)
        if isinstance(model, ModelWithGradiend) and model.target is None:
            logger.warning("The decoder of this GRADIEND is not trained (supervised_encoder): its updates are random.")
        on_others = trainer.strengthens_on_other_classes if isinstance(trainer, ChoosesMeasuredTexts) else True
        goals = goals_of(trainer, model, target_class, increase_target_probabilities, on_others=on_others)
        rows, neutral = trainer._get_decoder_eval_dataframe(
            tokenizer_of(model),
            max_size_training_like=max_size_training_like or arguments.decoder_eval_max_size_training_like,
            max_size_neutral=max_size_neutral or arguments.decoder_eval_max_size_neutral,
            cached_training_like_df=training_like_df,
            cached_neutral_df=neutral_df,
        )
        output = resolve_decoder_grid_cache_path(trainer.experiment_dir, output_path)
        if summary_extractor is default_extract_candidates:
            summary_extractor = None
        search = _Search(
            trainer, model, part, goals, factors, rates, rows, neutral, eval_batch_size or arguments.eval_batch_size,
            use_cache, None if output is None else Path(output), selector or LMSThresholdPolicy(),
            known or {}, everything=plot or complete or summary_extractor is not None or summary_metrics is not None,
        )  # fmt: skip
        grid = search.measure()
        names = [goal.summary for goal in goals]
        if summary_metrics is not None:
            names = [summary_metrics] if isinstance(summary_metrics, str) else list(summary_metrics)
        result = search.choose(grid, names, summary_extractor)
        result["grid"] = grid
        if search.output is not None:
            write_results(search.output, trainer.experiment_dir, result, search.parts, names)
        if plot:
            asked = {"target_class": target_class, "increase_target_probabilities": increase_target_probabilities}
            asked["show"] = True if show is None else show
            path = without_package(lambda: trainer.plot_probability_shifts(decoder_results=result, **asked), "The plot")
            result |= {} if path is None else {"plot_path": path, "plot_paths": [path]}
        return result


@dataclass(frozen=True)
class _Search:
    """One evaluation, with everything filled in that the call left to the training arguments."""

    trainer: Any
    model: Any
    part: str
    goals: Sequence[Goal]
    factors: Sequence[float] | None
    rates: Sequence[float]
    rows: Any
    neutral: Any
    batch_size: int
    use_cache: bool
    output: Path | None
    selector: SelectionPolicy
    known: Mapping[Key, Mapping[str, Any]]
    everything: bool
    """Measure every candidate on all dataset classes: a plot, or metrics of the user's, need it."""

    @functools.cached_property
    def parts(self) -> Fingerprint:
        """What the measurement of a rewritten model depends on."""
        return {**self._measurement_parts, **model_parts(self.model), "part": self.part}

    @functools.cached_property
    def _measurement_parts(self) -> Fingerprint:
        own = self.trainer.measurement_parts() if isinstance(self.trainer, KnowsItsData) else {}
        return {**own, "rows": frame_part(self.rows), "neutral texts": frame_part(self.neutral)}

    def measure(self) -> dict[Key, dict[str, Any]]:
        """The grid."""
        column = dataset_column(self.rows)
        known = list(self.trainer.target_classes) if column is None else list(dict.fromkeys(self.rows[column]))
        by_factor = datasets_by_factor(self.goals, self.factors, known if self.everything else None)
        points = {(factor, rate): datasets for factor, datasets in by_factor.items() for rate in self.rates}
        on_base = list(dict.fromkeys(name for datasets in by_factor.values() for name in datasets))
        files = CandidateFiles(None, {}, {}, part=self.part, use_cache=False)
        if self.output is not None:
            base = {name: value for name, value in self.parts.items() if name not in {"GRADIEND", "part"}}
            files = CandidateFiles(self.output.parent, base, self.parts, part=self.part, use_cache=self.use_cache)
        policy = None if self.everything else self.selector
        return GridMeasurer(self.model, self.part, self._prepare, files, policy, self.known).measure(on_base, points)

    def _prepare(self, base_model: Any) -> BaseModelMeasurement:
        tokenizer = tokenizer_of(self.model)
        if isinstance(self.trainer, PreparesMeasurements):
            return self.trainer.prepare_base_model_evaluation(
                base_model, tokenizer, self.rows, self.neutral, eval_batch_size=self.batch_size
            )

        def evaluate(rows: Any) -> dict[str, Any]:
            return self.trainer.evaluate_base_model(
                base_model, tokenizer, training_like_df=rows, neutral_df=self.neutral, eval_batch_size=self.batch_size
            )

        return WholeMeasurement(evaluate, self.rows)

    def choose(
        self, grid: Mapping[Key, Mapping[str, Any]], metrics: Sequence[str], extractor: Extractor | None
    ) -> dict[str, Any]:
        """The best candidate for each metric, where a goal's name means the goal.

        Args:
            grid: Measured.
            metrics: Names.
            extractor: See `extract_candidates`; one that gives candidates decides what a goal's name measures.
        """
        goals = {goal.summary: goal for goal in self.goals}
        extracted = grid if extractor is None else extractor(grid)
        if isinstance(extracted, Mapping):
            grid, found = extracted, default_extract_candidates(extracted)
            own = {name: goal.candidates(grid, self.factors) for name, goal in goals.items()}
            base = grid.get(BASE, {})
            before = {**metrics_of(base), **{name: goal.value(base) for name, goal in goals.items()}}
        else:
            # What such candidates measure, only the extractor knows.
            found, before = extracted, {}
            own = {
                name: [one for one in found[0] if goal.accepts(one.id["feature_factor"], self.factors)]
                for name, goal in goals.items()
            }
        result = {}
        for name in metrics:
            strengthen = goals[name].strengthen if name in goals else self.goals[0].strengthen
            candidates = own.get(name, found[0])
            chosen = summarise_choice(grid, candidates, found[1], name, self.selector, strengthen)
            if chosen is None:
                why = self._why_unmeasured(goals.get(name), name, found[0])
                logger.warning("Nothing was measured for %s: %s.", name, why)
                continue
            result[name] = {**chosen, "base_value": before.get(name), "part": self.part}
            edge = None if "reason" in chosen else edge_of_grid(chosen["learning_rate"], grid)
            if edge is not None:
                clause, further = edge
                result[name]["note"] = clause
                logger.warning(
                    "The rewrite for %s is at the edge of the grid: %s. lrs=%s would show whether more can be had.",
                    name,
                    clause,
                    further,
                )
            elif "reason" in chosen:
                logger.warning("There is no rewrite for %s. %s", name, chosen["reason"])
        return result

    def _why_unmeasured(self, goal: Goal | None, name: str, candidates: Sequence[Candidate]) -> str:
        column = dataset_column(self.rows)
        if goal is None or column is None:
            known = dict.fromkeys(metric for candidate in candidates for metric in candidate.metrics)
            return f"the entries of the grid have only {', '.join(nearest_first(name, known)) or 'no numbers'}"
        missing = [name for name in goal.datasets if name not in set(self.rows[column])]
        return f"there are no texts of {', '.join(missing)}" if missing else "no candidate has its feature factor"


def require_plot_directory(experiment_dir: str | None) -> None:
    """Raise ValueError, before any work, for a plot that would be neither shown nor saved."""
    if experiment_dir is None:
        raise ValueError(
            "A plot with show=False needs a place: give the trainer TrainingArguments(experiment_dir=…), or show it."
        )


def _numbers(name: str, given: Any, otherwise: Any) -> list[float] | None:
    """`given`, or else `otherwise`, as floats; one number is a list of one. None if both are."""
    wanted = otherwise if given is None else given
    return None if wanted is None else numbers(name, wanted)


def _check_choice(selector: Any, extractor: Any, metrics: Any, output: Any) -> None:
    """Refuse, before any work, what would only be used after it."""
    if selector is not None and not isinstance(selector, SelectionPolicy):
        raise TypeError(
            f"selector must have select(metric, candidates, ctx), as LMSThresholdPolicy() has; got {selector!r:.60}."
        )
    if isinstance(selector, type):
        raise TypeError(f"selector must be an object, not a class: {selector.__name__}().")
    if extractor is not None and not callable(extractor):
        raise TypeError(f"summary_extractor must be a function of the grid; got {extractor!r:.60}.")
    if metrics is not None:
        names = [metrics] if isinstance(metrics, str) else list(require_texts("summary_metrics", metrics))
        if not names:
            raise ValueError("summary_metrics=[] names no metric: leave it out to choose for the classes.")
        taken = [name for name in names if name in RESULT_KEYS]
        if taken:
            raise ValueError(
                f"summary_metrics must not be {taken[0]!r}: {', '.join(RESULT_KEYS)} are keys of the results."
            )
    if output is not None:
        require_path("output_path", output)
        if Path(output).is_dir():
            raise ValueError(f"output_path must be a file; {output} is a folder.")
        require_directory(Path(output).parent)
