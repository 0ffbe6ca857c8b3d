"""A linear layer for dimensions of billions of entries."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gradiend.util._keywords import strict_methods
from gradiend.util._processes import ONE

BLAS_LIMIT = int(2e9)
"""Matrix dimensions beyond 2^31 overflow the 32-bit sizes of most BLAS libraries."""


@strict_methods
class LargeLinear(nn.Module):
    """`y = x Wᵀ + b`, also for dimensions that one matrix product cannot address; starts as `torch.nn.Linear` does.

    Args:
        in_features: The size of the last dimension of the input.
        out_features: The size of the last dimension of the output.
        bias: Whether the layer has a bias.
        in_chunk_size: The largest number of input entries of one matrix product.
        out_chunk_size: The largest number of output entries of one matrix product.
        dtype: The dtype of weight and bias.
        device: The device of weight and bias.
    """

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, in_chunk_size: int = BLAS_LIMIT,
        out_chunk_size: int = BLAS_LIMIT, dtype: torch.dtype = torch.float32, device: torch.device | str | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.in_chunk_size, self.out_chunk_size = int(in_chunk_size), int(out_chunk_size)
        # The type is Any, because torch would fix the types of weight and bias, which can be set to others here.
        self.linear: Any = nn.Linear(in_features, out_features, bias=bias, dtype=dtype, device=device)
        self.team = ONE
        """The processes of which each has some of the inputs, and their weights."""

    @property
    def weight(self) -> nn.Parameter:
        """The weight W, (out_features, in_features)."""
        return self.linear.weight

    @weight.setter
    def weight(self, value: Tensor) -> None:
        self.linear.weight = value if isinstance(value, nn.Parameter) else nn.Parameter(value)
        self.out_features, self.in_features = self.linear.weight.shape
        self.linear.out_features, self.linear.in_features = self.linear.weight.shape

    @property
    def bias(self) -> nn.Parameter | None:
        """The bias b, (out_features,), or None."""
        return self.linear.bias

    @bias.setter
    def bias(self, value: Tensor | None) -> None:
        self.linear.bias = value if value is None or isinstance(value, nn.Parameter) else nn.Parameter(value)

    def forward(self, x: Tensor) -> Tensor:
        """(…, in_features) → (…, out_features)."""
        if self.team.count > 1:
            product = self.team.sum_(F.linear(x, self.weight))
            return product if self.bias is None else product + self.bias
        rows = []
        for out_start in range(0, self.out_features, self.out_chunk_size):
            out = slice(out_start, out_start + self.out_chunk_size)
            bias = None if self.bias is None else self.bias[out]
            parts = []
            for start in range(0, self.in_features, self.in_chunk_size):
                chunk = slice(start, start + self.in_chunk_size)
                # The first product adds the bias, because a later addition would round 16-bit types once more.
                parts.append(F.linear(x[..., chunk], self.weight[out, chunk], None if start else bias))
            rows.append(torch.stack(parts).sum(0) if len(parts) > 1 else parts[0])
        return torch.cat(rows, dim=-1) if len(rows) > 1 else rows[0]
