"""The top-k weights of several models as sets of indices."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

DEFAULT_PART = "decoder-weight"


class RanksWeights(Protocol):
    """All that the top-k plots ask of a model."""

    def get_topk_weights(self, *, part: str, topk: Any) -> Iterable[int]:
        """Indices of the most important weights, in the unpruned space, so that models are comparable."""


Models = Mapping[str, RanksWeights] | Sequence[RanksWeights]


def named_models(models: Models, least: int = 1, most: int | None = None) -> dict[str, RanksWeights]:
    """`models` by name; those of a sequence are called `model 1`, `model 2`, ….

    Raises:
        TypeError: Neither a mapping nor a sequence.
        ValueError: Fewer than `least` or more than `most`.
    """
    if isinstance(models, Mapping):
        named = dict(models)
    elif isinstance(models, Sequence) and not isinstance(models, str):
        named = {f"model {number}": model for number, model in enumerate(models, start=1)}
    else:
        raise TypeError(f"models must be a dict {{name: model}} or a list of models; got {type(models).__name__}.")
    if len(named) < least or (most is not None and len(named) > most):
        wanted = f"at least {least}" if most is None else f"{least} to {most}"
        more = "" if most is None or len(named) < least else " plot_topk_overlap_heatmap takes any number."
        raise ValueError(f"This plot compares {wanted} models; got {len(named)}.{more}")
    return named


def topk_sets(models: Mapping[str, RanksWeights], topk: float, part: str) -> dict[str, list[int]]:
    """The top-k indices of each model, ascending.

    Raises:
        ValueError: topk is not positive, or a model has no weights to select.
    """
    if topk <= 0:
        raise ValueError(f"topk must be a positive number of weights (or a share up to 1.0); got {topk}.")
    sets = {
        name: sorted({int(index) for index in model.get_topk_weights(part=part, topk=topk)})
        for name, model in models.items()
    }
    empty = [name for name, indices in sets.items() if not indices]
    if empty:
        raise ValueError(f"get_topk_weights(part={part!r}, topk={topk}) selects no weight of {empty}.")
    return sets


def compute_topk_sets(
    models: Models, topk: float = 100, part: str = DEFAULT_PART
) -> tuple[dict[str, list[int]], list[int], list[int]]:
    """The top-k weights of each model, those common to all, and those of any.

    Args:
        models: {name: model}; a model needs only `get_topk_weights(part=, topk=)`.
        topk: How many weights of each model, or which share of them.
        part: The part whose weights are ranked, e.g. decoder-weight.

    Returns:
        {name: indices}, their intersection, their union; indices ascending, in the unpruned space.

    Raises:
        TypeError: models is neither a mapping nor a sequence.
        ValueError: topk is not positive, or a model has no weights to select.
    """
    per_model = topk_sets(named_models(models, least=0), topk, part)
    sets = [set(indices) for indices in per_model.values()]
    common = set.intersection(*sets) if sets else set()
    return per_model, sorted(common), sorted(set().union(*sets))
