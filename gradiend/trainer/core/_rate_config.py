"""How a learning rate is searched for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from gradiend.util._argument_fields import Arguments, argument, changed_fields, checked, fields_in_docstring
from gradiend.util._checks import numbers, require_finite, require_whole
from gradiend.util._keywords import one_of, strict_keywords
from gradiend.util.logging import get_logger

logger = get_logger(__name__)

MANTISSAS: dict[str, tuple[float, ...]] = {"coarse": (1, 2, 5), "fine": (1, 1.5, 2, 3, 5, 7)}
"""Resolution → the rates of a decade."""
WITHOUT_EFFECT = ("confirm", "min_ratio", "probe_seeds", "keep_probe_artifacts")
"""Fields of the existing tool that this search does not need."""


def _bounds(name: str, value: Any) -> tuple[float, float]:
    limits = numbers(name, value)
    if len(limits) != 2 or not 0 < limits[0] < limits[1]:
        raise ValueError(f"{name} must be two positive numbers, the smaller one first; got {value!r}.")
    return limits[0], limits[1]


def _factor(name: str, value: Any) -> float:
    require_finite(name, value)
    if value <= 1:
        raise ValueError(f"{name} must be above 1; got {value!r}.")
    return float(value)


@fields_in_docstring
@strict_keywords
@dataclass(repr=False)
class LRSearchConfig(Arguments):
    """How `learning_rate="auto"` and `Trainer.tune_learning_rate` search; the defaults suit most trainings.

    Raises:
        ValueError: A value outside its range or closed set.
        TypeError: A value of another type, or an unknown argument; the message names the nearest.
    """

    probe_steps: int = argument(150, checked(require_whole, 1))
    """Most steps of a probe, the short training that tries one rate. A shorter training has probes of its length."""
    probe_eval_steps: int | None = argument(None, checked(require_whole, 1))
    """Steps between evaluations of a probe. Default: often in the first steps, less often later."""
    early_stop: bool = True
    """Whether a probe ends early when its rate cannot be chosen any more: diverged, saturated or far slower than
    another one."""
    max_probes: int = argument(12, checked(require_whole, 1))
    """Most rates that are tried."""
    resolution: Literal["coarse", "fine"] = argument("coarse", checked(one_of, tuple(MANTISSAS)))
    """Rates of a decade in the refinement: coarse 1, 2, 5, or fine 1, 1.5, 2, 3, 5, 7."""
    factor: float = argument(10.0, _factor)
    """Ratio of neighbouring rates in the first, wide grid."""
    lr_bounds: Sequence[float] = field(default=(1e-12, 10.0), metadata={"parse": _bounds})
    """Least and largest rate that is tried."""
    center_window: bool = True
    """Whether the rate in the middle of equally good ones is chosen, the lower of two; otherwise the fastest."""
    max_window_probes: int = argument(4, checked(require_whole, 0))
    """Most rates of the refinement around the best of the first grid."""
    verbose: bool = argument(False, affects="neither")
    """Whether every probe is logged at level INFO."""
    confirm: bool = argument(True, affects="neither")
    """Accepted for scripts of the existing tool, without effect: a probe already is the beginning of the training."""
    min_ratio: float | None = argument(None, affects="neither")
    """Accepted for scripts of the existing tool, without effect."""
    probe_seeds: int = argument(1, checked(require_whole, 1), affects="neither")
    """Accepted for scripts of the existing tool, without effect: each seed of a training searches for itself."""
    keep_probe_artifacts: bool = argument(False, affects="neither")
    """Accepted for scripts of the existing tool, without effect: probes write no files."""

    def say_what_has_no_effect(self) -> None:
        """Log the fields that were set and have no effect."""
        if asked := [name for name in changed_fields(self) if name in WITHOUT_EFFECT]:
            logger.info("%s of LRSearchConfig has no effect on this search.", ", ".join(asked))
