"""Late and optional imports: public names of packages, a class of a later step, packages of single features."""

from __future__ import annotations

import ast
import inspect
import logging
import sys
import warnings
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import PackageNotFoundError, distributions, version
from importlib.util import find_spec
from typing import Any, TypeVar

logger = logging.getLogger(__name__)

R = TypeVar("R")

LATER: dict[str, Callable[[], Any]] = {}
"""What an earlier step of the flow needs of a later one: name → a function that imports it when it is needed.

The package's `__init__` fills the table, so that no step imports from one that comes after it."""

COMMAND = "gradiend.cli:main"
"""The command of this project's distribution, which the other distribution of the same name does not have."""


def public_names(package: str) -> dict[str, str]:
    """The public names of a package → the modules that define the names, sorted by name.

    The package's source writes each public name once, as `from m import A as A`, which type checkers and editors take
    for public too. A name that an assignment `A = …` defines is public as well, and belongs to the package itself.
    """
    found: dict[str, str] = {}
    for node in ast.walk(ast.parse(inspect.getsource(sys.modules[package]))):
        if isinstance(node, ast.ImportFrom):
            found |= {one.name: str(node.module) for one in node.names if one.asname == one.name}
        elif isinstance(node, ast.Assign):
            found |= {to.id: package for to in node.targets if isinstance(to, ast.Name) and to.id[0] != "_"}
    return dict(sorted(found.items()))


def lazy_names(package: str) -> tuple[list[str], Callable[[], list[str]], Callable[[str], Any]]:
    """`__all__`, `__dir__` and `__getattr__` of a package whose public names are imported on first use.

    Such a package imports the names in `if TYPE_CHECKING:`, see `public_names`. An unknown name is an AttributeError.
    """
    homes = public_names(package)

    def getattr_of_package(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(homes[name]), name)

    return list(homes), lambda: list(homes), getattr_of_package


def install_hint(name: str, extra: str) -> str:
    """The command that installs a missing package, which is part of this project's `extra`.

    The command never names `gradiend` itself: on the package index, that name belongs to another project.
    """
    return f'pip install {name.replace("_", "-")} (or, in a clone of this project, pip install ".[{extra}]")'


def installed_versions() -> dict[str, str]:
    """Package → its version, of the packages that decide numbers, as far as they are installed."""
    found = {}
    for name in ("torch", "transformers", "safetensors", "numpy", "pandas", "tokenizers", "spacy", "datasets"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def require_package(name: str, purpose: str, extra: str) -> None:
    """Raise ImportError with the install command if a package is missing that `purpose` ("Reading a.csv") needs."""
    if find_spec(name) is None:
        raise ImportError(f"{purpose} needs {name}: {install_hint(name, extra)}")


def warn_of_namesake(package: str) -> None:
    """Warn if the other project called gradiend is installed beside this project, which lies in `package`.

    The order of the import path then decides which project is imported, and pip confuses the two projects.
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
    """The result of a function; None if the function raises ImportError, with a warning that names `left_out`."""
    try:
        return needed()
    except ImportError as error:
        logger.warning("%s is left out. %s", left_out, error)
        return None
