"""Shared fixtures. Tests run offline, on one thread each, without a display."""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

LONG_FILES = [
    "site",
    "experiment",
    "caching",
    "training_arguments",
    "text_trainer",
    "seeds",
    "guides",
    "resume",
    "visualizer",
    "room",
    "families",
    "found_steps",
    "lock",
    "untrained",
    "demo",
    "memory",
    "killed_runs",
]
"""What takes longest begins first, so that the processes of a run end together."""


def pytest_collection_modifyitems(items):
    """Put the tests of the long files first; the others keep their order."""
    ranks = {f"test_{name}.py": rank for rank, name in enumerate(LONG_FILES)}
    items.sort(key=lambda item: ranks.get(item.path.name, len(ranks)))
