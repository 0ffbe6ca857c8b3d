"""The seeds of one call of `Trainer.train`: trained or found done, judged, and the best one chosen."""

from __future__ import annotations

import dataclasses
import inspect
import secrets
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

from torch import nn

from gradiend.model._checkpoint import refuse_other_model
from gradiend.model._refusals import refuse_absent_weights, unwrapped
from gradiend.model._shards import is_sharded
from gradiend.model.model_with_gradiend import ModelWithGradiend
from gradiend.trainer import _saved_training
from gradiend.trainer._current_model import refuse_name_of_model
from gradiend.trainer._preparation import (
    Preparation,
    TrainingPlan,
    model_directory,
    new_folders,
    record_name,
    run_directory,
)
from gradiend.trainer._runtime_monitor import phase
from gradiend.trainer.core import _seeds
from gradiend.trainer.core._modality import Modality
from gradiend.trainer.core._resume import KeptStates
from gradiend.trainer.core._seeds import SeedRun, set_seed
from gradiend.trainer.core.arguments import TrainingArguments
from gradiend.trainer.core.callbacks import TrainingCallback
from gradiend.trainer.core.stats import load_training_stats
from gradiend.util._files import require_directory
from gradiend.util._keywords import nearest, resolve_keywords
from gradiend.util._processes import processes
from gradiend.util.logging import get_logger

logger = get_logger(__name__)

READ_WITH_DATA = ("mask_placeholder", "dataset_trust_remote_code")
"""Arguments that a trainer's data is read with."""


def plan_training(
    trainer: Any, output_dir: str | None, model: Any, model_class: type[ModelWithGradiend] | None,
    callbacks: Sequence[TrainingCallback] | None, overrides: Mapping[str, Any],
) -> TrainingPlan:  # fmt: skip
    """The plan of a call of `Trainer.train`. All errors that need no work to be found are raised here.

    Raises:
        TypeError, ValueError: See `Trainer.train`.
    """
    named = {"output_dir": output_dir, "model_with_gradiend_cls": model_class}
    given = {**overrides, **{name: value for name, value in named.items() if value is not None}}
    given = resolve_keywords("Trainer.train", given, [*trainer.training_args.names(), "num_epochs", *named])
    model_class = given.pop("model_with_gradiend_cls", None)
    args: TrainingArguments = trainer.placed_args.replace(**given)
    _check_arguments(trainer, args)
    callbacks = _checked_callbacks(callbacks)
    source, pruned = trainer.current.start(model)
    base = source.base_model if isinstance(source, ModelWithGradiend) else source
    if isinstance(base, nn.Module) and is_sharded(base):
        args = args.replace(fsdp=True)
    refuse_in_processes(args)
    splits = _splits_of_seeds(trainer, args, pruned=pruned)
    for data in splits or [trainer.modality.for_seed(None)]:
        data.check_training_data(args)
    directory = model_directory(trainer, args)
    resumes = args.resumes and directory is not None and args.seed is not None
    for name, wanted in (("resume=True", args.resume), (f"max_minutes={args.max_minutes}", args.max_minutes)):
        if wanted and not resumes:
            raise ValueError(
                f"{name} keeps the state of the training for the next call, which must find it and train the same: "
                "give experiment_dir or output_dir, a seed, and resume=True or use_cache=True."
            )
    team = processes()
    if args.seed is None and team.count > 1:
        # What one process draws from fresh entropy, all must draw.
        args = args.replace(seed=team.agreed(lambda: secrets.randbelow(_seeds.SEED_RANGE)))
    refuse_name_of_model(trainer.current.named if model is None else model, new_folders(trainer, args))
    output = directory or trainer.current.temporary
    if isinstance(source, nn.Module) and not isinstance(source, ModelWithGradiend):
        source = unwrapped(source)
    plan = TrainingPlan(args, output, source, pruned, model_class, callbacks, resumes, splits)
    try:
        for place in (output, args.seed_runs_dir):
            if place is not None:
                require_directory(place)
    except ValueError:
        # A training that is found done needs no place: others may have shared theirs for reading alone.
        if not (plan.reuses and _saved_training.saved_choice(trainer, plan).is_current()):
            raise
        return plan
    refuse_other_model(output)
    record_name(trainer, args)
    if isinstance(source, nn.Module) and not isinstance(source, ModelWithGradiend):
        refuse_absent_weights(source)
    return plan


