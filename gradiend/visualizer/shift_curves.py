"""A grid of rewritten models as curves over the signed size of the rewrite."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gradiend.util._keywords import nearest, nearest_first

logger = logging.getLogger(__name__)

Probabilities = Mapping[str, Mapping[str, float]]
Grid = Mapping[Any, Mapping[str, Any]]


@dataclass(frozen=True)
class GridPoint:
    """One model of the grid: the base model at step 0, or θ + learning_rate · decoder(feature_factor)."""

    factor: float
    learning_rate: float
    lms: float | None
    probabilities: Probabilities
    """{dataset class: {class: mean probability}}."""

    @property
    def step(self) -> float:
        """feature_factor × learning_rate: the signed position on the axis."""
        return self.factor * self.learning_rate


@dataclass(frozen=True)
class Selected:
    """The candidate that the evaluation selected for a class."""

    name: str
    factor: float
    learning_rate: float
    strengthen: bool
    value: float | None
    lms: float | None

    @property
    def step(self) -> float:
        """feature_factor × learning_rate."""
        return self.factor * self.learning_rate


@dataclass(frozen=True)
class ShiftCurves:
    """What a figure of probability shifts draws."""

    base: GridPoint | None
    points: tuple[GridPoint, ...]
    classes: tuple[str, ...]
    """Classes whose probabilities are drawn."""
    datasets: tuple[str, ...]
    """Dataset classes, one panel each."""
    selected: tuple[Selected, ...]

    def series(self, value: Callable[[GridPoint], float | None]) -> dict[float, tuple[list[float], list[float]]]:
        """{|feature factor|: (steps, values)}, sorted by step, each through the base model at 0."""
        magnitudes = sorted({abs(point.factor) for point in self.points})
        series = {}
        for magnitude in magnitudes or [0.0]:
            points = [point for point in self.points if abs(point.factor) == magnitude]
            if self.base is not None:
                points.append(self.base)
            drawn = [(point.step, found) for point in points if (found := value(point)) is not None]
            drawn.sort()
            series[magnitude] = ([step for step, _ in drawn], [found for _, found in drawn])
        return series

    @property
    def base_lms(self) -> float | None:
        """Language-modelling score of the base model."""
        return None if self.base is None else self.base.lms


def shift_curves(
    grid: Grid,
    results: Mapping[str, Any],
    *,
    class_ids: Sequence[str] | None = None,
    target_classes: Sequence[str] | None = None,
    strengthen: bool = True,
) -> ShiftCurves:
    """Curves from the grid and the summaries of a decoder evaluation.

    Args:
        grid: 'base' and (feature_factor, learning_rate) → entry with id, probs_by_dataset and lms.
        results: Summaries by class (`<class>_weaken` where the class was made less likely).
        class_ids: Classes to draw; by default all of the grid.
        target_classes: Classes whose selected candidate is marked; by default all drawn with one.
        strengthen: Read the summaries that make a class more likely.

    Raises:
        ValueError: No entry holds probabilities of the wanted classes, or a wanted summary is missing.
    """
    base = _point(grid["base"], 0.0, 0.0) if "base" in grid else None
    points = []
    for key, entry in grid.items():
        if key == "base":
            continue
        identity = entry.get("id")
        factor, rate = (identity["feature_factor"], identity["learning_rate"]) if isinstance(identity, Mapping) else key
        points.append(_point(entry, float(factor), float(rate)))
    at_zero = [point for point in points if point.step == 0.0]
    if at_zero:
        logger.info("%d grid points with step 0 are not drawn: there the base model stands.", len(at_zero))
        points = [point for point in points if point.step != 0.0]

    everything = [*points, *([base] if base is not None else [])]
    datasets = list(dict.fromkeys(name for point in everything for name in point.probabilities))
    classes = list(dict.fromkeys(name for point in everything for row in point.probabilities.values() for name in row))
    known = [*classes, *(name for name in datasets if name not in classes)]
    for name in class_ids or ():
        if known and name not in known:
            raise ValueError(f"The grid has no class {name!r}; it has {', '.join(nearest_first(name, known))}.")
    if class_ids is not None:
        datasets = [name for name in class_ids if name in datasets]
        classes = [name for name in class_ids if name in classes]
    if not datasets or not classes:
        wanted = "" if class_ids is None else f" for {list(class_ids)}"
        raise ValueError(
            f"The grid holds no probabilities{wanted}: its entries need probs_by_dataset, "
            "which evaluate_decoder(plot=True) fills in."
        )
    return ShiftCurves(
        base,
        tuple(points),
        tuple(classes),
        tuple(datasets),
        _selected(results, classes, target_classes, strengthen),
    )


def _point(entry: Mapping[str, Any], factor: float, rate: float) -> GridPoint:
    lms = (entry.get("lms") or {}).get("lms")
    return GridPoint(factor, rate, None if lms is None else float(lms), entry.get("probs_by_dataset") or {})


def _selected(
    results: Mapping[str, Any], classes: Sequence[str], wanted: Sequence[str] | None, strengthen: bool
) -> tuple[Selected, ...]:
    suffix = "" if strengthen else "_weaken"
    chosen = []
    for name in classes if wanted is None else wanted:
        summary = results.get(f"{name}{suffix}")
        if summary is None:
            if wanted is None:
                continue
            names = [key for key, value in results.items() if isinstance(value, Mapping) and "learning_rate" in value]
            raise ValueError(
                f"decoder_results has no summary {name + suffix!r}, only {nearest_first(name, names)}; run "
                f"evaluate_decoder first."
                f"{nearest(name + suffix, names)}"
            )
        if summary["learning_rate"] is None:
            # The evaluation found no rewrite for this class: there is nothing to mark.
            continue
        chosen.append(
            Selected(
                name,
                float(summary["feature_factor"]),
                float(summary["learning_rate"]),
                strengthen,
                summary.get("value"),
                summary.get("lms"),
            )
        )
    return tuple(chosen)
