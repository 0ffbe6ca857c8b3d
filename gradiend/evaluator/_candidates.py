"""The rewrites that a decoder evaluation measures: the points of a given grid, or those that a search asks for."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gradiend.evaluator._goals import BalanceGoal, Goal
from gradiend.evaluator._grid import GridSearch
from gradiend.evaluator._selection import (
    BASE,
    SKIPPED,
    UNCHANGED,
    BaseContext,
    Candidate,
    LikelihoodPolicy,
    LMSThresholdPolicy,
    SelectionPolicy,
    lms_of,
)
from gradiend.evaluator._step_search import Allowance, PlaneSearch, StepSearch
from gradiend.model.model_with_gradiend import ModelWithGradiend
from gradiend.util._progress import Progress

BALANCE_FACTORS = (0.0, -0.3, 0.3)
"""The feature factors that are tried for the goal of balance with given steps."""


@dataclass(frozen=True)
class Candidates:
    """What is measured for goals."""

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
        """What a candidate for a goal is measured on."""
        return list(dict.fromkeys([*self.everything, *goal.datasets]))

    def points(self, model: Any, rates: Sequence[float]) -> tuple[list[str], dict[tuple[float, float], list[str]]]:
        """What the base model and each point of a grid, (feature_factor, learning_rate), are measured on."""
        needed: dict[float, dict[str, None]] = {}
        for goal in self.goals:
            for factor in self.factors_of(goal, searched=False, model=model):
                needed.setdefault(float(factor), {}).update(dict.fromkeys(self.datasets_of(goal)))
        points = {(factor, rate): list(datasets) for factor, datasets in needed.items() for rate in rates}
        return list(dict.fromkeys(name for datasets in needed.values() for name in datasets)), points

    def measured(self, search: GridSearch, rates: Sequence[float], policy: SelectionPolicy) -> Mapping[Any, Any]:
        """The grid of the points of these rates or, without any, of the points that a search asks for."""
        datasets, points = self.points(search.model, rates)
        with Progress("rewrites", len(points) + 1 if rates else None, "model") as search.bar:
            if rates:
                search.measure(datasets, points)
            else:
                self.find(search, policy)
        return search.grid

    def find(self, search: GridSearch, policy: SelectionPolicy) -> None:
        """Measure what leads to the best rewrite of each goal that `policy` allows."""
        search.measure_base(list(dict.fromkeys(name for goal in self.goals for name in self.datasets_of(goal))))
        for goal in self.goals:
            self._find(search, goal, policy)

    def _find(self, search: GridSearch, goal: Goal, policy: SelectionPolicy) -> None:
        datasets, base = self.datasets_of(goal), search.grid[BASE]
        allowance = _allowance(policy, search.context, goal)

        def worth(entry: Mapping[str, Any]) -> float | None:
            return None if SKIPPED in entry or UNCHANGED in entry else goal.worth(entry, base)

        def measured(factor: float, step: float) -> Mapping[str, Any]:
            return search.measure_point((factor, step), datasets)

        def glance(factor: float, step: float) -> float | None:
            return goal.worth(search.measure_point((factor, step), datasets, scores=False), base)

        # A policy of the user's own may read the score of every candidate.
        glances = isinstance(policy, (LikelihoodPolicy, LMSThresholdPolicy))
        lines: dict[float, StepSearch] = {}

        def search_along(factors: Sequence[float]) -> None:
            for factor in factors:
                lines[factor] = StepSearch(
                    functools.partial(measured, factor), allowance, worth,
                    functools.partial(glance, factor) if glances else None, base=goal.worth(base, base) or -math.inf,
                )  # fmt: skip
                lines[factor].run(search.first_step(factor, allowance.limit))

        search_along(self.factors_of(goal, searched=True, model=search.model))
        if self.factors is None and isinstance(goal, BalanceGoal) and search.part == "decoder":
            if all(line.best() is None for line in lines.values()):
                # The decoder's bias alone costs the classes their probability, so they are moved as well.
                search_along([factor for factor in (1.0, -1.0) if factor not in lines])
            PlaneSearch(measured, allowance, worth).run(lines)


def _allowance(policy: SelectionPolicy, context: BaseContext, goal: Goal) -> Allowance:
    """How a policy judges the loss of a candidate; of a policy of another kind only yes or no is known."""
    if isinstance(policy, LikelihoodPolicy):
        return Allowance(lambda entry: policy.kept(entry.get("lms", {}), context), policy.ratio)
    base = context.base_lms
    if isinstance(policy, LMSThresholdPolicy) and base:
        return Allowance(lambda entry: entry["lms"]["lms"] / base if "lms" in entry else None, policy.ratio)

    def kept(entry: Mapping[str, Any]) -> float:
        metrics = {goal.summary: goal.value(entry) or 0.0}
        candidate = Candidate(entry["id"], lms_of(entry), metrics, entry.get("lms", {}))
        return 0.75 if policy.select(goal.summary, [candidate], context) is not None else 0.25

    return Allowance(kept, 0.5)
