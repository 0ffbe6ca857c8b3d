"""What to prune: before training by gradients, after training by weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gradiend.model._architecture import Device, parse_dtype, parse_weight_part
from gradiend.model._context import Side
from gradiend.model._selection import topk_count
from gradiend.util._arguments import Arguments, argument, checked
from gradiend.util._checks import require_finite, require_text, require_whole
from gradiend.util._keywords import strict_keywords


def _class_ids(name: str, ids: Any) -> list[Any]:
    if isinstance(ids, str) or not isinstance(ids, Sequence) or len(set(ids)) != len(ids) or not ids:
        raise ValueError(f"{name} must be a list of distinct class ids; got {ids!r}.")
    return list(ids)


def _dataset(name: str, value: Any) -> None:
    if not isinstance(value, (Sized, Sequence)):
        raise TypeError(f"{name} must have a length and items, as a list has; got {type(value).__name__}.")


def _device(name: str, value: Any) -> None:
    try:
        torch.device(value)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"{name} must be a device such as 'cpu' or 'cuda:0': {error}") from error


def _mask(name: str, value: Any) -> Tensor:
    if isinstance(value, Mapping) and value.keys() == {"size", "kept"}:
        kept = torch.tensor(value["kept"], dtype=torch.int64)
        value = torch.zeros(value["size"], dtype=torch.bool).index_fill_(0, kept, True)
    if not isinstance(value, Tensor) or value.dtype != torch.bool:
        found = value.dtype if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(f"{name} must be a bool tensor with one entry per input dimension; got {found}.")
    if not value.any():
        raise ValueError(f"The {name} keeps no dimension: at least one must be True.")
    return value


def _kept(mask: Tensor) -> dict[str, Any]:
    """A mask as JSON knows it."""
    return {"size": len(mask), "kept": mask.nonzero().squeeze(1).tolist()}


@strict_keywords
@dataclass
class PrePruneConfig(Arguments):
    """Keep the dimensions with the largest mean gradients, before any weights of the GRADIEND exist.

    Importance is the mean over the classes of |mean gradient of the class|. `keep_top_k` is a second name of `topk`.

    Raises:
        ValueError: Neither topk nor threshold, or a value out of its range.
        TypeError: A value of another type, or an unknown argument; the message names the nearest.
    """

    n_samples: int = argument(16, checked(require_whole, 1))
    """Examples that the mean gradients are taken over, all classes together."""
    topk: int | float | None = None
    """Keep so many dimensions (int), or this proportion of them (float in (0, 1]; 1.0 keeps all)."""
    threshold: float | None = None
    """Keep dimensions of at least this importance; with topk, the top-k of those."""
    source: str = argument("factual", lambda name, value: Side.parse(name, value).value)
    """The gradient: factual, alternative, or diff, their difference."""
    batch_size: int = argument(8, checked(require_whole, 1), affects="neither")
    """Examples whose gradient is computed at a time. Several batches per class cost an accumulator of full width."""
    feature_class_key: str = argument("feature_class_id", checked(require_text))
    """Key of an example's class in the items of the dataset."""
    target_feature_class_ids: Sequence[Any] | None = argument(None, _class_ids)
    """The classes that count; others (identity, neutral) are ignored. Default: those of the definition or trainer."""
    dataset: Any = argument(None, checked(_dataset), save=None)
    """Examples to use instead of the dataset passed to `pre_prune` (the training examples, in a trainer)."""
    use_cached_gradients: bool = argument(False, affects="neither")
    """Keep the gradients in the experiment's `cache/gradients`, by the same keys as training's, and read those that are
    there: pruning again, with another topk, computes none. Takes a file of full width per batch."""
    importance_dtype: torch.dtype | None = argument(None, parse_dtype, save=str)
    """Of the importance vector. Default: float32; torch.bfloat16 takes half the memory, with more ties."""
    importance_device: Device = argument(None, checked(_device), affects="neither", save=str)
    """Where the importance vector is. Default: beside the base model."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_criteria("PrePruneConfig", {"topk": self.topk, "threshold": self.threshold})

    def __str__(self) -> str:
        return (
            f"PrePruneConfig(n_samples={self.n_samples}, topk={self.topk}, threshold={self.threshold}, "
            f"source={self.source!r})"
        )


@strict_keywords
@dataclass
class PostPruneConfig(Arguments):
    """Keep the dimensions with the largest weights, after training. `keep_top_k` is a second name of `topk`.

    Criteria apply in the order mask → threshold → topk.

    Raises:
        ValueError: No criterion, or a value out of its range.
        TypeError: A value of another type, or an unknown argument; the message names the nearest.
    """

    topk: int | float | None = None
    """Keep so many dimensions (int), or this proportion of them (float in (0, 1])."""
    threshold: float | None = None
    """Keep dimensions of at least this importance."""
    mask: Tensor | None = argument(None, _mask, save=_kept)
    """Keep these dimensions, bool (input_dim,)."""
    part: str = argument("decoder-weight", lambda _, value: parse_weight_part(value))
    """The weights that importance is read off: encoder-weight, decoder-weight, decoder-bias or decoder-sum."""
    inplace: bool = True
    """Change the model; otherwise a copy that shares the base model is pruned."""
    return_mask: bool = False
    """Let `post_prune` also return the bool mask of what was kept."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_criteria("PostPruneConfig", {"topk": self.topk, "threshold": self.threshold, "mask": self.mask})

    def __str__(self) -> str:
        mask = "" if self.mask is None else f", mask keeps {int(self.mask.sum())} of {len(self.mask)}"
        return f"PostPruneConfig(topk={self.topk}, threshold={self.threshold}, part={self.part!r}{mask})"


def _check_criteria(name: str, criteria: Mapping[str, Any]) -> None:
    if all(value is None for value in criteria.values()):
        *first, last = criteria
        raise ValueError(f"{name} needs a criterion: give {', '.join(first)} or {last}.")
    if criteria["topk"] is not None:
        topk_count(criteria["topk"], 1)
    if criteria["threshold"] is not None:
        require_finite("threshold", criteria["threshold"])
