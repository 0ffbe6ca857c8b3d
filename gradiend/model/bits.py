"""The bits of weights: compared and hashed without arithmetic."""

from __future__ import annotations

import torch
from torch import Tensor

from gradiend.util._digest import digest_tensors

BIT_TYPES = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""Bytes per entry → the integers that hold its bits."""


def bits(values: Tensor) -> Tensor:
    """The same memory as integers: unlike floats, −0.0 is not 0.0 and an undefined number equals itself."""
    return values.view(BIT_TYPES[values.element_size()])


def digest_of(values: Tensor) -> str:
    """A digest of dtype, shape and every bit."""
    return digest_tensors([("", values)])
