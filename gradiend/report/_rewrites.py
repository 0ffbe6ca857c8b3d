"""The rewrites of the page: what each goal moved, at which step and cost, and the texts of the goal of balance."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gradiend.evaluator._goals import BalanceGoal, Goal, goal_entries, weakened_class
from gradiend.evaluator._selection import BASE, numbers_of
from gradiend.report._figures import Chart, Rule, Series, chart
from gradiend.report._format import Text, is_number, listed, step
from gradiend.util import BALANCE, WEAKENED
from gradiend.visualizer.balance import preference

MOST_BALANCE_TEXTS = 40
"""Texts of the goal of balance that are drawn; of more texts, evenly spaced ones by the base model's preference."""


@dataclass(frozen=True)
class Moved:
    """The outcome of one goal."""

    key: str
    """The key of the goal in the results."""
    title: str
    """"towards feminine", "away from feminine", "towards neither", or the name of a metric of the user's own."""
    measured: str
    """The meaning of `before` and `after`."""
    before: float | None
    before_interval: Any
    after: float | None
    after_interval: Any
    change_interval: Any
    step: float | None
    """The learning rate of the chosen rewrite; None if no rewrite was acceptable."""
    factor: float | None
    kept: float | None
    """The score of neutral text, as a share of the base model's."""
    kept_interval: Any
    score: str
    """The name of that score."""
    limit: float | None
    """The share that a rewrite had to keep; None if the policy has no such limit."""
    why: str
    """Why this rewrite was chosen, or why there is none."""
    note: str | None
    is_probability: bool = True
    """Whether `before` and `after` are P(class): neither the gap between the classes nor a metric of the user's own."""
    charts: Sequence[Chart] = ()
    table: Sequence[Mapping[str, Any]] = ()
    """The measured steps."""


@dataclass(frozen=True)
class BalanceText:
    """The preference of the model on one text."""

    text: Text
    before: float
    after: float


@dataclass(frozen=True)
class Measure:
    """A mean over the texts of the goal of balance, or over the rows of a class, before and after."""

    name: str
    told: str
    before: float | None
    before_interval: Any
    after: float | None
    after_interval: Any


@dataclass(frozen=True)
class Balance:
    """The preference between the classes text by text, before and after."""

    classes: Sequence[str]
    texts: Sequence[BalanceText]
    n_all: int
    measures: Sequence[Measure]
    signed: bool
    """Whether the axis goes from one class to the other (two classes), or from 0 to 1."""


@dataclass(frozen=True)
class MetricGoal(Goal):
    """A metric of the user's own, whose numbers in the grid have its name; the library does not know its texts."""

    def value(self, entry: Mapping[str, Any]) -> float | None:
        """The metric; None if the entry does not have it."""
        return numbers_of(entry).get(self.target_class)


def moves_of(decoder: Mapping[str, Any], classes: Sequence[str], *, on_others: bool) -> list[Moved]:
    """The outcome of each goal of a decoder evaluation; `on_others`: a class is strengthened on texts of the others."""
    return [_moved(decoder, name, goal_of(decoder[name], name, classes, on_others)) for name in goal_entries(decoder)]


def title_of(key: str, summary: Mapping[str, Any] | None = None) -> str:
    """The name of a goal in a sentence."""
    if key == BALANCE:
        return "towards neither"
    if summary is not None and not summary.get("strengthen", True):
        return f"away from {key.removesuffix(WEAKENED)}"
    return f"towards {key}"


def goal_of(summary: Mapping[str, Any], key: str, classes: Sequence[str], on_others: bool) -> Goal:
    """The goal of an entry of the results of a decoder evaluation, by its key; see `moves_of`."""
    factor = summary["feature_factor"] or 0.0
    if key == BALANCE:
        return BalanceGoal(BALANCE, True, (BALANCE, *classes), factor)
    weakened = weakened_class(key, classes)
    if weakened is not None:
        return Goal(weakened, False, (weakened,), factor)
    if key not in classes:
        return MetricGoal(key, True, (), factor)
    return Goal(key, True, tuple(other for other in classes if other != key) if on_others else (key,), factor)


def _moved(decoder: Mapping[str, Any], key: str, goal: Goal) -> Moved:
    """The outcome of a goal, with the charts and the table of its measured steps."""
    summary, found = decoder[key], outcome_of(decoder[key], key, goal)
    class_factors = {decoder[other]["feature_factor"] for other in goal_entries(decoder) if other != BALANCE}
    rows = _measured_steps(decoder["grid"], goal, _kept_score(summary), class_factors)
    return replace(found, charts=_charts(goal, rows, found), table=rows)


