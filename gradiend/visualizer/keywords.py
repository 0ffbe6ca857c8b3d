"""The door of the plots: which keywords they take."""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from gradiend.util._keywords import ALIASES, resolve_keywords

logger = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

WITHOUT_EFFECT = frozenset(
    {
        "cbar_y_pad",
        "class_spread",
        "converged_by_id",
        "dispersion",
        "dispersion_display",
        "highlight_non_convergence",
        "include_neutral",
        "neutral_data_split",
        "seed_aggregate",
        "seed_group_policy",
        "seed_pairing_mode",
        "split_plot_mode",
    }
)
"""Keywords of other versions of the API that choose what these plots do not draw."""


def plot_keywords(function: Callable[P, R]) -> Callable[P, R]:
    """Decorator of a plot: renames second spellings, and refuses unknown keywords with the nearest valid one.

    Keywords in `WITHOUT_EFFECT` are taken with a warning in the log.

    Raises:
        TypeError: When called with an unknown keyword, or with both spellings of one.
    """
    name = function.__name__
    valid = tuple(inspect.signature(function).parameters)
    second = ALIASES.get(name, {})

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        without = sorted(WITHOUT_EFFECT & kwargs.keys())
        if without:
            logger.warning("%s draws the same with and without %s.", name, ", ".join(without))
        given = {
            key: value for key, value in kwargs.items() if key not in without and not (key in second and value is None)
        }
        return function(*args, **resolve_keywords(name, given, valid))

    return call
