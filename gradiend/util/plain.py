"""Values as JSON knows them."""

from __future__ import annotations

import dataclasses
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch

SHORT = reprlib.Repr()
SHORT.maxlist = SHORT.maxtuple = 12
SHORT.maxother = 200


def short_repr(instance: Any) -> str:
    """The repr of a dataclass that needs no arguments: what differs from its defaults, and tables by their size."""
    usual = {name: _shown(value) for name, value in vars(type(instance)()).items()}
    shown = {item.name: _shown(vars(instance)[item.name]) for item in dataclasses.fields(instance)}
    given = [f"{name}={text}" for name, text in shown.items() if text != usual[name]]
    return f"{type(instance).__name__}({', '.join(given)})"


def _shown(value: Any) -> str:
    if value is None or isinstance(value, (str, Path)):
        return repr(value)
    if isinstance(value, pd.DataFrame):
        return f"<table of {len(value)} rows>"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key!r}: {_shown(item)}' for key, item in value.items())}}}"
    return SHORT.repr(value)


def plain(value: Any) -> Any:
    """`value` in types that JSON knows: tensors and NumPy scalars become numbers, other objects their repr."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return plain(vars(value))
    if isinstance(value, torch.Tensor) or type(value).__module__ == "numpy":
        return value.tolist()
    return value if value is None or isinstance(value, (bool, int, float, str)) else repr(value)
