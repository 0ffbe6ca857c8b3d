"""The plots of trainings over their steps: of one training, and of the probes of a search for a learning rate."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from gradiend.model._checkpoint_files import read_training
from gradiend.util._keywords import one_of
from gradiend.util.paths import CONVERGENCE_PLOT, TRAINING
from gradiend.visualizer._output import (
    USUAL,
    FigureOptions,
    Run,
    plot_keywords,
    require_destination,
    with_image_suffix,
)
from gradiend.visualizer._style import MARKERS, REFERENCE_COLOR, add_legend, distinct_colors, shown, tidy

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

SPREADS = {"minmax": "smallest to largest", "iqr": "quartiles", "ci95": "95 % interval of the mean"}
"""The spread that is shaded around the means of a class → its name in the legend."""

_MARKERS_A_LINE = 25
_SHADE = 0.18


@plot_keywords
def plot_training_convergence(
    trainer: Run | None = None, model_path: str | Path | None = None,
    training_stats: Mapping[str, Any] | None = None, *, plot_mean_by_class: bool = True,
    plot_mean_by_feature_class: bool | None = None, plot_correlation: bool = True,
    class_spread: Literal["minmax", "iqr", "ci95"] | None = None, best_step: bool = True,
    label_name_mapping: Mapping[Any, str] | None = None, output: str | Path | None = None,
    experiment_dir: str | Path | None = None, show: bool = True, title: bool | str = True,
    figsize: tuple[float, float] | None = None, img_format: str = "png", dpi: float | None = None,
    legend_ncol: int | None = None, legend_bbox_to_anchor: tuple[float, ...] | None = None,
    legend_loc: str | None = None, return_fig_ax: bool = False,
) -> Any:  # fmt: skip
    """Plot correlation and mean encodings over the steps of a training.

    Args:
        trainer: A trained trainer; its statistics are drawn if there is no model_path and no training_stats.
        model_path: A directory with training.json, which is read in place of the trainer's.
        training_stats: The statistics (all of training.json or its training_stats), in place of both of these.
        plot_mean_by_class: Show the mean encoding of each label.
        plot_mean_by_feature_class: Show the mean encoding of each factual class; by default only where there
            are more classes than labels.
        plot_correlation: Show the correlation.
        class_spread: What is shaded around the means: the range of the encodings ("minmax"), their quartiles ("iqr"),
            or the 95 % interval of the mean ("ci95": 1.96 standard errors). None: nothing.
        best_step: Mark the step whose model was kept.
        label_name_mapping: Display names by label value (1, "-1.0") or class name.
        output: The file to write; an image extension is replaced by `img_format`.
        experiment_dir: Without `output`, the file is training_convergence.<img_format> in this directory; by default
            that of the trainer.
        show: Show the figure.
        title: True for a default title, a string for another, False for none.
        figsize: Width and height in inches.
        img_format: The file format.
        dpi: Pixels per inch of raster formats.
        legend_ncol: Columns of the legend.
        legend_bbox_to_anchor: Anchor of the legend, in coordinates of the first panel.
        legend_loc: Place of the legend in the first panel; by default the legend is right of all panels.
        return_fig_ax: Return (figure, list of axes).

    Returns:
        The path of the file, "" if no file was written.

    Raises:
        ValueError: There is no source or no evaluated step in it, or no spread where class_spread asks for
            one; the format is unknown, or there is neither a path nor `show`.
        ImportError: matplotlib is not installed.
    """
    options = FigureOptions.of(locals())
    if experiment_dir is None and trainer is not None:
        experiment_dir = trainer.experiment_dir
    if output is None and experiment_dir is not None:
        output = Path(experiment_dir) / CONVERGENCE_PLOT
    path = options.path(output, "output, experiment_dir or a trainer with an experiment_dir")
    if class_spread is not None:
        one_of("class_spread", class_spread, SPREADS)
    if training_stats is None:
        training_stats = _recorded(trainer, model_path)
    figure = convergence_figure(
        training_curves(training_stats, label_name_mapping, class_spread), correlation=plot_correlation,
        mean_by_class=plot_mean_by_class, mean_by_feature_class=plot_mean_by_feature_class, best_step=best_step,
        band=None if class_spread is None else SPREADS[class_spread], options=options,
    )  # fmt: skip
    return options.deliver(figure, path, figure.axes)


def _recorded(trainer: Run | None, model_path: str | Path | None) -> Mapping[str, Any]:
    """Return the content of training.json in `model_path`, or in the directory of the trainer."""
    if model_path is not None:
        content = read_training(Path(model_path))
        if content is None:
            raise ValueError(f"There is no {Path(model_path) / TRAINING}: model_path must be what train() wrote.")
        return content
    if trainer is None:
        raise ValueError("There is nothing to plot: pass training_stats, model_path or a trainer.")
    stats = trainer.get_training_stats()
    if stats is None:
        raise ValueError("The trainer has no training.json yet: call train() first, or pass model_path.")
    return stats


# Statistics as curves


@dataclass(frozen=True)
class Curve:
    """One named quantity at the evaluated steps, in their order."""

    name: str
    steps: tuple[float, ...]
    values: tuple[float, ...]
    band: tuple[tuple[float, float], ...] = ()
    """Lower and upper end of what is shaded around each value; empty without a spread."""

    @classmethod
    def of(
        cls, name: str, points: Mapping[float, Any], band: Mapping[float, tuple[float, float]] | None = None
    ) -> Curve:
        """Make the curve through `points`, step → value; None, which JSON has for a missing value, becomes NaN."""
        values = tuple(math.nan if value is None else float(value) for value in points.values())
        unknown = (math.nan, math.nan)
        return cls(name, tuple(points), values, () if band is None else tuple(band.get(at, unknown) for at in points))


@dataclass(frozen=True)
class TrainingCurves:
    """The record of a training: correlation, mean encodings, and the step whose model was kept."""

    correlation: Curve | None
    by_class: tuple[Curve, ...]
    by_feature_class: tuple[Curve, ...]
    best_step: float | None
    best_correlation: float | None


def training_curves(
    stats: Mapping[str, Any], names: Mapping[Any, str] | None = None, spread: str | None = None
) -> TrainingCurves:
    """Read the curves from the statistics of a training; the curves of labels ±1 come before the curve of label 0.

    `stats` are the run's dict (with key training_stats) or the inner one; steps and labels are numbers or, after JSON,
    strings. `names` are display names by label value or class name, `spread` is one of `SPREADS`.
    """
    best = stats.get("best_score_checkpoint") or {}
    if isinstance(stats.get("training_stats"), Mapping):
        stats = stats["training_stats"]
    chosen = {str(key): name for key, name in (names or {}).items()}
    recorded = (stats.get("label_value_to_class_name") or {}).items()
    by_label = {_number(key): chosen.get(str(name), str(name)) for key, name in recorded}
    by_label |= {number: name for key, name in chosen.items() if (number := _number(key)) is not None}

    def label_name(label: str) -> str:
        value = _number(label)
        if value is None:
            return chosen.get(label, label)
        return by_label.get(value, f"label {value:+g}" if value else "label 0")

    labels = _columns(stats.get("mean_by_class") or {})
    classes = _columns(stats.get("mean_by_feature_class") or {})
    correlations = _by_step(stats.get("scores") or {})
    step, correlation = best.get("global_step"), best.get("correlation")
    # +1 and −1 come first, 0 last.
    ordered = sorted(labels, key=lambda label: (not _number(label), -(_number(label) or 0.0)))
    return TrainingCurves(
        Curve.of("correlation", correlations) if correlations else None,
        tuple(Curve.of(label_name(name), labels[name], _band(stats, "class", name, spread)) for name in ordered),
        tuple(
            Curve.of(chosen.get(name, name), points, _band(stats, "feature_class", name, spread))
            for name, points in classes.items()
        ),
        None if step is None else float(step), None if correlation is None else float(correlation),
    )  # fmt: skip


def _band(stats: Mapping[str, Any], of: str, name: str, spread: str | None) -> dict[float, tuple[float, float]] | None:
    """Return step → (low, high), the ends of a spread around the means of a label or class; None without a spread."""
    if spread is None:
        return None

    def column(what: str) -> dict[float, float]:
        return _columns(stats.get(f"{what}_by_{of}") or {}).get(name, {})

    n = column("n")
    if not n:
        raise ValueError(
            f"class_spread={spread!r}: the statistics have no spread of {name!r}. A training records it, unless its "
            "evaluate_fn does not return min_by_class, max_by_class, …: train again, or leave class_spread out."
        )
    if spread == "ci95":
        # The standard deviation is that of a population; one text has no standard error.
        half = {at: 1.96 * std / math.sqrt(n[at] - 1) for at, std in column("std").items() if n[at] > 1}
        return {at: (mean - half[at], mean + half[at]) for at, mean in column("mean").items() if at in half}
    low, high = (column(what) for what in (("min", "max") if spread == "minmax" else ("q1", "q3")))
    return {at: (least, high[at]) for at, least in low.items()}


def _by_step(values: Mapping[Any, Any]) -> dict[float, Any]:
    steps: dict[float, Any] = {}
    for key, value in values.items():
        step = _number(key)
        if step is None:
            raise ValueError(f"Training statistics are keyed by step; got {key!r}: pass training_stats as saved.")
        steps[step] = value
    return dict(sorted(steps.items()))


def _columns(table: Mapping[Any, Any]) -> dict[str, dict[float, float]]:
    """Turn {step: {name: value}} into {name: {step: value}}."""
    columns: dict[str, dict[float, float]] = {}
    for step, row in _by_step(table).items():
        for name, value in (row or {}).items():
            columns.setdefault(str(name), {})[step] = value
    return columns


def _number(key: Any) -> float | None:
    try:
        return float(key)
    except (TypeError, ValueError):
        return None


# The figure


@dataclass(frozen=True)
class _Panel:
    label: str
    curves: tuple[Curve, ...]
    named: bool
    """Whether the curves are told apart by name and belong in the legend."""


def convergence_figure(
    curves: TrainingCurves, *, correlation: bool = True, mean_by_class: bool = True,
    mean_by_feature_class: bool | None = None, best_step: bool = True, band: str | None = None,
    options: FigureOptions = USUAL,
) -> Figure:  # fmt: skip
    """Draw one panel for each chosen quantity, above a common axis of steps; `band` names what is shaded."""
    if mean_by_feature_class is None:
        mean_by_feature_class = len(curves.by_feature_class) > len(curves.by_class)
    panels: list[_Panel] = []
    if correlation and curves.correlation is not None:
        panels.append(_Panel("correlation", (curves.correlation,), named=False))
    if mean_by_class and curves.by_class:
        panels.append(_Panel("mean encoding\nby label", curves.by_class, named=True))
    if mean_by_feature_class and curves.by_feature_class:
        panels.append(_Panel("mean encoding\nby class", curves.by_feature_class, named=True))
    if not panels:
        raise ValueError(
            "There is nothing to plot: the statistics (training_stats) hold no evaluated step for the chosen "
            "quantities. Train with an evaluation (eval_steps), and leave at least one plot_… option on."
        )

    figure = options.figure((8.0, 0.8 + 2.3 * len(panels)), "Training convergence")
    axes = list(figure.subplots(len(panels), 1, sharex=True, squeeze=False).flat)
    # One colour and marker for each name, the same in all panels.
    names = list(dict.fromkeys(curve.name for panel in panels if panel.named for curve in panel.curves))
    colors = dict(zip(names, distinct_colors(len(names)), strict=True))
    lines: dict[str, Line2D] = {}
    for ax, panel in zip(axes, panels, strict=True):
        for curve in panel.curves:
            if panel.named:
                marker = MARKERS[names.index(curve.name) % len(MARKERS)]
                lines.setdefault(curve.name, _draw(ax, curve, colors[curve.name], marker))
            else:
                _draw(ax, curve, "black", "o")
        _frame(ax, panel)
    handles: list[Artist] = list(lines.values())
    if band is not None and lines:
        handles.append(axes[0].fill_between([], [], color=REFERENCE_COLOR, alpha=_SHADE, linewidth=0, label=band))
    if best_step and curves.best_step is not None:
        handles.append(_mark_best(axes, curves.best_step, curves.best_correlation))
    axes[-1].set_xlabel("training step")
    axes[-1].locator_params(axis="x", integer=True)
    steps = {step for panel in panels for curve in panel.curves for step in curve.steps}
    if len(steps) == 1:
        axes[-1].set_xlim(min(steps) - 1, max(steps) + 1)
    add_legend(axes[0], handles, **options.legend)
    return figure


def _draw(ax: Axes, curve: Curve, color: str, marker: str) -> Line2D:
    (line,) = ax.plot(
        curve.steps, curve.values, color=color, marker=marker, markersize=4,
        markevery=max(1, len(curve.steps) // _MARKERS_A_LINE), linewidth=1.8, label=shown(curve.name),
    )  # fmt: skip
    if curve.band:
        low, high = zip(*curve.band, strict=True)
        ax.fill_between(curve.steps, low, high, color=color, alpha=_SHADE, linewidth=0)
    return line


def _frame(ax: Axes, panel: _Panel) -> None:
    values = [value for curve in panel.curves for value in curve.values if math.isfinite(value)]
    ax.set_ylabel(panel.label)
    tidy(ax, zero_line=True)
    # Correlations and tanh encodings share one scale in all runs; another activation gets a scale of its own.
    if all(abs(value) <= 1.0 for value in values):
        low = -1.0 if panel.named or min(values, default=0.0) < 0 else 0.0
        ax.set_ylim(low - 0.05, 1.05)
        ax.set_yticks([tick for tick in (-1.0, -0.5, 0.0, 0.5, 1.0) if tick >= low])


def _mark_best(axes: Sequence[Axes], step: float, correlation: float | None) -> Line2D:
    lines = [ax.axvline(step, color=REFERENCE_COLOR, linestyle="--", linewidth=1.2) for ax in axes]
    label = f"best step {step:g}"
    lines[0].set_label(label if correlation is None else f"{label}\n(correlation {correlation:.3f})")
    return lines[0]


# The search for a learning rate


@plot_keywords
def plot_learning_rate_search(
    result: Mapping[str, Any], *, output: str | Path | None = None, show: bool = True, title: bool | str = True,
    figsize: tuple[float, float] | None = None, dpi: float | None = None,
) -> str:  # fmt: skip
    """Plot the correlation and the smaller class mean of every rate over the steps of its probe.

    Arguments that are not described are those of `plot_training_convergence`.

    Args:
        result: The search, as `LRSearchResult.to_dict` gives it and training.json has it.
        output: The file to write; an extension names the format.

    Returns:
        The path of the file, "" if no file was written.

    Raises:
        ValueError: No evaluated probe, or neither a file nor `show`.
        ImportError: matplotlib is not installed.
    """
    options = FigureOptions.of(locals())
    path = with_image_suffix(output)
    require_destination(path, show, "output")
    probes = [probe for probe in result["probes"] if any(point["correlation"] is not None for point in probe["curve"])]
    if not probes:
        raise ValueError("There is nothing to plot: this search measured no correlation.")
    figure = options.figure((9, 4), "Search for a learning rate")
    left, right = figure.subplots(1, 2, sharex=True, sharey=True)
    for number, (probe, color) in enumerate(zip(probes, distinct_colors(len(probes)), strict=True)):
        curve = [point for point in probe["curve"] if point["correlation"] is not None]
        steps = [point["step"] for point in curve]
        chosen = probe["lr"] == result["best_lr"]
        style = {"color": color, "marker": MARKERS[number % len(MARKERS)], "linewidth": 3 if chosen else 1.2}
        label = f"{probe['lr']:g} {'chosen' if chosen else probe['status']}"
        left.plot(steps, [point["correlation"] for point in curve], markevery=[-1], label=label, **style)
        means = [min(point["mean_by_class"]["1"], -point["mean_by_class"]["-1"]) for point in curve]
        right.plot(steps, means, markevery=[-1], **style)
    left.set_ylabel("correlation")
    right.set_ylabel("smaller class mean")
    for axes in (left, right):
        axes.axhline(0, color=REFERENCE_COLOR, linewidth=0.8)
        axes.set_xlabel("step of the probe")
        tidy(axes)
    figure.legend(loc="outside right upper", fontsize=8, frameon=False)
    return str(options.deliver(figure, path, figure.axes))
