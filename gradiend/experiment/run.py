"""The steps of an experiment, in their order: data, train, evaluate, rewrite, delta, report.

Each step is a few calls of the public API, so that the numbers are those of a script. What is done already is read.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import pandas as pd

from gradiend.data import TextFilterConfig, TextPredictionDataCreator
from gradiend.data.unified._schema import rows_by_split
from gradiend.evaluator._goals import goal_entries
from gradiend.experiment._live_report import LiveReport
from gradiend.experiment._record import RunRecord
from gradiend.experiment.sections import Corpus, Delta, Experiment, FeatureClass, Rewrite
from gradiend.model import read_delta, read_rewrite_record
from gradiend.model._rewrite_files import RewriteRecord
from gradiend.objectives.loading import require_model
from gradiend.report import write_report
from gradiend.trainer.core._callback import TrainingCallback
from gradiend.trainer.core.stats import judgement
from gradiend.trainer.text import TextPredictionTrainer
from gradiend.util import BALANCE, WEAKENED, paths
from gradiend.util._digest import frame_part, hash_model_weights
from gradiend.util._imports import require_package
from gradiend.util._keywords import one_of
from gradiend.util._lock import writing
from gradiend.util._processes import processes
from gradiend.util.logging import get_logger

logger = get_logger(__name__)

Step = Literal["data", "train", "evaluate", "rewrite", "delta", "report"]
STEPS: tuple[Step, ...] = get_args(Step)
NEEDED: dict[Step, tuple[Step, ...]] = {
    "data": (),
    "train": ("data",),
    "evaluate": ("data", "train"),
    "rewrite": ("data", "train", "evaluate"),
    "delta": ("data", "train", "evaluate"),
    "report": ("data", "train", "evaluate"),
}
"""Step → the steps whose results it needs; if they are done, they are read."""
VERDICT = ("converged", "convergence_metric", "convergence_metric_value", "threshold", "reason")
"""What a record keeps of how a training was judged."""
PHASES = {
    "data": "Reading the rows",
    "train": "Training a GRADIEND on the gradients of the model",
    "evaluate_encoder": "Encoding the split and neutral texts",
    "evaluate_decoder": "Searching the step of each rewrite",
    "side_effects": "Measuring what else the rewrites change",
    "rewrite": "Saving rewritten models",
    "delta": "Saving deltas",
    "report": "Writing the report",
}
"""Part of a run → what it does, for the log."""


def run_experiment(
    experiment: Experiment, step: Step | None = None, *, command: str | None = None, watch: bool = False
) -> ExperimentRun:
    """Run an experiment, or one step of it and what that step needs. What is done already is not done again.

    Everything is in `experiment_dir` afterwards: data, model, encodings, measurements, figures, rewritten models,
    deltas, `report.html`, and `run.json`, by which `read_experiment` makes the same numbers again.

    Args:
        experiment: The experiment, from `read_experiment` or made in Python.
        step: data, train, evaluate, rewrite, delta or report. Default: all steps that the experiment has.
        command: The command line that `run.json` and the page show.
        watch: Whether the growing page is served to this machine while the run goes on; the address is in the log.

    Returns:
        The finished run: trainer, results, record.

    Raises:
        ValueError: An unknown step, or data and arguments that do not fit; before any long work where possible.
    """
    run = ExperimentRun(experiment, command)
    run.do(run.steps(step), watch=watch)
    return run


class ExperimentRun:
    """One run of an experiment: its trainer and what the steps have found so far; see `run_experiment`."""

    def __init__(self, experiment: Experiment, command: str | None = None) -> None:
        self.experiment = experiment
        self.directory = Path(experiment.experiment_dir)
        self.record = RunRecord(experiment, command)
        self.encoder: dict[str, Any] | None = None
        """The result of `evaluate_encoder`, with encodings; None before."""
        self.decoder: dict[str, Any] | None = None
        """The result of `evaluate_decoder`, of both directions; None before."""
        self.side_effects: dict[str, pd.DataFrame] = {}
        """Goal → what else its rewrite changes."""
        self.rewritten: dict[str, str] = {}
        """Goal → folder of the rewritten model."""
        self.deltas: dict[str, str] = {}
        """Goal → file of the delta."""
        self.report_path: str | None = None
        self.callbacks: list[TrainingCallback] = []
        """Callbacks that watch the training and do not change it."""
        self.changed: Callable[[], None] = lambda: None
        """Called whenever there is something new to see."""

    def steps(self, step: Step | None = None) -> list[Step]:
        """The steps that will be done: `step` and what it needs, or all that the experiment has."""
        if step is not None:
            one_of("step", step, STEPS)
            return [*NEEDED[step], step]
        experiment = self.experiment
        wanted = {"rewrite": experiment.rewrite, "delta": experiment.delta, "report": experiment.report}
        return [one for one in STEPS if wanted.get(one, True) is not None]

    def do(self, steps: Sequence[Step], *, watch: bool = False) -> None:
        """Do the steps, in this order, and finish the record; `watch` as for `run_experiment`."""
        work: dict[Step, Callable[[], None]] = {
            "data": self.make_data, "train": self.train, "evaluate": self.evaluate, "rewrite": self.rewrite,
            "delta": self.export_deltas, "report": self.write_report,
        }  # fmt: skip
        with writing(self.directory, self.experiment.train.lock_wait_minutes):
            # The record of the last run may be one that has ended only now.
            self.record.renew()
            with self.watched() if watch and processes().first else nullcontext():
                for step in steps:
                    work[step]()
                    self.changed()
                self.record.finish()

    @contextmanager
    def watched(self) -> Iterator[LiveReport]:
        """Serve the growing page in a with-block; see `LiveReport`."""
        with LiveReport(self.directory / paths.LIVE_REPORT, self._write_page) as live:
            self.callbacks.append(live)
            self.changed = live.update
            yield live

    # Data

    @cached_property
    def trainer(self) -> TextPredictionTrainer:
        """The trainer of the experiment, which the first access makes from its rows."""
        experiment = self.experiment
        if experiment.corpus is None:
            return trainer_of(experiment)
        rows, neutral = rows_from(experiment.corpus, self.directory / paths.DATA_DIR, bool(experiment.train.use_cache))
        return trainer_of(experiment, rows, neutral)

    def make_data(self) -> None:
        """Make or read the rows."""
        require_model(self.experiment.model)
        with self.phase("data"):
            rows = self.trainer.combined_data
            found = {"fingerprint": frame_part(rows), "rows": rows_by_split(rows)}
            earlier = self.record.earlier or {}
            if earlier.get("data") not in (None, found):
                logger.warning("The rows are not those of the last run in %s.", self.directory)
            elif earlier:
                # Numbers of steps that are not done this time; another training makes them void.
                self.record.content |= {"metrics": dict(earlier["metrics"]), "phases": earlier["phases"]}
            self.record.content["data"] = found

    # Training

    def check(self) -> None:
        """Raise ValueError for what later steps would refuse: unknown goals, "balance" without texts, no jinja2."""
        if self.experiment.report is not None:
            require_package("jinja2", "A report", "report")
        self.experiment.require_goals(self.trainer.target_classes)
        if BALANCE in self.experiment.strengthened(self.trainer.target_classes):
            self.trainer.balance_texts()

    def train(self) -> None:
        """Train, or find the training done."""
        self.check()
        head = self.experiment.head
        with self.phase("train") as entry:
            trainer = self.trainer
            if head is not None:
                model = trainer.base_model_path
                use_cache = bool(self.experiment.train.use_cache)
                trainer.train_decoder_only_mlm_head(model, use_cache=use_cache, **vars(head))
            trainer.train(callbacks=self.callbacks or None)
            entry["reused"] = trainer.reused
            # A report of seeds beside a training of one seed is that of an earlier training.
            report = None if trainer.training_args.max_seeds == 1 else trainer.get_seed_report()
            stats = trainer.get_training_stats()
            assert stats is not None
            self.record.content["seeds"] = [trainer.training_args.seed] if report is None else report["seeds_tried"]
            best = stats["best_score_checkpoint"] or {}
            if not trainer.reused:
                self.record.content |= {"metrics": {}, "phases": {"data": self.record.content["phases"]["data"]}}
            verdict = judgement(stats, report)
            assert verdict is not None
            self.metrics.update({
                "classes": list(trainer.target_classes), "converged": verdict["converged"],
                "convergence": {name: verdict.get(name) for name in VERDICT},
                "best_seed": stats["training_args"]["seed"], "best_step": best.get("global_step"),
                "entries": len(trainer.get_model().gradiend),
            })  # fmt: skip

    @property
    def metrics(self) -> dict[str, Any]:
        """The numbers of the record."""
        return self.record.content["metrics"]

    @property
    def converged(self) -> bool:
        """Whether the training has converged; True where the run has not trained."""
        return bool(self.metrics.get("converged", True))

    # Evaluation

    def evaluate(self) -> None:
        """Measure the encoder, the decoder, and what else the chosen rewrites change."""
        asked = self.experiment.evaluate
        if asked.encoder is not None:
            with self._reading("evaluate_encoder", f"{paths.ENCODED_VALUES}*.csv"):
                options = dataclasses.asdict(asked.encoder)
                plot = {"plot": options.pop("plot"), "plot_kwargs": {"show": False}}
                self.encoder = self.trainer.evaluate_encoder(return_df=True, **plot, **options)
                self.metrics.update(encoder_metrics(self.encoder))
            self.changed()
        if asked.decoder is not None:
            with self._reading("evaluate_decoder", f"{paths.DECODER_DIR}/*.json"):
                self.decoder = self._measured_steps()
                self.metrics["goals"] = goal_metrics(self.decoder)
            self.changed()
        if asked.side_effects is not None and self.decoder is not None:
            with self._reading("side_effects", f"{paths.SIDE_EFFECTS}*.json"):
                options = dataclasses.asdict(asked.side_effects)
                sentences = list(self.experiment.report.sentences) if self.experiment.report else []
                for goal in self.goals:
                    self.side_effects[goal] = self.trainer.evaluate_side_effects(
                        self.decoder, **self._direction(goal), sentences=sentences or None, **options
                    )

    def _measured_steps(self) -> dict[str, Any]:
        """The results of both directions, in one dict: their goals have different keys."""
        asked = self.experiment.evaluate.decoder
        assert asked is not None
        options: dict[str, Any] = {
            "lrs": asked.lrs, "feature_factors": asked.feature_factors, "plot": asked.plot, "show": False,
            "max_size_training_like": asked.max_size_training_like, "max_size_neutral": asked.max_size_neutral,
        }  # fmt: skip
        results: dict[str, Any] = {}
        strengthened = self.experiment.strengthened(self.trainer.target_classes)
        for classes, increase in ((strengthened, True), (list(asked.weaken), False)):
            if classes:
                found = self.trainer.evaluate_decoder(
                    target_class=classes, increase_target_probabilities=increase, **options
                )
                grid = {**found.pop("grid"), **results.get("grid", {})}
                results = {**results, **found, "grid": grid}
        return results

    @property
    def goals(self) -> list[str]:
        """The goals for which the decoder evaluation has chosen a step: classes, `<class>_weaken`, balance."""
        return [
            key for key, entry in goal_entries(self.decoder or {}).items() if entry.get("learning_rate") is not None
        ]

    # Results for others

    def rewrite(self) -> None:
        """Save a rewritten model for each goal that is asked for; a model that is there already stays."""

        def made(place: Path) -> RewriteRecord | None:
            whole = paths.has_saved_model(place) and (place / paths.REWRITE_RECORD).is_file()
            return read_rewrite_record(place) if whole else None

        self.rewritten = self._saved(
            "rewrite", self.experiment.rewrite or Rewrite(), paths.REWRITTEN_DIR, "", made,
            lambda goal, place: self.trainer.rewrite_base_model(self.decoder, **goal, output_dir=str(place)),
        )  # fmt: skip

    def export_deltas(self) -> None:
        """Write a delta for each goal that is asked for; a delta that is there already stays."""
        self.deltas = self._saved(
            "delta", self.experiment.delta or Delta(), paths.DELTAS_DIR, ".safetensors",
            lambda place: read_delta(place).rewrite if place.is_file() else None,
            lambda goal, place: self.trainer.export_delta(self.decoder, **goal, path=place),
        )  # fmt: skip

    def _saved(
        self, phase: str, asked: Rewrite, usual: str, suffix: str, made: Callable[[Path], RewriteRecord | None],
        make: Callable[[Mapping[str, Any], Path], object],
    ) -> dict[str, str]:  # fmt: skip
        """Goal → the place of its rewrite, which is made unless `made` says that it is there."""
        folder = Path(asked.output_dir or self.directory / usual)
        places: dict[str, str] = {}
        with self.phase(phase) as entry:
            entry["reused"] = True
            for goal in self._chosen(asked):
                place = folder / paths.name_in(folder, goal, suffix, [Path(one).name for one in places.values()])
                places[goal] = str(place)
                if self._is_of(made(place), goal):
                    logger.info("%s holds this rewrite already.", place)
                    continue
                make(self._direction(goal), place)
                entry["reused"] = False
        return places

    def _is_of(self, made: RewriteRecord | None, goal: str) -> bool:
        """Whether a rewrite on disk is that of a goal, by the same GRADIEND."""
        assert self.decoder is not None
        chosen = self.decoder[goal]
        return (
            self.experiment.train.use_cache
            and made is not None
            and made.gradiend_fingerprint == hash_model_weights(self.trainer.get_model().gradiend)
            and (made.learning_rate, made.feature_factor, made.part)
            == (chosen["learning_rate"], chosen["feature_factor"], chosen["part"])
        )

    def _direction(self, goal: str) -> dict[str, Any]:
        """The argument of a rewrite that a goal stands for: strengthen or weaken."""
        assert self.decoder is not None
        strengthens = self.decoder[goal]["strengthen"]
        return {"strengthen": goal} if strengthens else {"weaken": goal.removesuffix(WEAKENED)}

    def _chosen(self, asked: Rewrite) -> list[str]:
        """The goals that are asked for. Raises ValueError for a goal without a step."""
        given = [*(asked.strengthen or ()), *(f"{name}{WEAKENED}" for name in asked.weaken or ())]
        if asked.strengthen is None and asked.weaken is None:
            return self.goals
        missing = [goal for goal in given if goal not in self.goals]
        if missing:
            raise ValueError(f"No step was found for {', '.join(missing)}, so that there is nothing to save.")
        return given

    def write_report(self) -> None:
        """Write `report.html`."""
        with self.phase("report"):
            self.report_path = self._write_page(self.directory / paths.REPORT)

    def _write_page(self, path: Path, **more: Any) -> str:
        asked = self.experiment.report
        return write_report(
            path, self.trainer, encoder=self.encoder, decoder=self.decoder, side_effects=self.side_effects or None,
            record=self.record.content, title=None if asked is None else asked.title, **more,
        )  # fmt: skip

    @contextmanager
    def phase(self, name: str) -> Iterator[dict[str, Any]]:
        """A measured part of the run, see `RunRecord.phase`."""
        with self.record.phase(name) as entry:
            logger.info("%s …", PHASES[name])
            yield entry

    @contextmanager
    def _reading(self, name: str, pattern: str) -> Iterator[None]:
        """A phase whose results were read, not measured, if no file of the pattern has changed."""
        before = self._states(pattern)
        with self.phase(name) as entry:
            yield
            entry["reused"] = bool(before) and before == self._states(pattern)

    def _states(self, pattern: str) -> dict[str, int]:
        return {path.name: path.stat().st_mtime_ns for path in self.directory.glob(pattern)}


def trainer_of(experiment: Experiment, rows: Any = None, neutral: Any = None) -> TextPredictionTrainer:
    """The trainer of an experiment; `rows` and `neutral` are those that were made from its raw text."""
    config, corpus = experiment.data, experiment.corpus
    if corpus is not None:
        names = list(corpus.feature_targets)
        config = dataclasses.replace(
            config, data=rows, target_classes=config.target_classes or (names if len(names) == 2 else None),
            eval_neutral_data=neutral if config.eval_neutral_data is None else config.eval_neutral_data,
        )  # fmt: skip
    return TextPredictionTrainer(experiment.model, config=config, args=experiment.train)


def rows_from(
    corpus: Corpus, folder: Path | None = None, use_cache: bool = False
) -> tuple[dict[str, pd.DataFrame] | pd.DataFrame, pd.DataFrame | None]:
    """(rows of each class, neutral texts) from raw text; written to the folder, if there is one, and read there."""
    texts = corpus.base_data
    targets = [
        given.config(name) if isinstance(given, FeatureClass) else TextFilterConfig(targets=given, id=name)
        for name, given in corpus.feature_targets.items()
    ]
    creator = TextPredictionDataCreator(
        list(texts) if isinstance(texts, Sequence) and not isinstance(texts, str) else texts,
        text_column=corpus.text_column, base_max_size=corpus.base_max_size, split=corpus.split,
        hf_config=corpus.hf_config, trust_remote_code=corpus.trust_remote_code, preprocess=corpus.preprocess,
        spacy_model=corpus.spacy_model, feature_targets=targets, seed=corpus.seed, output_dir=folder,
        use_cache=use_cache, document_column=corpus.document_column,
        min_left_context_words=corpus.min_left_context_words,
    )  # fmt: skip
    rows = creator.generate_training_data(
        max_size_per_class=corpus.max_size_per_class, balance="try" if corpus.balance else None,
        min_rows_per_class_for_split=corpus.min_rows_per_class_for_split, split_by_document=corpus.split_by_document,
        keep_several_classes=corpus.keep_several_classes, split_by_target=corpus.split_by_target,
    )  # fmt: skip
    if creator.stopped:
        raise KeyboardInterrupt
    if corpus.neutral_max_size == 0:
        return rows, None
    neutral = creator.generate_neutral_data(
        max_size=corpus.neutral_max_size, additional_excluded_words=corpus.additional_excluded_words
    )
    if creator.stopped:
        raise KeyboardInterrupt
    # Without neutral texts, the trainer takes the test split with its words filled in.
    return rows, None if neutral.empty else neutral


def encoder_metrics(result: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers of an encoder evaluation that a record keeps."""
    interval = result.get("correlation_interval") or {}
    correlation = {"value": result["correlation"], "low": interval.get("low"), "high": interval.get("high")}
    return {"correlation": correlation, "mean_by_class": result["mean_by_feature_class"]}


def goal_metrics(results: Mapping[str, Any]) -> dict[str, Any]:
    """Goal → the numbers of its chosen step; a goal without a step has the reason."""
    names = (
        "value", "value_interval", "change_interval", "learning_rate", "feature_factor", "part", "lms", "base_lms",
        "likelihood_ratio", "measures", "base_measures", "why", "reason",
    )  # fmt: skip
    return {
        goal: {"base": entry.get("base_value"), **{name: entry[name] for name in names if name in entry}}
        for goal, entry in goal_entries(results).items()
    }
