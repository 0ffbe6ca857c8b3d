"""The door to packages that only some features need."""

from __future__ import annotations

import logging
from collections.abc import Callable
from importlib.util import find_spec
from typing import TypeVar

logger = logging.getLogger(__name__)

R = TypeVar("R")


def require_package(name: str, purpose: str, extra: str) -> None:
    """Raise an ImportError that says what to install if a package is missing.

    Args:
        name: The package, as it is imported.
        purpose: What it is needed for, e.g. `"Reading texts.parquet"`.
        extra: The extra of gradiend that brings it, e.g. `"data"`.

    Raises:
        ImportError: The package is not installed.
    """
    if find_spec(name) is None:
        raise ImportError(f'{purpose} needs {name}: pip install "gradiend[{extra}]"')


def without_package(needed: Callable[[], R], left_out: str) -> R | None:
    """What a function gives; None where a package is missing for it, which a warning in the log then says.

    Args:
        needed: Raises ImportError where a package is missing.
        left_out: What there will not be then.
    """
    try:
        return needed()
    except ImportError as error:
        logger.warning("%s is left out. %s", left_out, error)
        return None
