"""The door to packages that only some features need."""

from __future__ import annotations

from importlib.util import find_spec


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