def _kept_score(summary: Mapping[str, Any]) -> str:
    """The key of the score of neutral text that the choice went by."""
    return "likelihood_ratio" if "scored_until" in summary else "accuracy_ratio"


def kept_share(ratio: Mapping[str, Any], lms: Any, base_lms: Any) -> float | None:
    """The kept share of the score of neutral text: the measured ratio, else the ratio of two scores, else None."""
    if ratio.get("value") is None and is_number(lms) and base_lms:
        return lms / base_lms
    return ratio.get("value")


def outcome_of(summary: Mapping[str, Any], key: str, goal: Goal) -> Moved:
    """The outcome of a goal, from its entry in the results of a decoder evaluation alone."""
    score = _kept_score(summary)
    kept = summary.get(score) or {}
    share = kept_share(kept, summary.get("lms"), summary.get("base_lms"))
    # A step that was chosen by P(class) has this interval; candidates of the user's own may measure anything.
    chosen_by_own = summary["learning_rate"] is not None and "value_interval" not in summary
    is_probability = not isinstance(goal, (BalanceGoal, MetricGoal)) and not chosen_by_own
    measured = f"P({goal.target_class}) on texts of {', '.join(goal.datasets)}" if is_probability else key
    if key == BALANCE:
        measured = "mean gap |difference| / sum on texts that fit all classes"
    # Results hold 1 − P, which the choice maximises where a class is weakened; readers want P.
    turned = is_probability and not goal.strengthen
    ends = {
        name: _turned(summary.get(f"{name}_interval"), turned, whole=0.0 if name == "change" else 1.0)
        for name in ("value", "base_value", "change")
    }
    if key == BALANCE and summary.keys() >= {"measures", "base_measures"}:
        own, old = summary["measures"], summary["base_measures"]
        found = (own.get("interval"), old.get("interval"), own.get("change_interval"))
        ends = {name: (pairs or {}).get("gap") for name, pairs in zip(ends, found, strict=True)}
    values: list[Any] = [summary.get("value"), summary.get("base_value")]
    value, base = (1 - one if turned and is_number(one) else one for one in values)
    name = "likelihood of neutral text" if score == "likelihood_ratio" else "score of neutral text (LMS)"
    title = key if isinstance(goal, MetricGoal) else title_of(key, {"strengthen": goal.strengthen})
    return Moved(
        key, title, measured, base, ends["base_value"], value, ends["value"], ends["change"],
        summary["learning_rate"], summary["feature_factor"], share, (kept.get("low"), kept.get("high")), name,
        summary.get("least_share"), summary.get("why") or summary.get("reason") or "", summary.get("note"),
        is_probability,
    )  # fmt: skip


def _turned(pair: Any, turned: bool, *, whole: float) -> Any:
    return [whole - pair[1], whole - pair[0]] if turned and pair is not None else pair


def _measured_steps(
    grid: Mapping[Any, Mapping[str, Any]], goal: Goal, score: str, class_factors: Collection[Any]
) -> list[dict[str, Any]]:
    """The measured steps of a goal: step, factor, value with its interval, kept share with its interval, skipped."""
    base = grid.get(BASE, {})
    rows = []
    for key, entry in grid.items():
        if key == BASE or not key[1]:
            continue
        factor, rate = key
        if isinstance(goal, BalanceGoal):
            # Steps that cost too much have no measures of balance; their factors tell that they were tried for it.
            own = BALANCE in entry or ("skipped" in entry and factor not in class_factors)
        else:
            own = BALANCE not in entry and factor == goal.factor
        if not own:
            continue
        value, turned = goal.value(entry), not goal.strengthen
        if turned and value is not None:
            value = 1 - value
        if isinstance(goal, BalanceGoal):
            pair = entry.get(BALANCE, {}).get("interval", {}).get("gap")
        else:
            pair = goal.report(entry, base)["value_interval"]
        scores = entry.get("lms", {})
        ratio = scores.get(score) or {}
        share = kept_share(ratio, scores.get("lms"), base.get("lms", {}).get("lms"))
        rows.append(
            {
                "step": rate, "factor": factor, "value": value, "interval": _turned(pair, turned, whole=1.0),
                "kept": share, "kept_interval": (ratio.get("low"), ratio.get("high")), "skipped": entry.get("skipped"),
            }
        )  # fmt: skip
    return sorted(rows, key=lambda row: abs(row["step"]))


