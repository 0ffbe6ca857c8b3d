"""What a search for a learning rate has found: the probes, their classes, and the choice among them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from gradiend.trainer.core.stats import divergence
from gradiend.util._display import UNKNOWN, Shown, Table, number

REACHED = 0.95
"""Correlation that a useful rate reaches; the steps that a probe takes until then are counted."""
MOVED = 0.05
"""Distance between the class means below which a probe has learned nothing yet."""
ONE_SIDE = 0.5
"""A probe is collapsed if both class means lie on one side of 0, at least this far from 0."""
SATURATED = 0.9
"""Mean |encoding| above which the encoder's slope is so small that steps change nothing any more."""
LOST = 0.15
"""A probe is degrading if its correlation has fallen by more than this from its best value."""
SAME_CORRELATION, SAME_MEANS, SAME_LOSS = 0.002, 0.02, 0.02
"""Differences (of the loss: relative) up to which two probes count as equally good."""
SAME_STEPS = 1.25
"""Ratio of steps to `REACHED` up to which two probes count as equally fast, beside one step."""
LAST = 8
"""Number of last steps whose loss decides whether a probe has diverged."""

ProbeStatus = Literal["converged", "slow", "frozen", "degrading", "collapsed", "diverged"]
SearchStatus = Literal["converged", "no_convergent_lr", "budget_exhausted"]
TOO_LARGE = ("degrading", "collapsed", "diverged")
"""Classes of probes whose rate is too large."""


@dataclass(frozen=True)
class ProbePoint:
    """One evaluation of a probe on held-out examples; None where no encoder is trained."""

    step: int
    correlation: float | None
    """|Pearson correlation| of encodings and labels: which class encodes positive is settled in the training."""
    mean_by_class: Mapping[str, float] | None
    """Label → mean encoding, turned so that the first class is on the side of +1."""
    size: float | None
    """Mean |encoding|."""
    loss: float
    """Mean loss of the steps since the last evaluation, relative to the loss that zeros would have; may be infinite."""

    @property
    def separation(self) -> float:
        """Distance from 0, on the right side, of the class mean that has the smaller one."""
        means = self.mean_by_class
        return -math.inf if means is None else min(means["1"], -means["-1"])


@dataclass(frozen=True)
class LRProbe:
    """One rate, tried in a short training."""

    lr: float
    status: ProbeStatus
    curve: tuple[ProbePoint, ...]

    @property
    def last(self) -> ProbePoint:
        """The last evaluation."""
        return self.curve[-1]

    @property
    def is_too_large(self) -> bool:
        """Whether the outcome says that the rate is too large."""
        return self.status in TOO_LARGE

    @property
    def steps_to_reach(self) -> float:
        """Steps after which the correlation stays at 0.95 or more, between evaluations by a straight line; infinite if
        it does not."""
        points = [(0, 0.0), *((point.step, point.correlation or 0.0) for point in self.curve)]
        below = max(number for number, (_, correlation) in enumerate(points) if correlation < REACHED)
        if below == len(points) - 1:
            return math.inf
        (step, correlation), (next_step, next_correlation) = points[below : below + 2]
        return step + (REACHED - correlation) / (next_correlation - correlation) * (next_step - step)

    def to_dict(self) -> dict[str, Any]:
        """The content of training.json and lr_search.json; numbers that JSON does not have become None."""
        points = [{name: _json(value) for name, value in asdict(point).items()} for point in self.curve]
        reached = None if math.isinf(self.steps_to_reach) else round(self.steps_to_reach, 1)
        return {"lr": self.lr, "status": self.status, f"steps_to_{REACHED}": reached, "curve": points}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> LRProbe:
        """Undo `to_dict`."""
        points = [{**point, "loss": math.inf if point["loss"] is None else point["loss"]} for point in content["curve"]]
        return cls(content["lr"], content["status"], tuple(ProbePoint(**point) for point in points))


