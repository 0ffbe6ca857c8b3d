"""scripts/house.py measures the package at any commit without checking it out."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "house.py"
BASE = '''"""Says what
it is."""

from __future__ import annotations


class Trainer:
    """A causal trainer."""

    size = 1

    def train(self):
        # of a causal model
        self.steps = "causal"
        return """

        # within a string
        """
'''
SUB = '''"""Text."""

from gradiend.trainer.base import Trainer

LONG = None


class Middle(Trainer):
    def prepare(self): ...


class TextPredictionTrainer(Middle, dict):
    def train(self, causal=False): ...
'''


@pytest.fixture
def repository(tmp_path):
    """Two commits of a tiny package, and a change that is not committed."""

    def git(*arguments):
        who = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", *who, *arguments], cwd=tmp_path, check=True, capture_output=True)

    def write(name, text):
        path = tmp_path / "gradiend" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    git("init", "-q")
    write("__init__.py", "")
    write("trainer/__init__.py", "")
    write("trainer/base.py", BASE)
    git("add", ".")
    git("commit", "-qm", "one")
    git("tag", "first")
    write("trainer/text/__init__.py", "from ..base import Trainer\n")
    write("trainer/text/trainer.py", SUB)
    write("data/words.py", "import gradiend.trainer.text.trainer\n")
    git("add", ".")
    git("commit", "-qm", "two")
    write("trainer/base.py", BASE + "\n\ndef late():\n    from gradiend.data import words\n" + "    late()\n" * 499)
    return tmp_path


def table(folder, *commits):
    done = subprocess.run([sys.executable, SCRIPT, *commits], cwd=folder, capture_output=True, text=True, check=True)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines()]
    return {row[0]: row[1:] for row in rows}


def test_commits_stand_side_by_side(repository):
    found = table(repository, "first", "HEAD", ".")
    assert found[""] == ["first", "HEAD", "working tree"]
    for row, cells in {
        "lines": ["18", "33", "536"],
        "– code": ["8", "13", "513"],
        "– docstrings": ["3", "4", "4"],
        "– comments": ["1", "1", "1"],
        "– imports": ["1", "4", "5"],
        "– blank": ["5", "11", "13"],
        "files": ["3", "6", "6"],
        "– under 60 lines": ["3", "6", "5"],
        "– over 500 lines": ["0", "0", "1"],
        "functions over 80 lines": ["0", "0", "1"],
        "modules with one importer": ["0", "1", "2"],
        "modules in a circle of imports": [
            "none",
            "none",
            "data.words → trainer.text.trainer → trainer.base → data.words",
        ],
        "steps in a circle of imports": ["none", "none", "data ↔ trainer"],
        "`causal` in code": ["1", "2", "2"],
        "– in trainer": ["1", "2", "2"],
        "`causal` in docstrings and comments": ["2", "2", "2"],
        "`Trainer`: classes on top of each other": ["1", "1", "1"],
        "`Trainer`: methods and attributes": ["3", "3", "3"],
        "`TextPredictionTrainer`: classes on top of each other": ["", "3", "3"],
        "`TextPredictionTrainer`: methods and attributes": ["", "4", "4"],
    }.items():
        assert found[row] == cells, row


def test_head_and_working_tree_by_default(repository):
    assert table(repository) == table(repository, "HEAD", ".")


def test_an_unknown_commit_is_named(repository):
    done = subprocess.run(
        [sys.executable, SCRIPT, "nowhere"], cwd=repository, capture_output=True, text=True, check=False
    )
    assert done.returncode
    assert "nowhere" in done.stderr
