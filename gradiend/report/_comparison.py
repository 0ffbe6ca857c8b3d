"""Several recorded runs side by side."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

import pandas as pd

from gradiend.evaluator._goals import as_probability, weakened_class
from gradiend.report._facts import total_seconds
from gradiend.report._format import model_name
from gradiend.report._render import write_page
from gradiend.report._rewrites import kept_share, title_of

ROWS, MEAN = "rows ", "mean of "
"""The beginnings of the names of columns with sizes of splits, and with means of classes."""
GOAL_VALUES = ("before", "after", "step", "kept")
_PLACES = ("experiment_dir", "output_dir", "seed_runs_dir", "run_id", "name")
"""Arguments that say where a run lies and what it is called; two runs always differ in them."""


def comparison_table(records: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Put several runs side by side, one row for each run.

    Args:
        records: Contents of run.json files.

    Returns:
        A frame whose index has the names of the runs. The columns are model, classes, entries (in the map), rows of
        each split, converged, correlation with its interval (low, high), the mean of each class, for each goal before,
        after, step and kept (the share of the score of neutral text), and seconds. Before and after are P(class), for a
        weakened class too, and the gap between the classes for balance. What a run has not measured is None.

    Raises:
        TypeError: An entry is no record.
        ValueError: There are no records.
    """
    runs = _checked(records)
    rows = [_row(run) for run in runs]
    # Quantities stand in the order of the run that has most of them.
    quantities = dict.fromkeys(name for row in sorted(rows, key=len, reverse=True) for name in row)
    return pd.DataFrame(
        [[row.get(name) for name in quantities] for row in rows], index=pd.Index(_names(runs), name="run"),
        columns=list(quantities), dtype=object,
    )  # fmt: skip


def write_comparison(path: str | Path, records: Sequence[Mapping[str, Any]], *, title: str | None = None) -> str:
    """Write a page that sets several runs side by side, and names the arguments in which they differ.

    Args:
        path: The file of the page, which is replaced.
        records: See `comparison_table`.
        title: Heading of the page.

    Returns:
        The path of the page.

    Raises:
        TypeError, ValueError: See `comparison_table`.
        ImportError: jinja2 is not installed.
    """
    runs = _checked(records)
    table, names = comparison_table(runs), _names(runs)
    goals = list(dict.fromkeys(goal for run in runs for goal in _goals(run)))
    weakened = {
        goal for run in runs for goal in _goals(run) if weakened_class(goal, run["metrics"].get("classes") or ())
    }
    view = {
        "title": title or f"{len(runs)} runs side by side",
        "names": names,
        "rows": [{str(name): value for name, value in row.items()} for row in table.to_dict("records")],
        "means": [name for name in table.columns if name.startswith(MEAN)],
        "sizes": [name for name in table.columns if name.startswith(ROWS)],
        "goals": [(goal, title_of(goal, {"strengthen": goal not in weakened})) for goal in goals],
        "differences": _differences(runs),
        "data": {},
    }
    return write_page(path, "comparison.html.j2", view)


def _checked(records: Any) -> list[Mapping[str, Any]]:
    runs = list(records)
    if not runs:
        raise ValueError("There is nothing to compare: give the contents of at least one run.json.")
    for run in runs:
        if not isinstance(run, Mapping) or not {"experiment", "metrics"} <= run.keys():
            raise TypeError(f"A record must be what a run.json holds, which `gradiend run` writes; got {run!r:.60}.")
    return runs


def _row(run: Mapping[str, Any]) -> dict[str, Any]:
    metrics, arguments = run["metrics"], dict(_flat(run["experiment"]))
    model, means = _last(arguments, "model"), metrics.get("mean_by_class") or {}
    correlation = metrics.get("correlation") or {}
    row: dict[str, Any] = {
        "model": None if model is None else model_name(str(model)),
        "classes": " / ".join(metrics.get("classes") or means) or None, "entries": metrics.get("entries"),
    }  # fmt: skip
    rows = (run.get("data") or {}).get("rows") or {}
    row |= {f"{ROWS}{split}": sum(by_class.values()) for split, by_class in rows.items()}
    row |= {
        "converged": metrics.get("converged"), "correlation": correlation.get("value"),
        "correlation low": correlation.get("low"), "correlation high": correlation.get("high"),
    }  # fmt: skip
    row |= {f"{MEAN}{name}": value for name, value in means.items()}
    for goal, found in _goals(run).items():
        kept = kept_share(found.get("likelihood_ratio") or {}, found.get("lms"), found.get("base_lms"))
        ends = (as_probability(goal, found.get(name), metrics.get("classes") or ()) for name in ("base", "value"))
        values = (*ends, found.get("learning_rate"), kept)
        row |= {f"{goal}: {name}": value for name, value in zip(GOAL_VALUES, values, strict=True)}
    row["seconds"] = total_seconds(run)
    return row


def _goals(run: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    return run["metrics"].get("goals") or {}


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
