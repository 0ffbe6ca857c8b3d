"""The models of one feature that were trained with several seeds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class SeedModelGroup:
    """Models that differ in their seed only, and how numbers about them become one number.

    Raises ValueError without a model, and for another number of seeds than of models.
    """

    models: tuple[Any, ...]
    """The models, the best one first."""
    selection: str = "all_convergent"
    """The choice of seeds: all_convergent, best or all_tried."""
    aggregate: str = "mean"
    """The function by which numbers of several seeds become one: mean, median, min or max."""
    dispersion: str = "none"
    """The measure of the spread of seeds: none, std, range or minmax."""
    seed_values: tuple[int, ...] = ()
    """The seed of each model."""

    def __post_init__(self) -> None:
        if not self.models or len(self.seed_values) not in (0, len(self.models)):
            raise ValueError(
                f"A group needs a model for each seed; got {len(self.models)} models and the seeds {self.seed_values}."
            )

    def __iter__(self) -> Iterator[Any]:
        return iter(self.models)

    def __len__(self) -> int:
        return len(self.models)

    @property
    def primary(self) -> Any:
        """The best model."""
        return self.models[0]
