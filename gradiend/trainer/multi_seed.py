"""The seeds of a training as one result: aggregated evaluations, a plot for each seed, models as a group.

A view changes nothing of its trainer. It works on trainers of its own, one for each seed, whose files are in folders of
their own, so that several threads may use a trainer and its views at once.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from gradiend.evaluator._goals import goal_entries
from gradiend.evaluator._results import EvaluationResult
from gradiend.evaluator.encoder_metrics import correlation_interval_of_seeds
from gradiend.model.param_mapped import ParamMappedGradiendModel
from gradiend.model.seed_group import SeedModelGroup
from gradiend.trainer._current_model import CurrentModel
from gradiend.trainer._saved_training import data_of_seed
from gradiend.trainer._seed_aggregates import Aggregation, Aggregator, SeedTable, seed_table
from gradiend.trainer._seed_runs import saved_seed_run_paths, seed_report, seeds_directory
from gradiend.util._display import Shown, Table, facts
from gradiend.util._keywords import one_of
from gradiend.util.paths import SEED_EVALUATIONS, seen_from, working_folder

SELECTIONS = ("all_convergent", "best", "all_tried")
PASSED_ON = frozenset((
    "training_args", "experiment_dir", "run_id", "base_model_path", "model_path", "target_classes", "all_classes",
    "pair", "n_features", "config", "modality", "combined_data", "other_data", "neutral_data", "data_summary",
    "annotate_data", "create_eval_data", "get_seed_report", "get_seed_run_entries", "get_saved_seed_run_paths",
    "get_best_seed_run_path", "get_training_stats",
))  # fmt: skip
"""What a view has from its trainer, because it is the same for all seeds."""

FILES = ("output", "output_path", "output_csv", "output_json")
FOLDERS = ("output_dir", "seed_runs_dir", "dry_run")
"""Arguments of a trainer's methods that name a file, or a folder, to write to."""
NESTED = ("plot_kwargs", "kwargs_encoder", "kwargs_decoder")
"""Arguments that hold the keywords of another call."""
CHOICE = ("learning_rate", "feature_factor")
"""The keys of a result that say how a rewrite is made."""
OTHER_REWRITES = (
    "Seeds have chosen different rewrites, which `choices` under `seeds` has: each is applied by view.trainer_of(seed)."
)
"""Why the aggregated result of a decoder evaluation has no rewrite."""


def with_own_places(
    given: Mapping[str, Any], name: str, *, files: Sequence[str] = FILES, folders: Sequence[str] = FOLDERS
) -> dict[str, Any]:
    """The keywords of a call for one of several seeds or trainers, none of which may overwrite files of another.

    The file `x.png` becomes `x_<name>.png`, and a folder becomes its subfolder `<name>`. `files` and `folders` are the
    arguments that name a file or a folder; `folders` wins.
    """
    own = dict(given)
    for key, value in given.items():
        if key in NESTED and isinstance(value, Mapping):
            own[key] = with_own_places(value, name)
        elif isinstance(value, (str, Path)) and value != "":
            place = Path(value)
            if key in folders:
                own[key] = str(place / name)
            elif key in files:
                own[key] = str(place.with_name(f"{place.stem}_{name}{place.suffix}"))
    return own


def is_multi_seed_view(value: object) -> bool:
    """Whether a value is a view of several seeds, and not a trainer."""
    return isinstance(value, MultiSeedTrainerView)


