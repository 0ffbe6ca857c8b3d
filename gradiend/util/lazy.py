"""Packages whose names are imported when they are first used, so that importing one of them loads little."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any


def lazy_names(package: str, homes: Mapping[str, Sequence[str]]) -> Callable[[str], Any]:
    """Make the `__getattr__` of a package.

    Args:
        package: The package's `__name__`.
        homes: Module to the names that the package takes from it.

    Returns:
        A function from a name to its object; an unknown name is an AttributeError.
    """
    home_of = {name: module for module, names in homes.items() for name in names}

    def getattr_of_package(name: str) -> Any:
        if name not in home_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(home_of[name]), name)

    return getattr_of_package
