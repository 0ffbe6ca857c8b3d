"""The importance of each dimension, and the choice of dimensions to keep: mask → threshold → top-k.

The choice is exact, and no intermediate tensor is as long as the input space.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from numbers import Integral, Real

import torch
from torch import Tensor

from gradiend.model._architecture import parse_weight_part
from gradiend.model._parameter_map import bits
from gradiend.util._checks import require_finite
from gradiend.util._processes import ONE, Processes

BLOCK = 1 << 20
"""The number of entries that are read at once."""

DIGIT = 16
"""The number of bits of a radix digit: one histogram has 65 536 counts."""


def topk_count(topk: int | float, available: int) -> int:
    """The number of dimensions, from 1 to `available`, that `topk` means: a number, or a proportion (half to even).

    Raises ValueError for a negative int and a float outside (0, 1], and TypeError for a value that is no number.
    """
    # The tests are for Real and Integral, because NumPy's scalars are numbers too.
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
class Selection:
    """The dimensions that stay, without a mask of all dimensions."""

    size: int
    """The number of dimensions to choose from."""
    importance: Tensor | None = None
    """The importance of each dimension, (size,)."""
    among: Tensor | None = None
    """The dimensions that may stay, bool (size,); None allows all dimensions."""
    threshold: float | None = None
    """The least importance of a dimension that may stay."""
    count: int = 0
    """The number of dimensions that stay."""
    cutoff: Tensor | None = None
    """The importance (0-dim) that a dimension must exceed to stay; None keeps all allowed dimensions."""
    ties: int = 0
    """The number of dimensions that stay because their importance equals the cutoff; lower indices come first."""
    places: Sequence[slice] = ()
    """Consecutive ranges of all dimensions. Ties go to an earlier range, then to an earlier process. Default: one."""
    team: Processes = ONE
    """The processes of which each has some of the dimensions; `size` and `importance` are those of this process."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "places", self.places or [slice(0, self.size)])

    def allowed(self, place: slice) -> Tensor:
        """The bool mask of the allowed dimensions of a range, on the device of the importance."""
        device = torch.device("cpu") if self.importance is None else self.importance.device
        if self.among is None:
            keep = torch.ones(place.stop - place.start, dtype=torch.bool, device=device)
        else:
            keep = self.among[place].to(device, copy=True)
        if self.threshold is not None:
            assert self.importance is not None
            keep &= self.importance[place] >= self.threshold
        return keep

    def n_allowed(self) -> int:
        """The number of allowed dimensions, of all processes."""
        own = self.size
        if self.among is not None or self.threshold is not None:
            own = sum(int(self.allowed(place).sum()) for place in blocks(slice(0, self.size)))
        return sum(self.team.exchanged(own))

    def largest(self, count: int) -> Selection:
        """The `count` most important of the allowed dimensions; ties go to the lower index.

        Radix selection needs one histogram per 16 bits of the values, and no tensor as long as the importance.
        """
        assert self.importance is not None
        everything = self.among is None and self.threshold is None
        width = 8 * self.importance.element_size()
        prefix, left = 0, count
        for shift in range(width - DIGIT, -1, -DIGIT):
            histogram = torch.zeros(1 << DIGIT, dtype=torch.int64)
            leading = shift + DIGIT == width
            for block in blocks(slice(0, self.size)):
                values = self.importance[block] if everything else self.importance[block][self.allowed(block)]
                # The addition of 0 turns a negative zero, which equals a positive zero, into a positive zero.
                keys = flipped(bits(values + 0))
                if leading:
                    digits = (keys >> shift).to(torch.int32) + (1 << (DIGIT - 1))
                else:
                    digits = (keys[keys >> (shift + DIGIT) == prefix] >> shift) & ((1 << DIGIT) - 1)
                histogram += torch.bincount(digits, minlength=1 << DIGIT).cpu()
            self.team.sum_(histogram)
            from_the_top = histogram.flip(0).cumsum(0)
            above = int((from_the_top < left).sum())
            digit = (1 << DIGIT) - 1 - above
            left -= int(from_the_top[above - 1]) if above else 0
            prefix = digit - (1 << (DIGIT - 1)) if leading else (prefix << DIGIT) | digit
        key = torch.tensor([prefix], dtype=bits(self.importance[:0]).dtype, device=self.importance.device)
        return replace(self, count=count, cutoff=flipped(key).view(self.importance.dtype)[0], ties=left)

    def masks(self) -> Iterator[Tensor]:
        """Yield the bool mask of each range of `places`, on the CPU."""
        for place, ties in zip(self.places, self._ties(), strict=True):
            keep = torch.empty(place.stop - place.start, dtype=torch.bool)
            for block in blocks(place):
                part = self.allowed(block)
                if self.cutoff is not None:
                    assert self.importance is not None
                    equal = self._equal(block)[:ties]
                    part &= self.importance[block] > self.cutoff
                    part[equal] = True
                    ties -= len(equal)  # noqa: PLW2901 - what is left for the range
                keep[block.start - place.start : block.stop - place.start] = part
            yield keep

    def _ties(self) -> list[int]:
        """The number of dimensions of each range that stay because their importance equals the cutoff."""
        own = [sum(len(self._equal(block)) for block in blocks(place)) for place in self.places]
        of_all, left, result = self.team.exchanged(own), self.ties, []
        for number in range(len(own)):
            for rank, counts in enumerate(of_all):
                given = min(counts[number], left)
                left -= given
                if rank == self.team.rank:
                    result.append(given)
        return result

    def _equal(self, block: slice) -> Tensor:
        """The allowed dimensions of a block whose importance equals the cutoff."""
        if self.cutoff is None:
            return torch.empty(0, dtype=torch.int64)
        assert self.importance is not None
        return (self.allowed(block) & (self.importance[block] == self.cutoff)).nonzero().squeeze(1)

    def mask(self) -> Tensor:
        """The mask of all dimensions, bool (size,), on the CPU."""
        keep = torch.empty(self.size, dtype=torch.bool)
        for place, part in zip(self.places, self.masks(), strict=True):
            keep[place] = part
        return keep


