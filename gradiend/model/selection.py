"""Which dimensions to keep: mask → threshold → top-k, exact, without intermediates as long as the input space."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from numbers import Integral, Real

import torch
from torch import Tensor

BLOCK = 1 << 20
"""Entries that are looked at together."""

DIGIT = 16
"""Bits of a radix digit: one histogram of 65 536 counts per pass."""

INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}
"""Bytes of a floating-point type → the integer type of its bits."""


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


@dataclass(frozen=True)
class Criteria:
    """Which dimensions may stay at all: those of `mask` whose `importance` reaches `threshold`."""

    size: int
    importance: Tensor | None = None
    mask: Tensor | None = None
    threshold: float | None = None

    def allowed(self, place: slice) -> Tensor:
        """Bool mask of a range, on the importance's device."""
        device = torch.device("cpu") if self.importance is None else self.importance.device
        if self.mask is None:
            keep = torch.ones(place.stop - place.start, dtype=torch.bool, device=device)
        else:
            keep = self.mask[place].to(device, copy=True)
        if self.threshold is not None:
            assert self.importance is not None
            keep &= self.importance[place] >= self.threshold
        return keep

    def candidates(self, place: slice) -> Tensor:
        """The importance of the allowed dimensions of a range."""
        assert self.importance is not None
        values = self.importance[place]
        return values if self.mask is None and self.threshold is None else values[self.allowed(place)]

    def count(self) -> int:
        """Number of allowed dimensions."""
        if self.mask is None and self.threshold is None:
            return self.size
        return sum(int(self.allowed(place).sum()) for place in blocks(slice(0, self.size)))


@dataclass(frozen=True)
class Selection:
    """The dimensions that stay. No mask of all of them exists unless it is asked for.

    Attributes:
        criteria: What is allowed.
        count: Number of dimensions that stay.
        cutoff: Of the allowed ones only those more important than this stay, 0-dim; None: all of them.
        ties: And so many of those as important as the cutoff, lower indices first.
    """

    criteria: Criteria
    count: int
    cutoff: Tensor | None = None
    ties: int = 0

    def masks(self, places: Iterable[slice]) -> Iterator[Tensor]:
        """Bool masks, on the CPU, of consecutive ranges that start at 0."""
        ties = self.ties
        for place in places:
            keep = torch.empty(place.stop - place.start, dtype=torch.bool)
            for block in blocks(place):
                part = self.criteria.allowed(block)
                if self.cutoff is not None:
                    assert self.criteria.importance is not None
                    values = self.criteria.importance[block]
                    equal = (part & (values == self.cutoff)).nonzero().squeeze(1)[:ties] if ties else ()
                    part &= values > self.cutoff
                    if len(equal):
                        part[equal] = True
                        ties -= len(equal)
                keep[block.start - place.start : block.stop - place.start] = part
            yield keep

    def mask(self) -> Tensor:
        """Bool (size,), on the CPU."""
        return next(self.masks([slice(0, self.criteria.size)]))


def blocks(place: slice) -> Iterator[slice]:
    """A range in pieces of at most `BLOCK` entries."""
    for start in range(place.start, place.stop, BLOCK):
        yield slice(start, min(start + BLOCK, place.stop))


def select_largest(criteria: Criteria, count: int) -> Selection:
    """The `count` most important of the allowed dimensions; ties go to the lower index.

    Radix selection: one histogram per 16 bits of the values, in pieces, so nothing as long as the importance is made.
    """
    assert criteria.importance is not None
    bits = 8 * criteria.importance.element_size()
    prefix, left = 0, count
    for shift in range(bits - DIGIT, -1, -DIGIT):
        histogram = torch.zeros(1 << DIGIT, dtype=torch.int64)
        leading = shift + DIGIT == bits
        for block in blocks(slice(0, criteria.size)):
            keys = _ordered_bits(criteria.candidates(block))
            if leading:
                digits = (keys >> shift).to(torch.int32) + (1 << (DIGIT - 1))
            else:
                digits = (keys[keys >> (shift + DIGIT) == prefix] >> shift) & ((1 << DIGIT) - 1)
            histogram += torch.bincount(digits, minlength=1 << DIGIT).cpu()
        from_the_top = histogram.flip(0).cumsum(0)
        above = int((from_the_top < left).sum())
        digit = (1 << DIGIT) - 1 - above
        left -= int(from_the_top[above - 1]) if above else 0
        prefix = digit - (1 << (DIGIT - 1)) if leading else (prefix << DIGIT) | digit
    cutoff = _value_of(prefix, criteria.importance)
    return Selection(criteria, count, cutoff, ties=left)


def _ordered_bits(values: Tensor) -> Tensor:
    """The bits of floats as signed integers in the same order."""
    integer = INTEGERS[values.element_size()]
    # Adding zero makes a positive zero of a negative one, which equals it.
    keys = (values + 0).view(integer)
    return keys ^ ((keys >> (8 * values.element_size() - 1)) & torch.iinfo(integer).max)


def _value_of(key: int, like: Tensor) -> Tensor:
    """The float, 0-dim, with these ordered bits."""
    integer = INTEGERS[like.element_size()]
    keys = torch.tensor([key], dtype=integer, device=like.device)
    return (keys ^ ((keys >> (8 * like.element_size() - 1)) & torch.iinfo(integer).max)).view(like.dtype)[0]


def ranking(values: Tensor, count: int) -> Tensor:
    """Indices of the `count` largest of `values` (n,), falling; ties by rising index."""
    chosen = select_largest(Criteria(len(values), values), count).mask().nonzero().squeeze(1)
    return chosen[torch.sort(values[chosen], descending=True, stable=True).indices]


def select_dimensions(
    size: int,
    importance: Tensor | None,
    *,
    mask: Tensor | None = None,
    threshold: float | None = None,
    topk: int | float | None = None,
) -> Selection:
    """The dimensions to keep; order mask → threshold → top-k.

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
    if mask is not None and (not isinstance(mask, Tensor) or mask.dtype != torch.bool or tuple(mask.shape) != (size,)):
        found = f"{mask.dtype} of shape {tuple(mask.shape)}" if isinstance(mask, Tensor) else type(mask).__name__
        raise ValueError(
            f"mask must be a bool tensor of shape ({size},), one entry per current input dimension; got {found}."
        )
    if topk is not None:
        topk_count(topk, size)
    if threshold is None and topk is None:
        importance = None
    elif importance is None or tuple(importance.shape) != (size,):
        found = "none" if importance is None else f"shape {tuple(importance.shape)}"
        raise ValueError(f"threshold and topk need one importance per dimension, shape ({size},); got {found}.")
    elif any(importance[place].isnan().any() for place in blocks(slice(0, size))):
        raise ValueError("The importance contains NaN: check the weights or gradients that it was made of.")
    criteria = Criteria(size, None if importance is None else importance.detach(), mask, threshold)
    allowed = criteria.count()
    if not allowed:
        raise ValueError("Pruning would keep nothing: the mask is empty or the threshold is above every importance.")
    if topk is None or topk_count(topk, allowed) == allowed:
        return Selection(criteria, allowed)
    return select_largest(criteria, topk_count(topk, allowed))
