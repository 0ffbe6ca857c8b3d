"""Which rewritten model is the best: candidates, and policies that choose among them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

BASE = "base"
"""Grid key of the unchanged model."""
SKIPPED = "skipped"
"""Key of a grid entry: why its probabilities were not measured."""
UNCHANGED = "unchanged"
"""Key of a grid entry whose step has changed no weight of the model: the step is 0, or rounding undoes it."""


@dataclass(frozen=True)
class Candidate:
    """A measured rewrite."""

    id: Mapping[str, Any]
    """feature_factor and learning_rate."""
    lms: float | None
    """Language-modelling score."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Metric → value, higher is better."""


@dataclass(frozen=True)
class BaseContext:
    """What is known about the unchanged model."""

    base_lms: float | None
    """Its language-modelling score."""


@runtime_checkable
class SelectionPolicy(Protocol):
    """Chooses a candidate for a metric.

    A class may also define `least_lms(ctx)`, the LMS below which it never chooses (None: no limit); candidates below
    that are not measured further. Without `least_lms`, and for a subclass that does not define it anew, everything is
    measured.
    """

    def select(self, metric: str, candidates: Sequence[Candidate], ctx: BaseContext) -> Candidate | None:
        """The chosen candidate, or None if none is acceptable."""


def least_lms(policy: SelectionPolicy, ctx: BaseContext) -> float | None:
    """The LMS below which `policy` needs no further measurement, see `SelectionPolicy`; None for no limit."""
    limit = vars(type(policy)).get("least_lms")
    return None if limit is None else limit(policy, ctx)


Extracted = tuple[list[Candidate], BaseContext]
Extractor = Callable[[Mapping[Any, Mapping[str, Any]]], Any]
"""A grid → candidates and base context; or → a grid with further numbers in its entries, which
`default_extract_candidates` then reads.
"""


def learning_rate_of(identity: Mapping[str, Any]) -> float:
    """The learning rate in a candidate's id."""
    return float(identity["learning_rate"])


@dataclass(frozen=True)
class LMSThresholdPolicy:
    """The highest metric among the candidates whose LMS is at least `ratio` of the base model's.

    Equal metrics: the smaller learning rate, so that the model is changed no more than needed.
    """

    ratio: float = 0.99
    """Least share of the base model's LMS."""
    lr_from_id: Callable[[Mapping[str, Any]], float] = learning_rate_of
    """Reads the learning rate off a candidate's id."""
    require_base_lms: bool = True
    """What the lack of the base model's LMS means: an error (True), or no LMS condition (False)."""

    def least_lms(self, ctx: BaseContext) -> float | None:
        """The LMS below which nothing is chosen; None for no such limit."""
        return None if ctx.base_lms is None else self.ratio * ctx.base_lms

    def select(self, metric: str, candidates: Sequence[Candidate], ctx: BaseContext) -> Candidate | None:
        """See `SelectionPolicy.select`. Raises ValueError without the base LMS, if that is required."""
        if ctx.base_lms is None and self.require_base_lms:
            raise ValueError("LMSThresholdPolicy needs the base model's LMS: the grid has no entry 'base' with lms.")
        least = self.least_lms(ctx)
        eligible = [
            candidate
            for candidate in candidates
            if metric in candidate.metrics and (least is None or (candidate.lms is not None and candidate.lms >= least))
        ]
        return max(eligible, key=lambda c: (c.metrics[metric], -abs(self.lr_from_id(c.id))), default=None)


@dataclass(frozen=True)
class LMSTimesMetricPolicy:
    """The highest product of LMS and metric."""

    def select(self, metric: str, candidates: Sequence[Candidate], ctx: BaseContext) -> Candidate | None:
        """See `SelectionPolicy.select`."""
        del ctx
        eligible = [c for c in candidates if metric in c.metrics and c.lms is not None]
        return max(eligible, key=lambda c: (c.lms or 0.0) * c.metrics[metric], default=None)


def numbers_of(entry: Mapping[str, Any]) -> dict[str, float]:
    """The numbers at the top level of a grid entry: each is a metric under its own name."""
    numbers = {name: value for name, value in entry.items() if isinstance(value, (int, float))}
    return {name: float(value) for name, value in numbers.items() if not isinstance(value, bool)}


def default_extract_candidates(results: Mapping[Any, Mapping[str, Any]]) -> Extracted:
    """Candidates of a grid.

    `probs` gives the metric <class>, `probs_factual` gives <class>_factual and <class>_weaken = 1 − p, and any
    top-level number is a metric of its own name. The base entry gives the base LMS only.
    """
    candidates = [Candidate(e["id"], lms_of(e), metrics_of(e)) for key, e in results.items() if key != BASE]
    return candidates, base_context(results)


def metrics_of(entry: Mapping[str, Any]) -> dict[str, float]:
    """The metrics of a grid entry, see `default_extract_candidates`."""
    metrics = numbers_of(entry)
    metrics.update(entry.get("probs", {}))
    for name, probability in entry.get("probs_factual", {}).items():
        metrics[f"{name}_factual"] = probability
        metrics[f"{name}_weaken"] = 1 - probability
    return metrics


def lms_of(entry: Mapping[str, Any]) -> float | None:
    """The language-modelling score in a grid entry."""
    return entry["lms"]["lms"] if "lms" in entry else None


def base_context(results: Mapping[Any, Mapping[str, Any]]) -> BaseContext:
    """What a grid says about the unchanged model."""
    return BaseContext(lms_of(results[BASE]) if BASE in results else None)


