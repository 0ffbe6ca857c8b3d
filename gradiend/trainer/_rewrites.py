"""From decoder results to rewritten models and deltas, in memory or on disk."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from transformers.utils import CHAT_TEMPLATE_FILE, CONFIG_NAME, GENERATION_CONFIG_NAME

from gradiend.evaluator._goals import RESULT_KEYS
from gradiend.evaluator._grid import read_decoder_stats_file, read_fingerprint
from gradiend.model import _adapters
from gradiend.model._architecture import parse_rewrite_part
from gradiend.model._checkpoint import is_checkpoint
from gradiend.model._checkpoint_files import holds, take_over
from gradiend.model._context import one_goal
from gradiend.model._rewrite_files import RewriteChoice, require_delta_place, write_rewrite_record
from gradiend.model._shards import is_sharded, whole_state
from gradiend.model.model_with_gradiend import ModelWithGradiend
from gradiend.util import BALANCE, WEAKENED, paths
from gradiend.util._argument_fields import plain
from gradiend.util._cache import differences
from gradiend.util._checks import require_path
from gradiend.util._digest import model_parts, tokenizer_of
from gradiend.util._files import made_aside, require_directory, require_room, weights_size
from gradiend.util._hooks import tell_of_hooks
from gradiend.util._imports import LATER
from gradiend.util._keywords import nearest, nearest_first, resolve_keywords
from gradiend.util._lock import unchanged
from gradiend.util._processes import processes
from gradiend.util._progress import others_bars
from gradiend.util.logging import get_logger

logger = get_logger(__name__)

STATS_KEYS = ("feature_factors", "lrs", "topk", "part", "topk_part")
"""The arguments that, with the metric, make the name of a file of decoder results."""
REWRITE_KEYS = ("decoder_results", "target_class", "strengthen", "weaken", "output_dir", "base_model")
"""Further arguments of `rewrite_base_model`."""
MODEL_FILES = frozenset({
    CONFIG_NAME, GENERATION_CONFIG_NAME, CHAT_TEMPLATE_FILE, "chat_template.json", "special_tokens_map.json",
    "added_tokens.json", "tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.txt", "vocab.json",
    "merges.txt", "spiece.model", "sentencepiece.bpe.model", paths.REWRITE_RECORD, paths.ADAPTER_CONFIG,
    _adapters.ADAPTER_WEIGHTS,
})  # fmt: skip
"""Files of a saved model with its tokenizer, beside the weights."""
_WEIGHTS = re.compile(r"(model|pytorch_model)(-\d+-of-\d+)?\.(safetensors|bin)(\.index\.json)?")

R = TypeVar("R")


@dataclass(frozen=True)
class LastResults:
    """What a trainer without an experiment directory remembers of its decoder evaluations."""

    results: Mapping[str, Any]
    """The results of `evaluate_decoder`."""
    made_from: Mapping[str, Any]
    """The parts of the model, see `gradiend.util._digest.model_parts`."""

    def joined(self, earlier: LastResults | None) -> LastResults:
        """These results, with earlier results of the same model for other classes or the other direction."""
        if earlier is None or earlier.made_from != self.made_from:
            return self
        return LastResults({**earlier.results, **self.results}, self.made_from)


@dataclass(frozen=True)
class Rewrite:
    """The rewrite that an evaluation chose."""

    key: str
    """Key of the rewrite in the decoder results: a class, `<class>_weaken`, or another metric."""
    target_class: str
    """The class that the caller asked for."""
    learning_rate: float
    feature_factor: float
    part: str
    strengthens: bool
    summary: Mapping[str, Any] = field(repr=False)
    """The entry of the results."""
    facts: Mapping[str, Any] | None = None
    """What the card of the rewrite says, see `RewriteChoice.facts`."""

    def arguments(self) -> dict[str, Any]:
        """Keywords of `ModelWithGradiend.rewrite_base_model`; other parts than decoder take the factor in the step."""
        if self.part == "decoder":
            return {"learning_rate": self.learning_rate, "feature_factor": self.feature_factor}
        step = self.learning_rate * self.feature_factor
        return {"learning_rate": step, "feature_factor": self.feature_factor, "part": self.part}

    def choice(self, gradiend_path: str | None) -> RewriteChoice:
        """What is written of the evaluation beside a rewritten model."""
        value, lms, base_lms = (self.summary.get(name) for name in ("value", "lms", "base_lms"))
        direction: Literal["strengthen", "weaken", "balance"] = "strengthen" if self.strengthens else "weaken"
        if self.key == BALANCE:
            direction = "balance"
        return RewriteChoice(self.target_class, direction, gradiend_path, value, lms, base_lms, self.facts)


@dataclass(frozen=True)
class RewritePlan:
    """The rewrites that a call asks for and their places on disk; every argument is checked."""

    rewrites: Sequence[Rewrite]
    places: Sequence[str | None]
    """Directory (for a delta: file) of each rewrite; None keeps the model in memory."""
    single: bool
    """Whether the caller asks for one result and not for a list."""
    read_from: str | None = None
    """Where the rewrites were found: a file, or the last evaluation; None if the caller gave the results."""
    made_from: Mapping[str, Any] | None = None
    """The fingerprint of the results that were found."""

    def noted(self, facts: Callable[[str, Mapping[str, Any]], Mapping[str, Any]]) -> RewritePlan:
        """The plan whose rewrites know what their cards say, by a function of their keys and entries in the results."""
        return replace(self, rewrites=[replace(one, facts=facts(one.key, one.summary)) for one in self.rewrites])

    def require_model(self, model: Any) -> None:
        """Raise ValueError for rewrites that were found, not given, and chosen for another model or other weights."""
        if self.read_from is None:
            return
        saved = self.made_from
        if saved is None:
            raise ValueError(
                f"{self.read_from} does not say which model its rewrites were chosen for: another tool or an older "
                "version, whose signs may differ, wrote it. Run evaluate_decoder() for this model, or pass "
                "decoder_results to apply them all the same."
            )
        now = plain(model_parts(model))
        changed = differences(now, {name: saved.get(name) for name in now})
        if changed:
            raise ValueError(
                f"The rewrites of {self.read_from} were chosen for another model ({'; '.join(changed)}): run "
                "evaluate_decoder() for this one, or pass decoder_results to apply them all the same."
            )

    def models(self, model: Any, gradiend_path: str | None) -> Any:
        """The rewritten models, or the directories in which the models and their tokenizer are saved."""
        self.require_model(model)
        for place in filter(None, self.places):
            require_room(place, len(self.places) * _saved_size(model), "The rewritten models")

        def rewritten(rewrite: Rewrite, place: str | None) -> Any:
            """The rewritten model, or the directory in which it is saved."""
            if not is_sharded(model.base_model):
                result, state = model.rewrite_base_model(**rewrite.arguments()), None
            elif place is None:
                raise ValueError("A sharded model has no copy in memory: give output_dir, a folder for the new model.")
            else:
                result = model.base_model
                with model.temporarily_rewritten(**rewrite.arguments()):
                    state = whole_state(result)
            if place is not None:
                save_rewritten(result, model, place, rewrite, gradiend_path, state)
            return result if place is None else place

        return self._each(rewritten)

    def deltas(self, model: ModelWithGradiend) -> Any:
        """The files of the deltas; users hand deltas on, so that the files do not name the checkpoint's folder."""
        self.require_model(model)

        def exported(rewrite: Rewrite, place: str | None) -> str:
            assert place is not None
            return model.export_delta(place, **rewrite.arguments(), choice=rewrite.choice(None))

        return self._each(exported)

    def _each(self, make: Callable[[Rewrite, str | None], R]) -> R | list[R]:
        results = [make(rewrite, place) for rewrite, place in zip(self.rewrites, self.places, strict=True)]
        return results[0] if self.single else results


