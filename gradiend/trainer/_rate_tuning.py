"""`Trainer.tune_learning_rate`: a search for a learning rate on its own, kept in a file of the experiment."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gradiend.trainer._models import with_weights
from gradiend.trainer._preparation import prepared_once, run_directory, training_gradients
from gradiend.trainer._saved_training import training_parts
from gradiend.trainer._seed_training import plan_training
from gradiend.trainer.core._rate_config import LRSearchConfig
from gradiend.trainer.core._rate_result import LRSearchResult, NoConvergentLearningRate
from gradiend.trainer.core._rate_search import search_rate
from gradiend.trainer.core._seeds import set_seed
from gradiend.trainer.core.training import initialize, total_steps
from gradiend.util import AUTO
from gradiend.util._argument_fields import plain
from gradiend.util._cache import Cache
from gradiend.util._checks import require_finite
from gradiend.util._files import kept_if_possible
from gradiend.util.logging import get_logger
from gradiend.util.paths import LR_SEARCH

logger = get_logger(__name__)


def tune_learning_rate(
    trainer: Any, initial_lr: float | None, config: LRSearchConfig | None, force: bool, overrides: Mapping[str, Any]
) -> LRSearchResult:
    """See `Trainer.tune_learning_rate`. The search is that of the first seed."""
    if initial_lr is not None:
        require_finite("initial_lr", initial_lr)
        if initial_lr <= 0:
            raise ValueError(f"initial_lr must be positive; got {initial_lr!r}.")
    given = {**overrides, "learning_rate": AUTO, **({} if config is None else {"lr_search_config": config})}
    plan = plan_training(trainer, None, None, None, None, given)
    directory = run_directory(trainer, plan.args)
    path = None if directory is None else Path(directory) / LR_SEARCH
    parts = plain({**training_parts(trainer, plan), "initial_lr": initial_lr})
    cache = None if path is None else Cache(path, parts)
    content, why = (None, []) if cache is None or force else cache.read()
    if content is not None:
        logger.info("%s has the result of the same search: it is used.", path)
        result = LRSearchResult.from_dict(content)
    else:
        if why:
            logger.info("%s is not used (%s): searching again.", path, "; ".join(why))
        result = _searched(trainer, plan, initial_lr)
        if cache is not None:
            with kept_if_possible("The search for a learning rate is"):
                cache.write(result.to_dict())
    if result.status != "converged":
        raise NoConvergentLearningRate(result)
    return result


def _searched(trainer: Any, plan: Any, initial_lr: float | None) -> LRSearchResult:
    start = time.perf_counter()
    with prepared_once(trainer, plan) as ready:
        source = ready.model
        # As before a training: the network draws the same weights.
        set_seed(plan.args.seed)
        model = with_weights(trainer, source, plan.model_class, plan.args)
        batches = training_gradients(trainer, model, plan.args, ready)
        initialize(model.gradiend, batches, plan.args)
        steps = total_steps(len(batches), plan.args)
        try:
            result = search_rate(
                model.gradiend, batches, plan.args, steps, lambda: ready.held_out(model), initial_lr=initial_lr
            )
        except NoConvergentLearningRate as error:
            result = error.result
    logger.info("The search for a learning rate took %.1f s.", time.perf_counter() - start)
    return result
