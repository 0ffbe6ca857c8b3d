"""Several recorded runs side by side."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

import pandas as pd

from gradiend.report._facts import total_seconds
from gradiend.report._render import write_page
from gradiend.report._rewrites import title_of
from gradiend.report._words import is_number

CORRELATION = ("correlation", "correlation low", "correlation high")
GOAL_VALUES = ("before", "after", "step", "kept")
_PLACES = ("experiment_dir", "output_dir", "seed_runs_dir", "run_id", "name")
"""Arguments that say where a run lies and what it is called; two runs always differ in them."""


def comparison_table(records: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Put several runs side by side, one row for each run.

    Args:
        records: Contents of run.json files, with their metrics under "metrics".

    Returns:
        A frame whose index has the names of the runs. The columns are model, classes, sizes of the data, correlation,
        correlation low and high, mean of each class, and for each goal before, after, step and kept (the share of the
        likelihood), then seconds, and converged where a run says so. What a run has not measured is missing (NaN).

    Raises:
        TypeError: An entry is no record.
        ValueError: There are no records.
    """
    runs = _checked(records)
    return pd.DataFrame([_row(run) for run in runs], index=pd.Index(_names(runs), name="run"))


def write_comparison(path: str | Path, records: Sequence[Mapping[str, Any]], *, title: str | None = None) -> str:
    """Write a page that sets several runs side by side, and names the arguments in which they differ.

    Args:
        path: The file of the page, which is replaced.
        records: See `comparison_table`.
        title: Heading of the page.

    Returns:
        The path of the page.

    Raises:
        TypeError: An entry is no record.
        ValueError: There are no records.
        ImportError: jinja2 is not installed.
    """
    runs = _checked(records)
    table, names = comparison_table(runs), _names(runs)
    goals = list(dict.fromkeys(goal for run in runs for goal in _goals(run)))
    view = {
        "title": title or f"{len(runs)} runs side by side",
        "names": names,
        "rows": [{str(key): value for key, value in row.items()} for row in table.to_dict("records")],
        "means": [name for name in table.columns if name.startswith("mean of ")],
        "sizes": [name for name in table.columns if name.startswith("data: ")],
        "goals": [(goal, title_of(goal)) for goal in goals],
        "differences": _differences(runs),
        "data": {},
    }
    return write_page(path, "comparison.html.j2", view)


def _checked(records: Any) -> list[Mapping[str, Any]]:
    runs = list(records)
    if not runs:
        raise ValueError("There is nothing to compare: give the contents of at least one run.json.")
    for run in runs:
        if not isinstance(run, Mapping) or "experiment" not in run:
            raise TypeError(f'A record must be the content of a run.json, with "experiment"; got {run!r:.60}.')
    return runs


def _row(run: Mapping[str, Any]) -> dict[str, Any]:
    metrics, arguments = run.get("metrics") or {}, dict(_flat(run["experiment"]))
    means = metrics.get("mean_by_class") or {}
    classes = metrics.get("classes") or _last(arguments, "target_classes")
    correlation = metrics.get("correlation") or {}
    row: dict[str, Any] = {
        "model": _last(arguments, "model"),
        "classes": " / ".join(map(str, classes if isinstance(classes, list) else means)) or None,
    }
    row |= {f"data: {name}": value for name, value in _flat(run.get("data") or {}) if is_number(value)}
    row |= dict(zip(CORRELATION, (correlation.get(name) for name in ("value", "low", "high")), strict=True))
    row |= {f"mean of {name}": value for name, value in means.items()}
    for goal, found in _goals(run).items():
        kept = found.get("likelihood_ratio")
        kept = kept.get("value") if isinstance(kept, Mapping) else kept
        values = (found.get("base"), found.get("value"), found.get("learning_rate"), kept)
        row |= {f"{goal}: {name}": value for name, value in zip(GOAL_VALUES, values, strict=True)}
    row["seconds"] = total_seconds(run)
    if "converged" in metrics:
        row["converged"] = metrics["converged"]
    return row


def _goals(run: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    return (run.get("metrics") or {}).get("goals") or {}


def _names(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """A name for each run: its own, that of its directory, or its number; equal names get their number."""
    found = []
    for number, run in enumerate(runs, 1):
        arguments = dict(_flat(run["experiment"]))
        given = _last(arguments, "name") or _last(arguments, "run_id")
        place = _last(arguments, "experiment_dir")
        found.append(str(given or (PurePath(str(place)).name if place else f"run {number}")))
    return [f"{name} ({number})" if found.count(name) > 1 else name for number, name in enumerate(found, 1)]


def _differences(runs: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    """(argument, its value in each run) of the arguments that are not the same in all runs."""
    every = [dict(_flat(run["experiment"])) for run in runs]
    names = dict.fromkeys(name for arguments in every for name in arguments)
    rows = [(name, [_written(arguments, name) for arguments in every]) for name in names]
    return [(name, values) for name, values in rows if len(set(values)) > 1 and name.split(".")[-1] not in _PLACES]


def _written(arguments: Mapping[str, Any], name: str) -> str:
    return json.dumps(arguments[name], ensure_ascii=False)[:200] if name in arguments else "–"


def _flat(content: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Nested arguments as (dotted name, value)."""
    for name, value in content.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value


def _last(arguments: Mapping[str, Any], name: str) -> Any:
    """The value of the argument with this name, wherever it is nested; None without one."""
    return next((value for key, value in arguments.items() if key.split(".")[-1] == name and value is not None), None)
