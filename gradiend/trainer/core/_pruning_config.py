"""The configurations of pruning: by gradients before training, by weights after training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gradiend.model._architecture import Device, parse_device, parse_dtype, parse_weight_part
from gradiend.model._context import Side
from gradiend.model._topk import topk_count
from gradiend.util._argument_fields import Arguments, argument, checked
from gradiend.util._checks import require_finite, require_text, require_whole
from gradiend.util._keywords import strict_keywords


def _class_ids(name: str, ids: Any) -> list[Any]:
    if isinstance(ids, str) or not isinstance(ids, Sequence) or len(set(ids)) != len(ids) or not ids:
        raise ValueError(f"{name} must be a list of distinct class ids; got {ids!r}.")
    return list(ids)


def _dataset(name: str, value: Any) -> None:
    if not isinstance(value, (Sized, Sequence)):
        raise TypeError(f"{name} must have a length and items, as a list has; got {type(value).__name__}.")


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
    """A mask as JSON values."""
    return {"size": len(mask), "kept": mask.nonzero().squeeze(1).tolist()}


@strict_keywords
@dataclass(repr=False)
class PrePruneConfig(Arguments):
    """Keep the dimensions with the largest mean gradients, before any weights of the GRADIEND exist.

    Importance is the mean over the classes of `|mean gradient of the class|`. `keep_top_k` is a second name of `topk`.

    Raises:
        ValueError: Neither topk nor threshold, or a value out of its range.
        TypeError: A value of another type, or an unknown argument; the message names the nearest.
    """

    n_samples: int = argument(16, checked(require_whole, 1))
    """Number of examples of all classes together over which the mean gradients are taken."""
    topk: int | float | None = None
    """Number (int) or proportion (float in (0, 1]; 1.0 keeps all) of the dimensions that are kept."""
    threshold: float | None = None
    """Least importance of the dimensions that are kept; with topk, only the top-k of these are kept."""
    source: str = argument("factual", lambda name, value: Side.parse(name, value).value)
    """The gradient that importance is taken from: factual, alternative, or diff, the difference of the two."""
    batch_size: int = argument(8, checked(require_whole, 1), affects="neither")
    """Examples whose gradient is computed at a time. Several batches per class need an accumulator of full width."""
    feature_class_key: str = argument("feature_class_id", checked(require_text))
    """Key of an example's class in the items of the dataset."""
    target_feature_class_ids: Sequence[Any] | None = argument(None, _class_ids)
    """Ids of the classes that count; other classes (identity, neutral) are ignored. Default: the target classes of the
    definition or trainer."""
    dataset: Any = argument(None, checked(_dataset), save=None)
    """Examples to use instead of the dataset that `pre_prune` is given (in a trainer: the training examples)."""
    use_cached_gradients: bool = argument(False, affects="neither")
    """Whether gradients are kept in the experiment's `cache/gradients`, where training keeps its gradients too, and
    read from there: pruning again, with another topk, computes none. Each batch takes a file of full width."""
    importance_dtype: torch.dtype | None = argument(None, parse_dtype, save=str)
    """Type of the importance vector. Default: float32; torch.bfloat16 takes half the memory, with more ties."""
    importance_device: Device = argument(None, checked(parse_device), affects="neither", save=str)
    """Device of the importance vector. Default: the device of the base model."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_criteria("PrePruneConfig", {"topk": self.topk, "threshold": self.threshold})

    def __str__(self) -> str:
        return (
            f"PrePruneConfig(n_samples={self.n_samples}, topk={self.topk}, threshold={self.threshold}, "
            f"source={self.source!r})"
        )


@strict_keywords
@dataclass(repr=False)
class PostPruneConfig(Arguments):
    """Keep the dimensions with the largest weights, after training. `keep_top_k` is a second name of `topk`.

    Criteria apply in the order mask → threshold → topk.

    Raises:
        ValueError: No criterion, or a value out of its range.
        TypeError: A value of another type, or an unknown argument; the message names the nearest.
    """

    topk: int | float | None = None
    """Number (int) or proportion (float in (0, 1]) of the dimensions that are kept."""
    threshold: float | None = None
    """Least importance of the dimensions that are kept."""
    mask: Tensor | None = argument(None, _mask, save=_kept)
    """Bool mask (input_dim,) of the dimensions that are kept."""
    part: str = argument("decoder-weight", lambda _, value: parse_weight_part(value))
    """The weights that give the importance: encoder-weight, decoder-weight, decoder-bias or decoder-sum."""
    inplace: bool = True
    """Whether the model itself is pruned; otherwise a copy that shares the base model is pruned."""
    return_mask: bool = False
    """Whether `post_prune` also returns the bool mask of the dimensions that were kept."""

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