def plan_rewrites(
    decoder_results: Mapping[str, Any] | None, target_class: str | Sequence[str] | None, strengthen: bool,
    experiment_dir: str | None, metric_name: str | None = None, stats: Mapping[str, Any] | None = None,
    last: LastResults | None = None,
) -> RewritePlan:  # fmt: skip
    """The chosen rewrite of each class, to be kept in memory; see `Trainer.rewrite_base_model` for the arguments.

    Results that are not given are read from the experiment directory; without a directory, they are `last`.
    """
    stats = resolve_keywords("Trainer.rewrite_base_model", stats or {}, STATS_KEYS, named=REWRITE_KEYS)
    if decoder_results is not None and not isinstance(decoder_results, Mapping):
        kind = type(decoder_results).__name__
        raise TypeError(f"decoder_results must be what evaluate_decoder() returned; got {kind}.")
    if not isinstance(target_class, (str, list, tuple, type(None))):
        raise TypeError(f"target_class must be a class name or a list of them; got {target_class!r}.")
    classes = [target_class] if isinstance(target_class, str) else list(target_class or ())
    for name in classes:
        if not isinstance(name, str):
            raise TypeError(f"target_class must be a class name or a list of them; it contains {name!r}.")
    if not any(classes):
        raise ValueError(
            "A rewrite needs the class (or list of classes) to move: strengthen=…, weaken=…, or target_class=…."
        )
    place = made_from = None
    if decoder_results is None and experiment_dir is None and last is not None:
        place, decoder_results, made_from = "the last evaluate_decoder()", last.results, last.made_from
    elif decoder_results is None:
        names = [metric_name] if metric_name else [*_keys(classes[0], strengthen), classes[0]]
        place = find_results(experiment_dir, names, stats, evaluation_call(strengthen))
        with unchanged(Path(place)):
            decoder_results, made_from = read_decoder_stats_file(place), read_fingerprint(place)
    rewrites = [find_rewrite(decoder_results, name, strengthen) for name in classes]
    return RewritePlan(rewrites, [None] * len(rewrites), isinstance(target_class, str), place, made_from)


