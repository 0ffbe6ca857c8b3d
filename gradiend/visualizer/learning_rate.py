"""The plot of a search for a learning rate: what every rate reached, and its curve over the steps."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gradiend.visualizer._output import FigureOptions, plot_keywords, require_destination, with_image_suffix
from gradiend.visualizer._style import MARKERS, REFERENCE_COLOR, distinct_colors, tidy


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
