"""The rewrites that a decoder evaluation measures: the points of a given grid, or those that a search asks for.

The search finds the largest step that is allowed, and the best one up to there. Along θ + lr · v the loss grows with
the square of lr at first, so a few measured steps tell where it reaches a limit. A search measures few points, each of
which is decided by what was measured before, so it can be repeated and resumed.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gradiend.evaluator._goals import BalanceGoal, Goal
from gradiend.evaluator._grid import GridSearch
from gradiend.evaluator._selection import (
    BASE,
    SKIPPED,
    UNCHANGED,
    BaseContext,
    Candidate,
    SelectionPolicy,
    lms_of,
    share_policy,
)
from gradiend.model.model_with_gradiend import ModelWithGradiend
from gradiend.util._progress import Progress

BALANCE_FACTORS = (0.0, -0.3, 0.3)
"""The feature factors that are tried for the goal of balance if the user gives the steps."""
MOST = 10
"""The most measurements of one search."""
FIRST = 0.01
"""The first step if there is no guess."""
AIM = 0.93
"""Share of the allowed loss that the search aims at, so that the chosen step is allowed on other texts as well."""
CLOSE = 0.9
"""Share of the allowed loss that the largest allowed step must use for the search to end."""
WIDEST = 8.0
"""The largest ratio of a step to the step before it, while no step is known to be too large."""
NARROWEST = 1.04
"""The search for the limit ends when the ratio of a step that is too large to an allowed step is at most this."""
SAME = 1.05
"""Two steps with a smaller ratio than this are not both measured."""
WITHIN = 2.0
"""If the largest allowed step is the best, a further step is tried between it and the largest step divided by this."""
LEAST_GAIN = 0.005
"""A peak is not refined further if its value is higher than those beside it by less than this share."""


@dataclass(frozen=True)
class Candidates:
    """The rewrites that are measured for some goals, and the rows that they are measured on."""

    goals: Sequence[Goal]
    factors: Sequence[float] | None
    """The feature factors that the user gave, for every goal."""
    everything: Sequence[str]
    """Dataset classes that every candidate is measured on, beside those that its goal needs."""

    def factors_of(self, goal: Goal, *, searched: bool, model: Any) -> Sequence[float]:
        """The feature factors to try for a goal; a search moves the factor of the goal of balance itself."""
        if self.factors is not None:
            return self.factors
        if not isinstance(goal, BalanceGoal):
            return [goal.factor]
        if isinstance(model, ModelWithGradiend) and not model.gradiend.bias_decoder:
            return [-1.0, 1.0]
        return [0.0] if searched else BALANCE_FACTORS

    def datasets_of(self, goal: Goal) -> list[str]:
        """The dataset classes that a candidate for a goal is measured on."""
        return list(dict.fromkeys([*self.everything, *goal.datasets]))

    def points(self, model: Any, rates: Sequence[float]) -> dict[tuple[float, float], list[str]]:
        """Point of a grid, (feature_factor, learning_rate) → the dataset classes that it is measured on."""
        needed: dict[float, dict[str, None]] = {}
        for goal in self.goals:
            for factor in self.factors_of(goal, searched=False, model=model):
                needed.setdefault(float(factor), {}).update(dict.fromkeys(self.datasets_of(goal)))
        return {(factor, rate): list(datasets) for factor, datasets in needed.items() for rate in rates}

    def measured(self, search: GridSearch, rates: Sequence[float], policy: SelectionPolicy) -> Mapping[Any, Any]:
        """Measure all points of the given rates, or without rates search for the best rewrites; return the grid."""
        points = self.points(search.model, rates)
        with Progress("rewrites", len(points) + 1 if rates else None, "model") as search.bar:
            needed = points.values() if rates else map(self.datasets_of, self.goals)
            search.measure(BASE, list(dict.fromkeys(name for datasets in needed for name in datasets)))
            for point, datasets in points.items():
                search.measure(point, datasets)
            for goal in () if rates else self.goals:
                self._find(search, goal, policy)
        return search.grid

    def _find(self, search: GridSearch, goal: Goal, policy: SelectionPolicy) -> None:
        datasets, base = self.datasets_of(goal), search.grid[BASE]
        allowed = allowance_of(policy, search.context, goal)

        def worth(entry: Mapping[str, Any]) -> float | None:
            return None if SKIPPED in entry or UNCHANGED in entry else goal.worth(entry, base)

        def measured(factor: float, step: float) -> Mapping[str, Any]:
            return search.measure((factor, step), datasets)

        def glance(factor: float, step: float) -> float | None:
            return goal.worth(search.measure((factor, step), datasets, scores=False), base)

        # A policy that asks for no share may want an entry that keeps less, so that each needs its score.
        glances = share_policy(policy) is not None
        lines: dict[float, StepSearch] = {}

        def search_along(factors: Sequence[float]) -> None:
            for factor in factors:
                lines[factor] = StepSearch(
                    functools.partial(measured, factor), allowed, worth,
                    functools.partial(glance, factor) if glances else None, base=goal.worth(base, base) or -math.inf,
                )  # fmt: skip
                lines[factor].run(search.first_step(factor, allowed.limit))

        search_along(self.factors_of(goal, searched=True, model=search.model))
        if self.factors is None and isinstance(goal, BalanceGoal) and search.part == "decoder":
            if all(line.best() is None for line in lines.values()):
                # The decoder's bias alone costs the classes their probability, so they are moved as well.
                search_along([factor for factor in (1.0, -1.0) if factor not in lines])
            PlaneSearch(measured, allowed, worth).run(lines)


def allowance_of(policy: SelectionPolicy, context: BaseContext, goal: Goal) -> Allowance:
    """How a policy judges the loss of a candidate; of a policy of another kind only yes or no is known."""
    shares = share_policy(policy)
    # The unchanged model keeps all of its score, unless there is none, or it is 0: then a share says nothing.
    unchanged = {"lms": context.base_lms, "likelihood_ratio": {"value": 1.0, "standard_error": 0.0}}
    if shares is not None and shares.kept(unchanged, context) is not None:
        return Allowance(lambda entry: shares.kept(entry.get("lms", {}), context), shares.ratio)

    def kept(entry: Mapping[str, Any]) -> float:
        metrics = {goal.summary: goal.value(entry) or 0.0}
        candidate = Candidate(entry["id"], lms_of(entry), metrics, entry.get("lms", {}))
        return 0.75 if policy.select(goal.summary, [candidate], context) is not None else 0.25

    return Allowance(kept, 0.5)


@dataclass(frozen=True)
class Allowance:
    """How a policy judges the loss of a candidate."""

    kept: Callable[[Mapping[str, Any]], float | None]
    """An entry of the grid → the share of the base model's score that it keeps; None if that was not measured."""
    limit: float
    """The least share that a candidate must keep."""

    def loss(self, entry: Mapping[str, Any]) -> float:
        """The loss of an entry as a share of the loss that is allowed; at most 1 for an allowed entry."""
        kept = self.kept(entry)
        if kept is None:
            return 0.0
        # A model that gives no numbers has lost everything.
        return math.inf if math.isnan(kept) else (1 - kept) / max(1 - self.limit, 1e-9)


