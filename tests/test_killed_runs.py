"""A process that is killed loses what it was doing, never what was done, and leaves nothing half or stale."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_caching import base  # noqa: F401 - a fixture

HERE = Path(__file__).parent
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")


EVERY_MOMENT = 3600
"""Seconds that dying at each of nearly four hundred moments, two seconds a run, may take."""


def killed_runs(base: str, folder: Path, stride: int) -> dict:  # noqa: F811
    command = [sys.executable, str(HERE / "killed_runs.py"), base, str(folder), str(stride)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{HERE.parent}{os.pathsep}{HERE}"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("stride", [200, pytest.param(1, marks=[pytest.mark.slow, pytest.mark.timeout(EVERY_MOMENT)])])
def test_the_same_script_gives_the_same_after_a_kill_at_any_moment(base, tmp_path, stride):  # noqa: F811
    found = killed_runs(base, tmp_path, stride)
    expected = found["expected"]
    assert expected.pop("trainings") == 2
    expected.pop("moments")
    trainings = []
    for run in found["runs"]:
        assert run["signal"] == 9
        result = run["found"]
        result.pop("moments")
        trainings.append(result.pop("trainings"))
        assert result == expected, run["fatal"]
    # Seeds that were done are not trained again; late kills lose no training at all.
    assert trainings == sorted(trainings, reverse=True)
    assert trainings[-1] == 0
    assert found["left"] == 0
