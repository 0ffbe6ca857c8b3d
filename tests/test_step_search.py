"""The search for a step, on functions whose best step is known."""

import math

import pytest

from gradiend.evaluator import LikelihoodPolicy, LMSThresholdPolicy
from gradiend.evaluator._candidates import AIM, CLOSE, MOST, Allowance, PlaneSearch, StepSearch, allowance_of
from gradiend.evaluator._goals import Goal
from gradiend.evaluator._selection import BaseContext

LIMIT = 0.99
ALLOWANCE = Allowance(lambda entry: entry["kept"], LIMIT)


def line(value, largest=0.1, power=2.0, most=MOST):
    """A search on a loss that reaches the limit at `largest` and grows with a power of the step."""

    def measure(step):
        kept = 1 - (1 - LIMIT) * (step / largest) ** power
        return {"kept": kept, "value": value(step) if kept >= LIMIT else None}

    return StepSearch(measure, ALLOWANCE, lambda entry: entry["value"], most=most)


def best(search):
    return search.best()


@pytest.mark.parametrize("first", [None, 1e-4, 0.03, 0.1, 0.13, 10.0])
@pytest.mark.parametrize("power", [1.0, 2.0, 3.0])
def test_the_largest_allowed_step_is_found_whatever_the_first_guess(first, power):
    search = line(lambda step: step / (step + 0.05), power=power)
    search.run(first)
    assert CLOSE ** (1 / power) <= best(search) / 0.1 <= 1
    assert len(search.points) <= MOST


@pytest.mark.parametrize("first", [0.0, -1.0, math.inf, math.nan])
def test_a_guess_that_is_no_step_is_as_none(first):
    search, usual = line(lambda step: step), line(lambda step: step)
    search.run(first)
    usual.run(None)
    assert search.points == usual.points


def test_a_model_that_gives_no_numbers_has_lost_too_much():
    search = line(lambda step: step)
    measure = search.measure
    search.measure = lambda step: {"kept": math.nan, "value": None} if step > 0.2 else measure(step)
    search.run(10.0)
    assert CLOSE**0.5 <= best(search) / 0.1 <= 1


def test_a_share_of_nothing_is_no_limit():
    goal = Goal("A", True, ("B",), 1.0)
    entry = {"id": {"feature_factor": 1.0, "learning_rate": 0.1}, "lms": {"lms": 0.0}}
    for policy in (LMSThresholdPolicy(), LMSThresholdPolicy(require_base_lms=False)):
        base = BaseContext(0.0 if policy.require_base_lms else None)
        assert allowance_of(policy, base, goal).loss(entry) > 0
    assert allowance_of(LikelihoodPolicy(), BaseContext(0.0), goal).limit == 0.99


def test_a_good_guess_needs_few_measurements():
    search = line(lambda step: step / (step + 0.05))
    search.run(0.1 * math.sqrt(AIM))
    assert len(search.points) == 2


def test_a_glance_at_the_value_spares_a_measurement_unless_the_value_is_higher():
    for value, expected in ((lambda step: step, 1), (lambda step: -step, MOST)):
        search = line(value)
        search.glance = value
        search.run(0.1 * math.sqrt(AIM))
        assert len(search.points) == expected


def test_a_direction_that_only_lowers_the_value_is_left():
    search = line(lambda step: 0.1 - step)
    search.base = 0.1
    search.run(0.09)
    assert len(search.points) <= 4


@pytest.mark.parametrize("first", [0.001, 0.02, 0.09])
@pytest.mark.parametrize("peak", [0.02, 0.05])
def test_a_peak_inside_the_allowed_range_is_found(first, peak):
    def value(step):
        return math.exp(-(math.log(step / peak) ** 2))

    search = line(value)
    search.run(first)
    assert value(best(search)) >= 0.97
    assert len(search.points) <= MOST


def test_a_loss_that_never_reaches_the_limit_ends_the_search():
    search = line(lambda step: step / (1 + step), largest=1e30)
    search.run(0.01)
    assert len(search.points) == MOST


def test_nothing_allowed_leaves_no_step():
    search = line(lambda step: step, largest=1e-30)
    search.run(0.01)
    assert search.allowed() == []


def test_a_search_is_the_same_when_it_is_repeated_from_what_was_measured():
    first = line(lambda step: step / (step + 0.05))
    first.run(0.7)
    known = dict(first.points)
    again = StepSearch(lambda step: known[step], ALLOWANCE, lambda entry: entry["value"])
    again.run(0.7)
    assert list(again.points) == list(first.points)


def test_the_factor_moves_where_that_is_better():
    def measure(factor, step):
        kept = 1 - (1 - LIMIT) * (step / 0.1) ** 2
        value = step - abs(factor - 0.13)
        return {"kept": kept, "value": value if kept >= LIMIT else None}

    start = StepSearch(lambda step: measure(0.0, step), ALLOWANCE, lambda entry: entry["value"])
    start.run(0.05)
    seen = {}

    def remembered(factor, step):
        seen[factor, step] = measure(factor, step)
        return seen[factor, step]

    plane = PlaneSearch(remembered, ALLOWANCE, lambda entry: entry["value"], most=30)
    plane.run({0.0: start})
    found = max((key for key in seen if seen[key]["value"] is not None), key=lambda key: seen[key]["value"])
    assert abs(found[0] - 0.13) <= 0.05
    assert plane.n_measured == len(seen) <= 30
