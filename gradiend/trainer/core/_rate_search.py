"""A learning rate that is found instead of guessed: many short trainings on the gradients of a few batches.

The gradients of a batch do not depend on the GRADIEND. Those of the first batches of a training are therefore computed
once, kept, and every rate is tried on them, from the weights that the training starts with; the training itself reads
them again where they are kept as a whole.
"""

from __future__ import annotations

import itertools
import logging
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gradiend.model.model import GradiendModel
from gradiend.trainer.core import _rate_result
from gradiend.trainer.core._rate_config import MANTISSAS, LRSearchConfig
from gradiend.trainer.core._rate_result import (
    LRProbe,
    LRSearchResult,
    NoConvergentLearningRate,
    ProbePoint,
    SearchStatus,
)
from gradiend.trainer.core._rate_sample import ENTRIES, Examples, ProbeData, is_sampled
from gradiend.trainer.core.arguments import TrainingArguments
from gradiend.trainer.core.dataset import GradientBatches, batches_of
from gradiend.util._progress import Progress

logger = logging.getLogger(__name__)

FEWEST_BATCHES, MOST_BATCHES = 8, 48
"""Least and largest number of batches whose gradients the probes share."""
SHARE_OF_STEPS = 10
"""Gradients that the training cannot read again are computed for one batch in so many steps."""
WIDE = 2
"""Rates of the first grid on either side of its middle."""
FINE_STEPS, GROWTH = 12, 1.12
"""A probe is evaluated at each second of the first steps, and then whenever the steps have grown by this ratio."""
STILL = 1e-3
"""A saturated probe is finished if no encoding changes by this much between two evaluations."""
HOPELESS = 4.0
"""A probe ends early when another rate has reached `REACHED` in so many times fewer steps."""


class Probe:
    """A short training with one rate."""

    def __init__(self, lr: float, data: ProbeData, gradiend: GradiendModel, arguments: TrainingArguments) -> None:
        self.lr = lr
        self.data = data
        self.network = data.sample.network(gradiend)
        arguments = arguments.replace(learning_rate=lr)
        self.optimizer = data.sample.optimizer(self.network, arguments, gradiend.input_dim)
        self.taken = 0
        self.unread: list[Tensor] = []
        self.losses: list[float] = []
        self.of_nothing: list[float] = []
        self.curve: list[ProbePoint] = []
        self.encoded: Tensor | None = None
        self.moved = math.inf

    def step(self) -> None:
        """Take the next step."""
        number = self.taken % len(self.data.pairs)
        self.unread.append(self.optimizer.step(*self.data.pairs[number]).detach().double())
        self.of_nothing.append(self.data.of_nothing[number])
        self.taken += 1

    def evaluate(self) -> None:
        """Add a point to the curve."""
        read = torch.stack(self.unread).tolist()
        self.unread.clear()
        nothing = sum(self.of_nothing[len(self.losses) :])
        self.losses += read
        loss = sum(read) / nothing if nothing else math.inf
        if self.data.held_out is None:
            self.curve.append(ProbePoint(self.taken, None, None, None, loss))
            return
        with torch.no_grad():
            encoded = self.network.forward_encoder(self.data.held_out)[:, 0].double().cpu()
        self.moved = math.inf if self.encoded is None else (encoded - self.encoded).abs().max().item()
        self.encoded = encoded
        self.curve.append(point(self.taken, encoded.numpy(), self.data.labels, loss))

    def is_over(self, fastest: float) -> bool:
        """Whether no further step can make this rate the chosen one; `fastest` is the best `steps_to_reach` so far."""
        last = self.curve[-1]
        if not math.isfinite(last.loss) or (last.size is not None and not math.isfinite(last.size)):
            return True
        if last.correlation is None or last.size is None or last.correlation >= _rate_result.REACHED:
            return False
        saturated = last.size > _rate_result.SATURATED and self.moved < STILL and self.taken > FINE_STEPS
        return saturated or self.taken > HOPELESS * fastest + FINE_STEPS

    def result(self) -> LRProbe:
        """What the probe has shown."""
        return LRProbe(self.lr, _rate_result.classify(self.curve, self.losses, self.of_nothing), tuple(self.curve))


def point(step: int, encoded: np.ndarray, labels: np.ndarray, loss: float) -> ProbePoint:
    """One evaluation: encodings (rows,) of examples with labels +1 and −1."""
    first, second = (float(encoded[labels == label].mean()) for label in (1.0, -1.0))
    size = float(np.abs(encoded).mean())
    spread = float(encoded.std()) if math.isfinite(size) else 0.0
    correlation = float(np.corrcoef(encoded, labels)[0, 1]) if spread > 0 else 0.0
    sign = -1.0 if correlation < 0 else 1.0
    return ProbePoint(step, abs(correlation), {"1": sign * first, "-1": sign * second}, size, loss)