def blocks(place: slice) -> Iterator[slice]:
    """Yield a range in pieces of at most `BLOCK` entries."""
    for start in range(place.start, place.stop, BLOCK):
        yield slice(start, min(start + BLOCK, place.stop))


def flipped(keys: Tensor) -> Tensor:
    """The bits of floats → integers in the same order, and back: the bits of negative numbers are inverted."""
    return keys ^ ((keys >> (8 * keys.element_size() - 1)) & torch.iinfo(keys.dtype).max)


def ranking(values: Tensor, count: int) -> Tensor:
    """The indices of the `count` largest of `values` (n,) by falling value; ties go to the lower index."""
    chosen = Selection(len(values), values).largest(count).mask().nonzero().squeeze(1)
    return chosen[torch.sort(values[chosen], descending=True, stable=True).indices]


def select_dimensions(
    size: int, importance: Tensor | None, *, mask: Tensor | None = None, threshold: float | None = None,
    topk: int | float | None = None, places: Sequence[slice] = (), team: Processes = ONE,
) -> Selection:  # fmt: skip
    """The dimensions to keep; arguments and errors are those of `GradiendModel.prune`. Ties go to the lower index.

    Where each process of a `team` has some of the dimensions, `size` and tensors are those of this process, and `topk`
    is a number or share of all dimensions.
    """
    if mask is None and threshold is None and topk is None:
        raise ValueError("Pruning needs a criterion: give mask, threshold or topk.")
    if mask is not None and (not isinstance(mask, Tensor) or mask.dtype != torch.bool or tuple(mask.shape) != (size,)):
        found = f"{mask.dtype} of shape {tuple(mask.shape)}" if isinstance(mask, Tensor) else type(mask).__name__
        raise ValueError(
            f"mask must be a bool tensor of shape ({size},), one entry per current input dimension; got {found}."
        )
    if topk is not None:
        topk_count(topk, sum(team.exchanged(size)))
    if threshold is not None:
        require_finite("threshold", threshold)
        threshold = float(threshold)
    if threshold is None and topk is None:
        importance = None
    elif not isinstance(importance, Tensor) or tuple(importance.shape) != (size,):
        found = f"shape {tuple(importance.shape)}" if isinstance(importance, Tensor) else repr(importance)[:60]
        raise ValueError(f"threshold and topk need one importance per dimension, shape ({size},); got {found}.")
    elif any(importance[place].isnan().any() for place in blocks(slice(0, size))):
        raise ValueError("The importance contains NaN: check the weights or gradients that it was made of.")
    if importance is not None:
        importance = importance.detach()
        # `Selection.largest` reads the bits of floating-point numbers.
        importance = importance if importance.is_floating_point() else importance.double()
    selection = Selection(size, importance, mask, threshold, places=places, team=team)
    allowed = selection.n_allowed()
    if not allowed:
        raise ValueError("Pruning would keep nothing: the mask is empty or the threshold is above every importance.")
    if topk is None or topk_count(topk, allowed) == allowed:
        return replace(selection, count=allowed)
    return selection.largest(topk_count(topk, allowed))


@torch.no_grad()
def weight_importance(part: str, W_e: Tensor, W_d: Tensor, b_d: Tensor) -> Tensor:
    """Importance of each dimension, see `GradiendModel.get_weight_importance`, from W_e (k, n), W_d (n, k), b_d (n,).

    Sums are made in float32 at least, so that a 16-bit GRADIEND ranks its dimensions as its float32 copy would.
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
