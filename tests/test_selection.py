"""Which candidate is chosen."""

import re

import pytest

from gradiend.evaluator._selection import (
    BaseContext,
    Candidate,
    LMSThresholdPolicy,
    LMSTimesMetricPolicy,
    compute_metric_summaries,
    default_extract_candidates,
    edge_of_grid,
)


def candidate(lr, lms, value):
    return Candidate({"feature_factor": 1.0, "learning_rate": lr}, lms, {"m": value})


CANDIDATES = [
    candidate(0.1, 0.995, 0.4),
    candidate(1.0, 0.5, 0.9),
    candidate(0.2, 0.995, 0.4),
    candidate(0.0, 1.0, 0.1),
]


def test_the_threshold_policy_takes_the_best_that_keeps_the_score():
    assert LMSThresholdPolicy().select("m", CANDIDATES, BaseContext(1.0)).id["learning_rate"] == 0.1
    assert LMSThresholdPolicy(ratio=0.4).select("m", CANDIDATES, BaseContext(1.0)).id["learning_rate"] == 1.0
    assert LMSThresholdPolicy(ratio=1.0).select("m", CANDIDATES, BaseContext(1.0)).id["learning_rate"] == 0.0
    assert LMSThresholdPolicy().select("m", CANDIDATES[1:2], BaseContext(1.0)) is None


def test_the_threshold_policy_needs_the_base_score_unless_told_otherwise():
    with pytest.raises(ValueError, match="base model's LMS"):
        LMSThresholdPolicy().select("m", CANDIDATES, BaseContext(None))
    chosen = LMSThresholdPolicy(require_base_lms=False).select("m", CANDIDATES, BaseContext(None))
    assert chosen.id["learning_rate"] == 1.0


def test_the_product_policy_weighs_both():
    assert LMSTimesMetricPolicy().select("m", CANDIDATES, BaseContext(1.0)).id["learning_rate"] == 1.0


GRID = {
    "base": {"id": "base", "probs": {"A": 0.1}, "lms": {"lms": 0.8}},
    (1.0, 0.1): {
        "id": {"feature_factor": 1.0, "learning_rate": 0.1},
        "probs": {"A": 0.3},
        "probs_factual": {"A": 0.6},
        "lms": {"lms": 0.8},
        "own": 2.5,
    },
}


def test_metrics_are_read_off_a_grid():
    candidates, base = default_extract_candidates(GRID)
    assert base == BaseContext(0.8)
    assert candidates[0].metrics == {"A": 0.3, "A_factual": 0.6, "A_weaken": 0.4, "own": 2.5}


def test_summaries_say_what_was_chosen():
    summary = compute_metric_summaries(GRID, {"B": "A"})["B"]
    assert summary == {
        "value": 0.3,
        "feature_factor": 1.0,
        "learning_rate": 0.1,
        "id": {"feature_factor": 1.0, "learning_rate": 0.1},
        "strengthen": True,
        "lms": 0.8,
        "base_lms": 0.8,
        "least_share": 0.99,
        "why": "Of 1 measured steps with the feature factor 1, 0.1 has the highest A among those that keep 0.99 of the "
        "LMS (it keeps 1.0000).",
    }
    assert compute_metric_summaries(GRID, ["nothing"]) == {}


def grid(*rates, unchanged=(), skipped=()):
    """A grid whose steps keep the score the less, and move the class the more, the larger they are."""
    entries = {"base": {"id": "base", "probs": {"A": 0.1}, "lms": {"lms": 1.0}}}
    for rate in rates:
        entry = {"id": {"feature_factor": 1.0, "learning_rate": rate}, "lms": {"lms": 1 - rate}}
        entry |= {"probs": {"A": 0.1 + rate}} if rate not in skipped else {"skipped": "LMS too low"}
        entry |= {"unchanged": True} if rate in unchanged else {}
        entries[1.0, rate] = entry
    return entries


class Mixin:
    def select(self, metric, candidates, ctx):
        return candidates[0]


class Own(LMSThresholdPolicy):
    select = Mixin.select


class Child(Own):
    pass


class Mixed(Mixin, LMSThresholdPolicy):
    pass


class Lower(LMSThresholdPolicy):
    def least_lms(self, ctx):
        return 0.2


class Whole(Own):
    def kept(self, scores, ctx):
        return 1.0


class Plain(LMSThresholdPolicy):
    pass


