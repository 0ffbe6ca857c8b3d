"""Several trainers as one: a call of the collection goes to each trainer, and a trainer that fails stops no other."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from typing_extensions import Self

from gradiend import comparison
from gradiend.comparison import ComparisonResult
from gradiend.evaluator._goals import as_probability, goal_entries, require_trained
from gradiend.model.model_with_gradiend import ModelWithGradiend
from gradiend.trainer.multi_seed import FILES, FOLDERS, with_own_places
from gradiend.trainer.trainer import Trainer
from gradiend.util._display import Shown, Table, number, with_interval
from gradiend.util._files import write_csv
from gradiend.util._keywords import nearest
from gradiend.util._processes import processes
from gradiend.util._progress import Progress
from gradiend.util.logging import get_logger
from gradiend.util.paths import safe_name
from gradiend.visualizer import plot_topk_overlap_heatmap

logger = get_logger(__name__)

CHILD_ERRORS = (ValueError, ArithmeticError, RuntimeError, LookupError, OSError, MemoryError, AssertionError)
"""Errors of one trainer's data, model or files, after which the others go on. An error in the call itself (TypeError)
is the same for all trainers, and is raised."""
KEPT = ("evaluate", "evaluate_encoder", "evaluate_decoder", "evaluate_side_effects")
"""The calls whose last results the table reads."""
OF_SEEDS = ("evaluate", "evaluate_encoder", "evaluate_decoder")
"""The calls, beside plots, that go to all converged seeds of a trainer with `analyze_seed_stability`."""


class TrainerCollection(Shown, Mapping[str, Any]):
    """Trainers by id. A method of the trainers, called on the collection, returns a dict id → result.

        both = TrainerCollection(gender, number)
        both.train()
        both.evaluate_encoder(split="test")["gender"]["correlation"]

    A file `x.png` that a call names becomes `x_<id>.png`, and a folder becomes its subfolder `<id>`. A trainer whose
    call raises an error is left out of the result; the log and `failures` say why. With
    `analyze_seed_stability`, evaluations and plots of a trainer are those of its converged seeds, see
    `Trainer.multi_seed`, and so are the table and comparisons of weights; all other calls are about its best seed.

    Args:
        *trainers: Trainers, whose ids are their `run_id`.
        retain_models_in_memory: Whether trained models stay in memory after a call.

    Raises:
        ValueError: A trainer without a run_id, or two with the same.
        TypeError: Something that is no trainer.
    """

    run_id: str | None = None
    """Name of a suite, before the ids of its trainers where it is merged."""

    def __init__(self, *trainers: Trainer, retain_models_in_memory: bool = True) -> None:
        for one in trainers:
            if not isinstance(one, Trainer):
                raise TypeError(f"A TrainerCollection takes trainers; got {one!r:.60}. To join suites: merge(…).")
        self._trainers: dict[str, Trainer] = {}
        self.retain_models_in_memory = retain_models_in_memory
        self._errors: dict[str, BaseException] = {}
        self._untrained: dict[str, BaseException] = {}
        self._results: dict[str, dict[str, Any]] = {}
        for one in trainers:
            self._add(one.run_id, one)

    def _add(self, name: str | None, trainer: Trainer) -> None:
        if not name:
            raise ValueError(f"Each trainer of a collection needs a run_id, which is its id; {trainer!r:.60} has none.")
        if name in self._trainers:
            raise ValueError(f"Two trainers of a collection have the id {name!r}: give each a run_id of its own.")
        self._trainers[name] = trainer

    @classmethod
    def merge(cls, *parts: Any) -> TrainerCollection:
        """The trainers of several suites, collections and trainers in one collection.

        The trainers of a suite get the ids `<suite>/<id>`, so that two suites over the same classes can be joined.

        Raises:
            ValueError: Two trainers would have the same id, or a trainer has no run_id.
            TypeError: A part that is neither a trainer nor a collection.
        """
        merged = TrainerCollection()
        for part in parts:
            if isinstance(part, TrainerCollection):
                for name, trainer in part.items():
                    merged._add(name if part.run_id is None else f"{part.run_id}/{name}", trainer)
            elif isinstance(part, Trainer):
                merged._add(part.run_id, part)
            else:
                raise TypeError(f"merge takes trainers, suites and collections; got {part!r:.60}.")
        return merged

    @property
    def failures(self) -> dict[str, str]:
        """Id → the error of the last call, for trainers whose part of it has failed."""
        return {name: _told(error) for name, error in self._errors.items()}

    # The trainers

    def __getitem__(self, name: str) -> Trainer:
        if name not in self._trainers:
            raise KeyError(
                f"There is no trainer {name!r}.{nearest(name, self._trainers)} There are: {', '.join(self)}."
            )
        return self._trainers[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._trainers)

    def __len__(self) -> int:
        return len(self._trainers)

    @property
    def trainers(self) -> dict[str, Trainer]:
        """Id → trainer."""
        return dict(self._trainers)

    def get_trainer(self, name: str) -> Trainer:
        """The trainer with this id. Raises KeyError for an unknown id."""
        return self[name]

    def get_trainers(self) -> list[Trainer]:
        """All trainers, in order."""
        return list(self._trainers.values())

    # Calls

    def call(self, name: str, /, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Call the method `name` of each trainer. Returns id → result, without the trainers that failed.

        Raises:
            AttributeError: The trainers have no such method.
            TypeError: The method does not take these arguments.
            RuntimeError: Every trainer failed; the first error is its cause.
        """
        if not all(callable(getattr(type(one), name, None)) for one in self._trainers.values()):
            raise AttributeError(f"The trainers have no method {name!r}.{nearest(name, dir(Trainer))}")

        def do(key: str, trainer: Trainer) -> Any:
            method = getattr(_asked(trainer, name), name)
            rest, given = _named(method, args, kwargs)
            own = _own_places(name, given, safe_name(key))
            return method(*rest, **own)

        return self._each(name, do, self._untrained)

    def __getattr__(self, name: str) -> Callable[..., dict[str, Any]]:
        # Only for names that the collection itself does not have.
        trainers = self.__dict__.get("_trainers")
        if name.startswith("_") or not trainers:
            raise AttributeError(name)
        if not all(callable(getattr(type(one), name, None)) for one in trainers.values()):
            known = [one for one in (*dir(type(self)), *dir(Trainer)) if not one.startswith("_")]
            raise AttributeError(
                f"{type(self).__name__} has no {name!r}, and its trainers have no such method.{nearest(name, known)}"
            )
        return lambda *args, **kwargs: self.call(name, *args, **kwargs)

    def train(self, **overrides: Any) -> Self:
        """Train every trainer, see `Trainer.train`. Returns self; `failures` has the errors of those that failed."""
        self._train(overrides, {})
        return self

    def _train(self, overrides: Mapping[str, Any], refused: Mapping[str, BaseException]) -> None:
        """Train the trainers that are not refused, and remember those that fail: later calls leave them out."""
        self._untrained, self._results = {}, {}
        try:
            self._each("train", lambda key, one: one.train(**with_own_places(overrides, safe_name(key))), refused)
        finally:
            self._untrained = dict(self._errors)

    def _each(self, name: str, do: Callable[[str, Trainer], Any], skip: Mapping[str, BaseException]) -> dict[str, Any]:
        """Id → what `do` gives for the id and the trainer; trainers in `skip` have failed already."""
        results: dict[str, Any] = {}
        self._errors = dict(skip)
        with Progress(name, len(self), "trainer", shown=name != "get_models") as bar:
            for key, trainer in self.items():
                if key not in self._errors:
                    try:
                        results[key] = do(key, trainer)
                    except CHILD_ERRORS as error:
                        self._errors[key] = noted(error)
                        logger.warning("%s: %s failed: %s", key, name, self.failures[key])
                    if not self.retain_models_in_memory:
                        trainer.unload_model()
                bar.advance()
        if self.failures and not results:
            shown = "\n".join(f"  {key}: {why}" for key, why in list(self.failures.items())[:10])
            first = next(iter(self._errors.values()))
            raise RuntimeError(f"{name} failed for all {len(self)} trainers:\n{shown}") from first
        if name in KEPT:
            self._results[name] = results
        return results

    # The models

    def get_models(
        self, label_mapping: Mapping[str, str] | None = None, load_missing: bool = True,
        use_cache: bool | None = None, seed_selection: str | None = None, gradiend_only: bool = False,
    ) -> dict[str, Any]:  # fmt: skip
        """Id (or its label) → trained model.

        Args:
            label_mapping: Id → the name under which a model is given.
            load_missing: Whether models that are not in memory are loaded; otherwise they are left out.
            use_cache: Accepted for compatibility; loaded models are kept as `retain_models_in_memory` says.
            seed_selection: Give the models of several seeds, see `Trainer.multi_seed`, as a `SeedModelGroup`. Default:
                all_convergent with `analyze_seed_stability`; otherwise the model of the best seed.
            gradiend_only: Give the GRADIENDs without their base models.

        Raises:
            KeyError: An id in `label_mapping` that no trainer has.
            ValueError: Two trainers would have the same name.
        """
        del use_cache
        for name in label_mapping or {}:
            self[name]
        named = {name: (label_mapping or {}).get(name, name) for name in self}
        twice = [label for label, count in Counter(named.values()).items() if count > 1]
        if twice:
            raise ValueError(f"Two trainers would have the name {twice[0]!r}: give each a label of its own.")
        here = [name for name, one in self.items() if load_missing or one.current.model is not None]
        absent = {name: LookupError("its model is not in memory") for name in self if name not in here}
        found = self._each(
            "get_models",
            lambda _, trainer: _model_of(trainer, seed_selection, gradiend_only),
            {**absent, **self._untrained},
        )
        return {named[name]: model for name, model in found.items()}

    def clear_model_cache(self) -> None:
        """Free the models in memory; they are loaded again when they are needed."""
        for one in self._trainers.values():
            one.unload_model()

    # Comparisons

    def compute_similarity_matrix(self, **options: Any) -> ComparisonResult:
        """How similar the weights of the trainers' models are, see `gradiend.compute_similarity_matrix`."""
        return comparison.compute_similarity_matrix(self._compared(), **options)

    def compute_grouped_similarity_matrices(self, **options: Any) -> dict[str, ComparisonResult]:
        """The same for groups of parameters, see `gradiend.compute_grouped_similarity_matrices`."""
        return comparison.compute_grouped_similarity_matrices(self._compared(), **options)

    def plot_similarity_heatmap(self, **options: Any) -> Any:
        """Plot how similar the weights are, see `gradiend.plot_similarity_heatmap`."""
        return comparison.plot_similarity_heatmap(self._compared(), **options)

    def plot_topk_overlap_heatmap(self, **options: Any) -> Any:
        """Plot how many of their most important weights the models share, see `gradiend.plot_topk_overlap_heatmap`."""
        return plot_topk_overlap_heatmap(self._compared(), **options)

    def compute_anchor_aligned_encoding_matrix(
        self, feature_classes: Sequence[str] | None = None, **options: Any
    ) -> ComparisonResult:
        """What the GRADIENDs of each class say of all texts, see `gradiend.compute_anchor_aligned_encoding_matrix`."""
        return comparison.compute_anchor_aligned_encoding_matrix(self._able(), feature_classes, **options)

    def compute_trainer_pair_encoding_matrix(self, **options: Any) -> ComparisonResult:
        """What each GRADIEND says of all pairs, see `gradiend.compute_trainer_pair_encoding_matrix`."""
        return comparison.compute_trainer_pair_encoding_matrix(self._able(), **options)

    def plot_cross_encoding_heatmap(self, feature_classes: Sequence[str] | None = None, **options: Any) -> Any:
        """Plot what GRADIENDs say of each other's texts, see `gradiend.plot_cross_encoding_heatmap`."""
        return comparison.plot_cross_encoding_heatmap(self._able(), feature_classes, **options)

    def _compared(self) -> dict[str, Any]:
        return self.get_models(self.labels)

    def _able(self) -> Any:
        """The trainers whose training has not failed."""
        return {name: trainer for name, trainer in self.items() if name not in self._untrained}

    @property
    def labels(self) -> dict[str, str]:
        """Id → name in figures."""
        return {name: name for name in self}

    # The table

    def records(self) -> list[dict[str, Any]]:
        """What is known of each trainer's run, in the form of run.json (`experiment`, `metrics`), for comparisons.

        The metrics are those of the last evaluations of this collection.
        """
        return [self._record(name, trainer) for name, trainer in self.items()]

    def _record(self, name: str, trainer: Trainer) -> dict[str, Any]:
        encoder, decoder = (self._last(name, part) for part in ("encoder", "decoder"))
        trained = None if name in self.failures or not trainer.has_model() else trainer.get_training_stats()
        outcome = (trained or {}).get("convergence_info") or {}
        seeds = (encoder or {}).get("seeds", {}).get("values", trainer.training_args.seed)
        correlation = None
        if encoder and encoder.get("correlation") is not None:
            interval = encoder.get("correlation_interval") or {}
            correlation = {"value": encoder["correlation"], "low": interval.get("low"), "high": interval.get("high")}
        effects = self._results.get("evaluate_side_effects", {}).get(name)
        divergence = [] if effects is None else effects.loc[effects["kind"] == "divergence", "after"].tolist()
        goals = {
            goal: {
                "base": one.get("base_value"), "value": one.get("value"), "learning_rate": one.get("learning_rate"),
                **{key: one.get(key) for key in ("likelihood_ratio", "lms", "base_lms")},
            }
            for goal, one in goal_entries(decoder or {}).items()
            if "learning_rate" in one
        }  # fmt: skip
        return {
            "experiment": {"name": name, "model": trainer.base_model_path, "seed": seeds},
            "metrics": {
                "classes": trainer.target_classes,
                "converged": outcome.get("converged"),
                "correlation": correlation,
                "n_seeds": (len(seeds) if isinstance(seeds, list) else 1) if encoder else None,
                "mean_by_class": (encoder or {}).get("mean_by_feature_class"),
                "goals": goals,
                "divergence": next(iter(divergence), None),
                "status": "failed" if name in self.failures else "not trained" if trained is None else "trained",
                "reason": self.failures.get(name),
            },
        }

    def _last(self, name: str, part: str) -> Any:
        both = self._results.get("evaluate", {}).get(name)
        return self._results.get(f"evaluate_{part}", {}).get(name, None if both is None else both[part])

    def table(self, path: str | Path | None = None) -> pd.DataFrame:
        """One row for each trainer: what was found, and what the rewrites cost.

        The columns are classes, status (trained, not trained, failed), reason, converged, correlation with its interval
        (low, high) and the number of seeds that it is of, for each goal of the decoder evaluation P before and after,
        the chosen step (None where seeds have chosen different ones) and the share of the likelihood that is kept, and
        divergence (of the last `evaluate_side_effects`, in nats per token). What the last calls of this collection have
        not measured is None.

        Args:
            path: A CSV file, to which the table is written too.
        """
        rows = {record["experiment"]["name"]: _row(record["metrics"]) for record in self.records()}
        frame = pd.DataFrame.from_dict(rows, orient="index").astype(object)
        frame = frame.where(frame.notna(), None)
        frame.index.name = "id"
        if path is not None:
            write_csv(path, frame, index=True)
        return frame

    def _tables(self) -> tuple[str, Sequence[Table]]:
        rows = []
        for record in self.records():
            metrics, found = record["metrics"], record["metrics"]["correlation"]
            rows.append([
                record["experiment"]["name"], " / ".join(metrics["classes"] or ()), metrics["status"],
                {True: "yes", False: "no", None: ""}[metrics["converged"]],
                number(None) if found is None else with_interval(
                    found["value"], None if found["low"] is None else (found["low"], found["high"])
                ),
            ])  # fmt: skip
        note = "\n".join(f"{name}: {why}" for name, why in self.failures.items())
        headline = f"{type(self).__name__}: {len(self)} trainers"
        return headline, [Table("", ["id", "classes", "state", "converged", "correlation"], rows, note)]