@dataclass
class StepSearch:
    """The search along one direction."""

    measure: Callable[[float], Mapping[str, Any]]
    """A step → its entry of the grid."""
    allowance: Allowance
    value: Callable[[Mapping[str, Any]], float | None]
    """The value of an entry, which is to be large; None if an entry is not measured further or does not count."""
    glance: Callable[[float], float | None] | None = None
    """A step → its value, measured without its loss, which is cheaper. Default: the whole measurement."""
    base: float = -math.inf
    """The value of the base model."""
    most: int = MOST
    points: dict[float, Mapping[str, Any]] = field(default_factory=dict)
    """Step → entry, of all measured steps."""

    def run(self, first: float | None) -> None:
        """Measure steps, beginning with `first`, until the best allowed one is known."""
        step: float | None = first if first is not None and 0 < first < math.inf else FIRST
        while self._measured(step):
            step = self._towards_the_limit()
        while self._measured(self._towards_the_peak()):
            pass

    def allowed(self) -> list[float]:
        """The allowed steps below every step that is not, in order."""
        return [step for step in sorted(self.points) if self._loss(step) <= 1 and step < self._first_refused()]

    def best(self) -> float | None:
        """The allowed step with the highest value, of equal ones the smallest; None if no allowed step has a value."""
        worth = {step: value for step in self.allowed() if (value := self.value(self.points[step])) is not None}
        return max(worth, key=lambda step: (worth[step], -step), default=None)

    def _first_refused(self) -> float:
        return min((step for step in self.points if self._loss(step) > 1), default=math.inf)

    def _loss(self, step: float) -> float:
        return self.allowance.loss(self.points[step])

    def _measured(self, step: float | None) -> bool:
        """Measure a step, unless there is none, it is known, or no more measurements are allowed; whether it was."""
        if step is None or rounded(step) in self.points or len(self.points) == self.most:
            return False
        self.points[rounded(step)] = self.measure(rounded(step))
        return True

    def _towards_the_limit(self) -> float | None:
        """The next step to measure on the way to the largest allowed step; None once it is found, or of no use."""
        allowed, refused = self.allowed(), self._first_refused()
        if not allowed:
            return refused * min(0.9, max(1 / WIDEST, math.sqrt(AIM / self._loss(refused))))
        largest = allowed[-1]
        if self._loss(largest) >= CLOSE or refused / largest <= NARROWEST or self._has_passed_the_peak(allowed):
            return None
        lost = max(self._loss(largest), 1e-4)
        if math.isinf(refused):
            return largest * min(WIDEST, max(1.3, math.sqrt(AIM / lost)))
        # Between the two, the loss is a power of the step.
        power = math.log(self._loss(refused) / lost) / math.log(refused / largest)
        found = largest * (AIM / lost) ** (1 / max(power, 0.5))
        width = refused / largest
        return min(max(found, largest * width**0.1), largest * width**0.9)

    def _has_passed_the_peak(self, allowed: Sequence[float]) -> bool:
        """Whether the value has begun to fall, so that larger steps are of no use."""
        values = [self.value(self.points[step]) for step in allowed]
        if len(values) < 2 or values[-1] is None:
            return False
        return any(value is not None and value > values[-1] for value in values[:-1])

    def _towards_the_peak(self) -> float | None:
        """The next step to measure on the way to the best allowed step; None once it is found."""
        best = self.best()
        if best is None:
            return None
        values = {step: value for step in self.allowed() if (value := self.value(self.points[step])) is not None}
        allowed = list(values)
        place = allowed.index(best)
        if place == 0 and len(allowed) > 1:
            # A direction that only lowers the value has no peak to look for.
            return None if len(allowed) > 2 and values[best] <= self.base else best / WITHIN
        if place == len(allowed) - 1:
            # The value may fall before the largest step: one step below it shows whether it does.
            if place > 0 and allowed[place - 1] >= best / WITHIN:
                return None
            below = rounded(best / math.sqrt(WITHIN))
            seen = None if self.glance is None else self.glance(below)
            return None if seen is not None and seen <= values[best] else below
        below, above = allowed[place - 1], allowed[place + 1]
        found = _vertex([math.log(step) for step in (below, best, above)], [values[s] for s in (below, best, above)])
        step = math.exp(found)
        known = min(abs(math.log(step / other)) for other in allowed)
        gain = (values[best] - min(values[below], values[above])) / max(abs(values[best]), 1e-12)
        return None if known < math.log(SAME) or gain < LEAST_GAIN else step


