"""Is the working tree slower than an older commit? The rows of `benchmarks/suite.py`, old and new in turn.

    python benchmarks/compare.py COMMIT MODEL ROWS.csv NEUTRAL.csv [--quick | --only ROW …] [--repeats 3] [--json F]

Each cell is the median of the repeats, each repeat a fresh process with the same script, interpreter and libraries;
only the package differs (a worktree of COMMIT, and this one). In every second repeat the new one goes first. A ratio
above 1 is a slower new one, or one that takes more memory. --quick measures five rows, in less than ten minutes on two
cores that nothing else uses.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from suite import HERE, ROWS, run_workload

QUICK = ["train, 1 %", "encode, 1 %", "decoder grid", "pre-prune to 1 %", "save"]
SIDES = "old", "new"
MEASURED = {"seconds": "s", "peak": " MiB"}


@contextmanager
def package_of(commit: str) -> Iterator[Path]:
    """A worktree of a commit, which is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="gradiend_compare_") as folder:
        root = Path(folder).resolve() / "tree"
        subprocess.run(["git", "worktree", "add", "--quiet", "--detach", root, commit], cwd=HERE, check=True)
        try:
            yield root
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", root], cwd=HERE, check=True)


def measure(name: str, roots: dict[str, Path], files: list[str], repeats: int) -> dict[str, Any]:
    """One row: what was measured of each side, its medians, and new divided by old."""
    found: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
    for repeat in range(repeats):
        for side in SIDES if repeat % 2 == 0 else reversed(SIDES):
            os.environ["PYTHONPATH"] = str(roots[side])
            found[side].append(run_workload(sys.executable, name, files))
    row: dict[str, Any] = {"name": name, "runs": found}
    for key in MEASURED:
        old, new = (statistics.median(run[key] for run in found[side]) for side in SIDES)
        row |= {f"old_{key}": old, f"new_{key}": new, f"{key}_ratio": new / old}
    return row


def main() -> None:
    """Measure what is asked for, and print row by row; the JSON file is whole after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commit")
    parser.add_argument("model")
    parser.add_argument("rows")
    parser.add_argument("neutral")
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--quick", action="store_true")
    choice.add_argument("--only", nargs="+", default=list(ROWS), help="names of rows, or how they begin")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    wanted = QUICK if given.quick else [name for name in ROWS if name.startswith(tuple(given.only))]
    files = [str(Path(file).resolve()) for file in (given.model, given.rows, given.neutral)]
    results = []
    print(f"| | {given.commit} | working tree | ratio | {given.commit} | working tree | ratio |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    with package_of(given.commit) as old:
        for name in wanted:
            row = measure(name, {"old": old, "new": HERE.resolve().parent}, files, given.repeats)
            cells = [
                f"{row[f'old_{key}']:.3g}{unit} | {row[f'new_{key}']:.3g}{unit} | {row[f'{key}_ratio']:.2f}"
                for key, unit in MEASURED.items()
            ]
            print(f"| {name} | {' | '.join(cells)} |", flush=True)
            results.append(row)
            if given.json:
                given.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