def with_model_directories(plan: RewritePlan, output_dir: str | None, experiment_dir: str | None) -> RewritePlan:
    """The plan with a directory for each model: `output_dir` for one model, `<experiment_dir>/<key>` for several."""
    if output_dir is None:
        return plan
    if output_dir != "":
        require_path("output_dir", output_dir)
    if output_dir and len(plan.rewrites) == 1:
        places = [str(output_dir)]
    elif experiment_dir is None:
        raise ValueError(
            "Saving needs a directory: a non-empty output_dir for one class; for several, which go to "
            "<experiment_dir>/<class>, an experiment_dir in the training arguments."
        )
    else:
        if output_dir:
            logger.warning("output_dir is for one class; several go to subdirectories of the experiment directory.")
        places = _places(experiment_dir, plan)
    for place in places:
        if is_checkpoint(place):
            raise ValueError(
                f"{place} holds a trained GRADIEND, which a rewritten model would overwrite: save elsewhere, one class "
                "at a time with `output_dir=…`."
            )
        require_directory(place)
    return replace(plan, places=places)


def refuse_own_base(plan: RewritePlan, base: Any) -> None:
    """Raise ValueError if a rewritten model would be saved over the base model, a name, path or model, itself."""
    # A model that was not loaded from anywhere has the name "", or none.
    name = base if isinstance(base, (str, Path)) else getattr(base, "name_or_path", None)
    home = Path(name).resolve() if isinstance(name, (str, Path)) and str(name) else None
    for place in plan.places:
        if place is not None and Path(place).resolve() == home:
            raise ValueError(
                f"{place} holds the base model itself, which the rewritten model would overwrite: save elsewhere, with "
                "`output_dir=…`."
            )


def with_delta_files(plan: RewritePlan, path: str | Path | None, experiment_dir: str | None) -> RewritePlan:
    """The plan with a file for each delta: the file `path`, or `<key>.safetensors` in `path` or `…/deltas`."""
    if path is not None and path != "":
        require_path("path", path)
    if path and Path(path).suffix == ".safetensors":
        if len(plan.rewrites) > 1:
            raise ValueError(f"{path} is one file, for {len(plan.rewrites)} deltas: give a directory.")
        require_directory(Path(path).parent)
        require_delta_place(path)
        return replace(plan, places=[str(path)])
    if not path and experiment_dir is None:
        raise ValueError("export_delta needs path, a directory or a .safetensors file, or an experiment_dir.")
    directory = Path(path) if path else Path(experiment_dir or "") / paths.DELTAS_DIR
    require_directory(directory)
    return replace(plan, places=_places(directory, plan, ".safetensors"))