class MultiSeedTrainerView(Shown):
    """The seeds of a trainer's last training, see `Trainer.multi_seed`.

    Evaluations run for each seed, and their numbers are aggregated. The result also has `seeds`: n, values (the seeds),
    selection, aggregate, dispersion, stats (metric → mean, aggregate, n, min, max and the dispersion), and per_seed if
    it is asked for. Every `plot_…` of the trainer is drawn for each seed; a file `x.png` that a call names becomes
    `x_seed_<n>.png`. What works on one model alone, such as rewriting, is refused: `trainer_of(seed)` is a trainer that
    has the model of a seed.

    Arguments after the trainer, and errors, are those of `Trainer.multi_seed`.
    """

    def __init__(
        self, trainer: Any, selection: str = "all_convergent", aggregate: str = "mean", dispersion: str | None = None,
        *, return_per_seed: bool = False,
    ) -> None:  # fmt: skip
        if dispersion is None:
            dispersion = "std" if trainer.training_args.analyze_seed_stability else "none"
        self._aggregation = Aggregation(aggregate, dispersion)
        self._selection = one_of("selection", selection, SELECTIONS)
        self._per_seed = return_per_seed
        self.trainer = trainer
        """The trainer, whose own model is that of the best seed."""
        report = seed_report(trainer)
        if report is None:
            raise ValueError(
                "There is no report of several seeds: call train() with max_seeds of at least 2 first, and "
                'saved_seed_runs="all_convergent" or "all_tried" to keep their weights.'
            )
        self._report = report
        self._has_own_splits = report.get("split_resplit_strategy") is not None
        self._made_in = working_folder()
        self._selected_paths = _selected(trainer, report, self._selection)
        self._decoder: dict[int, Mapping[str, Any]] = {}

    def _tables(self) -> tuple[str, Sequence[Table]]:
        how = self._aggregation
        known = {
            "seeds": ", ".join(map(str, self._paths)), "best": self._report["best_seed"], "selection": self._selection,
            "aggregate": how.aggregate, "dispersion": how.dispersion,
        }  # fmt: skip
        return f"{len(self._paths)} seeds of {type(self.trainer).__name__}", [facts("", known)]

    def __getattr__(self, name: str) -> Any:
        # Half-made and copied views have no trainer yet.
        if name.startswith("_") or "trainer" not in vars(self):
            raise AttributeError(name)
        if name in PASSED_ON:
            return getattr(self.trainer, name)
        if not hasattr(type(self.trainer), name):
            raise AttributeError(
                f"{type(self).__name__} has no {name!r}, and neither has {type(self.trainer).__name__}."
            )
        if name.startswith("plot_"):
            return lambda **kwargs: self._plots(name, kwargs)
        raise AttributeError(
            f"{name!r} belongs to one model, not to several seeds: use view.trainer.{name} for the best seed, or "
            f"view.trainer_of(seed).{name}."
        )

    # The seeds and their models

    def seed_values(self) -> list[int]:
        """The seeds, in the order in which they were tried."""
        return list(self._paths)

    def seed_paths(self) -> dict[int, str]:
        """Seed → directory of its model."""
        return dict(self._paths)

    def seed_models(self, *, gradiend_only: bool = False) -> dict[int, Any]:
        """Seed → its model, loaded anew around one base model, or with `gradiend_only` without the base model."""
        if gradiend_only:
            return {seed: ParamMappedGradiendModel.from_pretrained(path) for seed, path in self._paths.items()}
        return self.trainer.load_seed_runs(self._paths)

    def load_models(self, *, gradiend_only: bool = False) -> list[Any]:
        """The models of `seed_models`, the best one first."""
        models = self.seed_models(gradiend_only=gradiend_only)
        return [models[seed] for seed in self._best_first()]

    def get_model(self, *, gradiend_only: bool = False) -> Any:
        """The model, if one seed is selected, otherwise a `SeedModelGroup` of all models, the best one first."""
        models = self.load_models(gradiend_only=gradiend_only)
        if len(models) == 1:
            return models[0]
        how = self._aggregation
        return SeedModelGroup(tuple(models), self._selection, how.aggregate, how.dispersion, tuple(self._best_first()))

    def trainer_of(self, seed: int) -> Any:
        """A trainer of the same kind and data whose current model is that of a seed.

        Its files are in `<seeds>/evaluations/seed_<n>`. Raises ValueError for a seed that is not selected.
        """
        return self._trainer_of(seed, None)

    def register_seed_aggregator(self, key: str, function: Aggregator) -> None:
        """Aggregate a key of results by a function of the values of all seeds, in the order of `seed_values`."""
        if not callable(function):
            raise TypeError(f"An aggregator is a function of a list of values; got {function!r:.60}.")
        self._aggregation.own[key] = function

    # Evaluations

    def evaluate(
        self, *, kwargs_encoder: Mapping[str, Any] | None = None, kwargs_decoder: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:  # fmt: skip
        """The results of `evaluate_encoder` and `evaluate_decoder`, see `Trainer.evaluate`."""
        return EvaluationResult(
            encoder=self.evaluate_encoder(**{**kwargs, **(kwargs_encoder or {})}),
            decoder=self.evaluate_decoder(**{**kwargs, **(kwargs_decoder or {})}),
        )

    def evaluate_encoder(self, **kwargs: Any) -> dict[str, Any]:
        """Evaluate the encoder of each seed, see `Trainer.evaluate_encoder`, and aggregate the results.

        `correlation_interval` is a bootstrap over seeds and texts, for the aggregates mean and median; other intervals
        are None, because each is that of one seed. With `return_df`, `encoder_df` has the rows with the aggregated
        `encoded`, and columns for its dispersion. There the encodings of a seed whose correlation with the labels is
        negative are negated before. Seeds with splits of their own have other rows: then all stand there, with `seed`.

        Raises:
            TypeError: An argument that belongs to one model.
        """
        _refuse("evaluate_encoder", kwargs, ("model_with_gradiend", "encoder_df"))
        wants_frame = kwargs.pop("return_df", False)
        results = self._each(
            lambda trainer: trainer.evaluate_encoder(return_df=True, **with_own_places(kwargs, trainer.run_id))
        )
        frames = [result.pop("encoder_df") for result in results.values()]
        combined = self._combined(results)
        if len(frames) > 1:
            combined["correlation_interval"] = correlation_interval_of_seeds(frames, self._aggregation.aggregate)
        if wants_frame and self._has_own_splits:
            seeds = [frame.assign(seed=seed) for seed, frame in zip(results, frames, strict=True)]
            combined["encoder_df"] = pd.concat(seeds, ignore_index=True)
        elif wants_frame:
            combined["encoder_df"] = self._aggregation.frame(frames)
        return combined

    def evaluate_decoder(self, **kwargs: Any) -> dict[str, Any]:
        """Search rewrites for each seed, see `Trainer.evaluate_decoder`, and aggregate the results.

        Each seed's rewrite is its own: where seeds differ, `learning_rate` and `feature_factor` of an entry are None,
        and `seeds["choices"]` has them for each goal and seed. The grid has the candidates that all seeds measured.

        Raises:
            TypeError: An argument that belongs to one model.
        """
        _refuse("evaluate_decoder", kwargs, ("model_with_gradiend", "output_path"))
        results = self._decoder = self._each(lambda trainer: trainer.evaluate_decoder(**kwargs))
        combined = self._combined(results)
        goals = [goal for goal in goal_entries(combined) if goal != "seeds"]
        for goal in goals:
            chosen = [combined[goal].get(name, 0) for name in CHOICE]
            if None in chosen:
                combined[goal] |= {**dict.fromkeys(CHOICE), "reason": combined[goal].get("reason", OTHER_REWRITES)}
        combined["seeds"]["choices"] = {
            goal: [
                {"seed": seed, **{name: result[goal].get(name) for name in ("value", "base_value", *CHOICE)}}
                for seed, result in results.items()
            ]
            for goal in goals
        }
        return combined

    def table(self, decoder_results: Mapping[int, Mapping[str, Any]] | None = None) -> SeedTable:
        """One row for each seed: correlation, interval, class means, step, P before and after, overlap with the best.

        Correlation, interval and means are those on the validation split, from the report of seeds. P is there after
        `evaluate_decoder` of this view. The overlap is that of the top-k weights (`seed_stability_topk`,
        `seed_stability_part`); it is computed if the report does not have it.

        Args:
            decoder_results: Seed → result of `evaluate_decoder`. Default: those of this view's last call.
        """
        given = self._decoder if decoder_results is None else decoder_results
        trainer = self.trainer
        return seed_table(self._report, self._paths, given, trainer.target_classes or (), trainer.training_args)

    # Plumbing

    @property
    def _paths(self) -> dict[int, str]:
        """Seed → directory of its model, also after the program has changed its working folder."""
        return {seed: seen_from(self._made_in, path) for seed, path in self._selected_paths.items()}

    def _best_first(self) -> list[int]:
        best = self._report["best_seed"]
        return sorted(self._paths, key=lambda seed: seed != best)

    def _trainer_of(self, seed: int, base: Mapping[str, Any] | None) -> Any:
        if seed not in self._paths:
            raise ValueError(f"Seed {seed!r} is not selected; these are: {', '.join(map(str, self._paths))}.")
        trainer, directory = self.trainer, self._paths[seed]
        place = seeds_directory(trainer)
        own = copy.copy(trainer)
        # The folders of its arguments are seen from the present working folder.
        own._made_in = working_folder()
        own._args = trainer.training_args.replace(
            experiment_dir=None if place is None else str(place / SEED_EVALUATIONS), output_dir=None, seed=seed,
            seed_runs_dir=None, max_seeds=1, min_convergent_seeds=1, keep_seed_runs=False, saved_seed_runs=None,
            analyze_seed_stability=False,
        )  # fmt: skip
        own.run_id = f"seed_{seed}"
        own._evaluator, own._last_results = None, None
        if self._has_own_splits:
            own.modality = data_of_seed(trainer, self._report, seed)
        own.current = CurrentModel(own, directory)
        own.current.last_start = trainer.current.started_from
        own.current.take(directory)
        if base is not None:
            own.current.model = trainer.load_model(directory, **base)
        return own

    def _each(self, call: Callable[[Any], Any]) -> dict[int, Any]:
        """Seed → the result of a call for its trainer; one GRADIEND at a time is in memory, and one base model."""
        kept = self.trainer.current.model
        base = None if kept is None else kept.base_arguments()
        results = {}
        for seed in self._paths:
            own = self._trainer_of(seed, base)
            if base is None:
                base = own.get_model().base_arguments()
            results[seed] = call(own)
        return results

    def _combined(self, results: Mapping[int, Any]) -> dict[str, Any]:
        """The aggregated results, of the type of the first, with `seeds`."""
        found = list(results.values())
        combined = type(found[0])(self._aggregation.combined(found))
        paths = {seed: result["plot_path"] for seed, result in results.items() if result.get("plot_path")}
        if paths:
            combined["plot_paths"] = list(paths.values())
        combined["seeds"] = {**self._described(), "stats": self._aggregation.stats(found)}
        if self._per_seed:
            combined["seeds"]["per_seed"] = dict(results)
        return combined

    def _described(self) -> dict[str, Any]:
        how = self._aggregation
        return {
            "n": len(self._paths), "values": self.seed_values(), "selection": self._selection,
            "aggregate": how.aggregate, "dispersion": how.dispersion,
        }  # fmt: skip

    def _plots(self, name: str, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """The paths of a plot of the trainer, which is drawn for each seed; `path` is that of the best seed."""
        _refuse(name, kwargs, ("encoder_df", "decoder_results", "plotting_data", "model_path"))

        paths = self._each(lambda trainer: getattr(trainer, name)(**with_own_places(kwargs, trainer.run_id)))
        best = self._best_first()[0]
        return {"paths": list(paths.values()), "path": paths[best], "seeds": self._described()}


def _refuse(call: str, given: Mapping[str, Any], names: Sequence[str]) -> None:
    for name in names:
        if given.get(name) is not None:
            raise TypeError(
                f"{call} of several seeds takes no {name}, which belongs to one model: use "
                f"view.trainer_of(seed).{call}."
            )


def _selected(trainer: Any, report: Mapping[str, Any], selection: str) -> dict[int, str]:
    """Seed → directory of the selected seeds, in the order of trying; errors are those of `Trainer.multi_seed`."""
    runs = report["runs"]
    wanted = {
        "best": [report["best_seed"]],
        "all_convergent": [run["seed"] for run in runs if run["converged"]],
        "all_tried": [run["seed"] for run in runs],
    }[selection]
    if not wanted:
        raise ValueError(
            f'None of {len(runs)} seeds has converged, so that there is nothing to select: selection="best" takes the '
            'best all the same, and "all_tried" all of them. Try more steps or another learning_rate.'
        )
    paths = saved_seed_run_paths(trainer)
    missing = [seed for seed in wanted if seed not in paths]
    if missing:
        kept = "all_tried" if selection == "all_tried" else "all_convergent"
        raise FileNotFoundError(
            f"The weights of seed {', '.join(map(str, missing))} are not there: train with saved_seed_runs={kept!r}, "
            f'which keeps them in {seeds_directory(trainer)}. selection="best" needs the best alone.'
        )
    return {seed: paths[seed] for seed in wanted}
