"""Values as JSON knows them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch


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