def _named(
    method: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[Sequence[Any], dict[str, Any]]:
    """(arguments without a name, arguments by their names) of a call."""
    parameters = inspect.signature(method).parameters.values()
    names = [one.name for one in parameters if one.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    named = dict(zip(names, args, strict=False))
    if twice := named.keys() & kwargs.keys():
        raise TypeError(f"{method.__name__}() got {', '.join(sorted(twice))} twice, by its place and by its name.")
    return args[len(named) :], {**named, **kwargs}


def _own_places(method: str, given: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The arguments of a method for the trainer with this name, which writes to files and folders of its own."""
    files: Sequence[str] = FILES
    folders: Sequence[str] = FOLDERS
    if method == "train_decoder_only_mlm_head":
        folders = (*FOLDERS, "output")
    elif method == "export_delta" and given.get("path"):
        # One delta may have a file; several have a folder.
        is_file = Path(given["path"]).suffix == ".safetensors"
        files, folders = (*FILES, "path"), FOLDERS if is_file else (*FOLDERS, "path")
    own = with_own_places(given, name, files=files, folders=folders)
    if method == "push_to_hub":
        # At the top of a repository there is room for one model.
        own["subfolder"] = "/".join(filter(None, [given.get("subfolder"), name]))
    return own


def noted(error: BaseException) -> BaseException:
    """The error without its traceback, which would keep a trainer's tensors in memory until the error is shown.

    In a run of several processes the error is raised instead: another process may not have it, and would wait for this
    process forever.
    """
    if processes().count > 1:
        raise error
    return error.with_traceback(None)


def _told(error: BaseException) -> str:
    """The message of an error, with what helps if memory is short."""
    text = str(error) or type(error).__name__
    if isinstance(error, MemoryError) or "out of memory" in text.lower():
        text += " retain_models_in_memory=False frees each model after its call."
    return text


def _asked(trainer: Any, name: str) -> Any:
    """The object whose method is called: the trainer, or the view of its seeds."""
    of_seeds = name in OF_SEEDS or name.startswith("plot_")
    return trainer.multi_seed() if of_seeds and trainer.training_args.analyze_seed_stability else trainer


def _model_of(trainer: Any, seed_selection: str | None, gradiend_only: bool) -> Any:
    if seed_selection is None and trainer.training_args.analyze_seed_stability:
        seed_selection = "all_convergent"
    if seed_selection is not None:
        return trainer.multi_seed(selection=seed_selection).get_model(gradiend_only=gradiend_only)
    model: ModelWithGradiend = trainer.get_model()
    require_trained(trainer, model)
    return model.gradiend if gradiend_only else model


def _row(metrics: Mapping[str, Any]) -> dict[str, Any]:
    found = metrics["correlation"] or {}
    row = {
        "classes": " / ".join(metrics["classes"] or ()), "status": metrics["status"], "reason": metrics["reason"],
        "converged": metrics["converged"], "correlation": found.get("value"), "low": found.get("low"),
        "high": found.get("high"), "seeds": metrics["n_seeds"],
    }  # fmt: skip
    for goal, one in metrics["goals"].items():
        kept = one["likelihood_ratio"]["value"] if one["likelihood_ratio"] else None
        ends = {
            name: as_probability(goal, one[key], metrics["classes"] or ())
            for name, key in (("before", "base"), ("after", "value"))
        }
        values = {**ends, "step": one["learning_rate"], "kept": kept}
        row |= {f"{goal}: {name}": value for name, value in values.items()}
    return {**row, "divergence": metrics["divergence"]}