class RateSearch:
    """The rates that were tried so far, and which to try next."""

    def __init__(
        self, data: ProbeData, gradiend: GradiendModel, arguments: TrainingArguments, steps: int,
        config: LRSearchConfig,
    ) -> None:  # fmt: skip
        self.data = data
        self.gradiend = gradiend
        self.arguments = arguments
        self.steps = min(steps, config.probe_steps)
        self.config = config
        self.probes: dict[float, LRProbe] = {}

    def run(self, initial_lr: float | None) -> None:
        """Try a wide grid, extend it where the best rate lies at its end, and refine it around the best rate."""
        low, high = self.config.lr_bounds
        middle = min(max(initial_lr or self.guess(), low), high)
        grid = [rounded(middle * self.config.factor**power) for power in range(-WIDE, WIDE + 1)]
        grid.sort(key=lambda lr: abs(math.log(lr / middle)))
        # Bounds that are close to each other may hold no rate of two digits.
        self.probe(self._new(grid) or [middle])
        refined = False
        while len(self.probes) < self.config.max_probes:
            rates = sorted(self.probes)
            best = _rate_result.preferred(list(self.probes.values()))
            place = rates.index(best.lr)
            factor = self.config.factor
            beyond = [rounded(rates[0] / factor)] if place == 0 else []
            if place == len(rates) - 1 and not best.is_too_large:
                beyond.append(rounded(rates[-1] * factor))
            new = self._new(beyond)
            if not new and not refined:
                refined = True
                low, high = rates[max(0, place - 1)], rates[min(len(rates) - 1, place + 1)]
                between = lattice(low, high, self.config.resolution)
                between.sort(key=lambda lr: abs(math.log(lr / best.lr)))
                new = self._new(between)[: self.config.max_window_probes]
            if not new:
                break
            self.probe(new)
        ended = [lr for lr, probe in self.probes.items() if not probe.is_too_large and probe.last.step < self.steps]
        if ended and not _rate_result.within_window(list(self.probes.values())):
            # These probes were ended because they were slower than a rate that failed later.
            self.probe(ended, to_the_end=True)

    def guess(self) -> float:
        """A power of ten near the rate that moves the pre-activation by 1 in Adam's first step, which is 1/‖s‖₁."""
        if self.arguments.supervised_decoder:
            return 1e-3
        norms = [float(self.data.sample.weighted(source).abs().sum()) for source, _ in self.data.pairs]
        usual = float(np.median(norms))
        return float(f"1e{round(-math.log10(usual))}") if 0 < usual < math.inf else 1e-3

    def probe(self, rates: Sequence[float], *, to_the_end: bool = False) -> None:
        """Try rates in lockstep, or one after the other where each has all entries of a large GRADIEND."""
        at_once = 1 if self.data.whole and self.gradiend.input_dim > ENTRIES else max(1, len(rates))
        for start in range(0, len(rates), at_once):
            self._lockstep(rates[start : start + at_once], to_the_end=to_the_end)

    def _lockstep(self, rates: Sequence[float], *, to_the_end: bool) -> None:
        """One pass over the kept gradients for all rates."""
        every = self.config.probe_eval_steps
        marks = {*range(every, self.steps, every), self.steps} if every else set(evaluations(self.steps))
        live = [Probe(lr, self.data, self.gradiend, self.arguments) for lr in rates]
        sound = _rate_result.within_window(list(self.probes.values()))
        fastest = min((probe.steps_to_reach for probe in sound), default=math.inf)
        for step in range(1, self.steps + 1):
            for one in live:
                one.step()
            if step not in marks:
                continue
            for one in live:
                one.evaluate()
            reached = [one.taken for one in live if (one.curve[-1].correlation or 0.0) >= _rate_result.REACHED]
            fastest = min([fastest, *reached])
            early = self.config.early_stop and not to_the_end
            over = [one for one in live if step == self.steps or (early and one.is_over(fastest))]
            live = [one for one in live if one not in over]
            for one in over:
                self._take(one.result())
            if not live:
                break

    def _take(self, probe: LRProbe) -> None:
        self.probes[probe.lr] = probe
        level = logging.INFO if self.config.verbose else logging.DEBUG
        last = probe.last
        shown = "" if last.correlation is None else f", correlation {last.correlation:.3f}"
        logger.log(level, "learning rate %g: %s after %d steps%s", probe.lr, probe.status, last.step, shown)

    def _new(self, rates: Iterable[float]) -> list[float]:
        low, high = self.config.lr_bounds
        new = [lr for lr in rates if low <= lr <= high and lr not in self.probes]
        return new[: self.config.max_probes - len(self.probes)]

    def result(self, seconds: float) -> LRSearchResult:
        """The choice and the probes it was made from."""
        probes = sorted(self.probes.values(), key=lambda probe: probe.lr)
        best = _rate_result.preferred(probes, center=self.config.center_window)
        spent: SearchStatus = "budget_exhausted" if len(probes) >= self.config.max_probes else "no_convergent_lr"
        status: SearchStatus = "converged" if best.status == "converged" else spent
        data = self.data
        cost = {
            "batches": len(data.pairs),
            "held_out": 0 if data.held_out is None else len(data.labels),
            "entries": max(tensor.numel() for tensor in data.pairs[0]),
            "of": self.gradiend.input_dim,
            "seconds": round(seconds, 1),
        }
        usable = None if best.status == "diverged" else best.lr
        return LRSearchResult(status, usable, tuple(probes), _rate_result.why(best, probes), cost)


