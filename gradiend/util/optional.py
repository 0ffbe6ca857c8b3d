"""The door to packages that only some features need, and the check that it is this package that is installed."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from importlib.metadata import distributions
from importlib.util import find_spec
from typing import TypeVar

logger = logging.getLogger(__name__)

R = TypeVar("R")

COMMAND = "gradiend.cli:main"
"""The command that this project's distribution has, and the other one of the same name has not."""


def install_hint(name: str, extra: str) -> str:
    """What to install for a missing package. Never `gradiend[…]`: on the package index, that name is another project's.

    Args:
        name: The package, as it is imported.
        extra: The extra of this project that brings it, e.g. `"data"`.
    """
    return f'pip install {name.replace("_", "-")} (or, in a clone of this project, pip install ".[{extra}]")'


def require_package(name: str, purpose: str, extra: str) -> None:
    """Raise an ImportError that says what to install if a package is missing.

    Args:
        name: The package, as it is imported.
        purpose: What it is needed for, e.g. `"Reading texts.parquet"`.
        extra: The extra of this project that brings it, e.g. `"data"`.

    Raises:
        ImportError: The package is not installed.
    """
    if find_spec(name) is None:
        raise ImportError(f"{purpose} needs {name}: {install_hint(name, extra)}")


def warn_of_namesake(package: str) -> None:
    """Warn if the project that has our name on the package index is installed beside this one.

    Which of the two is imported then depends on the order of the import path, and pip takes the one for the other.

    Args:
        package: Where this package lies.
    """
    others = {
        f"version {found.version} in {found.locate_file('')}"
        for found in distributions(name="gradiend")
        if not any(point.value == COMMAND for point in found.entry_points)
    }
    if others:
        warnings.warn(
            f"Another project called gradiend is installed too ({'; '.join(sorted(others))}); what is imported here is "
            f"{package}. Remove it with `pip uninstall gradiend` (again, until none is left), then install this one "
            "from its clone (`pip install .`) or its wheel.",
            stacklevel=3,
        )


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
