"""What to prune: before training by gradients, after training by weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from typing_extensions import Self

from gradiend.model.devices import Device
from gradiend.model.parts import parse_weight_part
from gradiend.model.selection import topk_count
from gradiend.model.sides import Side
from gradiend.util.checks import require_finite, require_flag, require_text, require_whole
from gradiend.util.dtypes import parse_dtype
from gradiend.util.keywords import strict_keywords


@strict_keywords
@dataclass
class PrePruneConfig:
    """Keep the dimensions with the largest mean gradients, before any weights of the GRADIEND exist.

    Importance is the mean over the classes of |mean gradient of the class|. `keep_top_k` is a second name of `topk`.

    Raises:
        ValueError: Neither topk nor threshold, or a value out of its range.
        TypeError: A value of another type, or an unknown argument; the message names the nearest.
    """

    n_samples: int = 16
    """Examples that the mean gradients are taken over, all classes together."""
    topk: int | float | None = None
    """Keep so many dimensions (int), or this proportion of them (float in (0, 1]; 1.0 keeps all)."""
    threshold: float | None = None
    """Keep dimensions of at least this importance; with topk, the top-k of those."""
    source: str = "factual"
    """The gradient: factual, alternative, or diff, their difference."""
    batch_size: int = 8
    """Examples whose gradient is computed at a time. Several batches per class cost an accumulator of full width."""
    feature_class_key: str = "feature_class_id"
    """Key of an example's class in the items of the dataset."""
    target_feature_class_ids: Sequence[Any] | None = None
    """The classes that count; others (identity, neutral) are ignored. Default: those of the definition or trainer."""
    dataset: Any = None
    """Examples to use instead of the dataset passed to `pre_prune` (the training examples, in a trainer)."""
    use_cached_gradients: bool = False
    """Keep the gradients in the experiment's `cache/gradients`, by the same keys as training's, and read those that are
    there: pruning again, with another topk, computes none. Takes a file of full width per batch."""
    importance_dtype: torch.dtype | None = None
    """Of the importance vector. Default: float32; torch.bfloat16 takes half the memory, with more ties."""
    importance_device: Device = None
    """Where the importance vector is. Default: beside the base model."""

    def __post_init__(self) -> None:
        require_whole("n_samples", self.n_samples, 1)
        require_whole("batch_size", self.batch_size, 1)
        _check_criteria("PrePruneConfig", {"topk": self.topk, "threshold": self.threshold})
        require_text("feature_class_key", self.feature_class_key)
        require_flag("use_cached_gradients", self.use_cached_gradients)
        self.source = Side.parse("source", self.source).value
        ids = self.target_feature_class_ids
        if ids is not None:
            if isinstance(ids, str) or not isinstance(ids, Sequence) or len(set(ids)) != len(ids) or not ids:
                raise ValueError(f"target_feature_class_ids must be a list of distinct class ids; got {ids!r}.")
            self.target_feature_class_ids = list(ids)
        if self.importance_dtype is not None:
            self.importance_dtype = parse_dtype("importance_dtype", self.importance_dtype)
        if self.importance_device is not None:
            try:
                torch.device(self.importance_device)
            except (RuntimeError, TypeError) as error:
                raise ValueError(f"importance_device must be a device such as 'cpu' or 'cuda:0': {error}") from error
        if self.dataset is not None and not isinstance(self.dataset, (Sized, Sequence)):
            raise TypeError(f"dataset must have a length and items, as a list has; got {type(self.dataset).__name__}.")

    def __str__(self) -> str:
        return (
            f"PrePruneConfig(n_samples={self.n_samples}, topk={self.topk}, threshold={self.threshold}, "
            f"source={self.source!r})"
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-serialisable; without the dataset."""
        content = _fields(self)
        del content["dataset"]
        for name in ("importance_dtype", "importance_device"):
            content[name] = None if content[name] is None else str(content[name])
        return content

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Self:
        """What `to_dict` gave. Raises TypeError for an unknown key; the message names the nearest field."""
        return cls(**content)


@strict_keywords
@dataclass
class PostPruneConfig:
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
    mask: Tensor | None = None
    """Keep these dimensions, bool (input_dim,)."""
    part: str = "decoder-weight"
    """The weights that importance is read off: encoder-weight, decoder-weight, decoder-bias or decoder-sum."""
    inplace: bool = True
    """Change the model; otherwise a copy that shares the base model is pruned."""
    return_mask: bool = False
    """Let `post_prune` also return the bool mask of what was kept."""

    def __post_init__(self) -> None:
        _check_criteria("PostPruneConfig", {"topk": self.topk, "threshold": self.threshold, "mask": self.mask})
        if self.mask is not None and (not isinstance(self.mask, Tensor) or self.mask.dtype != torch.bool):
            found = self.mask.dtype if isinstance(self.mask, Tensor) else type(self.mask).__name__
            raise ValueError(f"mask must be a bool tensor with one entry per input dimension; got {found}.")
        if self.mask is not None and not self.mask.any():
            raise ValueError("The mask keeps no dimension: at least one must be True.")
        require_flag("inplace", self.inplace)
        require_flag("return_mask", self.return_mask)
        parse_weight_part(self.part)

    def __str__(self) -> str:
        mask = "" if self.mask is None else f", mask keeps {int(self.mask.sum())} of {len(self.mask)}"
        return f"PostPruneConfig(topk={self.topk}, threshold={self.threshold}, part={self.part!r}{mask})"

    def to_dict(self) -> dict[str, Any]:
        """JSON-serialisable; a mask becomes its length and the indices that it keeps."""
        content = _fields(self)
        if self.mask is not None:
            content["mask"] = {"size": len(self.mask), "kept": self.mask.nonzero().squeeze(1).tolist()}
        return content

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Self:
        """What `to_dict` gave. Raises TypeError for an unknown key; the message names the nearest field."""
        content = dict(content)
        if isinstance(content.get("mask"), Mapping):
            mask = torch.zeros(content["mask"]["size"], dtype=torch.bool)
            mask[torch.tensor(content["mask"]["kept"], dtype=torch.int64)] = True
            content["mask"] = mask
        return cls(**content)


def _fields(config: PrePruneConfig | PostPruneConfig) -> dict[str, Any]:
    return {item.name: vars(config)[item.name] for item in dataclasses.fields(config)}


def _check_criteria(name: str, criteria: Mapping[str, Any]) -> None:
    if all(value is None for value in criteria.values()):
        *first, last = criteria
        raise ValueError(f"{name} needs a criterion: give {', '.join(first)} or {last}.")
    if criteria["topk"] is not None:
        topk_count(criteria["topk"], 1)
    if criteria["threshold"] is not None:
        require_finite("threshold", criteria["threshold"])
