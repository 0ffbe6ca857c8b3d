"""The measurements that a card names: results → short JSON, which a checkpoint or a record of a rewrite keeps.

Nothing in it depends on the machine, the time or a folder.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from gradiend.evaluator._goals import goal_entries
from gradiend.report._rewrites import Moved, goal_of, outcome_of
from gradiend.report._side_effects import side_effects_of
from gradiend.util import BALANCE, WEAKENED
from gradiend.util._argument_fields import plain

MOST_TOKENS = 5
"""Tokens that gained, and tokens that lost, which a card lists for each rewrite."""
_OF_ENCODER = (
    "correlation", "correlation_interval", "roc_auc", "neutral_mean_by_type", "held_out_words", "target_classes_only",
    "training_rows",
)  # fmt: skip
_BY_CLASS = ("mean_by_feature_class", "mean_by_feature_class_interval")
_OF_SEED = (
    "seed", "converged", "reason", "convergence_metric", "convergence_metric_value", "threshold", "eval_correlation",
)  # fmt: skip
_OF_PAGE = ("is_probability", "charts", "table")
"""Fields of an outcome that only the page needs."""


def seed_facts(report: Mapping[str, Any]) -> dict[str, Any]:
    """The choice among seeds, from seed_report.json."""
    runs = [{name: run.get(name) for name in _OF_SEED} for run in report["runs"]]
    return {"best_seed": report["best_seed"], "convergent_count": report["convergent_count"], "runs": plain(runs)}


def encoder_facts(result: Mapping[str, Any], classes: Sequence[str]) -> dict[str, Any]:
    """The result of `evaluate_encoder`, without what a card does not say."""
    tables = {key: result.get(key) or {} for key in _BY_CLASS}
    by_class = {key: {name: one[name] for name in one if name in classes} for key, one in tables.items()}
    return plain({**{name: result[name] for name in _OF_ENCODER if name in result}, **by_class})


def decoder_facts(results: Mapping[str, Any], classes: Sequence[str], *, on_others: bool) -> dict[str, Any]:
    """Goal of `evaluate_decoder` → its outcome, for each goal that is a class or the balance."""
    known = {*classes, *(f"{name}{WEAKENED}" for name in classes), BALANCE}
    found = {}
    for key, summary in goal_entries(results).items():
        if key in known:
            goal = goal_of(summary, key, classes, on_others)
            outcome = vars(outcome_of(summary, key, goal))
            named = {"part": summary.get("part", "decoder"), "class": goal.target_class, "strengthen": goal.strengthen}
            found[key] = plain({**{name: value for name, value in outcome.items() if name not in _OF_PAGE}, **named})
    return found


def moved_of(fact: Mapping[str, Any]) -> Moved:
    """Undo `decoder_facts`, for one goal."""
    names = [item.name for item in dataclasses.fields(Moved) if item.name not in _OF_PAGE]
    return Moved(**{name: fact[name] for name in names})


def effect_facts(frame: pd.DataFrame) -> dict[str, Any]:
    """The frame of `evaluate_side_effects`: the divergence, and the tokens that gained and lost most."""
    found = side_effects_of("", frame, "")
    tokens = [[row["token"], row["before"], row["after"]] for row in found.tokens]
    gained = [token for token in tokens if token[2] > token[1]][:MOST_TOKENS]
    lost = [token for token in tokens if token[2] <= token[1]][:MOST_TOKENS]
    return plain({"divergence": found.divergence, "gained": gained, "lost": lost})
