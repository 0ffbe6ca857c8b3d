"""Models to compare, each alone or as several seeds, and how the scores of pairs of seeds become one cell."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradiend.model.seed_group import SeedModelGroup
from gradiend.util._bootstrap import Floats
from gradiend.util._keywords import one_of

AGGREGATES: dict[str, Callable[[Any], Any]] = {"mean": np.mean, "median": np.median, "min": np.min, "max": np.max}
DISPERSIONS = ("none", "std", "range", "minmax")
PAIRINGS = ("matched", "all_pairs")


@dataclass(frozen=True)
class Compared:
    """The names that are compared, and the models of each name."""

    names: list[str]
    models: dict[str, Any]
    """Every model by its own name: `name`, or `name (seed 3)`."""
    members: list[list[int]]
    """For each name, the positions of its models."""
    seeds: list[list[int | None]]
    """For each name, the seeds of its models; None where a seed is not known."""
    selection: str | None = None
    """Which seeds were selected; None if there are no groups of seeds."""

    @classmethod
    def parse(cls, models: Any) -> Compared:
        """Two or more models: a dict, a list, or one group of seeds; TypeError or ValueError for anything else."""
        selection = None
        of_one = isinstance(models, SeedModelGroup)
        if of_one:
            selection = models.selection
            known = models.seed_values or range(1, len(models) + 1)
            word = "seed" if models.seed_values else "model"
            given = {}
            for place, (number, model) in enumerate(zip(known, models, strict=True)):
                own = f"{word} {number}"
                # A group may have a seed twice, such as from two runs.
                own = own if own not in given else f"{own}, model {place + 1}"
                given[own] = SeedModelGroup((model,), seed_values=models.seed_values[place : place + 1])
        elif isinstance(models, Mapping):
            given = dict(models)
        elif isinstance(models, Sequence) and not isinstance(models, str):
            given = {f"model {number}": model for number, model in enumerate(models, start=1)}
        else:
            raise TypeError(
                "models must be a dict {name: model or SeedModelGroup}, a list of models, or a SeedModelGroup; got "
                f"{type(models).__name__}."
            )
        if len(given) < 2:
            raise ValueError(f"A comparison needs at least two models, or a group of two seeds; got {len(given)}.")
        found: dict[str, Any] = {}
        members: list[list[int]] = []
        seeds: list[list[int | None]] = []
        for name, one in given.items():
            group = one if isinstance(one, SeedModelGroup) else SeedModelGroup((one,))
            if isinstance(one, SeedModelGroup) and not of_one:
                selection = selection or one.selection
            numbers: list[int | None] = [*group.seed_values] or [None] * len(group)
            first = len(found)
            for place, (seed, model) in enumerate(zip(numbers, group, strict=True), start=1):
                own = f"{name} (seed {place if seed is None else seed})" if len(group) > 1 else str(name)
                found[own if own not in found else f"{own}, model {place}"] = model
            members.append(list(range(first, len(found))))
            seeds.append(numbers)
        return cls([str(name) for name in given], found, members, seeds, selection)

    @property
    def multi_seed(self) -> bool:
        """Whether a name has several models."""
        return any(len(own) > 1 for own in self.members)

    def pairs(self, row: int, column: int, pairing: str) -> list[tuple[int, int]]:
        """The pairs of models that the cell of two names compares; ValueError for seeds that cannot be matched.

        A name with itself: each two different seeds, for a seed compared with itself says nothing of stability.
        """
        one, other = self.members[row], self.members[column]
        if row == column:
            return list(itertools.combinations(one, 2)) or [(one[0], one[0])]
        if pairing == "all_pairs":
            return list(itertools.product(one, other))
        if len(one) != len(other):
            raise ValueError(
                f"seed_pairing_mode='matched' needs equally many seeds: {self.names[row]!r} has {len(one)}, "
                f"{self.names[column]!r} has {len(other)}. Use seed_pairing_mode='all_pairs'."
            )
        mine, theirs = self.seeds[row], self.seeds[column]
        if None not in mine and len(set(mine)) == len(mine) and set(mine) == set(theirs):
            # Groups have their best model first, so equal seeds may stand at different places.
            return [(one[place], other[theirs.index(seed)]) for place, seed in enumerate(mine)]
        return list(zip(one, other, strict=True))


@dataclass(frozen=True)
class CellsOfSeeds:
    """How the scores of pairs of seeds become cells."""

    aggregate: str = "mean"
    dispersion: str = "none"
    pairing: str = "matched"

    def __post_init__(self) -> None:
        one_of("seed_aggregate", self.aggregate, AGGREGATES)
        one_of("dispersion", self.dispersion, DISPERSIONS)
        one_of("seed_pairing_mode", self.pairing, PAIRINGS)
        if self.dispersion == "range" and self.aggregate in ("min", "max"):
            raise ValueError(
                f"dispersion='range' is half of max − min around a centre, which seed_aggregate={self.aggregate!r} is "
                "not: use mean or median, or dispersion='minmax'."
            )

    def statistics(self, scores: NDArray[Any]) -> dict[str, Any]:
        """The documented statistics of the scores of one cell."""
        low, high = float(scores.min()), float(scores.max())
        spread: dict[str, Any] = {
            "std": {"std": float(scores.std())}, "range": {"range_half_width": (high - low) / 2},
            "minmax": {"minmax": [low, high]},
        }  # fmt: skip
        return {
            "aggregate": float(AGGREGATES[self.aggregate](scores)), "n": len(scores), "min": low, "max": high,
            "scores": scores.tolist(), **spread.get(self.dispersion, {}),
        }  # fmt: skip

    def of(self, compared: Compared, scores: Floats, null: Floats, initial: Floats | None = None) -> dict[str, Any]:
        """The matrix over names, its null levels and intervals and, for several seeds, the keys that describe them."""
        places = range(len(compared.names))
        pairs = [[compared.pairs(row, column, self.pairing) for column in places] for row in places]
        found = [[self.statistics(np.array([scores[pair] for pair in cell])) for cell in row] for row in pairs]
        levels = [[float(np.mean([null[pair] for pair in cell])) for cell in row] for row in pairs]
        result: dict[str, Any] = {
            "matrix": [[cell["aggregate"] for cell in row] for row in found],
            "null_level": levels,
            "interval": [[[cell["min"], cell["max"]] if cell["n"] > 1 else None for cell in row] for row in found],
            "interval_note": INTERVAL if compared.multi_seed else NO_INTERVAL,
            "diagonal": "pairs of different seeds" if compared.multi_seed else "each model with itself",
        }
        if initial is not None and not np.isnan(initial).all():
            known = [[[float(initial[p]) for p in cell if not np.isnan(initial[p])] for cell in row] for row in pairs]
            result["same_seed_null"] = [[sum(one) / len(one) if one else None for one in row] for row in known]
        if not compared.multi_seed:
            return result
        counts = sorted({cell["n"] for row in found for cell in row})
        number = {"global_n": counts[0]} if len(counts) == 1 else {"global_n_range": [counts[0], counts[-1]]}
        return {
            **result, "multi_seed": True, "seed_aggregate": self.aggregate, "dispersion": self.dispersion,
            "seed_pairing_mode": self.pairing, "seed_selection": compared.selection, "cell_stats": found, **number,
        }  # fmt: skip


INTERVAL = (
    "The smallest and the largest score over the pairs of seeds: a range, not a confidence interval. None: one score."
)
NO_INTERVAL = "There is none: a cell has one score. Give each name a SeedModelGroup of several seeds."