def _places(directory: str | Path, plan: RewritePlan, suffix: str = "") -> list[str]:
    """The path of each rewrite in a directory: its key, made a safe file name."""
    names: list[str] = []
    for rewrite in plan.rewrites:
        names.append(paths.name_in(directory, rewrite.key, suffix, names))
    return [str(Path(directory) / name) for name in names]


def find_rewrite(decoder_results: Mapping[str, Any], name: str, strengthen: bool) -> Rewrite:
    """The rewrite that the results have for a class or another key."""
    nested = decoder_results.get("summary")
    if isinstance(nested, Mapping) and "learning_rate" not in nested:
        decoder_results = nested
    keys = _keys(name, strengthen)
    key = next((name for name in keys if name in decoder_results), keys[0])
    known = [str(item) for item in decoder_results if item not in RESULT_KEYS]
    if key not in known:
        there = ", ".join(nearest_first(key, known)) or "the grid"
        raise ValueError(
            f"The decoder results have {there} but no {key!r}. Either it was not measured "
            f"(run {evaluation_call(strengthen)}), or no step kept the LMS (give smaller lrs).{nearest(key, known)}"
        )
    summary = decoder_results[key]
    if not isinstance(summary, Mapping) or not {"learning_rate", "feature_factor"} <= summary.keys():
        raise ValueError(
            f"decoder_results[{key!r}] has no learning_rate and feature_factor: pass what evaluate_decoder() returned."
        )
    if summary["learning_rate"] is None:
        why = summary.get("reason", "The evaluation has chosen no step.")
        raise ValueError(f"There is no rewrite for {key!r}. {why} Then run evaluate_decoder() again.")
    part, strengthens = parse_rewrite_part(summary.get("part", "decoder")), summary.get("strengthen", strengthen)
    step, factor = summary["learning_rate"], summary["feature_factor"]
    return Rewrite(key, name, step, factor, part, bool(strengthens), summary)


def _keys(name: str, strengthen: bool) -> list[str]:
    """The keys that a class may have in results; a name that ends in `_weaken` may be such a key itself."""
    if strengthen:
        return [name]
    return [f"{name}{WEAKENED}", name] if name.endswith(WEAKENED) else [f"{name}{WEAKENED}"]


def evaluation_call(strengthen: bool) -> str:
    """The call that measures rewrites in one direction, for messages."""
    return f"evaluate_decoder({'' if strengthen else 'increase_target_probabilities=False'})"


def find_results(experiment_dir: str | None, names: Iterable[str], stats: Mapping[str, Any], call: str) -> str:
    """The file of an experiment's decoder results: `decoder_stats_<key>.json`, else the cached grid."""
    if experiment_dir is None:
        raise ValueError(
            f"There are no decoder results: run {call} first, or pass decoder_results, what it returned; "
            "with an experiment_dir they are also found there."
        )
    places: list[str | None] = []
    # Resolving a path creates the directory, and a search for results must not do that.
    if Path(experiment_dir).is_dir():
        places = [paths.resolve_decoder_stats_path(experiment_dir, metric_name=name, **stats) for name in names]
        places.append(paths.resolve_decoder_grid_cache_path(experiment_dir))
    found = next((place for place in places if place is not None and Path(place).is_file()), None)
    if found is None:
        raise ValueError(
            f"{experiment_dir} has no decoder results of the present model: run {call} first, or pass decoder_results."
        )
    logger.info("The rewrite is the one that %s chose.", found)
    return found


