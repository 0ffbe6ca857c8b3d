"""Which candidate is chosen."""

import pytest

from gradiend.evaluator.selection import (
    BaseContext,
    Candidate,
    LMSThresholdPolicy,
    LMSTimesMetricPolicy,
    compute_metric_summaries,
    default_extract_candidates,
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
    }
    assert compute_metric_summaries(GRID, ["nothing"]) == {}
