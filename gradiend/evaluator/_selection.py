"""The choice of the best rewritten model: candidates, and policies that choose a candidate."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, runtime_checkable

from gradiend.evaluator._language_score import Ratio
from gradiend.util._checks import require_finite

BASE = "base"
"""The grid key of the unchanged model."""
SKIPPED = "skipped"
"""The key in a grid entry for the reason why the entry's probabilities were not measured."""
RATIOS = ("likelihood", "likelihood_ratio", "accuracy_ratio", "n_tokens", "scored_until")
"""The scores of the chosen candidate that its summary has as well."""
PRECISION = 3.0
"""The resolution of a likelihood policy in standard errors. With two, one of five choices was not allowed on other
texts (dev/LOG.md)."""
CLEARLY = 4.0
"""Distance from the limit, in standard errors, at which a ratio is decided without further tokens."""
UNCHANGED = "unchanged"
"""The key in a grid entry whose step changes no weight: the step is 0, or rounding undoes the step."""


@dataclass(frozen=True)
class Candidate:
    """A measured rewrite."""

    id: Mapping[str, Any]
    """The feature_factor and learning_rate of the rewrite."""
    lms: float | None
    """The language-modelling score of the rewritten model."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Name of a metric → value; a higher value is better."""
    scores: Mapping[str, Any] = field(default_factory=dict)
    """The scores on neutral texts, as in the grid under "lms"; they may have the ratios to the base model."""


@dataclass(frozen=True)
class BaseContext:
    """The measurements of the unchanged model that policies need."""

    base_lms: float | None
    """The language-modelling score of the unchanged model."""


@runtime_checkable
class SelectionPolicy(Protocol):
    """Chooses a candidate for a metric.

    A class may also define `least_lms(ctx)`, the LMS below which the policy never chooses (None: no limit); candidates
    below that limit are not measured further. If the class itself does not define `least_lms`, all are measured, unless
    the policy is a `SharePolicy`, which asks for a share of a score.
    """

    def select(self, metric: str, candidates: Sequence[Candidate], ctx: BaseContext) -> Candidate | None:
        """The chosen candidate, or None if no candidate is acceptable."""


class SharePolicy(ABC):
    """A `SelectionPolicy` whose candidates must keep a share of a score of the base model.

    Candidates that keep less are not measured further, and a search for steps aims at the limit; a policy of another
    kind can only be asked about one candidate at a time. `kept` belongs to `select`: a subclass with another `select`
    or `least_lms`, but without a `kept` of its own, counts as a policy of another kind.
    """

    score: ClassVar[str]
    """What messages call the score."""
    ratio: float
    """The least share that a candidate must keep."""

    @abstractmethod
    def kept(self, scores: Mapping[str, Any], ctx: BaseContext) -> float | None:
        """The share that a candidate with these scores keeps; None if they do not say."""

    @abstractmethod
    def select(self, metric: str, candidates: Sequence[Candidate], ctx: BaseContext) -> Candidate | None:
        """See `SelectionPolicy.select`."""

    def described(self, scores: Mapping[str, Any], ctx: BaseContext) -> str:
        """The share that is kept, for messages."""
        return f"{self.kept(scores, ctx):.4f}"

    def why_refused(self, scores: Mapping[str, Any], ctx: BaseContext) -> str | None:
        """Why a candidate with these scores is not allowed, or None."""
        kept = self.kept(scores, ctx)
        if kept is None or kept >= self.ratio:
            return None
        return f"{self.described(scores, ctx)} of the {self.score} is kept, too little for {self.ratio:g}"


def share_policy(policy: SelectionPolicy) -> SharePolicy | None:
    """The policy if it asks for a share; None also for a subclass that chooses by a rule of its own."""
    if not isinstance(policy, SharePolicy):
        return None
    rules = (vars(one).keys() & {"kept", "select", "least_lms"} for one in type(policy).__mro__)
    return policy if "kept" in next(filter(None, rules)) else None


def why_refused(policy: SelectionPolicy, scores: Mapping[str, Any], ctx: BaseContext) -> str | None:
    """Why `policy` rules an entry out by its scores alone, so that it is not measured further; None if it does not."""
    score, least, shares = scores.get("lms"), least_lms(policy, ctx), share_policy(policy)
    if least is None:
        return None if shares is None else shares.why_refused(scores, ctx)
    if score is None or score >= least:
        return None
    return f"LMS {score:.4f} is below {least:.4f}, the least that the selection accepts"