def rounded(step: float) -> float:
    """A step with three digits."""
    return float(f"{step:.3g}")


def _vertex(x: Sequence[float], y: Sequence[float]) -> float:
    """The place of the peak of the parabola through three points, of which the middle one is the highest."""
    left, right = (x[1] - x[0]) * (y[1] - y[2]), (x[1] - x[2]) * (y[1] - y[0])
    if left == right:
        return x[1]
    return x[1] - 0.5 * ((x[1] - x[0]) * left - (x[1] - x[2]) * right) / (left - right)


@dataclass
class PlaneSearch:
    """The search over feature factor and step together: a compass search (Kolda, Lewis & Torczon 2003).

    It begins with the best of the points that are known, and moves the factor or the step as long as that is better.
    """

    measure: Callable[[float, float], Mapping[str, Any]]
    """(feature factor, step) → the entry of the grid."""
    allowance: Allowance
    value: Callable[[Mapping[str, Any]], float | None]
    """See `StepSearch.value`."""
    most: int = MOST
    n_measured: int = 0

    def run(self, lines: Mapping[float, StepSearch], *, width: float = 0.1, narrowest: float = 0.02) -> None:
        """Measure points around the best step of finished searches, {feature factor: the search along it}.

        The factor moves by `width` at first; the search ends at the width `narrowest`.
        """
        known = {(factor, step): entry for factor, line in lines.items() for step, entry in line.points.items()}
        starts = [(factor, step) for factor, line in lines.items() if (step := line.best()) is not None]
        if not starts:
            return
        best = max(starts, key=lambda point: self._worth(known[point]))
        while width >= narrowest and self.n_measured < self.most:
            moved = self._better_neighbour(best, width, known)
            if moved is None:
                width /= 2
            else:
                best = moved

    def _better_neighbour(
        self, best: tuple[float, float], width: float, known: dict[tuple[float, float], Mapping[str, Any]]
    ) -> tuple[float, float] | None:
        factor, step = best
        before = self._worth(known[best])
        for neighbour in (
            (factor + width, step), (factor - width, step), (factor, step * (1 + 2 * width)),
            (factor, step / (1 + 2 * width)),
        ):  # fmt: skip
            point = round(neighbour[0], 4), rounded(neighbour[1])
            if point not in known:
                if self.n_measured >= self.most:
                    return None
                known[point] = self.measure(*point)
                self.n_measured += 1
            if self._worth(known[point]) > before:
                return point
        return None

    def _worth(self, entry: Mapping[str, Any]) -> float:
        value = self.value(entry) if self.allowance.loss(entry) <= 1 else None
        return -math.inf if value is None else value
