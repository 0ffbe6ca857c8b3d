"""Statistics of a training as curves over its steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gradiend.util._files import read_json

Stats = Mapping[str, Any]


@dataclass(frozen=True)
class Curve:
    """One named quantity at the evaluated steps, in their order."""

    name: str
    steps: tuple[float, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class TrainingCurves:
    """What a training recorded: correlation, mean encodings, and the step whose model was kept."""

    correlation: Curve | None
    by_class: tuple[Curve, ...]
    by_feature_class: tuple[Curve, ...]
    best_step: float | None
    best_correlation: float | None


def read_training_stats(model_path: str | Path) -> dict[str, Any]:
    """The content of `<model_path>/training.json`.

    Raises:
        ValueError: There is no such file, or it is not a JSON object.
    """
    path = Path(model_path) / "training.json"
    if not path.is_file():
        raise ValueError(f"There is no {path}: model_path must be the directory that train() wrote.")
    content = read_json(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, expected an object with 'training_stats'.")
    return content


def training_curves(stats: Stats, names: Mapping[Any, str] | None = None) -> TrainingCurves:
    """Curves from training statistics.

    Args:
        stats: The run's dict (with key training_stats) or the inner one; steps and labels as numbers or,
            after JSON, as strings.
        names: Display names by label value or by class name.

    Returns:
        The curves; those of label ±1 come before that of label 0.

    Raises:
        ValueError: A step is not a number.
    """
    outer = stats
    if isinstance(stats.get("training_stats"), Mapping):
        stats = stats["training_stats"]
    best = outer.get("best_score_checkpoint") or {}
    label_names = _LabelNames(names or {}, stats.get("label_value_to_class_name") or {})

    labels = _columns(stats.get("mean_by_class") or {})
    by_label = sorted(labels.items(), key=lambda item: _label_order(item[0]))
    classes = _columns(stats.get("mean_by_feature_class") or {})
    correlations = _by_step(stats.get("scores") or {})
    return TrainingCurves(
        correlation=_curve("correlation", correlations) if correlations else None,
        by_class=tuple(_curve(label_names.of_label(label), points) for label, points in by_label),
        by_feature_class=tuple(_curve(label_names.of_class(name), points) for name, points in classes.items()),
        best_step=None if best.get("global_step") is None else float(best["global_step"]),
        best_correlation=None if best.get("correlation") is None else float(best["correlation"]),
    )


class _LabelNames:
    """Names for label values and classes: the user's, then those of the training."""

    def __init__(self, chosen: Mapping[Any, str], recorded: Mapping[Any, Any]) -> None:
        self._chosen_labels = {number: name for key, name in chosen.items() if (number := _number(key)) is not None}
        self._chosen_classes = {str(key): name for key, name in chosen.items()}
        self._recorded = {_number(key): str(name) for key, name in recorded.items()}

    def of_label(self, label: str) -> str:
        value = _number(label)
        if value is None:
            return self.of_class(label)
        if value in self._chosen_labels:
            return self._chosen_labels[value]
        if value in self._recorded:
            return self.of_class(self._recorded[value])
        return f"label {value:+g}" if value else "label 0"

    def of_class(self, name: str) -> str:
        return self._chosen_classes.get(name, name)


def _by_step(values: Mapping[Any, Any]) -> dict[float, Any]:
    steps: dict[float, Any] = {}
    for key, value in values.items():
        step = _number(key)
        if step is None:
            raise ValueError(
                f"Training statistics are keyed by step, got the key {key!r}; pass training_stats as saved."
            )
        steps[step] = value
    return dict(sorted(steps.items()))


def _columns(table: Mapping[Any, Any]) -> dict[str, dict[float, float]]:
    """{step: {name: value}} → {name: {step: value}}."""
    columns: dict[str, dict[float, float]] = {}
    for step, row in _by_step(table).items():
        for name, value in (row or {}).items():
            columns.setdefault(str(name), {})[step] = value
    return columns


def _curve(name: str, points: Mapping[float, Any]) -> Curve:
    values = tuple(float("nan") if value is None else float(value) for value in points.values())
    return Curve(name, tuple(points), values)


def _label_order(label: str) -> tuple[bool, float]:
    value = _number(label)
    return (not value, -(value or 0.0))


def _number(key: Any) -> float | None:
    try:
        return float(key)
    except (TypeError, ValueError):
        return None
