"""Directories of seed runs: one becomes the result, the others keep their statistics only."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from gradiend.model.checkpoint import CHECKPOINT_FILES, CONFIG
from gradiend.util.paths import MLM_HEAD, OWN_BASE_MODEL, OWN_TOKENIZER, TRAINING


def intermediate_checkpoints(directory: str | Path) -> list[Path]:
    """What a training has written beside its result: `<directory>_step_<n>` and `<directory>_epoch_<n>`."""
    result = Path(directory)
    pattern = re.compile(re.escape(result.name) + r"_(step|epoch)_\d+")
    return sorted(path for path in result.parent.glob("*") if path.is_dir() and pattern.fullmatch(path.name))


def promote(best: str, output: str) -> None:
    """Copy a seed's directory to `output`, and its intermediate checkpoints beside that.

    What else lies in `output` stays: it may be any folder of the user's.
    """
    for source in (Path(best), *intermediate_checkpoints(best)):
        target = Path(output + source.name.removeprefix(Path(best).name))
        staging = target.with_name(f".{target.name}.new")
        shutil.rmtree(staging, ignore_errors=True)
        shutil.copytree(source, staging)
        _take_over(staging, target)


def _take_over(staging: Path, target: Path) -> None:
    """Move a complete checkpoint to `target`; its config.json goes first and comes last, see `write_checkpoint`."""
    (target / CONFIG).unlink(missing_ok=True)
    target.mkdir(parents=True, exist_ok=True)
    for name in (*CHECKPOINT_FILES, MLM_HEAD, OWN_BASE_MODEL, OWN_TOKENIZER):
        _remove(target / name)
    for path in sorted(staging.iterdir(), key=lambda path: path.name == CONFIG):
        _remove(target / path.name)
        path.rename(target / path.name)
    staging.rmdir()


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def drop_weights(directories: Sequence[str]) -> None:
    """Remove everything but the training statistics."""
    for directory in directories:
        (Path(directory) / CONFIG).unlink(missing_ok=True)
        for path in Path(directory).iterdir():
            if path.name != TRAINING:
                _remove(path)
        for checkpoint in intermediate_checkpoints(directory):
            remove_checkpoint(checkpoint)


def remove_checkpoint(directory: str | Path) -> None:
    """Remove a checkpoint with all that lies in it, if there is one.

    Its config.json goes first: a directory with one is complete, however the process ends.
    """
    (Path(directory) / CONFIG).unlink(missing_ok=True)
    shutil.rmtree(directory, ignore_errors=True)
