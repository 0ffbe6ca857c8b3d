"""Which class loads a checkpoint when the abstract `ModelWithGradiend` is asked to.

The text class lives in a later layer than this one; the package's `__init__` registers it here under a function that
imports it when it is first needed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_loaders: list[Callable[[], Any]] = []


def register_default_loader(load_class: Callable[[], Any]) -> None:
    """Let `load_class()` give the `ModelWithGradiend` subclass that loads checkpoints for the abstract class."""
    _loaders[:] = [load_class]


def default_class() -> Any:
    """The registered class."""
    return _loaders[0]()