def described_ratio(scores: Mapping[str, Any], ctx: BaseContext) -> str:
    """The share of the base model's score that is kept, with its standard error where there is one."""
    found = scores.get("likelihood_ratio")
    if found is None:
        return f"{scores['lms'] / ctx.base_lms:.4f}" if ctx.base_lms else f"{scores['lms']:.4f}"
    error = found["standard_error"]
    return f"{found['value']:.4f}" + ("" if error is None else f" ± {error:.4f}")


def least_lms(policy: SelectionPolicy, ctx: BaseContext) -> float | None:
    """The LMS below which `policy` needs no further measurement (see `SelectionPolicy`); None without a limit."""
    limit = vars(type(policy)).get("least_lms")
    return None if limit is None else limit(policy, ctx)


Extractor = Callable[[Mapping[Any, Mapping[str, Any]]], Any]
"""A function of a grid that gives candidates and base context, or a grid with further numbers in its entries, which
`default_extract_candidates` then reads."""


def learning_rate_of(identity: Mapping[str, Any]) -> float:
    """The learning rate in a candidate's id."""
    return float(identity["learning_rate"])


@dataclass(frozen=True)
class LMSThresholdPolicy(SharePolicy):
    """Choose the highest metric among the candidates whose LMS is at least `ratio` of the base model's LMS.

    Of equal metrics, the smaller learning rate wins, because it changes the model less.
    """

    score = "LMS"
    ratio: float = 0.99
    """The least share of the base model's LMS that a candidate must keep."""
    lr_from_id: Callable[[Mapping[str, Any]], float] = learning_rate_of
    """A function that gives the learning rate of a candidate's id."""
    require_base_lms: bool = True
    """Whether a missing LMS of the base model is an error (True) or lifts the condition (False)."""

    def least_lms(self, ctx: BaseContext) -> float | None:
        """The LMS below which no candidate is chosen; None without a limit."""
        return None if ctx.base_lms is None else self.ratio * ctx.base_lms

    def kept(self, scores: Mapping[str, Any], ctx: BaseContext) -> float | None:
        """The share of the base model's LMS; None if one of the two is missing, or that of the base model is 0."""
        self._require_base(ctx)
        return scores["lms"] / ctx.base_lms if ctx.base_lms and scores.get("lms") is not None else None

    def select(self, metric: str, candidates: Sequence[Candidate], ctx: BaseContext) -> Candidate | None:
        """Choose a candidate, see `SelectionPolicy.select`. Raises ValueError if a required base LMS is missing."""
        self._require_base(ctx)
        least = self.least_lms(ctx)
        eligible = [
            candidate
            for candidate in candidates
            if metric in candidate.metrics and (least is None or (candidate.lms is not None and candidate.lms >= least))
        ]
        return max(eligible, key=lambda c: (c.metrics[metric], -abs(self.lr_from_id(c.id))), default=None)

    def _require_base(self, ctx: BaseContext) -> None:
        if ctx.base_lms is None and self.require_base_lms:
            raise ValueError("LMSThresholdPolicy needs the base model's LMS: the grid has no entry 'base' with lms.")


