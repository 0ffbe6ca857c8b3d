"""Whether a training that is asked for has been done: what it depends on, kept beside the saved model."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import FunctionType, MethodType
from typing import Any

from gradiend.model.fingerprint import source_digest
from gradiend.trainer.core.arguments import TrainingArguments
from gradiend.trainer.core.callback import TrainingCallback
from gradiend.trainer.core.class_examples import Examples
from gradiend.trainer.core.gradient_cache import add_to
from gradiend.trainer.core.seeds import SEED_REPORT
from gradiend.trainer.evaluation import EvaluatesModels
from gradiend.trainer.seed_training import SEEDS_DIR, SeedTrainer
from gradiend.util.files import read_json, write_json
from gradiend.util.fingerprint import CACHE_FORMAT, FINGERPRINT, Fingerprint, read_cached
from gradiend.util.logging import get_logger
from gradiend.util.paths import DECODER_GRID, DECODER_STATS, has_saved_model
from gradiend.util.plain import plain

logger = get_logger(__name__)

FILE = "fingerprint.json"
RESULT = "result"
SEEDS_CAP = "seed_selection_eval_max_size"


class SavedTraining:
    """The trained model in a directory, and what it was made from.

    Args:
        directory: Of the model.
        parts: What the training that is asked for depends on.
    """

    def __init__(self, directory: str, parts: Fingerprint) -> None:
        self._directory, self._parts = Path(directory), plain(parts)

    def why_not_current(self) -> list[str]:
        """Why the saved model is not that of this training; nothing if it is."""
        content, why = read_cached(self._directory / FILE, self._parts)
        if content is None:
            why = [line.replace(SEEDS_CAP, f"{SEEDS_CAP} (by default encoder_eval_max_size)") for line in why]
            return why or ["it does not say what it was made from"]
        return [] if content.get(RESULT) == source_digest(self._directory) else ["its files were changed since"]

    def is_current(self) -> bool:
        """Whether the saved model is that of this training; says what differs otherwise, if there is one."""
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
        """Say no longer that the model is current, and drop rewrites that were chosen for it."""
        (self._directory / FILE).unlink(missing_ok=True)
        if experiment_dir is not None:
            for path in [Path(experiment_dir) / DECODER_GRID, *Path(experiment_dir).glob(f"{DECODER_STATS}_*.json")]:
                path.unlink(missing_ok=True)

    def mark(self) -> None:
        """Say what the model was made from, and what it is."""
        if has_saved_model(self._directory):
            content = {RESULT: source_digest(self._directory), FINGERPRINT: self._parts}
            write_json(self._directory / FILE, content)


def training_parts(definition: EvaluatesModels, args: TrainingArguments, run: Mapping[str, Any]) -> Fingerprint:
    """What one training with one seed depends on.

    Args:
        definition: Its data, and the auxiliary head, if there is one.
        args: Of the training.
        run: model, model_with_gradiend_cls and callbacks.
    """
    return _parts(definition, args, run, args.names("training"))


def seeds_parts(definition: EvaluatesModels, args: TrainingArguments, run: Mapping[str, Any]) -> Fingerprint:
    """What the choice among several seeds depends on; see `training_parts`."""
    cap = args.seed_selection_eval_max_size or args.encoder_eval_max_size
    parts = _parts(definition, args, run, args.names("training", "seeds"))
    return {**parts, SEEDS_CAP: cap}


def kept_models(trainer: SeedTrainer, output: str, args: TrainingArguments) -> dict[int, Any] | None:
    """seed → model of kept seed runs; {} where none shall be kept; None where one is missing."""
    if not args.keep_seed_runs:
        return {}
    report = Path(args.seed_runs_dir or Path(output).parent / SEEDS_DIR) / SEED_REPORT
    if not report.is_file():
        return None
    runs = read_json(report)["runs"]
    if not all(has_saved_model(run["output_dir"]) for run in runs):
        return None
    return trainer.load_seed_runs({run["seed"]: run["output_dir"] for run in runs})


def _parts(
    definition: EvaluatesModels, args: TrainingArguments, run: Mapping[str, Any], names: Collection[str]
) -> Fingerprint:
    given = {name: value for name, value in args.to_dict().items() if name in names}
    head = definition.resolve_custom_prediction_head_dir()
    pruning = args.pre_prune_config
    if pruning is not None:
        matters = pruning.names("training")
        given["pre_prune_config"] = {name: value for name, value in pruning.to_dict().items() if name in matters}
    return {
        "format": CACHE_FORMAT,
        "trainer": type(definition).__qualname__,
        "model": source_digest(run["model"].source),
        "auxiliary head": None if head is None else source_digest(head),
        "model class": str(run["model_with_gradiend_cls"]),
        "callbacks": [_callback(callback) for callback in run["callbacks"] or []],
        "criterion": repr(args.criterion),
        "evaluate_fn": None if args.evaluate_fn is None else _function(args.evaluate_fn),
        "examples to prune by": None if pruning is None or pruning.dataset is None else _examples(pruning.dataset),
        **definition.data_parts(
            "train", definition.evaluation_split(), include_other_classes=args.add_identity_for_other_classes
        ),
        **given,
    }


def _callback(callback: TrainingCallback) -> dict[str, Any]:
    return {"class": type(callback).__qualname__, **callback.settings()}


def _function(function: Callable[..., Any]) -> str:
    """Its name; a callable object, whose state may matter and is not known, is another each time."""
    if isinstance(function, (FunctionType, MethodType)):
        return f"{function.__module__}.{function.__qualname__}"
    return _unknown(function)


def _examples(dataset: Examples) -> str:
    """A digest of all items; of items that cannot be compared across runs, another one each time."""
    digest = hashlib.sha256()
    try:
        for index in range(len(dataset)):
            add_to(digest, dataset[index])
    except TypeError:
        return _unknown(dataset)
    return digest.hexdigest()


def _unknown(value: Any) -> str:
    return f"{type(value).__qualname__} {uuid.uuid4().hex}"
