"""What is imported late, or may not be there: public names, a class of a later layer, packages of single features."""

from __future__ import annotations

import ast
import inspect
import logging
import sys
import warnings
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import distributions
from importlib.util import find_spec
from typing import Any, TypeVar

logger = logging.getLogger(__name__)

R = TypeVar("R")

LATER: dict[str, Callable[[], Any]] = {}
"""What an earlier step of the flow needs of a later one: name → a function that imports it when it is needed.

The package's `__init__` fills the table, so that no step imports from one that comes after it."""

COMMAND = "gradiend.cli:main"
"""The command that this project's distribution has, and that the other one of the same name does not have."""


def public_names(package: str) -> dict[str, str]:
    """The public names of a package → the modules that they come from, in order of the names.

    They are written once, as imports in the package's source: `from m import A as A`, which type checkers and editors
    take for public too. An assignment of the form `A = …` is public as well, and belongs to the package itself.
    """
    found: dict[str, str] = {}
    for node in ast.walk(ast.parse(inspect.getsource(sys.modules[package]))):
        if isinstance(node, ast.ImportFrom):
            found |= {one.name: str(node.module) for one in node.names if one.asname == one.name}
        elif isinstance(node, ast.Assign):
            found |= {to.id: package for to in node.targets if isinstance(to, ast.Name) and to.id[0] != "_"}
    return dict(sorted(found.items()))


def lazy_names(package: str) -> tuple[list[str], Callable[[], list[str]], Callable[[str], Any]]:
    """`__all__`, `__dir__` and `__getattr__` of a package whose public names are imported when they are first used.

    Such a package imports them in `if TYPE_CHECKING:`, see `public_names`. An unknown name is an AttributeError.
    """
    homes = public_names(package)

    def getattr_of_package(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(homes[name]), name)

    return list(homes), lambda: list(homes), getattr_of_package


def install_hint(name: str, extra: str) -> str:
    """What to install for a missing package, which `extra` of this project brings.

    Never `gradiend[…]`: on the package index, that name is another project's.
    """
    return f'pip install {name.replace("_", "-")} (or, in a clone of this project, pip install ".[{extra}]")'


def require_package(name: str, purpose: str, extra: str) -> None:
    """Raise an ImportError that says what to install for `purpose`, such as "Reading x.parquet", if it is missing."""
    if find_spec(name) is None:
        raise ImportError(f"{purpose} needs {name}: {install_hint(name, extra)}")


def warn_of_namesake(package: str) -> None:
    """Warn if the project that has our name on the package index is installed beside this one, which is in `package`.

    Which of the two is imported then depends on the order of the import path, and pip takes the one for the other.
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
    """What a function gives; None where it raises ImportError, and a warning says what is left out and what to do."""
    try:
        return needed()
    except ImportError as error:
        logger.warning("%s is left out. %s", left_out, error)
        return None