def _json(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def classify(curve: Sequence[ProbePoint], losses: Sequence[float], of_nothing: Sequence[float]) -> ProbeStatus:
    """The class of a probe by its evaluations, the losses of its steps, and those that zeros would have had."""
    last = curve[-1]
    numbers = [*losses, *(point.size for point in curve if point.size is not None)]
    rising = divergence(losses[:1], losses[-LAST:], of_nothing[-LAST:]) is not None
    if rising or not all(map(math.isfinite, numbers)):
        return "diverged"
    if last.correlation is None or last.mean_by_class is None or last.size is None:
        return "converged" if last.loss < 1 else "slow"
    first, second = last.mean_by_class["1"], last.mean_by_class["-1"]
    best = max(point.correlation or 0.0 for point in curve)
    one_side = first * second > 0 and min(abs(first), abs(second)) >= ONE_SIDE
    rules: list[tuple[bool, ProbeStatus]] = [
        (one_side, "collapsed"),
        (best >= REACHED and last.correlation < best - LOST, "degrading"),
        (last.correlation >= REACHED and last.separation >= MOVED, "converged"),
        (last.size > SATURATED, "collapsed"),
        (first - second < MOVED, "frozen"),
    ]
    return next((status for holds, status in rules if holds), "slow")


def preferred(probes: Sequence[LRProbe], *, center: bool = True) -> LRProbe:
    """The probe whose rate a training should have.

    A rate above one that has failed separated the classes by chance, if at all. Among the other converged probes:
    those whose last correlation and class means are as good as the best ones, of these the fastest to a correlation of
    0.95, of these the middle one. Without a converged one: the highest correlation among the rates that are not too
    large, else the lowest rate.
    """
    sound = within_window(probes)
    if not sound:
        usable = [probe for probe in probes if not probe.is_too_large]
        usable.sort(key=lambda probe: (probe.last.correlation or 0.0, probe.last.separation, probe.lr))
        return usable[-1] if usable else min(probes, key=lambda probe: probe.lr)
    if sound[0].last.correlation is None:
        least = min(probe.last.loss for probe in sound)
        tied = [probe for probe in sound if probe.last.loss <= least * (1 + SAME_LOSS)]
        return _middle(tied) if center else min(tied, key=lambda probe: probe.last.loss)
    sound = _best(sound, [probe.last.correlation or 0.0 for probe in sound], SAME_CORRELATION)
    sound = _best(sound, [probe.last.separation for probe in sound], SAME_MEANS)
    least = min(probe.steps_to_reach for probe in sound)
    tied = [probe for probe in sound if probe.steps_to_reach <= max(SAME_STEPS * least, least + 1)]
    return _middle(tied) if center else min(tied, key=lambda probe: probe.steps_to_reach)


def within_window(probes: Sequence[LRProbe]) -> list[LRProbe]:
    """The converged probes of the lowest rates, in rising order, up to the first rate above them that has failed."""
    ordered = sorted(probes, key=lambda probe: probe.lr)
    after_small = itertools.dropwhile(lambda probe: probe.status != "converged", ordered)
    return list(itertools.takewhile(lambda probe: probe.status == "converged", after_small))


def _best(probes: Sequence[LRProbe], scores: Sequence[float], tolerance: float) -> list[LRProbe]:
    most = max(scores)
    return [probe for probe, score in zip(probes, scores, strict=True) if score >= most - tolerance]


def _middle(probes: Sequence[LRProbe]) -> LRProbe:
    return probes[(len(probes) - 1) // 2]


def why(best: LRProbe, probes: Sequence[LRProbe]) -> str:
    """One sentence about the choice of `best` among probes in rising order."""
    tried = f"of {len(probes)} rates from {probes[0].lr:g} to {probes[-1].lr:g}"
    last, means = best.last, best.last.mean_by_class
    if best.status != "converged":
        measured = "" if last.correlation is None else f", correlation {last.correlation:.3f} after {last.step} steps"
        return f"No learning rate separates the classes: {tried} the best is {best.lr:g} ({best.status}{measured})."
    if means is None:
        share = f"{last.loss:.3g} of that of zeros"
        return f"learning_rate={best.lr:g}: {tried} it has the lowest loss after {last.step} steps, {share}."
    above = [f"; {probe.lr:g} {probe.status}" for probe in probes if probe.lr > best.lr and probe.is_too_large]
    return (
        f"learning_rate={best.lr:g}: {tried} it is among the fastest to a correlation of {REACHED} on held-out "
        f"examples (step {best.steps_to_reach:.0f}), with correlation {last.correlation:.3f} and class means "
        f"{means['1']:+.2f} and {means['-1']:+.2f} after {last.step} steps{above[0] if above else ''}."
    )


@dataclass(frozen=True, repr=False)
class LRSearchResult(Shown):
    """The result of a search for a learning rate."""

    status: SearchStatus
    """converged, or why no rate has: no_convergent_lr, or budget_exhausted after `max_probes` rates."""
    best_lr: float | None
    """The rate to train with; without a converged one, the best that was tried; None if all of them diverged."""
    probes: tuple[LRProbe, ...]
    """The rates that were tried, in rising order."""
    reason: str
    """One sentence that says why this rate was chosen."""
    cost: Mapping[str, Any]
    """`batches`, whose gradients the probes shared, `held_out` examples, `entries` of the GRADIEND that the probes
    had, out of `of`, and `seconds`."""

    @property
    def bracket(self) -> tuple[float | None, float | None]:
        """The largest rate below, and the smallest above the converged ones; None at an end that is not known."""
        low, high = self.window
        if low is None or high is None:
            below = [probe.lr for probe in self.probes if not probe.is_too_large]
            above = [probe.lr for probe in self.probes if probe.is_too_large]
        else:
            below = [probe.lr for probe in self.probes if probe.lr < low]
            above = [probe.lr for probe in self.probes if probe.lr > high]
        return max(below, default=None), min(above, default=None)

    @property
    def window(self) -> tuple[float | None, float | None]:
        """The smallest and the largest rate that converged; (None, None) without one."""
        rates = [probe.lr for probe in within_window(self.probes)]
        return min(rates, default=None), max(rates, default=None)

    def _tables(self) -> tuple[str, Sequence[Table]]:
        rows = []
        for probe in self.probes:
            last, reached = probe.last, probe.steps_to_reach
            means = last.mean_by_class
            rows.append([
                f"{probe.lr:g}{' (best)' if probe.lr == self.best_lr else ''}", probe.status,
                number(None if math.isinf(reached) else reached, ".0f"), number(last.correlation),
                UNKNOWN if means is None else f"{means['1']:+.2f} / {means['-1']:+.2f}", number(last.loss, ".3g"),
            ])  # fmt: skip
        header = ["rate", "outcome", f"steps to {REACHED}", "correlation", "class means", "loss / that of zeros"]
        return f"Search for a learning rate: {self.status}", [Table("", header, rows, self.reason)]

    def to_dict(self) -> dict[str, Any]:
        """The result as JSON values."""
        return {
            "status": self.status, "best_lr": self.best_lr, "reason": self.reason, "bracket": list(self.bracket),
            "window": list(self.window), "cost": dict(self.cost),
            "probes": [probe.to_dict() for probe in self.probes],
        }  # fmt: skip

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> LRSearchResult:
        """Undo `to_dict`."""
        probes = tuple(LRProbe.from_dict(probe) for probe in content["probes"])
        return cls(content["status"], content["best_lr"], probes, content["reason"], content["cost"])

    def plot(self, output: str | Path | None = None, *, show: bool = True, title: bool | str = True) -> str:
        """Draw correlation and class means of every rate over the steps; see `gradiend.visualizer`.

        Args:
            output: File of the figure; an extension names the format.
            show: Whether to show the figure.
            title: True for a default title, a string for another, False for none.

        Returns:
            The path of the file, "" without one.

        Raises:
            ValueError: Neither a file nor show.
            ImportError: matplotlib is not installed.
        """
        from gradiend.visualizer.convergence import plot_learning_rate_search  # noqa: PLC0415 - a later import is lighter

        return plot_learning_rate_search(self.to_dict(), output=output, show=show, title=title)


class NoConvergentLearningRate(RuntimeError):  # noqa: N818 - the documented name
    """No rate that was tried separates the classes; `result` is the `LRSearchResult`."""

    def __init__(self, result: LRSearchResult) -> None:
        super().__init__(result.reason)
        self.result = result
