"""The decoder evaluation: measure a grid of rewrites, and choose a rewrite for each class."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from gradiend.evaluator._candidates import Candidates
from gradiend.evaluator._goals import (
    RESULT_KEYS,
    BalanceGoal,
    Goal,
    default_decoder_feature_factors,
    derive_default_feature_factor,
    derive_feature_factor_for_class,
    goals_of,
    require_plot_directory,
    require_trained,
    wants_cache,
)
from gradiend.evaluator._grid import GridSearch, Key, read_decoder_stats_file, write_results
from gradiend.evaluator._measurements import dataset_column
from gradiend.evaluator._results import DecoderResult
from gradiend.evaluator._row_wise import export_row_scores, wants_row_scores
from gradiend.evaluator._selection import (
    BASE,
    BaseContext,
    Candidate,
    Extractor,
    LikelihoodPolicy,
    LMSThresholdPolicy,
    LMSTimesMetricPolicy,
    SelectionPolicy,
    compute_metric_summaries,
    default_extract_candidates,
    edge_of_grid,
    metrics_of,
    summarise_choice,
)
from gradiend.model._architecture import parse_rewrite_part
from gradiend.model.model_with_gradiend import ModelWithGradiend
from gradiend.util import AUTO, BALANCE
from gradiend.util._checks import AS_IN_ARGUMENTS, numbers, require_flag, require_path, require_texts, require_whole
from gradiend.util._digest import tokenizer_of
from gradiend.util._files import kept_if_possible, require_directory
from gradiend.util._imports import without_package
from gradiend.util._isolation import plain_modes
from gradiend.util._keywords import known_keywords, nearest_first, one_of, split_names
from gradiend.util.paths import resolve_decoder_grid_cache_path
from gradiend.visualizer import plot_probability_shifts
from gradiend.visualizer._output import checked_plot_options, plot_is_possible

logger = logging.getLogger(__name__)

DEFAULT_LEARNING_RATES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.0)

__all__ = [
    "BaseContext",
    "Candidate",
    "DecoderEvaluator",
    "LMSThresholdPolicy",
    "LMSTimesMetricPolicy",
    "LikelihoodPolicy",
    "SelectionPolicy",
    "compute_metric_summaries",
    "default_decoder_feature_factors",
    "default_extract_candidates",
    "derive_default_feature_factor",
    "derive_feature_factor_for_class",
    "read_decoder_stats_file",
]  # fmt: skip


class DecoderEvaluator:
    """Measures rewrites of a trained model, and chooses among them."""

    @known_keywords("evaluate_decoder")
    @plain_modes()
    def evaluate_decoder(
        self, trainer: Any, model_with_gradiend: Any = None, feature_factors: Sequence[float] | None = None,
        lrs: Sequence[float] | Literal["auto"] | None = None, part: str = "decoder", output_path: str | None = None,
        selector: SelectionPolicy | None = None, summary_extractor: Extractor | None = None,
        use_cache: bool | None = None, max_size_training_like: int | None = None, max_size_neutral: int | None = None,
        eval_batch_size: int | None = None, training_like_df: pd.DataFrame | None = None,
        neutral_df: pd.DataFrame | None = None, summary_metrics: str | Sequence[str] | None = None,
        target_class: str | Sequence[str] | None = None, increase_target_probabilities: bool = True, plot: bool = False,
        show: bool | None = None, complete: bool = False, known: Mapping[Any, Mapping[str, Any]] | None = None,
        balance_texts: Any = None, split: str | Sequence[str] | None = None, max_size: int | None = None,
        plot_kwargs: Mapping[str, Any] | None = None, decoder_lms_mode: str | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        """Measure rewrites, and choose a rewrite for each class.

        The strengthening of a class is measured on the texts of the *other* classes, and weakening on the texts of the
        class itself; other measurements are only made with `plot` or `complete`. Under the default policy a rewrite
        whose language-modelling score is too low to be chosen is not measured further, and its entry gives the reason
        under "skipped". The base model is changed in place and restored bit by bit after each candidate.

        With an experiment directory every measurement is written to `decoder/` there as soon as it is made, and the
        results to `decoder_grid_cache.json` and `decoder_stats_metric_name_<class>.json`.

        Args:
            trainer: A `Trainer`.
            model_with_gradiend: The model to evaluate. Default: the model of the trainer.
            feature_factors: The factors to decode. Default: for each class the factor that strengthens (weakens) it.
            lrs: The steps to try, or "auto": for each factor the largest step that the policy allows is found from the
                curvature of the loss and a few measurements, and the best step up to there is chosen. Default: those
                of the training arguments, else 0.001, 0.003, 0.01, 0.03, 0.1, 0.
            part: The part that is added to the weights, see `ModelWithGradiend.update_vector`.
            output_path: The file of the results, instead of the file in the experiment directory.
            selector: The policy that chooses a candidate. Default: `LMSThresholdPolicy()`, or with lrs="auto"
                `LikelihoodPolicy()`.
            summary_extractor: A function of the grid that gives candidates and base context, or a grid with further
                numbers in its entries. Default: `default_extract_candidates`.
            use_cache: Read measurements of the same model, rows and texts instead of measuring again. Default: the
                value of the training arguments.
            max_size_training_like: The largest number of rows per dataset class.
            max_size_neutral: The largest number of neutral texts.
            eval_batch_size: The number of texts per forward pass.
            training_like_df: Rows to use instead of the test split: unified rows, or rows with the columns of the
                training data.
            neutral_df: Neutral texts to use (column `text`).
            summary_metrics: One or several metrics to choose for instead of the classes; names of classes are allowed.
            target_class: One or several classes; "balance" is the goal of no preference among the target classes.
                Default: all target classes.
            increase_target_probabilities: Whether to strengthen the classes (True) or to weaken them (False).
            plot: Also draw the probability shifts; without matplotlib a warning before the work says that the plot is
                left out.
            show: Whether to show the plot. Default: True.
            complete: Measure every candidate on all dataset classes, as `plot` does.
            known: A grid of the same evaluation, whose measurements are not made again.
            balance_texts: For "balance": texts with a `[MASK]` that fit every class, such as "The nurse said that
                [MASK] was tired." (a list, a frame with the column `masked` or `text`, or a file), or "target_rows" for
                the rows of the target classes. Default: `balance_texts` of the trainer's configuration.
            split: The split whose rows are measured, a list of splits, or "all". Default: test.
            max_size: A second name of `max_size_training_like`.
            plot_kwargs: Arguments of `plot_probability_shifts`, with `plot`.
            decoder_lms_mode: "lm", the score of a language model, which is the only one here: the others of the
                documents score a classifier.

        Returns:
            For each class `"X"` (or `"X_weaken"`): value, base_value (the value of the unchanged model; None if an
            extractor gave the candidates), feature_factor, learning_rate, id, strengthen, part, lms, base_lms, the
            ratios of both scores to the base model's (likelihood_ratio, accuracy_ratio: value, standard_error, low,
            high), least_share, the share that the policy asks for, and why, a sentence; value_interval,
            base_value_interval and change_interval are bootstrap intervals over texts (None: not estimable). "balance"
            has the mean gap as value, and measures, base_measures, probs_factual and base_probs_factual
            (docs/debias.md).
            "grid": {"base" or (feature_factor, learning_rate): measurements}; with a plot, "plot_path" and
            "plot_paths". A step that changes nothing, such as 0, is never chosen: if no other step is acceptable, the
            learning_rate of the class is None, and "reason" says why. "note" says that a choice is at the edge of the
            grid. JSON has no tuples as keys: `gradiend.util.convert_tuple_keys_recursively` turns tuples into text.

        Raises:
            TypeError: A size that is no whole number, a selector, extractor or metric of another kind, or no flag.
            ValueError: No class, an unknown class or part, a size below 1, no usable rows, use_cache without a place
                for the files, a plot that is neither shown nor saved, no texts for "balance", or a factor of 0 without
                a decoder bias, which is no direction; all before the first measurement.
        """
        part = parse_rewrite_part(part)
        max_size_training_like = _one_size(max_size_training_like, max_size)
        require_whole("max_size_training_like", max_size_training_like, 1, none_means=AS_IN_ARGUMENTS)
        require_whole("max_size_neutral", max_size_neutral, 1, none_means=AS_IN_ARGUMENTS)
        require_whole("eval_batch_size", eval_batch_size, 1, none_means=AS_IN_ARGUMENTS)
        if decoder_lms_mode is not None:
            one_of("decoder_lms_mode", decoder_lms_mode, ["lm"])
        chosen_rows = _chosen_rows(split, training_like_df)
        require_flag("increase_target_probabilities", increase_target_probabilities)
        _check_choice(selector, summary_extractor, summary_metrics, output_path)
        options = _plot_options(trainer, plot, show, plot_kwargs)
        use_cache = wants_cache(trainer, use_cache, "evaluate_decoder", output_path)
        arguments = trainer.training_args
        chooses_for_classes = summary_extractor is None and summary_metrics is None
        rates = _steps(arguments.decoder_eval_lrs if lrs is None else lrs, chooses_for_classes)
        factors = _numbers("feature_factors", feature_factors, arguments.decoder_eval_feature_factors)
        model = trainer.get_model() if model_with_gradiend is None else model_with_gradiend
        require_trained(trainer, model)
        if isinstance(model, ModelWithGradiend) and model.target is None:
            logger.warning("The decoder of this GRADIEND is not trained (supervised_encoder): its updates are random.")
        place = resolve_decoder_grid_cache_path(trainer.experiment_dir, output_path)
        output = None if place is None else Path(place)
        exports = wants_row_scores(trainer, output)
        goals = goals_of(trainer, model, target_class, increase_target_probabilities)
        texts = _texts_of_balance(trainer, goals, balance_texts)
        rows, neutral = trainer._get_decoder_eval_dataframe(
            tokenizer_of(model),
            max_size_training_like=max_size_training_like or arguments.decoder_eval_max_size_training_like,
            max_size_neutral=max_size_neutral or arguments.decoder_eval_max_size_neutral,
            cached_training_like_df=training_like_df,
            cached_neutral_df=neutral_df,
            **chosen_rows,
        )
        if summary_extractor is default_extract_candidates:
            summary_extractor = None
        everything = (
            _dataset_classes(trainer, rows) if options is not None or complete or not chooses_for_classes else []
        )
        policy = selector or (LMSThresholdPolicy() if rates else LikelihoodPolicy())
        search = GridSearch(
            trainer, model, part, rows, neutral, eval_batch_size or arguments.eval_batch_size, output, use_cache,
            None if everything else policy, known or {},
            scored_by=policy if isinstance(policy, LikelihoodPolicy) else None, balance_texts=texts,
        )  # fmt: skip
        candidates = Candidates(goals, factors, everything)
        _require_direction(model, candidates, searched=not rates)
        grid = candidates.measured(search, rates, policy)
        if not isinstance(policy, LikelihoodPolicy) and grid.get(BASE, {}).get("lms", {}).get("lms") == 0:
            logger.warning(
                "The base model predicts no token of the neutral texts (its language-modelling score is 0), so every "
                'step keeps that score: give neutral texts that it can read, or choose by likelihood (lrs="auto").'
            )
        names = [goal.summary for goal in goals]
        if summary_metrics is not None:
            names = [summary_metrics] if isinstance(summary_metrics, str) else list(summary_metrics)
        result = _Choice(goals, factors, policy, summary_extractor, part, rows, not rates).best(grid, names)
        result["grid"] = grid
        if output is not None:
            with kept_if_possible("The results are"):
                write_results(output, trainer.experiment_dir, result, search.parts, names)
        if exports:
            with kept_if_possible("The scores of the rows are"):
                export_row_scores(search, result)
        result |= {} if options is None else _plots(trainer, result, goals, options)
        return result


@dataclass(frozen=True)
class _Choice:
    """The choice of the best candidate for each metric; a metric with the name of a goal measures the goal."""

    goals: Sequence[Goal]
    factors: Sequence[float] | None
    selector: SelectionPolicy
    extractor: Extractor | None
    """See `compute_metric_summaries`; an extractor that gives candidates decides what the name of a goal measures."""
    part: str
    rows: Any
    searched: bool = False
    """Whether the steps were found by a search, whose largest and smallest steps say nothing."""

    def best(self, grid: Mapping[Key, Mapping[str, Any]], metrics: Sequence[str]) -> DecoderResult:
        """Metric → summary of the best candidate; a warning names a metric that was not measured and is left out."""
        goals = {goal.summary: goal for goal in self.goals}
        extracted = grid if self.extractor is None else self.extractor(grid)
        if isinstance(extracted, Mapping):
            grid, found = extracted, default_extract_candidates(extracted)
            own = {name: goal.candidates(grid, self.factors) for name, goal in goals.items()}
            base = grid.get(BASE, {})
            before = {**metrics_of(base), **{name: goal.value(base) for name, goal in goals.items()}}
        else:
            # Only the extractor knows what these candidates measure.
            base, found, before = {}, extracted, {}
            own = {
                name: [one for one in found[0] if goal.accepts(one.id["feature_factor"], self.factors)]
                for name, goal in goals.items()
            }
        result = DecoderResult()
        for name in metrics:
            goal = goals.get(name)
            words = {} if goal is None else {"aim": goal.aim, "why_none": goal.why_none(grid)}
            strengthen = (goal or self.goals[0]).strengthen
            chosen = summarise_choice(grid, own.get(name, found[0]), found[1], name, self.selector, strengthen, **words)
            if chosen is None:
                reason = self._why_unmeasured(goal, name, found[0])
                logger.warning("Nothing was measured for %s: %s.", name, reason)
                continue
            result[name] = {**chosen, "base_value": before.get(name), "part": self.part}
            if "reason" in chosen:
                logger.warning("There is no rewrite for %s. %s", name, chosen["reason"])
                continue
            logger.info("%s: %s", name, chosen["why"])
            if goal is not None and isinstance(extracted, Mapping):
                entry = grid[chosen["feature_factor"], chosen["learning_rate"]]
                result[name] |= goal.report(entry, base)
                if (no_gain := goal.no_gain(entry, base)) is not None:
                    logger.warning("The rewrite for %s does not do what it is for: %s.", name, no_gain)
            if not self.searched and (edge := edge_of_grid(chosen["learning_rate"], grid)) is not None:
                result[name]["note"] = edge[0]
                logger.warning(
                    "The rewrite for %s is at the edge of the grid: %s. lrs=%s would show whether more can be had.",
                    name, *edge,
                )  # fmt: skip
        return result

    def _why_unmeasured(self, goal: Goal | None, name: str, candidates: Sequence[Candidate]) -> str:
        column = dataset_column(self.rows)
        if goal is None or column is None:
            known = dict.fromkeys(metric for candidate in candidates for metric in candidate.metrics)
            return f"the entries of the grid have only {', '.join(nearest_first(name, known)) or 'no numbers'}"
        missing = [name for name in goal.datasets if name not in set(self.rows[column])]
        return f"there are no texts of {', '.join(missing)}" if missing else "no candidate has its feature factor"


def _plot_options(trainer: Any, plot: Any, show: bool | None, given: Any) -> dict[str, Any] | None:
    """The checked arguments of the plot; None if no plot is asked for, or a package is missing.

    Raises:
        TypeError, ValueError: An argument that the plot does not take, or a plot that is neither shown nor saved.
    """
    require_flag("plot", plot)
    options = checked_plot_options(plot_probability_shifts, given or {})
    options = {"show": True if show is None else show, **options}
    if plot and not options["show"] and options.get("output") is None:
        require_plot_directory(trainer.experiment_dir)
    return options if plot and plot_is_possible() else None


def _one_size(max_size_training_like: int | None, max_size: int | None) -> int | None:
    if None not in (max_size_training_like, max_size) and max_size_training_like != max_size:
        raise ValueError(
            "max_size is a second name of max_size_training_like; got "
            f"max_size={max_size!r} and max_size_training_like={max_size_training_like!r}."
        )
    return max_size if max_size_training_like is None else max_size_training_like


def _chosen_rows(split: str | Sequence[str] | None, rows: Any) -> dict[str, Any]:
    """The split, as an argument of the hook that gives the rows; {} for the usual split.

    Raises:
        TypeError, ValueError: See `split_names`; a split beside rows that are given.
    """
    if split is None:
        return {}
    names = split_names(split)
    if rows is not None:
        raise ValueError("training_like_df gives the rows, so that split has no effect: leave one of them out.")
    return {"split": names if len(names) > 1 else names[0]}


def _plots(
    trainer: Any, result: Mapping[str, Any], goals: Sequence[Goal], options: Mapping[str, Any]
) -> dict[str, Any]:
    """Draw the classes over the size of the rewrite, and the balance, if these are goals; plot_path and plot_paths.

    `options` are arguments of `plot_probability_shifts`; the plot of the balance takes `show` from them.
    """
    classes = [goal for goal in goals if not isinstance(goal, BalanceGoal) and goal.summary in result]
    drawn: list[Any] = []

    def draw() -> None:
        if classes:
            asked = {"target_class": [goal.target_class for goal in classes]}
            shown = {"increase_target_probabilities": classes[0].strengthen, **asked, **options}
            drawn.append(trainer.plot_probability_shifts(**{"decoder_results": result, **shown}))
        if result.get(BALANCE, {}).get("learning_rate") is not None:
            drawn.append(trainer.plot_balance(result, show=options["show"]))

    with kept_if_possible("The plot is"):
        without_package(draw, "The plot")
    paths = [path for path in drawn if path is not None]
    return {"plot_path": paths[0], "plot_paths": paths} if paths else {}


def _dataset_classes(trainer: Any, rows: Any) -> list[str]:
    column = dataset_column(rows)
    return list(trainer.target_classes if column is None else dict.fromkeys(rows[column]))


def _steps(wanted: Any, chooses_for_classes: bool) -> list[float]:
    """The steps to measure; empty for "auto".

    Raises:
        ValueError: "auto" for a choice by other metrics than those of classes.
    """
    if not isinstance(wanted, str) or wanted != AUTO:
        return _numbers("lrs", wanted, None) or list(DEFAULT_LEARNING_RATES)
    if not chooses_for_classes:
        raise ValueError(
            'lrs="auto" looks for the best step of a class: with summary_metrics or a summary_extractor, give lrs, the '
            "steps to measure."
        )
    return []


def _texts_of_balance(trainer: Any, goals: Sequence[Goal], given: Any) -> list[str] | None:
    """The texts of the goal of balance; None without this goal.

    Raises:
        ValueError: There are no texts; or texts without the goal, which they would silently not serve.
    """
    if not any(isinstance(goal, BalanceGoal) for goal in goals):
        if given is not None:
            raise ValueError('balance_texts belongs to the goal "balance": add it to target_class.')
        return None
    return trainer.balance_texts(given)


def _require_direction(model: Any, candidates: Candidates, *, searched: bool) -> None:
    """Raise ValueError for a factor of 0 without a decoder bias: that update is zero, whatever the step."""
    if not isinstance(model, ModelWithGradiend) or model.gradiend.bias_decoder:
        return
    if any(0.0 in candidates.factors_of(goal, searched=searched, model=model) for goal in candidates.goals):
        raise ValueError(
            "feature_factor 0 decodes the decoder's bias, and this GRADIEND has none (bias_decoder=False): leave 0 out "
            "of feature_factors."
        )


def _numbers(name: str, given: Any, otherwise: Any) -> list[float] | None:
    """`given`, or else `otherwise`, as a list of floats; None if both are None."""
    wanted = otherwise if given is None else given
    return None if wanted is None else numbers(name, wanted)


def _check_choice(selector: Any, extractor: Any, metrics: Any, output: Any) -> None:
    """Check the arguments that are only used after the measurements."""
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