def compute_metric_summaries(
    results: Mapping[Any, Mapping[str, Any]],
    metrics: Mapping[str, str] | Iterable[str],
    *,
    selector: SelectionPolicy | None = None,
    extractor: Extractor | None = None,
    strengthen: bool = True,
) -> dict[str, dict[str, Any]]:
    """The chosen candidate for each metric.

    Args:
        results: A grid, see `DecoderEvaluator.evaluate_decoder`.
        metrics: Names of metrics; or summary name → metric, where they differ.
        selector: The policy. Default: `LMSThresholdPolicy()`.
        extractor: See `Extractor`. Default: `default_extract_candidates`.
        strengthen: Recorded in the summaries.

    Returns:
        name → value, feature_factor, learning_rate, id, strengthen, lms, base_lms. A step that changes nothing is never
        chosen. Where the policy accepts no other, value, feature_factor, learning_rate, id and lms are None, and reason
        says why. A metric that no candidate has is left out.
    """
    extracted = results if extractor is None else extractor(results)
    candidates, base = default_extract_candidates(extracted) if isinstance(extracted, Mapping) else extracted
    named = metrics if isinstance(metrics, Mapping) else {metric: metric for metric in metrics}
    policy = selector or LMSThresholdPolicy()
    found = {name: summarise_choice(results, candidates, base, m, policy, strengthen) for name, m in named.items()}
    return {name: summary for name, summary in found.items() if summary is not None}


def summarise_choice(
    grid: Mapping[Any, Mapping[str, Any]],
    candidates: Sequence[Candidate],
    base: BaseContext,
    metric: str,
    selector: SelectionPolicy,
    strengthen: bool,
) -> dict[str, Any] | None:
    """What `selector` chooses among the candidates that change the model, see `compute_metric_summaries`.

    A step that changes nothing always keeps the language-modelling score; if it were chosen, it would pass for a
    rewrite.
    """
    changing = [candidate for candidate in candidates if _changes(candidate.id, grid)]
    chosen = selector.select(metric, changing, base) if changing else None
    if chosen is not None and not isinstance(chosen, Candidate):
        raise TypeError(
            f"{type(selector).__name__}.select must return one of the candidates, or None; got {chosen!r:.60} "
            f"({type(chosen).__name__})."
        )
    if chosen is not None and _changes(chosen.id, grid):
        return {
            "value": chosen.metrics[metric],
            "feature_factor": chosen.id["feature_factor"],
            "learning_rate": chosen.id["learning_rate"],
            "id": dict(chosen.id),
            "strengthen": strengthen,
            "lms": chosen.lms,
            "base_lms": base.base_lms,
        }
    if not any(SKIPPED in entry for entry in grid.values()) and not any(metric in one.metrics for one in candidates):
        return None
    nothing = dict.fromkeys(("value", "feature_factor", "learning_rate", "id"))
    scores = {"lms": None, "base_lms": base.base_lms}
    return {**nothing, "strengthen": strengthen, **scores, "reason": _why_none(grid, selector, base)}


def edge_of_grid(rate: float, grid: Mapping[Any, Mapping[str, Any]]) -> tuple[str, list[float]] | None:
    """A clause that says that the chosen step is the largest or smallest of the grid, and steps to try next.

    None for a step between others. Effects grow with the step until the language-modelling score gives way, so better
    steps than the smallest one may lie between the smallest and the next.
    """
    steps = _steps(grid)
    sizes = sorted({abs(step) for step in steps})
    if abs(rate) not in (*sizes[:1], *sizes[-1:]):
        return None
    name = "only" if len(steps) == 1 else "largest" if abs(rate) == sizes[-1] else "smallest"
    gap = sizes[1] / sizes[0] if name == "smallest" else 1.0
    further = {"only": (0.5, 2, 5), "largest": (2, 5, 10), "smallest": (0.5, gap ** (1 / 3), gap ** (2 / 3))}[name]
    return f"{rate:g} is the {name} step given", [float(f"{rate * size:.2g}") for size in further]


def _steps(grid: Mapping[Any, Mapping[str, Any]]) -> list[float]:
    """The learning rates of a grid that change the model."""
    steps = [entry["id"]["learning_rate"] for key, entry in grid.items() if key != BASE and _changes(entry["id"], grid)]
    return sorted(set(steps))


def _changes(identity: Mapping[str, Any], grid: Mapping[Any, Mapping[str, Any]]) -> bool:
    """Whether a rewrite changes the model, as far as its step and the grid say."""
    rate, factor = identity.get("learning_rate"), identity.get("feature_factor")
    if isinstance(factor, list):
        factor = tuple(factor)
    return rate != 0 and UNCHANGED not in grid.get((factor, rate), {})


def _why_none(grid: Mapping[Any, Mapping[str, Any]], selector: SelectionPolicy, base: BaseContext) -> str:
    steps = ", ".join(f"{step:g}" for step in _steps(grid))
    if not steps:
        return "Every step given leaves the model as it is: give larger lrs."
    limit = least_lms(selector, base)
    if limit is not None and base.base_lms:
        least = f"{limit / base.base_lms:.4g} of the base model's language-modelling score {base.base_lms:.4f}"
        return f"None of the steps {steps} keeps {least}: give smaller lrs."
    return f"{type(selector).__name__} accepts none of the steps {steps}: give other lrs, or another selector."
