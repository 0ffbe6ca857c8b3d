"""A process that is killed loses a step of its work, never what was done, and leaves nothing half or stale."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from killed_runs import SEEDS, STEPS_OF_A_SEED
from test_caching import base  # noqa: F401 - a fixture

HERE = Path(__file__).parent
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")

LONG = 3600
"""Seconds that 240 deaths, with two runs each, may take."""


def killed_runs(base: str, folder: Path, moments: int, times: int) -> dict:  # noqa: F811
    command = [sys.executable, str(HERE / "killed_runs.py"), base, str(folder), str(moments), str(times)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{HERE.parent}{os.pathsep}{HERE}"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    ("moments", "times"), [(3, 0), pytest.param(200, 40, marks=[pytest.mark.slow, pytest.mark.timeout(LONG)])]
)
def test_the_same_script_gives_the_same_after_a_kill_at_any_moment(base, tmp_path, moments, times):  # noqa: F811
    found = killed_runs(base, tmp_path, moments, times)
    expected = found["expected"]
    whole = SEEDS * STEPS_OF_A_SEED
    for name in ("moments", "seconds"):
        expected.pop(name)
    # Everything is there, and nothing but what should be.
    assert not [name for name in expected["files"] if "_resume" in name or "_best" in name or ".new" in name]
    assert {"model/config.json", "rewritten/model.safetensors", "deltas/many.safetensors"} <= expected["files"].keys()
    for run in found["runs"]:
        # A process that was to be killed late may have ended before.
        assert run["signal"] == 9 or "after" in run
        result = run["found"]
        for name in ("moments", "seconds"):
            result.pop(name)
        files, there = expected["files"], result["files"]
        assert not [name for name in files.keys() | there.keys() if files.get(name) != there.get(name)], {
            name: run.get(name) for name in ("fatal", "after")
        }
        assert result == expected, run
        # States are kept after each step: a death costs at most the step that it interrupts, and its evaluation.
        assert whole <= run["steps"] <= whole + 1
    assert found["left"] == []
    print(f"{len(found['runs'])} killed runs, {sum(run['steps'] - whole for run in found['runs'])} steps taken twice")