def _splits_of_seeds(trainer: Any, args: TrainingArguments, *, pruned: bool) -> list[Modality]:
    """The data with the splits of each seed that may be tried; an empty list if seeds share one split."""
    if not args.resplits:
        if args.split_resplit_per_seed:
            logger.info("split_resplit_per_seed has no effect on a training with one seed (max_seeds=1).")
        return []
    if pruned:
        raise ValueError(
            "pre_prune() reads the training rows of one split, and split_resplit_per_seed gives each seed its own: "
            "give pre_prune_config to the training instead, which prunes for each seed."
        )
    strategy = args.split_resplit_strategy
    first = trainer.modality.for_seed(0, strategy)
    n = min(args.max_seeds, first.cycle_length) if strategy == "balanced_cycle" else args.max_seeds
    return [first, *(trainer.modality.for_seed(index, strategy) for index in range(1, n))]


def _check_arguments(trainer: Any, args: TrainingArguments) -> None:
    """Refuse arguments that say something else about the data than the trainer's, and say what has no effect."""
    for name in READ_WITH_DATA:
        if args.get(name) != trainer.training_args.get(name):
            raise ValueError(f"{name} says how the data is read: give it to the trainer, not to a call of train().")
    classes = trainer.target_classes or []
    if args.positive_class is not None and args.positive_class not in classes:
        raise ValueError(
            f"positive_class={args.positive_class!r} is none of the target classes {', '.join(classes)}."
            f"{nearest(args.positive_class, classes)}"
        )
    if args.reuse_pre_prune:
        logger.info("reuse_pre_prune has no effect: the seeds of a training always share the pruning before it.")
    if args.analyze_seed_stability and args.min_convergent_seeds == 1:
        logger.warning(
            "analyze_seed_stability compares seeds, but with min_convergent_seeds=1 the first seed that converges is "
            "the last: give min_convergent_seeds=None, or at least 2."
        )


def _checked_callbacks(given: Any) -> list[TrainingCallback] | None:
    """The callbacks of a call, if there are any. Raises TypeError for anything else."""
    if given is None:
        return None
    if not isinstance(given, Iterable):
        raise TypeError(f"callbacks must be a list of callbacks; got {given!r:.60}.")
    callbacks = list(given)
    for one in callbacks:
        if not isinstance(one, TrainingCallback):
            hint = f" Is it {one.__name__}(…)?" if isinstance(one, type) else ""
            raise TypeError(f"callbacks takes objects of subclasses of TrainingCallback; got {one!r:.60}.{hint}")
    return callbacks


def refuse_in_processes(args: TrainingArguments) -> None:
    """Raise ValueError for arguments that do not go with several processes, or with shards."""
    several, config = processes().count > 1, args.pre_prune_config
    if args.fsdp and not several:
        raise ValueError("fsdp=True divides a model over processes: start the script with torchrun --nproc-per-node=N.")
    cached = args.use_cached_gradients or (config is not None and config.use_cached_gradients)
    if several and args.base_model_device_map is not None:
        raise ValueError("base_model_device_map divides a model in one process: leave it off with torchrun.")
    if args.fsdp and args.searches_rate:
        raise ValueError('fsdp=True has no gradient in one piece, which learning_rate="auto" needs: give a number.')
    if args.fsdp and cached:
        raise ValueError("fsdp=True has no gradient in one piece, which use_cached_gradients keeps: leave it off.")


def train_seed(trainer: Any, plan: TrainingPlan, ready: Preparation) -> bool:
    """Train with `plan.args.seed` through the trainer's `_train`; returns whether the same training was done before.

    A training that was stopped goes on from its newest state, if the plan says so. The current model is the result.
    """
    ready.stop.check()
    parts = _saved_training.training_parts(trainer, plan)
    saved = _saved_training.saved_seed(trainer, plan)
    current = trainer.current
    states = ready.states = KeptStates(plan.output, parts, plan.args, ready.stop) if plan.resumes else None
    if plan.reuses and saved.is_current():
        current.take(plan.output)
        if states is not None:
            # A process that was killed right after the training may have left them.
            states.forget()
        return True
    saved.forget(run_directory(trainer, plan.args))
    ready.encodings.clear()
    if states is not None:
        states.find()
    # The first seed prepares the model, which may draw random numbers: only then are the generators seeded.
    model, before = ready.model, current.model
    set_seed(plan.args.seed)
    # An override that takes only the documented arguments prepares its data again for every seed.
    shared = {"ready": ready} if "ready" in inspect.signature(trainer._train).parameters else {}
    current.directory = trainer._train(
        output_dir=plan.output, args=plan.args, model=model, model_with_gradiend_cls=plan.model_class,
        callbacks=plan.callbacks, **shared,
    )  # fmt: skip
    if current.model is before:
        # An override of _train may return a path and set no model.
        current.model = None
    if plan.pruned:
        current.pruned = None
    saved.mark()
    if states is not None:
        states.forget()
    return False