def _charts(goal: Goal, rows: Sequence[Mapping[str, Any]], found: Moved) -> list[Chart]:
    """The value and the kept share against the step; for balance the gap against the kept share.

    The search for balance moves factor and step together, so that a step alone does not say which rewrite it is.
    """
    limit = found.limit
    base = [] if found.before is None else [Rule(found.before, "base model")]
    measured = [row for row in rows if row["value"] is not None]
    kept = [row for row in rows if row["kept"] is not None]
    least = [Rule(limit, f"at least {step(limit)}", isinstance(goal, BalanceGoal), "limit")] if limit else []
    if isinstance(goal, BalanceGoal):
        both = sorted((row for row in measured if row["kept"] is not None), key=lambda row: row["kept"])
        points = [(row["kept"], row["value"]) for row in both]
        chosen = [row for row in both if (row["factor"], row["step"]) == (found.factor, found.step)]
        hollow = [_fails(row, limit) for row in both]
        series = [Series("gap", points, 0, [row["interval"] for row in both], hollow, joined=False)]
        rules = [*least, *(Rule(row["kept"], "chosen", True, "chosen") for row in chosen), *base]
        drawn = chart(
            "Gap between the classes", series, x_name=f"kept {found.score}", y_name="gap",
            labels=False, y_range=(0.0, 0.0), rules=rules,
        )  # fmt: skip
        return [] if drawn is None else [drawn]
    steps = [abs(row["step"]) for row in rows]
    common: dict[str, Any] = {"x_name": "step (learning rate)", "log_x": True, "labels": False}
    common["x_range"] = (min(steps), max(steps)) if steps else None
    mark = [] if found.step is None else [Rule(abs(found.step), "chosen", True, "chosen")]
    name = title = found.key
    if found.is_probability:
        name = f"P({goal.target_class})"
        title = f"{name} on texts of {listed(goal.datasets, 2)}"
    values = Series(
        name, [(abs(row["step"]), row["value"]) for row in measured], 0, [row["interval"] for row in measured],
        [_fails(row, limit) for row in measured],
    )  # fmt: skip
    shares = Series(
        "kept", [(abs(row["step"]), row["kept"]) for row in kept], 2,
        [row["kept_interval"] if all(map(is_number, row["kept_interval"])) else None for row in kept],
        [_fails(row, limit) for row in kept],
    )  # fmt: skip
    both_charts = (
        chart(title, [values], y_name=name, y_range=(0.0, 0.0), rules=[*mark, *base], **common),
        chart(
            f"Kept {found.score}", [shares], y_name="share of the base model's",
            rules=[*mark, Rule(1.0, "base model"), *least], **common,
        ),
    )  # fmt: skip
    return [one for one in both_charts if one is not None]


def _fails(row: Mapping[str, Any], limit: float | None) -> bool:
    return limit is not None and row["kept"] is not None and row["kept"] < limit


# Balance


def balance_of(decoder: Mapping[str, Any]) -> Balance | None:
    """The texts of the goal of balance before and after the chosen rewrite; None if there is no such rewrite."""
    summary = decoder.get(BALANCE)
    if summary is None or summary["learning_rate"] is None:
        return None
    before = decoder["grid"][BASE][BALANCE]["by_text"]
    after = decoder["grid"][summary["feature_factor"], summary["learning_rate"]][BALANCE]["by_text"]
    names = sorted(before, key=lambda text: preference(before[text]))
    most = min(len(names), MOST_BALANCE_TEXTS)
    chosen = [names[round(i * (len(names) - 1) / max(1, most - 1))] for i in range(most)]
    classes = list(before[names[0]])
    rows = [BalanceText(Text.of(text), preference(before[text]), preference(after[text])) for text in chosen]
    told = {
        "gap": "(largest − smallest P) / sum; 0 is no preference",
        "balance": "(1 − (largest − smallest P)) · sum; larger is better",
        "difference": "largest − smallest P",
        "sum": "P of all the classes together",
    }
    old, new = (summary["base_measures"], summary["measures"])
    ends = [side.get("interval", {}) for side in (old, new)]
    measures = [
        Measure(name, what, old.get(name), ends[0].get(name), new.get(name), ends[1].get(name))
        for name, what in told.items()
    ]
    # A model without a preference should still read what the context says.
    right = (summary["base_probs_factual"], summary["probs_factual"])
    measures += [
        Measure(
            f"P({name})", f"on the test texts of {name}, where it is right", right[0].get(name), None,
            right[1].get(name), None,
        )
        for name in classes
    ]  # fmt: skip
    return Balance(classes, rows, len(names), measures, len(classes) == 2)