def save_rewritten(
    result: Any, model: Any, directory: str, rewrite: Rewrite, gradiend_path: str | None,
    state: Mapping[str, Any] | None,
) -> None:  # fmt: skip
    """Save a rewritten base model with its tokenizer, for plain transformers, and the record gradiend_rewrite.json.

    The folder appears, or replaces an earlier model in its place, after its files were compared with the base model.
    A `state` replaces that of `result`, which then is only the kind of model that is saved.

    Raises:
        SavedRewriteError: The saved weights are not those of the base model with the update.
    """
    target = Path(directory)
    with made_aside(target) as made:
        left_out = _left_out(result, model)
        processes().agreed(lambda: _save_model(result, state, tokenizer_of(model), made, left_out, target))
        if isinstance(model, ModelWithGradiend):
            model.require_saved(made, result, **rewrite.arguments())
            write_rewrite_record(
                made, model.rewrite_record(**rewrite.arguments(), choice=rewrite.choice(gradiend_path))
            )
            LATER["cards"]().renew(made)
        take_over(made, target, _remove_model)


def _save_model(
    model: Any, state: Mapping[str, Any] | None, tokenizer: Any, directory: Path, left_out: str | None, target: Path
) -> None:
    tell_of_hooks(model)
    if _adapters.is_adapted(model):
        _adapters.save_adapted(model, directory, left_out, place=target)
    else:
        with others_bars():
            model.save_pretrained(directory, **({} if state is None else {"state_dict": state}))
    if tokenizer is not None:
        tokenizer.save_pretrained(directory)


def _left_out(base_model: Any, model: Any) -> str | None:
    """The name of the plain model of which only the adapter is saved; None if the rewritten model is saved whole."""
    if not _adapters.is_adapted(base_model):
        return None
    changed = [entry.name for entry in model.gradiend.mapping if entry.num_selected]
    return None if _adapters.outside_adapter(base_model, changed) else _adapters.name_under_adapter(base_model)


def _saved_size(model: Any) -> int:
    """The bytes of the weights of a saved rewrite."""
    if _left_out(model.base_model, model) is None:
        return weights_size(model.base_model)
    saved = _adapters.adapter_parameters(model.base_model)
    return sum(parameter.nbytes for name, parameter in model.base_model.named_parameters() if name in saved)


def _remove_model(folder: Path) -> None:
    """Remove the files that transformers, or this package, has written for a model."""
    for path in folder.iterdir():
        if path.is_file() and is_model_file(path.name):
            path.unlink()


def is_model_file(name: str) -> bool:
    """Whether transformers, or this package, writes a file of this name for a rewritten model."""
    return name in MODEL_FILES or _WEIGHTS.fullmatch(name) is not None


def class_and_direction(
    target_class: str | Sequence[str] | None, increase: bool, strengthen: str | Sequence[str] | None,
    weaken: str | Sequence[str] | None,
) -> tuple[str | Sequence[str] | None, bool]:  # fmt: skip
    """(the class or classes, whether they are strengthened)."""
    goal = one_goal(strengthen, weaken)
    if goal is None:
        return target_class, increase
    if target_class is not None:
        raise TypeError("target_class says which class already: leave it out with strengthen=… or weaken=….")
    return goal


@dataclass(frozen=True)
class OfTrainer:
    """What a trainer publishes: its GRADIEND, or one of the rewrites; see `gradiend.hub.Publishable`."""

    trainer: Any
    target_class: Any
    """The class of the rewrite; None for the GRADIEND itself."""
    strengthen: bool
    as_delta: bool

    def __post_init__(self) -> None:
        if not isinstance(self.target_class, str | None):
            raise TypeError(f"One rewrite is published at a time, by the name of its class; got {self.target_class!r}.")
        if self.as_delta and self.target_class is None:
            raise TypeError("as_delta needs a rewrite: strengthen=…, weaken=… or target_class='balance'.")

    def write_to_publish(self, folder: Path) -> Path:
        """The trained model on disk, unless the one in memory is another; a rewrite is made."""
        trainer, goal = self.trainer, (self.target_class, self.strengthen)
        if self.target_class is None:
            model, place = trainer._rewritten_model(None)
            saved = place is not None and holds(Path(place), model.gradiend)
            return Path(place) if saved else model.write_to_publish(folder)
        if self.as_delta:
            trainer.export_delta(None, *goal, path=folder / paths.DELTA_FILE)
        else:
            trainer.rewrite_base_model(None, *goal, output_dir=str(folder / paths.REWRITTEN_DIR))
        return folder / (paths.DELTA_FILE if self.as_delta else paths.REWRITTEN_DIR)
