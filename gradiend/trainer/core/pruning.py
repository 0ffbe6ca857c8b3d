"""Pruning before training, by gradients, and after it, by weights."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from gradiend.trainer.core._kept_gradients import GradientCache
from gradiend.trainer.core.class_examples import Examples, class_examples
from gradiend.trainer.core.importance import class_mean_importance
from gradiend.trainer.core.pruning_config import PostPruneConfig, PrePruneConfig

__all__ = ["PostPruneConfig", "PrePruneConfig", "post_prune", "pre_prune"]

logger = logging.getLogger(__name__)


def pre_prune(
    model_with_gradiend: Any,
    dataset: Examples | None,
    config: PrePruneConfig,
    *,
    definition: Any = None,
    inplace: bool = True,
    return_mask: bool = False,
    cache_dir: str | Path | None = None,
) -> Any:
    """Keep the input dimensions with the largest class-mean gradients (see `PrePruneConfig`).

    A GRADIEND that has no weights yet (`lazy_init`) gets them at the pruned size: the unpruned one never exists.

    Args:
        model_with_gradiend: The model.
        dataset: `len` and items with `factual`, `alternative` (whatever the model's gradient_creator accepts) and the
            class; `config.dataset` replaces it.
        config: Which examples and how many dimensions.
        definition: Its `get_target_feature_class_ids()` names the classes where the config does not, e.g. a trainer.
        inplace: Prune this model; otherwise a copy that shares the base model.
        return_mask: Also return what was kept, bool (old input_dim,) on the CPU.
        cache_dir: Where gradients are kept with `config.use_cached_gradients`; a trainer takes the `cache/gradients` of
            its experiment.

    Returns:
        The pruned model, or (model, mask).

    Raises:
        ValueError: No dataset, an empty one, classes that are missing or cannot be told, or nothing left to keep.
        KeyError: Items without the class key.
    """
    examples = dataset if config.dataset is None else config.dataset
    if examples is None:
        raise ValueError("pre_prune needs examples: pass dataset, or set PrePruneConfig(dataset=…).")
    classes = class_examples(examples, config, definition)
    cache = None
    if config.use_cached_gradients:
        if cache_dir is None:
            logger.info("use_cached_gradients has no effect on this pruning: there is no directory to keep them in.")
        else:
            cache = GradientCache(cache_dir, model_with_gradiend)
    importance = class_mean_importance(model_with_gradiend, examples, classes, config, cache)
    before = len(model_with_gradiend)
    pruned, mask = _pruned(
        model_with_gradiend, inplace, return_mask, topk=config.topk, threshold=config.threshold, importance=importance
    )
    logger.info(
        "Pre-pruning kept %d of %d dimensions, by the gradients of %d examples.",
        len(pruned), before, sum(map(len, classes)),
    )  # fmt: skip
    return (pruned, mask) if return_mask else pruned


def post_prune(model_with_gradiend: Any, config: PostPruneConfig) -> Any:
    """Keep the input dimensions with the largest weights (see `PostPruneConfig`).

    Args:
        model_with_gradiend: A model with a trained GRADIEND.
        config: Which weights and how many dimensions.

    Returns:
        The model, or with `config.return_mask` (model, mask).

    Raises:
        ValueError: A mask of another length, or nothing left to keep.
        RuntimeError: The weights do not exist yet.
    """
    model_with_gradiend.gradiend.encoder_linear  # noqa: B018 - the teaching error before weights exist
    before = len(model_with_gradiend)
    pruned, mask = _pruned(
        model_with_gradiend, config.inplace, config.return_mask, topk=config.topk, threshold=config.threshold,
        mask=config.mask, part=config.part,
    )  # fmt: skip
    logger.info("Post-pruning kept %d of %d dimensions, by the %s.", len(pruned), before, config.part)
    return (pruned, mask) if config.return_mask else pruned


def _pruned(model: Any, inplace: bool, return_mask: bool, **criteria: Any) -> tuple[Any, Any]:
    result = model.prune_gradiend(inplace=inplace, return_mask=return_mask, **criteria)
    return result if return_mask else (result, None)