@pytest.mark.parametrize(
    ("kind", "shares"), [(Own, False), (Child, False), (Mixed, False), (Lower, False), (Whole, True), (Plain, True)]
)
def test_a_share_belongs_to_the_rule_that_chooses_by_it(kind, shares):
    found = compute_metric_summaries(GRID, ["A"], selector=kind())["A"]
    assert ("least_share" in found) == shares
    assert ("among those that keep" in found["why"]) == shares


def test_the_share_that_is_told_is_that_of_the_candidate():
    entry = GRID[1.0, 0.1]
    mine = [Candidate(entry["id"], 0.79, {"A": 0.3}, {"lms": 0.3})], BaseContext(0.8)
    found = compute_metric_summaries(GRID, ["A"], selector=LMSThresholdPolicy(0.9), extractor=lambda grid: mine)["A"]
    assert "(it keeps 0.9875)" in found["why"]


def test_what_was_only_looked_at_is_no_candidate():
    looked_at = {"id": {"feature_factor": 1.0, "learning_rate": 0.2}, "probs": {"A": 0.9}}
    candidates, _ = default_extract_candidates({**GRID, (1.0, 0.2): looked_at})
    assert [one.id["learning_rate"] for one in candidates] == [0.1]


class Nearest:
    """Takes the smallest step there is."""

    def select(self, metric, candidates, ctx):
        return min(candidates, key=lambda one: one.id["learning_rate"])


class Stubborn:
    """Takes the step 0, whatever it is offered."""

    def select(self, metric, candidates, ctx):
        return candidate(0.0, 1.0, 0.1)


class Refusing(LMSThresholdPolicy):
    """Refuses everything, for reasons of its own."""

    def select(self, metric, candidates, ctx):
        return None


class Naming:
    """Returns the name of a candidate."""

    def select(self, metric, candidates, ctx):
        return "the first"


def test_a_selector_that_returns_no_candidate_is_named():
    with pytest.raises(TypeError, match=r"Naming\.select must return one of the candidates, or None; got 'the first'"):
        compute_metric_summaries(grid(0.5), ["A"], selector=Naming())


@pytest.mark.parametrize(
    ("rates", "rate", "edge"),
    [
        ((0.5,), 0.5, ("0.5 is the only step given", [0.25, 1.0, 2.5])),
        ((0.5, 0.0), 0.5, ("0.5 is the only step given", [0.25, 1.0, 2.5])),
        ((0.5, -0.5), -0.5, ("-0.5 is the largest step given", [-1.0, -2.5, -5.0])),
        ((0.5, 0.1, -1.0), 0.5, None),
        ((0.5, 0.1, -1.0), 0.1, ("0.1 is the smallest step given", [0.05, 0.17, 0.29])),
        ((0.0,), 0.5, None),
    ],
)
def test_a_step_at_the_edge(rates, rate, edge):
    assert edge_of_grid(rate, grid(*rates)) == edge


@pytest.mark.parametrize(
    ("found", "selector", "rate", "reason"),
    [
        (grid(0.005, 0.0), None, 0.005, None),
        (grid(0.0), None, None, "Every step given leaves the model as it is: give larger lrs."),
        (grid(1e-9, 0.0, unchanged=(1e-9, 0.0)), None, None, "leaves the model as it is"),
        (
            grid(0.5, 0.2, 0.0),
            None,
            None,
            "None of the steps 0.2, 0.5 keeps 0.99 of .* score 1.0000: give smaller lrs.",
        ),
        (grid(0.5, 0.2, skipped=(0.5, 0.2)), None, None, "None of the steps 0.2, 0.5 keeps"),
        (grid(0.5, 0.2, 0.0), LMSTimesMetricPolicy(), 0.5, None),
        (grid(0.5, 0.2, 0.0), Nearest(), 0.2, None),
        (grid(0.0), Nearest(), None, "leaves the model as it is"),
        (grid(0.5, 0.0), Stubborn(), None, "Stubborn accepts none of the steps 0.5"),
        (grid(0.005), Refusing(), None, "Refusing accepts none of the steps 0.005"),
    ],
)
def test_a_step_that_changes_nothing_is_never_chosen(found, selector, rate, reason):
    finished = default_extract_candidates(found)
    for extractor in (None, lambda grid: grid, lambda grid: finished):
        entry = compute_metric_summaries(found, ["A"], selector=selector, extractor=extractor)["A"]
        assert entry["learning_rate"] == rate
        if reason is not None:
            assert (entry["value"], entry["feature_factor"], entry["id"], entry["lms"]) == (None,) * 4
            assert re.search(reason, entry["reason"])
