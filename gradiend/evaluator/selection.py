"""Which rewritten model is the best: candidates, and policies that choose among them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

BASE = "base"
"""Grid key of the unchanged model."""


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
    """What is known of the unchanged model."""

    base_lms: float | None
    """Its language-modelling score."""


class SelectionPolicy(Protocol):
    """Chooses a candidate for a metric."""

    def select(self, metric: str, candidates: Sequence[Candidate], ctx: BaseContext) -> Candidate | None:
        """The chosen candidate, or None if none is acceptable."""


Extracted = tuple[list[Candidate], BaseContext]
Extractor = Callable[[Mapping[Any, Mapping[str, Any]]], Any]
"""A grid → candidates and base context, or a grid with further metrics; see `extract_candidates`."""


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
    """Without the base model's LMS: an error (True), or no LMS condition (False)."""

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
    """The numbers at the top level of a grid entry, which are metrics of their own names."""
    return {
        name: float(value)
        for name, value in entry.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    }


def default_extract_candidates(results: Mapping[Any, Mapping[str, Any]]) -> Extracted:
    """Candidates of a grid.

    `probs` gives the metric <class>, `probs_factual` gives <class>_factual and <class>_weaken = 1 − p, and any
    top-level number is a metric of its own name. The base entry gives the base LMS only.
    """
    candidates = []
    for key, entry in results.items():
        if key == BASE:
            continue
        candidates.append(Candidate(entry["id"], lms_of(entry), metrics_of(entry)))
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


def extract_candidates(results: Mapping[Any, Mapping[str, Any]], extractor: Extractor | None = None) -> Extracted:
    """Candidates of a grid, by an extractor of the user's.

    Args:
        results: The grid.
        extractor: Gives candidates and base context; or a grid with further numbers in its entries, which
            `default_extract_candidates` then reads. Default: that function itself.
    """
    extracted = (extractor or default_extract_candidates)(results)
    return default_extract_candidates(extracted) if isinstance(extracted, Mapping) else extracted


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
        extractor: See `extract_candidates`.
        strengthen: Recorded in the summaries.

    Returns:
        name → value, feature_factor, learning_rate, id, strengthen, lms, base_lms. A metric for which the policy
        accepts no candidate is left out.
    """
    candidates, base = extract_candidates(results, extractor)
    named = metrics if isinstance(metrics, Mapping) else {metric: metric for metric in metrics}
    summaries = {}
    for name, metric in named.items():
        summary = summarise_choice(candidates, base, metric, selector or LMSThresholdPolicy(), strengthen=strengthen)
        if summary is not None:
            summaries[name] = summary
    return summaries


def summarise_choice(
    candidates: Sequence[Candidate], base: BaseContext, metric: str, selector: SelectionPolicy, *, strengthen: bool
) -> dict[str, Any] | None:
    """What `selector` chooses, see `compute_metric_summaries`; None if it accepts no candidate."""
    chosen = selector.select(metric, candidates, base)
    if chosen is None:
        return None
    return {
        "value": chosen.metrics[metric],
        "feature_factor": chosen.id["feature_factor"],
        "learning_rate": chosen.id["learning_rate"],
        "id": dict(chosen.id),
        "strengthen": strengthen,
        "lms": chosen.lms,
        "base_lms": base.base_lms,
    }
