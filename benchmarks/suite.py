"""The same workloads here and in an environment with the existing tool, in turn; one table as text and as JSON.

    python benchmarks/suite.py OTHER_PYTHON MODEL ROWS.csv NEUTRAL.csv [--repeats 3] [--only train …] [--json FILE]
        [--bert-base] [--options "--steps 2 --size 1"]

OTHER_PYTHON is the interpreter of an environment with gradiend 0.2.3. Each cell is the median of the repeats, each
repeat a fresh process (`benchmarks/workload.py`); the two tools alternate. Beside each row stands the fraction of the
machine's limit that we reach: the operations are counted in one more process and divided by the rate of
`benchmarks/limits.py`, measured in the same run; to those of a training step comes the traffic of the GRADIEND step.
With --bert-base, a model of the size of BERT-base with random weights stands for MODEL, whose tokenizer it takes.
--options go to every workload, to make it smaller. In the rows "decoder steps" we find the steps (lrs="auto"), while
the existing tool measures the grid of "decoder grid".
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from workload import measured_model

HERE = Path(__file__).parent
ROWS: dict[str, tuple[str, list[str]]] = {
    "train, all entries": ("train", []),
    "train, 1 %": ("train", ["--prune", "0.01"]),
    "train, 1 %, 256 tokens": ("train", ["--prune", "0.01", "--long"]),
    "encode, 1 %": ("encode", ["--prune", "0.01", "--steps", "1"]),
    "encode, 1 %, 256 tokens": ("encode", ["--prune", "0.01", "--steps", "1", "--long", "--size", "4"]),
    "decoder grid": ("grid", ["--prune", "0.01", "--steps", "1"]),
    "decoder grid, 700 texts": ("grid", ["--prune", "0.01", "--steps", "1", "--neutral-texts", "700"]),
    "decoder steps, 30 texts": ("grid", ["--prune", "0.01", "--steps", "1"]),
    "decoder steps, 700 texts": ("grid", ["--prune", "0.01", "--steps", "1", "--neutral-texts", "700"]),
    "pre-prune to 1 %": ("prune", ["--prune", "0.01"]),
    "three seeds, 1 %": ("seeds", ["--prune", "0.01", "--steps", "6", "--size", "8"]),
    "save": ("save", ["--prune", "0.01", "--steps", "1"]),
    "load": ("load", ["--prune", "0.01", "--steps", "1"]),
}
"""Name → (workload, its options)."""
OURS = {name: ["--auto", "--steps", "60"] for name in ROWS if name.startswith("decoder steps")}
"""Name → options of our workload alone: it finds the steps, of a trained GRADIEND, since where a search goes depends on
the training; the existing tool measures the given steps, which takes as long whatever they do."""
COUNTED = ("train", "encode", "grid", "prune", "seeds")
"""Workloads that are bound by arithmetic."""


def run(python: str, script: str, *arguments: str) -> dict[str, Any]:
    """The JSON line of a script in a fresh process."""
    environment = {key: value for key, value in os.environ.items() if python == sys.executable or key != "PYTHONPATH"}
    environment |= {"HF_HUB_OFFLINE": "1", "MPLBACKEND": "Agg", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(
        [python, str(HERE / script), *arguments], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{python} {script} {' '.join(arguments)} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def run_workload(python: str, name: str, files: list[str], *more: str) -> dict[str, Any]:
    """The JSON line of a row's workload in a fresh process and an empty folder."""
    workload, options = ROWS[name]
    with tempfile.TemporaryDirectory(prefix="gradiend_benchmark_") as directory:
        own = OURS.get(name, []) if python == sys.executable else []
        return run(python, "workload.py", workload, *files, directory, *options, *own, *more)


def limit_of(name: str, files: list[str], more: list[str], limits: dict[str, Any]) -> float | None:
    """Seconds that a row's workload takes at the limits of the machine; None where these are not arithmetic."""
    workload, _ = ROWS[name]
    if workload not in COUNTED:
        return None
    products = run_workload(sys.executable, name, files, *more, "--count")["gflop"] / limits["gflops"]
    return products + (limits["gradiend_step"] if workload == "train" else 0.0)


def compare(name: str, other: str, files: list[str], more: list[str], repeats: int) -> dict[str, Any]:
    """One row of the table."""
    found: dict[str, list[dict[str, Any]]] = {"ours": [], "theirs": []}
    for _ in range(repeats):
        for side, python in (("ours", sys.executable), ("theirs", other)):
            found[side].append(run_workload(python, name, files, *more))
    medians = {
        f"{side}_{key}": statistics.median(one[key] for one in runs)
        for side, runs in found.items()
        for key in ("seconds", "peak")
    }
    return {"name": name, **medians, "ratio": medians["theirs_seconds"] / medians["ours_seconds"], "runs": found}


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other")
    parser.add_argument("model")
    parser.add_argument("rows")
    parser.add_argument("neutral")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs="+", default=list(ROWS), help="names of rows, or how they begin")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--bert-base", action="store_true")
    parser.add_argument("--options", type=str.split, default=[])
    given = parser.parse_args()
    with measured_model(given.model, bert_base=given.bert_base) as path:
        print_table([path, given.rows, given.neutral], given)


def print_table(files: list[str], given: argparse.Namespace) -> None:
    """Measure and print row by row; the JSON file is whole after each."""
    limits: dict[tuple[bool, bool], dict[str, Any]] = {}
    results = []
    print(f"{'':26}{'ours':>10}{'0.2.3':>10}{'ratio':>8}{'of limit':>10}{'MiB ours':>10}{'MiB 0.2.3':>11}", flush=True)
    for name, (_, options) in ROWS.items():
        if not any(name == only or (only not in ROWS and name.startswith(only)) for only in given.only):
            continue
        variant = "--long" in options, "--prune" in options
        if variant not in limits:
            flags = [*(["--long"] if variant[0] else []), *(["--prune", "0.01"] if variant[1] else [])]
            limits[variant] = run(sys.executable, "limits.py", *files[:2], *flags)
        row = compare(name, given.other, files, given.options, given.repeats)
        limit = limit_of(name, files, given.options, limits[variant])
        row["fraction"] = None if limit is None else limit / row["ours_seconds"]
        results.append(row)
        share = "" if limit is None else f"{row['fraction']:.0%}"
        print(
            f"{name:26}{row['ours_seconds']:9.3f}s{row['theirs_seconds']:9.2f}s{row['ratio']:7.1f}×{share:>10}"
            f"{row['ours_peak']:10.0f}{row['theirs_peak']:11.0f}",
            flush=True,
        )
        if given.json:
            given.json.write_text(json.dumps({"rows": results, "limits": [*limits.values()]}, indent=1))
    for (long, pruned), measured in limits.items():
        print(f"limits ({'256 tokens' if long else 'sentences'}, {'1 %' if pruned else 'all entries'}): {measured}")


if __name__ == "__main__":
    main()
