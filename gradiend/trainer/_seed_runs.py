"""What a training with several seeds has left: the report, the folders of seeds, and what its result is worth."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from gradiend.model._checkpoint import is_checkpoint
from gradiend.trainer._preparation import TrainingPlan
from gradiend.trainer._saved_training import seed_folder
from gradiend.trainer._seed_stability import FEWEST, saved_stability
from gradiend.trainer.core._seeds import NOT_COMPARED, cause_of
from gradiend.trainer.core.stats import SeedReport, judgement, load_training_stats
from gradiend.util._files import read_checked_json, write_checked_json
from gradiend.util.logging import get_logger
from gradiend.util.paths import CONVERGENCE_PLOT, SEED_REPORT, SEEDS_DIR

logger = get_logger(__name__)

DAGGER = " †"
"""The end of titles of plots of a training that has not converged."""


def seeds_directory(trainer: Any) -> Path | None:
    """The directory of the seed runs of a trainer's model; None if there is no place for it."""
    home = Path(trainer.model_path).parent if is_checkpoint(trainer.model_path) else trainer.experiment_dir
    beside = None if home is None else Path(home) / SEEDS_DIR
    directory = trainer.placed_args.seed_runs_dir or beside
    return None if directory is None else Path(directory)


def seed_report(trainer: Any) -> SeedReport | None:
    """See `Trainer.get_seed_report`."""
    directory = seeds_directory(trainer)
    path = None if directory is None else directory / SEED_REPORT
    with trainer.current.own_files():
        return SeedReport(read_checked_json(path)) if path is not None and path.is_file() else None


def saved_seed_run_paths(trainer: Any) -> dict[int, str]:
    """See `Trainer.get_saved_seed_run_paths`."""
    report: Mapping[str, Any] = seed_report(trainer) or {"runs": []}
    directory, places = seeds_directory(trainer), {}
    for run in report["runs"]:
        own = [seed_folder(directory, run), *([trainer.model_path] if run["seed"] == report["best_seed"] else [])]
        places[run["seed"]] = next((str(place) for place in own if is_checkpoint(place)), None)
    return {seed: place for seed, place in places.items() if place is not None}


def title_mark(trainer: Any) -> str:
    """See `Trainer.title_mark`."""
    args = trainer.training_args
    if not args.highlight_non_convergence or not is_checkpoint(trainer.model_path):
        return ""
    try:
        stats = trainer.get_training_stats()
        # A report of seeds beside a training of one seed is that of an earlier training.
        report = None if args.max_seeds == 1 else seed_report(trainer)
    except ValueError:
        # A plot does not need these files; the calls that read them say that they are damaged.
        return ""
    outcome = None if stats is None else judgement(stats, report)
    return DAGGER if outcome is not None and not outcome["converged"] else ""


def misses_curve(trainer: Any, output: str) -> bool:
    """Whether the figure of a training in `output` should be drawn: it has evaluations, and there is no figure yet.

    A run that was killed, or found the disk full, may have left a finished training without the figure.
    """
    stats = trainer.get_training_stats(output)
    if stats is None or not stats["training_stats"].get("scores"):
        return False
    there = any(Path(trainer.experiment_dir).glob(f"{CONVERGENCE_PLOT}.*"))
    return not (trainer.reused and (there or find_spec("matplotlib") is None))


def compare_seeds(plan: TrainingPlan) -> None:
    """Write `topk_stability` of the converged seeds into the report, unless it is there for the same weights.

    Raises:
        RuntimeError: Fewer seeds have converged than are needed; everything is saved before.
    """
    args = plan.args
    if not args.analyze_seed_stability:
        return
    path = plan.seeds_directory / SEED_REPORT
    report = read_checked_json(path)
    done = report.get("topk_stability", NOT_COMPARED)
    if done["computed"] and (done["topk"], done["part"]) == (args.seed_stability_topk, args.seed_stability_part):
        return
    directories = {run["seed"]: seed_folder(plan.seeds_directory, run) for run in report["runs"] if run["converged"]}
    needed = FEWEST if args.min_convergent_seeds is None else args.min_convergent_seeds
    if len(directories) < needed:
        raise RuntimeError(
            f"analyze_seed_stability needs {needed} converged seeds; {len(directories)} of {len(report['runs'])} have "
            f"converged ({_causes(report['runs'])}). The report and the models are in {plan.seeds_directory}. Try more "
            "steps, another learning_rate, or more max_seeds."
        )
    if len(directories) < FEWEST:
        logger.warning("One seed alone has converged: there is nothing to compare its weights with.")
        return
    found = saved_stability(directories, args.seed_stability_topk, args.seed_stability_part)
    write_checked_json(path, {**report, "topk_stability": found})


def require_converged(plan: TrainingPlan) -> None:
    """Raise RuntimeError, with the causes, if the arguments ask for that and the training has not converged."""
    args = plan.args
    if not args.fail_on_non_convergence:
        return
    if args.max_seeds == 1:
        stats = load_training_stats(plan.output)
        outcome = None if stats is None else stats["convergence_info"]
        runs = [] if outcome is None else [{"seed": args.seed, **outcome}]
    else:
        runs = read_checked_json(plan.seeds_directory / SEED_REPORT)["runs"]
    needed = args.min_convergent_seeds or 1
    converged = sum(run["converged"] for run in runs)
    if converged < needed:
        raise RuntimeError(
            f"{converged} of {len(runs)} seeds have converged, and fail_on_non_convergence=True asks for {needed}: "
            f"{_causes(runs)}. The model is saved in {plan.output} all the same. Try more steps or another "
            "learning_rate."
        )


def _causes(runs: list[Any]) -> str:
    return "; ".join(f"seed {run['seed']}: {cause_of(run)}" for run in runs if not run["converged"]) or "all have"
