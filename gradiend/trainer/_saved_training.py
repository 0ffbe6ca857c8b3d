"""Whether a training was done before: what a training depends on, recorded beside the saved model."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import FunctionType, MethodType
from typing import Any

from gradiend.trainer._preparation import TrainingPlan, with_data
from gradiend.trainer.core._modality import Modality
from gradiend.trainer.core._seeds import cause_of, drop_weights
from gradiend.trainer.core.arguments import TrainingArguments
from gradiend.trainer.core.feature_definition import FeatureLearningDefinition
from gradiend.trainer.core.pruning import Examples
from gradiend.trainer.core.stats import convergence, load_training_stats
from gradiend.util._argument_fields import plain
from gradiend.util._cache import CACHE_FORMAT, Cache, Fingerprint
from gradiend.util._digest import digest_json, settings_part, source_digest
from gradiend.util._files import read_checked_json
from gradiend.util.logging import get_logger
from gradiend.util.paths import FINGERPRINT_FILE, SEED_REPORT, TRAINING, forget_choices, has_saved_model

logger = get_logger(__name__)

SEEDS_CAP = "seed_selection_eval_max_size"


class SavedTraining:
    """The trained model in a directory, and whether it depends on the same `parts` as the training to be done.

    Parts in `free` may differ; `refused` says why a model of the same training is not used, or None.
    """

    def __init__(
        self, directory: str, parts: Fingerprint, free: Collection[str] = (),
        refused: Callable[[], str | None] = lambda: None,
    ) -> None:  # fmt: skip
        self._directory = Path(directory)
        self._refused = refused
        self._cache = Cache(
            self._directory / FINGERPRINT_FILE, plain(parts), lambda: source_digest(self._directory), free=free
        )

    def why_not_current(self) -> list[str]:
        """Why the saved model is not the result of this training; an empty list if it is."""
        content, why = self._cache.read()
        try:
            load_training_stats(self._directory)
        except ValueError as error:
            content, why = None, [str(error)]
        why = [line.replace(SEEDS_CAP, f"{SEEDS_CAP} (by default encoder_eval_max_size)") for line in why]
        if content is None:
            return why or ["it does not say what it was made from"]
        refused = self._refused()
        return [] if refused is None else [refused]

    def is_current(self) -> bool:
        """Whether the saved model is the result of this training; if not, the log says what differs."""
        if not has_saved_model(self._directory):
            return False
        why = self.why_not_current()
        if why:
            logger.info("The model in %s is not used (%s): training again.", self._directory, "; ".join(why))
            return False
        logger.info(
            "The model in %s was trained from the same model and data, with the same arguments: it is used.",
            self._directory,
        )
        return True

    def forget(self, experiment_dir: str | None) -> None:
        """Remove the record of the saved model, and the rewrites that were chosen for this model."""
        self._cache.forget()
        if experiment_dir is not None:
            forget_choices(experiment_dir)

    def mark(self) -> None:
        """Record what the saved model depends on, and its digest."""
        if has_saved_model(self._directory):
            self._cache.write({})


def saved_seed(definition: FeatureLearningDefinition, plan: TrainingPlan) -> SavedTraining:
    """The saved result of a training with one seed; `use_cache="only_convergent"` takes it if it has converged."""
    refused = (lambda: _not_converged(plan)) if plan.args.use_cache == "only_convergent" else lambda: None
    return SavedTraining(plan.output, training_parts(definition, plan), refused=refused)


def saved_choice(definition: FeatureLearningDefinition, plan: TrainingPlan) -> SavedTraining:
    """The saved result of a call of `train`, with one seed or with several.

    Of several seeds, `use_cache="only_convergent"` takes it if enough have converged, `"always"` also if another number
    of seeds or another threshold was asked for.
    """
    policy, args = plan.args.use_cache, plan.args
    if args.max_seeds == 1:
        return saved_seed(definition, plan)
    free = [SEEDS_CAP, *args.names("seeds")] if policy == "always" else []
    needed = (args.min_convergent_seeds or 1) if policy == "only_convergent" else 0
    # The report says which splits the chosen seed had, and whether enough seeds have converged.
    reads_report = needed or args.resplits or args.fail_on_non_convergence
    refused = (lambda: _too_few(plan, needed)) if reads_report else lambda: None
    return SavedTraining(plan.output, seeds_parts(definition, plan), free, refused)


def _not_converged(plan: TrainingPlan) -> str | None:
    stats = load_training_stats(plan.output)
    if stats is None:
        return "nothing says whether it has converged"
    training, best, losses = (stats[name] for name in ("training_stats", "best_score_checkpoint", "losses"))
    outcome = convergence(plan.args, training, best or {}, losses)
    return None if outcome.converged else f"it has not converged: {cause_of(outcome.to_dict())}"


def _too_few(plan: TrainingPlan, needed: int) -> str | None:
    report = plan.seeds_directory / SEED_REPORT
    try:
        count = read_checked_json(report)["convergent_count"]
    except (FileNotFoundError, KeyError, ValueError) as error:
        return f"how many seeds have converged cannot be read: {error}"
    return None if count >= needed else f"{count} seeds have converged, and {needed} should"


def training_parts(definition: FeatureLearningDefinition, plan: TrainingPlan) -> Fingerprint:
    """The parts that one training with one seed depends on."""
    return _parts(definition, plan, plan.args.names("training"))


def seeds_parts(definition: FeatureLearningDefinition, plan: TrainingPlan) -> Fingerprint:
    """The parts that the choice among several seeds depends on."""
    cap = plan.args.seed_selection_eval_max_size or plan.args.encoder_eval_max_size
    args = plan.args
    # Compare the splits of the first seed, since the trainer may have those of a seed that was chosen before.
    first = 0 if args.resplits else None
    own = with_data(definition, definition.modality.for_seed(first, args.split_resplit_strategy))
    parts = _parts(own, plan, args.names("training", "seeds"))
    # Only where seeds have their own splits, so that choices of older versions, which know no such splits, stay valid.
    return {**parts, SEEDS_CAP: cap, **({"splits": args.split_resplit_strategy} if args.resplits else {})}


def data_of_choice(trainer: Any, plan: TrainingPlan) -> Modality:
    """The data with the splits of the seed that was chosen, which later evaluations must keep."""
    if not plan.args.resplits:
        return trainer.modality.for_seed(None)
    report = read_checked_json(plan.seeds_directory / SEED_REPORT)
    return data_of_seed(trainer, report, report["best_seed"])


def data_of_seed(trainer: Any, report: Mapping[str, Any], seed: int) -> Modality:
    """The data with the splits of a seed in a report."""
    index = next(run["split_cycle_index"] for run in report["runs"] if run["seed"] == seed)
    return trainer.modality.for_seed(index, report["split_resplit_strategy"])


def kept_models(trainer: Any, plan: TrainingPlan) -> dict[int, Any] | None:
    """Seed → model of the seed runs with `keep_seed_runs`, else {}; None if a run that should stay is missing.

    If only the best seed should stay, weights of the others that an earlier process has left are removed.
    """
    args, report = plan.args, plan.seeds_directory / SEED_REPORT
    if args.seeds_that_stay == "best_only":
        # A process that was killed right after the choice may have left weights.
        drop_weights([str(path) for path in plan.seeds_directory.glob("seed_*") if _is_left(trainer, plan, path)])
        return {}
    if not report.is_file():
        return None
    try:
        runs = {
            run["seed"]: seed_folder(plan.seeds_directory, run)
            for run in read_checked_json(report)["runs"]
            if stays(run, args)
        }
        if not all(map(has_saved_model, runs.values())):
            return None
        return trainer.load_seed_runs(runs) if args.keep_seed_runs else {}
    except (KeyError, TypeError, ValueError) as error:
        logger.info("The seeds are trained again, because those of %s cannot be read: %s", report, error)
        return None


def seed_folder(seeds_directory: Path | None, run: Mapping[str, Any]) -> str:
    """The directory of a seed in a report, also after the experiment was moved or copied to another place."""
    recorded = str(run["output_dir"])
    here = None if seeds_directory is None else seeds_directory / Path(recorded).name
    return str(here) if here is not None and here.is_dir() else recorded


def stays(run: Mapping[str, Any], args: TrainingArguments) -> bool:
    """Whether the weights of a seed stay in its own directory."""
    return args.seeds_that_stay == "all_tried" or (args.seeds_that_stay == "all_convergent" and run["converged"])


def _is_left(trainer: Any, plan: TrainingPlan, directory: Path) -> bool:
    """Whether the folder of a seed holds weights of this training, or what an interrupted removal of them has left."""
    number = directory.name.removeprefix("seed_")
    if not (directory / TRAINING).is_file() or not number.isdecimal():
        return False
    if not has_saved_model(directory):
        return True
    if plan.args.resplits:
        report = read_checked_json(plan.seeds_directory / SEED_REPORT)
        if int(number) not in report["seeds_tried"]:
            return False
        trainer = with_data(trainer, data_of_seed(trainer, report, int(number)))
    return not SavedTraining(str(directory), training_parts(trainer, plan.for_seed(int(number)))).why_not_current()


def _parts(definition: FeatureLearningDefinition, plan: TrainingPlan, names: Collection[str]) -> Fingerprint:
    args = plan.args
    callbacks = [one for one in plan.callbacks or [] if not one.only_watches]
    given = {name: value for name, value in args.to_dict().items() if name in names}
    head = definition.resolve_custom_prediction_head_dir()
    pruning = args.pre_prune_config
    if pruning is not None:
        matters = pruning.names("training")
        given["pre_prune_config"] = {name: value for name, value in pruning.to_dict().items() if name in matters}
    return {
        "format": CACHE_FORMAT,
        "trainer": type(definition).__qualname__,
        "model": source_digest(plan.source),
        **settings_part(plan.source),
        "auxiliary head": None if head is None else source_digest(head),
        "model class": str(plan.model_class),
        "callbacks": [{"class": type(one).__qualname__, **one.settings()} for one in callbacks],
        "criterion": repr(args.criterion),
        "evaluate_fn": None if args.evaluate_fn is None else _function(args.evaluate_fn),
        "examples to prune by": None if pruning is None or pruning.dataset is None else _examples(pruning.dataset),
        **definition.data_parts(
            "train", definition.modality.evaluation_split(), include_other_classes=args.add_identity_for_other_classes
        ),
        **given,
    }


def _function(function: Callable[..., Any]) -> str:
    """The name of a function; any other callable may have a state that matters, so it is never the same as before."""
    if isinstance(function, (FunctionType, MethodType)):
        return f"{function.__module__}.{function.__qualname__}"
    return _unknown(function)


def _examples(dataset: Examples) -> str:
    """A digest of all items; items that cannot be compared across runs are never the same as before."""
    try:
        return digest_json([dataset[index] for index in range(len(dataset))])
    except TypeError:
        return _unknown(dataset)


def _unknown(value: Any) -> str:
    return f"{type(value).__qualname__} {uuid.uuid4().hex}"
