"""The door to pyarrow, which only Parquet needs."""

from __future__ import annotations

from importlib.util import find_spec


def require_pyarrow(purpose: str) -> None:
    """Raise an ImportError that says what to install if pyarrow is missing.

    Args:
        purpose: What it is needed for, e.g. `"reading texts.parquet"`.

    Raises:
        ImportError: pyarrow is not installed.
    """
    if find_spec("pyarrow") is None:
        raise ImportError(f'{purpose} needs pyarrow: pip install "gradiend[data]"')
