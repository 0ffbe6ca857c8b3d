"""Directories of seed runs: one becomes the result, the others keep their statistics only."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from gradiend.model.checkpoint import TRAINING


def promote(best: str, output: str) -> None:
    """Copy a seed's directory to `output`, which is replaced in one rename once the copy is complete."""
    target = Path(output)
    staging = target.with_name(f".{target.name}.new")
    shutil.rmtree(staging, ignore_errors=True)
    shutil.copytree(best, staging)
    shutil.rmtree(target, ignore_errors=True)
    staging.rename(target)


def drop_weights(directories: Sequence[str]) -> None:
    """Remove everything but the training statistics."""
    for directory in directories:
        for path in Path(directory).iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != TRAINING:
                path.unlink()
