"""The result of a training: training.json, and whether the training has converged or diverged."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gradiend.model._checkpoint_files import read_training, write_training
from gradiend.trainer.core.arguments import TrainingArguments
from gradiend.util._argument_fields import plain
from gradiend.util._checks import require_path
from gradiend.util._display import UNSHOWABLE, Result, Table, facts, number, with_interval
from gradiend.util.paths import TRAINING

ZEROS = ("0", "0.0", "-0.0")
"""Labels of classes that are no target, in Python and in JSON."""


SMALL = 1 << 20
"""Bytes of a training.json that is small enough to be read for a repr."""


def write_training_stats(
    output_dir: str | Path, training_stats: Mapping[str, Any], best_score_checkpoint: Mapping[str, Any] | None,
    training_args: TrainingArguments | Mapping[str, Any] | None, time_stats: Mapping[str, float] | None = None,
    losses: Sequence[float] | None = None, convergence_info: Mapping[str, Any] | None = None,
) -> str:  # fmt: skip
    """Write `training.json` into `output_dir`, in place of an older file, and return the path of the file."""
    arguments = training_args.to_dict() if isinstance(training_args, TrainingArguments) else training_args
    content = {
        "training_stats": training_stats,
        "best_score_checkpoint": best_score_checkpoint,
        "training_args": arguments,
        "time": time_stats or {},
        "losses": list(losses or []),
        "convergence_info": convergence_info,
    }
    write_training(Path(output_dir), plain(content))
    return str(Path(output_dir) / TRAINING)


def load_training_stats(model_path: str | Path) -> TrainingStats | None:
    """The content of `training.json` in a model directory; None if there is no such file.

    JSON turns steps and labels, which are keys, into strings. Raises ValueError for a file that is damaged, or that
    describes other weights than those beside it.
    """
    require_path("model_path", model_path)
    content = read_training(Path(model_path))
    return None if content is None else TrainingStats(content)


class TrainingStats(Result):
    """The content of training.json."""

    def _tables(self) -> tuple[str, Sequence[Table]]:
        return f"Training: {self['training_stats']['global_step']:,} steps", [facts("", self.known())]

    def known(self) -> dict[str, object]:
        """What a person should know of the training."""
        training, best, losses = (self[name] for name in ("training_stats", "best_score_checkpoint", "losses"))
        kept = (best or {}).get("global_step", training["global_step"])
        names = training.get("label_value_to_class_name", {})
        means = training.get("mean_by_class", {}).get(str(kept), {})
        arguments, seconds = self["training_args"] or {}, self["time"]
        outcome, judged = self["convergence_info"], None
        if outcome is not None:
            name, value = outcome["convergence_metric"], number(outcome["convergence_metric_value"])
            limit = "at most" if name == "loss" else "at least"
            judged = f"{_answer(outcome)}; {name} {value}, {limit} {outcome['threshold']:g} is asked for"
        return {
            "converged": judged,
            "kept": f"step {kept}",
            "class means": class_means(means, names),
            "loss": f"{losses[0]:.3g} → {last_loss(losses):.3g}" if losses else None,
            "learning rate": number(arguments.get("learning_rate"), "g"),
            "searched": training.get("learning_rate_search", {}).get("reason"),
            "seed": arguments.get("seed"),
            "time": ", ".join(f"{name} {value:.1f} s" for name, value in seconds.items()),
        }


def known_of_training(model_path: str | Path) -> dict[str, object]:
    """What `training.json` in a model directory says of convergence; {} if there is no such file, or a large one."""
    path = Path(model_path) / TRAINING
    try:
        stats = load_training_stats(model_path) if path.is_file() and path.stat().st_size < SMALL else None
        known = {} if stats is None else stats.known()
    except UNSHOWABLE:
        return {"converged": f"unknown: {TRAINING} is damaged"}
    names = {"converged": "converged", "class means": "class means", "seed": "kept seed"}
    return {shown: known[name] for name, shown in names.items() if name in known}


class SeedReport(Result):
    """The content of seed_report.json."""

    def _tables(self) -> tuple[str, Sequence[Table]]:
        rows = [
            [
                f"{run['seed']}{' (kept)' if run['seed'] == self['best_seed'] else ''}",
                _answer(run),
                with_interval(run["eval_correlation"], run.get("correlation_interval")),
                number(run["selection_score"]),
            ]
            for run in self["runs"]
        ]
        header = ["seed", "converged", "validation correlation", "score"]
        notes = [f"No further seeds were tried: {self['early_stop_reason']}."] if self["early_stop_reason"] else []
        stability = self.get("topk_stability", {})
        if stability.get("computed"):
            notes.append(overlap_sentence(stability))
        table = Table("", header, rows, "\n".join(notes))
        return f"Seeds: {self['convergent_count']} of {len(rows)} have converged", [table]


def overlap_sentence(stability: Mapping[str, Any]) -> str:
    """How much the weights of seeds overlap, and the verdict, in words."""
    mean, interval = stability["mean_pairwise_overlap_fraction"], stability["mean_pairwise_overlap_interval"]
    topk = stability["topk"]
    top = f"{topk:,}" if isinstance(topk, int) else f"{100 * topk:g} %"
    n, random, verdict = stability["num_runs"], stability["random_overlap_fraction"], stability["verdict"]
    if random >= 1:
        why = "the top-k is all weights"
    elif n == 2:
        why = "two seeds have one overlap, of unknown spread; it takes three"
    else:
        where = {"stable": "not below", "unstable": "below", "unclear": "the interval holds"}[verdict]
        why = f"{where} {stability['stable_from']:.2f}, halfway between random and equal sets"
    return (
        f"{n} seeds share {with_interval(mean, interval, '.2f')} of their top {top} by "
        f"{stability['part']}, on average over pairs; random sets would share {random:.2g}. "
        f"{verdict.capitalize()}: {why}."
    )


def class_means(by_label: Mapping[Any, float], names: Mapping[Any, str], between: str = ", ") -> str:
    """Class means on one line, such as `3SG +0.98, 3PL -1.00`, for rising labels; other classes are left out.

    Labels are numbers or, in JSON, their texts, as are the keys of `names` (label → class).
    """
    means = [(label, mean) for label, mean in reversed(list(by_label.items())) if str(label) not in ZEROS]
    return between.join(f"{names.get(label, label)} {mean:+.2f}" for label, mean in means)


def _answer(outcome: Mapping[str, Any]) -> str:
    """Whether a run has converged, in words."""
    if outcome["converged"]:
        return "yes"
    return f"no: {outcome['reason']}" if outcome.get("reason") else "no"


@dataclass(frozen=True)
class Convergence:
    """Whether a training has converged, and by which metric."""

    convergence_metric: str
    """Name of the metric: correlation or loss."""
    convergence_metric_value: float | None
    """Value of the metric; None if the metric was not measured."""
    threshold: float
    """Least |correlation|, or largest loss, of a converged training."""
    converged: bool
    reason: str | None = None
    """Why the training has not converged, if the reason is not the metric."""

    def to_dict(self) -> dict[str, Any]:
        """The content of training.json; see `without_reason`."""
        return without_reason(asdict(self))


def without_reason(content: dict[str, Any]) -> dict[str, Any]:
    """The content without the key `reason` if there is no reason."""
    return {name: value for name, value in content.items() if name != "reason" or value is not None}


def judgement(stats: Mapping[str, Any], seeds: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """How the kept training was judged: among several seeds by an evaluation of its own, else at its end.

    Args:
        stats: The content of training.json.
        seeds: The content of seed_report.json; None without one.
    """
    runs = [] if seeds is None else [run for run in seeds["runs"] if run["seed"] == seeds["best_seed"]]
    return runs[0] if runs else stats.get("convergence_info")


def last_loss(losses: Sequence[float]) -> float:
    """The mean loss of the last tenth of the steps; infinite if there is no step (`max_steps=0`)."""
    last = losses[-max(1, len(losses) // 10) :]
    return sum(last) / len(last) if last else math.inf


def divergence(first: Sequence[float], last: Sequence[float], of_nothing: Sequence[float]) -> str | None:
    """Why a training has diverged, which means that its loss has grown; None if it has not.

    A training has diverged when the mean loss of its last batches is more than twice the loss of its first batch, and
    more than twice the loss that zeros would have on the last batches. Either condition alone means little: gradients
    of one batch are several times those of another, and a training that goes on from a trained GRADIEND, or from class
    means, starts with a low loss. Weights that no step has changed cannot meet both conditions.

    `first` has the loss of the first batch, `last` the losses of the last batches, `of_nothing` those of zeros.
    """
    if not first or not last:
        return None
    start, end, nothing = first[0], sum(last) / len(last), sum(of_nothing) / len(of_nothing)
    if end > 2 * start and end > 2 * nothing:
        return f"its loss rose from {start:.3g} to {end:.3g}, where reproducing nothing costs {nothing:.3g}"
    return None


def best_correlation(training_stats: Mapping[str, Any], best: Mapping[str, Any]) -> float | None:
    """The correlation of the model that was kept; None if there was no evaluation."""
    return best.get("correlation", training_stats.get("correlation"))


def target_means(
    training_stats: Mapping[str, Any], best: Mapping[str, Any], evaluation: Mapping[str, Any]
) -> dict[str, float]:
    """Label of a target class → mean encoding: of an evaluation, or of the kept model during training; {} without."""
    during = {int(step): means for step, means in training_stats.get("mean_by_class", {}).items()}
    kept = best.get("global_step", max(during, default=0))
    means = evaluation.get("mean_by_class") or during.get(kept, {})
    return {str(label): mean for label, mean in means.items() if str(label) not in ZEROS}


def convergence(
    arguments: TrainingArguments, training_stats: Mapping[str, Any], best: Mapping[str, Any], losses: Sequence[float],
    evaluation: Mapping[str, Any] | None = None,
) -> Convergence:  # fmt: skip
    """Whether a finished training has converged: its metric has reached the thresholds, and its loss has not grown.

    `best` describes the model that was kept (`best_score_checkpoint`), `losses` are those of all steps. Encoder metrics
    after the training, `evaluation`, replace those during the training.
    """
    evaluation = evaluation or {}
    threshold = arguments.convergent_score_threshold
    assert threshold is not None
    if arguments.convergent_metric == "loss":
        value: float | None = last_loss(losses)
        converged = value is not None and value <= threshold
    else:
        value = evaluation.get("correlation")
        value = best_correlation(training_stats, best) if value is None else value
        converged = value is not None and abs(value) >= threshold
    least_mean = arguments.convergent_mean_by_class_threshold
    if least_mean is not None:
        signed = list(target_means(training_stats, best, evaluation).values())
        converged = converged and bool(signed) and min(signed) <= -least_mean and max(signed) >= least_mean
    reason = training_stats.get("diverged")
    if not arguments.learning_rate and losses:
        # A random start can reach the threshold by chance.
        reason = "no step has changed a weight (learning_rate=0)"
    return Convergence(str(arguments.convergent_metric), value, threshold, converged and reason is None, reason)
