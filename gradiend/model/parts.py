"""The named parts of a GRADIEND, as an importance and as an update vector."""

from __future__ import annotations

import torch
from torch import Tensor

from gradiend.util.keywords import one_of

WEIGHT_PARTS: tuple[str, ...] = ("encoder-weight", "decoder-weight", "decoder-bias", "decoder-sum")
REWRITE_PARTS: tuple[str, ...] = ("decoder", *WEIGHT_PARTS)


def parse_weight_part(part: str) -> str:
    """Raises ValueError unless `part` is one of `WEIGHT_PARTS`."""
    return one_of("part", part, WEIGHT_PARTS)


def parse_rewrite_part(part: str) -> str:
    """Raises ValueError unless `part` is one of `REWRITE_PARTS`."""
    return one_of("part", part, REWRITE_PARTS)


@torch.no_grad()
def weight_importance(part: str, W_e: Tensor, W_d: Tensor, b_d: Tensor) -> Tensor:
    """Importance of each input dimension by one part, (n,) float32 on the CPU.

    Sums run in float32 at least, so that a 16-bit GRADIEND ranks its dimensions as its float32 copy would.

    Args:
        part: encoder-weight (column-wise L1 of W_e), decoder-weight (row-wise L1 of W_d), decoder-bias (|b_d|) or
            decoder-sum (|row sum of W_d + b_d|).
        W_e: (k, n).
        W_d: (n, k).
        b_d: (n,).

    Raises:
        ValueError: Another part.
    """
    part = parse_weight_part(part)
    wide = torch.promote_types(W_d.dtype, torch.float32)
    if part == "encoder-weight":
        importance = W_e.abs().sum(0, dtype=wide)
    elif part == "decoder-weight":
        importance = W_d.abs().sum(1, dtype=wide)
    elif part == "decoder-bias":
        importance = b_d.abs()
    else:
        importance = (W_d.sum(1, dtype=wide) + b_d).abs()
    return importance.float().cpu()


@torch.no_grad()
def weight_update_vector(part: str, W_e: Tensor, W_d: Tensor, b_d: Tensor) -> Tensor:
    """One part as a signed vector, a copy in the weights' dtype and on their device.

    Args:
        part: encoder-weight or decoder-weight (k · n entries, row by row), decoder-bias (b_d) or decoder-sum (row sum
            of W_d plus b_d, n entries).
        W_e: (k, n).
        W_d: (n, k).
        b_d: (n,).

    Raises:
        ValueError: Another part.
    """
    part = parse_weight_part(part)
    if part == "encoder-weight":
        return W_e.flatten().clone()
    if part == "decoder-weight":
        return W_d.flatten().clone()
    return b_d.clone() if part == "decoder-bias" else W_d.sum(1) + b_d