def train_seeds(trainer: Any, plan: TrainingPlan, ready: Preparation) -> tuple[dict[int, Any], bool]:
    """Train and judge seeds until enough have converged; the best becomes the result and the trainer's current model.

    Returns (seed → model with `keep_seed_runs`, else {}; whether the same training was done before).
    """
    saved = _saved_training.saved_choice(trainer, plan)
    kept = _saved_training.kept_models(trainer, plan) if plan.reuses and saved.is_current() else None
    reused = kept is not None
    if kept is None:
        one = _resplit_seeds(plan, ready) if plan.splits else partial(judged_seed, trainer, ready=ready)
        runs, stopped = _seeds.run_seeds(plan.args, lambda seed: one(plan.for_seed(seed)))
        # From here on, files in the output change, so that the record of the training there is no longer true.
        saved.forget(run_directory(trainer, plan.args))
        best = _seeds.choose_seed(plan.seeds_directory, runs, plan.args, stopped)
        _seeds.promote(best.output_dir, plan.output)
        saved.mark()
        # Of seeds that do not stay, only the statistics stay.
        _seeds.drop_weights([run.output_dir for run in runs if not _saved_training.stays(asdict(run), plan.args)])
        kept = trainer.load_seed_runs({run.seed: run.output_dir for run in runs}) if plan.args.keep_seed_runs else {}
    trainer.current.take(plan.output)
    trainer.modality = _saved_training.data_of_choice(trainer, plan)
    return kept, reused


def _resplit_seeds(plan: TrainingPlan, ready: Preparation) -> Callable[[TrainingPlan], SeedRun]:
    """A function that trains and judges a seed, given its plan, each time with the next splits.

    In a balanced cycle, splits whose seed has not converged are tried again with another seed, after all others.
    """
    balanced = plan.args.split_resplit_strategy == "balanced_cycle"
    waiting: deque[int] = deque()

    def one(own: TrainingPlan) -> SeedRun:
        """Train and judge a seed with the splits whose turn it is."""
        if not waiting:
            waiting.extend(range(len(plan.splits)))
        index = waiting.popleft()
        data = plan.splits[index]
        with ready.for_split(data) as prepared:
            run = judged_seed(prepared.trainer, own, prepared)
        if balanced and not run.converged:
            waiting.append(index)
        length = data.cycle_length if balanced else None
        return dataclasses.replace(run, split_cycle_index=index, split_cycle_length=length)

    return one


def judged_seed(trainer: Any, plan: TrainingPlan, ready: Preparation) -> SeedRun:
    """Train one of several seeds and judge it on the validation split."""
    with phase(f"seed_{plan.args.seed}"):
        reused = train_seed(trainer, plan, ready)
        evaluation = selection_metrics(trainer, trainer.get_model(), plan.args, ready)
    correlation = evaluation.get("correlation")
    measured = "not measured" if correlation is None else f"{correlation:.3f}"
    logger.info("seed %s: validation correlation %s", plan.args.seed, measured)
    stats = load_training_stats(trainer.model_path)
    assert stats is not None
    assert plan.args.seed is not None
    run = _seeds.judge(plan.args.seed, trainer.model_path, stats, evaluation, plan.args)
    return dataclasses.replace(run, used_cache=reused)


def selection_metrics(trainer: Any, model: Any, args: TrainingArguments, ready: Preparation) -> dict[str, Any]:
    """Encoder metrics on the validation split, by which seeds are compared; {} if no encoder was trained."""
    if not args.trains_encoder:
        return {}
    most = args.seed_selection_eval_max_size or args.encoder_eval_max_size
    data = trainer.create_eval_data(model, split=trainer.modality.evaluation_split(), max_size=most)
    if not len(data):
        return {}
    return trainer.evaluator.evaluate_encoder(encoder_df=ready.encoded(model, data, args))
