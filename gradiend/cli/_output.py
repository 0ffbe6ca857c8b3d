"""What the commands print on stdout."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from gradiend.util._progress import duration

if TYPE_CHECKING:
    import pandas as pd

    from gradiend.experiment import ExperimentRun, Plan


def print_json(content: Any) -> None:
    """Print a value as JSON."""
    from gradiend.util._argument_fields import plain  # noqa: PLC0415 - it needs torch

    print(json.dumps(plain(content), indent=2, ensure_ascii=False))


def results_dict(run: ExperimentRun) -> dict[str, Any]:
    """What a run has found, and where its files are."""
    content = run.record.content
    return {
        **{name: content[name] for name in ("metrics", "data", "phases")},
        "files": {
            "experiment_dir": str(run.directory), "record": str(run.record.path), "report": run.report_path,
            "rewritten": run.rewritten, "deltas": run.deltas,
        },
    }  # fmt: skip


def print_results(run: ExperimentRun) -> None:
    """What a run has found, for people: sentences and a table."""
    from gradiend.objectives.registry import auto_classes  # noqa: PLC0415 - it loads transformers

    content, metrics = run.record.content, run.record.content["metrics"]
    console = Console(highlight=False)
    done = [name for name in run.record.done if content["phases"][name]["reused"]]
    if done:
        console.print(f"[dim]Done before, and read: {', '.join(done)}.[/dim]")
    if run.record.done == ["data"]:
        print(run.trainer.data_summary())
    elif "convergence" in metrics:
        _print_training(console, metrics)
    if "correlation" in metrics:
        _print_encoder(console, metrics)
    if metrics.get("goals"):
        _print_goals(console, run, metrics["goals"])
    print()
    for goal, path in run.rewritten.items():
        loader = auto_classes().get(run.trainer.get_model().task, "AutoModel")
        print(f"Rewritten for {goal}: {loader}.from_pretrained({path!r})")
    for goal, path in run.deltas.items():
        print(f"Delta for {goal}: gradiend.apply_delta(model, {path!r})")
    print(f"Everything is in {run.directory}{'' if run.report_path is None else f'; the page: {run.report_path}'}")


def _print_training(console: Console, metrics: Mapping[str, Any]) -> None:
    found = metrics["convergence"]
    value = found["convergence_metric_value"]
    name, threshold = found["convergence_metric"], found["threshold"]
    measured = "" if value is None else f": {name} {value:.3f}, where {threshold:g} is asked for"
    why = f" ({escape(found['reason'])})" if found.get("reason") else ""
    console.print(f"The training has {'' if found['converged'] else 'NOT '}converged{measured}{why}.")


def _print_encoder(console: Console, metrics: Mapping[str, Any]) -> None:
    value, low, high = (metrics["correlation"][name] for name in ("value", "low", "high"))
    within = "" if low is None else f" (95 % interval {low:.3f} to {high:.3f})"
    means = ", ".join(f"{name} at {mean:+.2f}" for name, mean in metrics["mean_by_class"].items())
    from gradiend.trainer.core.arguments import DEFAULT_CORRELATION_THRESHOLD  # noqa: PLC0415 - it needs torch

    verdict = "tells" if abs(value) >= DEFAULT_CORRELATION_THRESHOLD else "hardly tells"
    console.print(
        f"The encoder {verdict} the classes apart: correlation {value:.3f}{within} on test texts; {escape(means)}."
    )


def _print_goals(console: Console, run: ExperimentRun, goals: Mapping[str, Any]) -> None:
    table = Table("goal", "measured", "before", "after", "step", "likelihood", box=box.SIMPLE_HEAD, pad_edge=False)
    from gradiend.evaluator._goals import as_probability  # noqa: PLC0415 - it needs torch

    classes = run.trainer.target_classes or ()
    for goal, entry in goals.items():
        name, what = _told(run, goal)
        if entry.get("learning_rate") is None:
            table.add_row(escape(name), escape(what), "", "no step", "", "")
            continue
        ratio = entry.get("likelihood_ratio")
        kept = "" if ratio is None else f"{ratio['value']:.1%}"
        values = (f"{as_probability(goal, entry[key], classes):.3f}" for key in ("base", "value"))
        table.add_row(escape(name), escape(what), *values, f"{entry['learning_rate']:g}", kept)
    console.print(table)
    for goal, entry in goals.items():
        why = entry.get("why") or entry.get("reason")
        if why:
            console.print(f"[bold]{escape(_told(run, goal)[0])}[/bold]: {escape(why)}")


def _told(run: ExperimentRun, goal: str) -> tuple[str, str]:
    """(the goal in words, what was measured)."""
    if goal == "balance":
        return "neither class", "gap on balance texts"
    from gradiend.evaluator._goals import weakened_class  # noqa: PLC0415 - it needs torch

    classes = run.trainer.target_classes
    weakened = weakened_class(goal, classes)
    if weakened is not None:
        return f"weaken {weakened}", f"P({weakened}) on {weakened} texts"
    other = next((one for one in classes if one != goal), goal)
    return goal, f"P({goal}) on {other if run.trainer.strengthens_on_other_classes else goal} texts"


def print_plan(plan: Plan) -> None:
    """What a run would do."""
    table = Table("step", "state", box=box.SIMPLE_HEAD, pad_edge=False)
    for step, state in plan.steps.items():
        table.add_row(step, escape(state))
    Console(highlight=False).print(table)
    print_needs(plan)


def print_needs(plan: Plan) -> None:
    """Memory and time of the training of a plan."""
    console = Console(highlight=False)
    if plan.memory is not None:
        console.print(f"Memory of the training, beyond what is loaded: {plan.memory}.")
    if plan.seconds is not None:
        seeds = "" if plan.seeds == 1 else f" with one seed; up to {plan.seeds} seeds are tried until one converges"
        console.print(f"Time of the training on this machine: about {duration(plan.seconds)}{seeds}.")


def print_description(found: Mapping[str, Any]) -> None:
    """Names and values, one a line; a card, which is a text of many lines, after them."""
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, value in found.items():
        if value is not None and name != "card":
            table.add_row(escape(name), escape(_shown(value)))
    Console(highlight=False).print(table)
    if found.get("card"):
        print(f"\n{found['card']}")


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_shown(item)}" for name, item in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def print_comparison(table: pd.DataFrame) -> None:
    """A frame with a row for each run, which becomes a column."""
    shown = Table("", *(escape(str(name)) for name in table.index), box=box.SIMPLE_HEAD)
    for name, row in table.T.iterrows():
        shown.add_row(escape(str(name)), *(escape(_shown(value)) for value in row))
    Console(highlight=False).print(shown)
