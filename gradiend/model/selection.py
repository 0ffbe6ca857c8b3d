"""Which dimensions to keep: mask → threshold → top-k."""

from __future__ import annotations

from numbers import Integral, Real

import torch
from torch import Tensor


def topk_count(topk: int | float, available: int) -> int:
    """How many of `available` dimensions `topk` means.

    An int is a number (at least one is kept, at most all), a float in (0, 1] a proportion (rounded half to even,
    at least one).

    Raises:
        ValueError: A negative int, or a float outside (0, 1].
        TypeError: Not a number.
    """
    # numbers.* and not int, float: numpy's scalars are numbers too.
    if isinstance(topk, bool) or not isinstance(topk, Real):
        raise TypeError(f"topk must be an int (a number of dimensions) or a float in (0, 1]; got {topk!r}.")
    if not isinstance(topk, Integral):
        if not 0.0 < topk <= 1.0:
            raise ValueError(
                f"topk={topk} as a float is a proportion and must lie in (0, 1]; give an int for a number."
            )
        return min(available, max(1, round(topk * available)))
    if topk < 0:
        raise ValueError(f"topk must not be negative; got {topk}.")
    return min(available, max(1, int(topk)))


def largest(values: Tensor, count: int) -> Tensor:
    """Where the `count` largest of `values` (n,) are, bool (n,); ties go to the lower index.

    A stable sort says the same, several times slower on millions of values.
    """
    smallest = torch.topk(values, count, sorted=False).values.min()
    keep = values > smallest
    ties = (values == smallest).nonzero().squeeze(1)
    keep[ties[: count - int(keep.sum())]] = True
    return keep


def ranking(values: Tensor, count: int) -> Tensor:
    """Indices of the `count` largest of `values`, falling; ties by rising index."""
    candidates = largest(values, count).nonzero().squeeze(1)
    return candidates[torch.sort(values[candidates], descending=True, stable=True).indices]


def select_dimensions(
    size: int,
    importance: Tensor | None,
    *,
    mask: Tensor | None = None,
    threshold: float | None = None,
    topk: int | float | None = None,
) -> Tensor:
    """The bool mask, shape (size,), of the dimensions to keep; order mask → threshold → top-k.

    Args:
        size: Number of dimensions.
        importance: (size,) non-negative; needed for threshold and topk.
        mask: (size,) bool.
        threshold: Keep importance ≥ threshold.
        topk: A number or a proportion of the dimensions still left; ties go to the lower index.

    Raises:
        ValueError: No criterion, a wrong mask or importance, or nothing left.
        TypeError: topk is not a number.
    """
    if mask is None and threshold is None and topk is None:
        raise ValueError("Pruning needs a criterion: give mask, threshold or topk.")
    keep = torch.ones(size, dtype=torch.bool)
    if mask is not None:
        if not isinstance(mask, Tensor) or mask.dtype != torch.bool or tuple(mask.shape) != (size,):
            found = f"{mask.dtype} of shape {tuple(mask.shape)}" if isinstance(mask, Tensor) else type(mask).__name__
            raise ValueError(
                f"mask must be a bool tensor of shape ({size},), one entry per current input dimension; got {found}."
            )
        keep &= mask.cpu()
    if threshold is not None or topk is not None:
        if importance is None or tuple(importance.shape) != (size,):
            found = "none" if importance is None else f"shape {tuple(importance.shape)}"
            raise ValueError(f"threshold and topk need one importance per dimension, shape ({size},); got {found}.")
        importance = importance.detach().cpu()
        if importance.isnan().any():
            raise ValueError("The importance contains NaN: check the weights or gradients that it was made of.")
        if threshold is not None:
            keep &= importance >= threshold
        if topk is not None:
            candidates = keep.nonzero().squeeze(1)
            if candidates.numel():
                count = topk_count(topk, candidates.numel())
                keep[candidates] = largest(importance[candidates], count)
    if not keep.any():
        raise ValueError("Pruning would keep nothing: the mask is empty or the threshold is above every importance.")
    return keep
