"""Floating-point types by name."""

from __future__ import annotations

from typing import Any

import torch

from gradiend.util.keywords import nearest

FLOATS = ("float32", "bfloat16", "float16", "float64")


def parse_dtype(name: str, value: Any) -> torch.dtype:
    """A torch dtype, also by its name ("bfloat16" or "torch.bfloat16").

    Args:
        name: Of the argument, for the messages.
        value: What was given.

    Raises:
        ValueError: Another name, or a dtype that is not floating point.
        TypeError: Neither a dtype nor a string.
    """
    if isinstance(value, str):
        found = {key: getattr(torch, key) for key in FLOATS}.get(value.removeprefix("torch."))
        if found is None:
            raise ValueError(
                f"{name} must be a floating-point dtype ({', '.join(FLOATS)}); got {value!r}."
                f"{nearest(value.removeprefix('torch.'), FLOATS)}"
            )
        return found
    if not isinstance(value, torch.dtype):
        raise TypeError(f"{name} must be a torch dtype, such as torch.bfloat16; got {type(value).__name__}.")
    if not value.is_floating_point:
        raise ValueError(f"{name} must be a floating-point dtype; got {value}.")
    return value