@dataclass(frozen=True)
class LikelihoodPolicy(SharePolicy):
    """Choose the highest metric among the candidates that hold the base model's likelihood score.

    A candidate holds it if its ratio to the base model's score on the same tokens is at least `ratio`, and if the
    one-sided 95 % lower bound of that ratio is at least `ratio − resolution`. Tokens of the neutral texts are scored
    until the standard error is at most a third of the `resolution` (half of it where a rewrite on the same line was
    scored on more), the ratio is clearly on one side of the limit, or the texts end. Of equal metrics, the smaller
    learning rate wins.
    """

    score = "likelihood"
    ratio: float = 0.99
    """The least share of the base model's likelihood score that a candidate must keep."""
    resolution: float = 0.002
    """The difference of ratios that the choice can tell; with half of it, four times as many tokens are scored."""

    def __post_init__(self) -> None:
        require_finite("ratio", self.ratio, 0.0)
        require_finite("resolution", self.resolution, 0.0)
        if not 0 < self.ratio <= 1 or not 0 < self.resolution < self.ratio:
            raise ValueError(
                "LikelihoodPolicy needs 0 < ratio <= 1 and 0 < resolution < ratio; got "
                f"ratio={self.ratio}, resolution={self.resolution}."
            )

    def enough(self, found: Ratio) -> str | None:
        """Why no more tokens need to be scored after this ratio; None if more are needed."""
        error = found.standard_error
        if error is None:
            return None
        if error <= self.resolution / PRECISION:
            return f"a standard error of {error:.2g}"
        if error <= self.resolution / 2 and found.is_settled_by_another:
            return f"a standard error of {error:.2g}, with a model that loses on the same tokens"
        # Far from the limit, no exact number is needed.
        away = abs(found.value - self.ratio) / error
        return f"a ratio {away:.0f} standard errors from the limit" if away >= CLEARLY else None

    def kept(self, scores: Mapping[str, Any], ctx: BaseContext) -> float | None:
        """The share of the score that is held for sure; a candidate is allowed if it is at least `ratio`.

        The smaller of the ratio and of its lower bound plus the resolution. Where no ratio was measured it is the ratio
        of the language-modelling scores; None without these.
        """
        measured = scores.get("likelihood_ratio")
        if measured is not None:
            found = Ratio(measured["value"], measured["standard_error"])
            return min(found.value, found.lower_bound() + self.resolution)
        if scores.get("lms") is None or not ctx.base_lms:
            return None
        return float(scores["lms"] / ctx.base_lms)

    def described(self, scores: Mapping[str, Any], ctx: BaseContext) -> str:
        """The ratio that is kept, with its standard error."""
        return described_ratio(scores, ctx)

    def why_refused(self, scores: Mapping[str, Any], ctx: BaseContext) -> str | None:
        """Why a candidate with these scores is not allowed, or None."""
        refused = super().why_refused(scores, ctx)
        if refused is None or scores.get("likelihood_ratio", {}).get("value", 0.0) < self.ratio:
            return refused
        # The ratio is above the limit, but its error leaves too much doubt.
        return f"{self.described(scores, ctx)} of the likelihood is kept, which may be less than {self.ratio:g}"

    def select(self, metric: str, candidates: Sequence[Candidate], ctx: BaseContext) -> Candidate | None:
        """Choose a candidate, see `SelectionPolicy.select`."""
        eligible = []
        for candidate in candidates:
            kept = self.kept(candidate.scores or {"lms": candidate.lms}, ctx)
            if metric in candidate.metrics and kept is not None and kept >= self.ratio:
                eligible.append(candidate)
        return max(eligible, key=lambda c: (c.metrics[metric], -abs(learning_rate_of(c.id))), default=None)


@dataclass(frozen=True)
class LMSTimesMetricPolicy:
    """Choose the highest product of LMS and metric."""

    def select(self, metric: str, candidates: Sequence[Candidate], ctx: BaseContext) -> Candidate | None:
        """Choose a candidate, see `SelectionPolicy.select`."""
        del ctx
        eligible = [c for c in candidates if metric in c.metrics and c.lms is not None]
        return max(eligible, key=lambda c: (c.lms or 0.0) * c.metrics[metric], default=None)


def numbers_of(entry: Mapping[str, Any]) -> dict[str, float]:
    """The numbers at the top level of a grid entry; each number is a metric with its own name."""
    numbers = {name: value for name, value in entry.items() if isinstance(value, (int, float))}
    return {name: float(value) for name, value in numbers.items() if not isinstance(value, bool)}


def default_extract_candidates(results: Mapping[Any, Mapping[str, Any]]) -> tuple[list[Candidate], BaseContext]:
    """The candidates of a grid and the context that the base entry gives.

    `probs` gives the metric <class>, `probs_factual` gives <class>_factual and <class>_weaken = 1 − p, and every
    top-level number is a metric with its own name.
    """
    base = results.get(BASE, {})
    candidates = [
        Candidate(entry["id"], lms_of(entry), metrics_of(entry), entry.get("lms", {}))
        for key, entry in results.items()
        if key != BASE and is_scored(entry, base)
    ]
    return candidates, base_context(results)


def metrics_of(entry: Mapping[str, Any]) -> dict[str, float]:
    """The metrics of a grid entry, see `default_extract_candidates`."""
    metrics = numbers_of(entry)
    metrics.update(entry.get("probs", {}))
    for name, probability in entry.get("probs_factual", {}).items():
        metrics[f"{name}_factual"] = probability
        metrics[f"{name}_weaken"] = 1 - probability
    return metrics


def is_scored(entry: Mapping[str, Any], base: Mapping[str, Any]) -> bool:
    """Whether an entry has its scores; a search looks at some entries without, which are then no candidates."""
    return "lms" in entry or "lms" not in base


def lms_of(entry: Mapping[str, Any]) -> float | None:
    """The language-modelling score in a grid entry, or None."""
    return entry["lms"]["lms"] if "lms" in entry else None