def search_rate(
    gradiend: Any, data: Any, arguments: TrainingArguments, steps: int, held_out: Examples | None,
    initial_lr: float | None = None,
) -> LRSearchResult:  # fmt: skip
    """Search for the learning rate of a training on `data`, see `find_learning_rate`."""
    again = isinstance(data, GradientBatches) and data.reads_again(MOST_BATCHES)
    count = min(batches_to_read(steps, read_again=again), len(data))
    if gradiend.input_dim > ENTRIES and not is_sampled(gradiend, arguments):
        # All entries of every batch are held in memory.
        room = arguments.kept_gradients_size // (2 * gradiend.input_dim * gradiend.torch_dtype.itemsize)
        count = min(count, max(FEWEST_BATCHES // 2, room))
    if not again:
        logger.info(
            "The search for a learning rate computes the gradients of %d of %d batches, which the training computes "
            "again: kept_gradients_size has no room for them.", count, steps,
        )  # fmt: skip
    batches = _read(batches_of(data, 0, arguments.seed), count)
    return find_learning_rate(gradiend, batches, held_out, arguments, steps, initial_lr=initial_lr)


def find_learning_rate(
    gradiend: GradiendModel, batches: Iterable[Mapping[str, Any]], held_out: Examples | None,
    arguments: TrainingArguments, steps: int, *, initial_lr: float | None = None,
) -> LRSearchResult:  # fmt: skip
    """The learning rate for a training of `steps` steps from the weights of `gradiend`, which do not change.

    `batches` are the first batches of the training, and `initial_lr` is the middle of the first grid of rates, by
    default a guess from the size of the gradients. Raises NoConvergentLearningRate if all rates diverge.
    """
    start = time.perf_counter()
    config = arguments.lr_search_config or LRSearchConfig()
    config.say_what_has_no_effect()
    data = ProbeData.read(batches, held_out, gradiend, arguments)
    search = RateSearch(data, gradiend, arguments, steps, config)
    search.run(initial_lr)
    result = search.result(time.perf_counter() - start)
    if result.best_lr is None:
        raise NoConvergentLearningRate(result)
    logger.log(logging.INFO if result.status == "converged" else logging.WARNING, "%s", result.reason)
    return result


def batches_to_read(steps: int, *, read_again: bool) -> int:
    """Batches whose gradients a search needs: more where the training reads them again, which then cost nothing."""
    wanted = MOST_BATCHES if read_again else min(MOST_BATCHES, max(FEWEST_BATCHES, steps // SHARE_OF_STEPS))
    # Classes take turns, also where the batches begin anew.
    return wanted if steps >= wanted else max(2, steps - steps % 2)


def _read(batches: Iterable[Mapping[str, Any]], count: int) -> Iterator[Mapping[str, Any]]:
    """The first `count` batches, with a progress bar."""
    with Progress("gradients for the learning rate", count, "batch", brief=True) as bar:
        yield from bar.over(itertools.islice(batches, count))


def evaluations(steps: int) -> list[int]:
    """Steps at which a probe is evaluated: often in the beginning, where the fast rates differ."""
    marks, mark = list(range(2, min(steps, FINE_STEPS) + 1, 2)), float(FINE_STEPS)
    while (mark := max(mark * GROWTH, mark + 2)) < steps:
        marks.append(int(mark))
    return sorted({*marks, steps})


def rounded(rate: float) -> float:
    """A rate with two digits."""
    return float(f"{rate:.2g}")


def lattice(low: float, high: float, resolution: str) -> list[float]:
    """The rates of a resolution that lie strictly between two rates."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    rates = [float(f"{mantissa}e{power}") for power in powers for mantissa in MANTISSAS[resolution]]
    return [
        rate for rate in rates if low < rate < high and not math.isclose(rate, low) and not math.isclose(rate, high)
    ]
