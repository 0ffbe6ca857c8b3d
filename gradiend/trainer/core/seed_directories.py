"""Directories of seed runs: one becomes the result, the others keep their statistics only."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from gradiend.model.checkpoint import TRAINING


def intermediate_checkpoints(directory: str | Path) -> list[Path]:
    """What a training has written beside its result: `<directory>_step_<n>` and `<directory>_epoch_<n>`."""
    result = Path(directory)
    pattern = re.compile(re.escape(result.name) + r"_(step|epoch)_\d+")
    return sorted(path for path in result.parent.glob("*") if path.is_dir() and pattern.fullmatch(path.name))


def promote(best: str, output: str) -> None:
    """Copy a seed's directory to `output`, and its intermediate checkpoints beside that.

    Each is replaced in one rename once its copy is complete.
    """
    for source in (Path(best), *intermediate_checkpoints(best)):
        target = Path(output + str(source).removeprefix(str(Path(best))))
        staging = target.with_name(f".{target.name}.new")
        shutil.rmtree(staging, ignore_errors=True)
        shutil.copytree(source, staging)
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
        for checkpoint in intermediate_checkpoints(directory):
            shutil.rmtree(checkpoint)