def base_context(results: Mapping[Any, Mapping[str, Any]]) -> BaseContext:
    """The context that the base entry of a grid gives."""
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
        metrics: Names of metrics, or a mapping from the names of summaries to those of metrics.
        selector: The policy that chooses. Default: `LMSThresholdPolicy()`.
        extractor: Gives the candidates, see `Extractor`. Default: `default_extract_candidates`.
        strengthen: A flag that the summaries record.

    Returns:
        name → value, feature_factor, learning_rate, id, strengthen, lms, base_lms, and least_share, the share of the
        base model's score that the policy asks for, if it does. A step that changes nothing is never chosen. If the
        policy accepts no other step, value, feature_factor, learning_rate, id and lms are None, and reason says why. A
        metric that no candidate has is left out.
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
    aim: str | None = None,
    why_none: str | None = None,
) -> dict[str, Any] | None:
    """The summary of what `selector` chooses among the candidates that change the model.

    `aim` says in words what is looked for, and `why_none` why nothing was found, where it is not the score.

    A step that changes nothing would always keep the language-modelling score, and pass for a rewrite.
    """
    shares = share_policy(selector)
    share = {} if shares is None else {"least_share": shares.ratio}
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
            # A likelihood policy scores as many tokens of each candidate as it needs.
            "base_lms": chosen.scores.get("base_lms", base.base_lms),
            **{name: chosen.scores[name] for name in RATIOS if name in chosen.scores},
            **share,
            "why": _why_chosen(chosen, grid, aim or f"the highest {metric}", selector, base),
        }
    measured = any(SKIPPED in entry for entry in grid.values()) or any(metric in one.metrics for one in candidates)
    if not measured and why_none is None:
        return None
    nothing = dict.fromkeys(("value", "feature_factor", "learning_rate", "id"))
    scores = {"lms": None, "base_lms": base.base_lms}
    return {
        **nothing,
        "strengthen": strengthen,
        **scores,
        **share,
        "reason": why_none or _why_none(grid, selector, base),
    }


def _why_chosen(
    chosen: Candidate, grid: Mapping[Any, Mapping[str, Any]], aim: str, selector: SelectionPolicy, base: BaseContext
) -> str:
    """One sentence: what was chosen, among what, by which rule, and what the next larger step would give."""
    rate, factor = chosen.id["learning_rate"], chosen.id["feature_factor"]
    steps = {key[1]: entry for key, entry in grid.items() if not isinstance(key, str) and key[0] == factor}
    told = f"Of {len(steps)} measured steps with the feature factor {factor:g}, {rate:.4g} has {aim}"
    scores, shares = {**chosen.scores, "lms": chosen.lms}, share_policy(selector)
    if shares is not None and shares.kept(scores, base) is not None:
        kept = shares.described(scores, base)
        told += f" among those that keep {shares.ratio:g} of the {shares.score} (it keeps {kept})"
    else:
        told += f" by {type(selector).__name__}"
    larger = min((step for step in steps if abs(step) > abs(rate)), key=abs, default=None)
    if larger is None:
        return f"{told}."
    refused = why_refused(selector, steps[larger].get("lms", {}), base) or "it is no better"
    return f"{told}; the next larger step, {larger:.4g}, is not chosen: {refused}."


def edge_of_grid(rate: float, grid: Mapping[Any, Mapping[str, Any]]) -> tuple[str, list[float]] | None:
    """A clause that calls the chosen step the largest or smallest of the grid, and steps to try next; None for others.

    Effects grow with the step until the language-modelling score falls, so a better step than the smallest may lie
    between the smallest step and the next.
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
    factor = tuple(factor) if isinstance(factor, list) else factor
    return rate != 0 and UNCHANGED not in grid.get((factor, rate), {})


def _why_none(grid: Mapping[Any, Mapping[str, Any]], selector: SelectionPolicy, base: BaseContext) -> str:
    steps = ", ".join(f"{step:g}" for step in _steps(grid))
    if not steps:
        return "Every step given leaves the model as it is: give larger lrs."
    limit, shares = least_lms(selector, base), share_policy(selector)
    least = None if shares is None else f"{shares.ratio:g} of the base model's {shares.score}"
    if limit is not None and base.base_lms:
        least = f"{limit / base.base_lms:.4g} of the base model's language-modelling score {base.base_lms:.4f}"
    if least is not None:
        return f"None of the steps {steps} keeps {least}: give smaller lrs."
    return f"{type(selector).__name__} accepts none of the steps {steps}: give other lrs, or another selector."
