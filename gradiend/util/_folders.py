"""Folders with a model, which are written beside their place and then moved into it.

A model's folder is complete if it has a config.json (that of an adapter: adapter_config.json), and its record if it is
a rewritten model: these files are removed first and moved last, so that no reader ever finds files of two models.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from gradiend.util._cards import remove_card
from gradiend.util._processes import by_first
from gradiend.util.paths import ADAPTER_CONFIG, CARD, CONFIG_FILE, REWRITE_RECORD

LAST = (ADAPTER_CONFIG, CONFIG_FILE, REWRITE_RECORD)
"""The files that say a folder is complete, in the order in which they are moved."""


@by_first
def take_over(staging: Path, target: Path, clear: Callable[[Path], None]) -> None:
    """Move the files of a folder to `target`, from which `clear` removes those of an earlier model.

    Other files in `target` stay, because `target` may be any folder of the user; so does a card that a person edited.
    """
    target = Path(os.path.realpath(target))
    if not target.exists():
        staging.rename(target)
        return
    for name in reversed(LAST):
        (target / name).unlink(missing_ok=True)
    clear(target)
    remove_card(target)
    files = [path.relative_to(staging) for path in staging.rglob("*") if path.is_file()]
    for file in sorted(files, key=lambda file: LAST.index(str(file)) if str(file) in LAST else -1):
        if file == Path(CARD) and (target / file).exists():
            continue
        (target / file).parent.mkdir(parents=True, exist_ok=True)
        (staging / file).replace(target / file)
