"""Folders with a model, which are written beside their place and then moved into it.

A model's folder is complete if it has a config.json, and its record if it is a rewritten model: these files are removed
first and moved last, so that no reader ever finds files of two models.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from gradiend.util.paths import CONFIG_FILE, REWRITE_RECORD

LAST = (CONFIG_FILE, REWRITE_RECORD)
"""The files that say a folder is complete, in the order in which they are moved."""


def take_over(staging: Path, target: Path, is_ours: Callable[[str], bool]) -> None:
    """Move the content of a folder to `target`, whose files of an earlier model (`is_ours` of their names) go.

    Other files in `target` stay, because `target` may be any folder of the user.
    """
    target = Path(os.path.realpath(target))
    if not target.exists():
        staging.rename(target)
        return
    for name in LAST:
        (target / name).unlink(missing_ok=True)
    for path in list(target.iterdir()):
        if is_ours(path.name):
            remove(path)
    for path in sorted(staging.iterdir(), key=lambda path: LAST.index(path.name) if path.name in LAST else -1):
        remove(target / path.name)
        path.rename(target / path.name)
    staging.rmdir()


def remove(path: Path) -> None:
    """Remove a file or a folder with everything in it, if there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
