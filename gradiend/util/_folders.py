"""Folders with a model, which are written beside their place and then moved into it.

A model's folder is complete if it has a config.json: that file is removed first and written last, so that no reader
ever finds files of two models.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

CONFIG_FILE = "config.json"


def staging_folder(target: Path) -> Path:
    """The hidden folder in which a new model for the folder `target` is written.

    It lies beside `target`, or inside a `target` that is a file system of its own or whose parent takes no folder.
    """
    target = Path(os.path.realpath(target))
    name = f".{target.name}.new"
    if target.is_dir() and not (os.access(target.parent, os.W_OK) and not os.path.ismount(target)):
        return target / name
    return target.with_name(name)


def take_over(staging: Path, target: Path, is_ours: Callable[[str], bool]) -> None:
    """Move the content of a folder to `target`, whose files of an earlier model (`is_ours` of their names) go.

    Other files in `target` stay, because `target` may be any folder of the user.
    """
    target = Path(os.path.realpath(target))
    if not target.exists():
        staging.rename(target)
        return
    (target / CONFIG_FILE).unlink(missing_ok=True)
    for path in list(target.iterdir()):
        if path != staging and is_ours(path.name):
            remove(path)
    for path in sorted(staging.iterdir(), key=lambda path: path.name == CONFIG_FILE):
        remove(target / path.name)
        path.rename(target / path.name)
    staging.rmdir()


def remove(path: Path) -> None:
    """Remove a file or a folder with everything in it, if there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
