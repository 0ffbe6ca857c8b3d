"""The heatmap of the overlaps between the top-k weights of each two models.

The plot function is long since its docstring describes every option; its body checks, arranges and hands on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gradiend.util._keywords import one_of
from gradiend.visualizer._output import (
    deliver,
    heading,
    new_figure,
    plot_keywords,
    require_destination,
    require_matplotlib,
    with_image_suffix,
)
from gradiend.visualizer._style import REFERENCE_COLOR, colormap, shown, text_color
from gradiend.visualizer.topk._sets import (
    DEFAULT_PART,
    Matrix,
    Models,
    chosen_order,
    clustered,
    complete_groups,
    intersections,
    named_models,
    shares,
    topk_sets,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colorbar import Colorbar
    from matplotlib.colors import Normalize

VALUES = ("intersection", "intersection_frac")
SCALES = ("linear", "log", "sqrt", "power")

_ANNOTATED_UP_TO = 15


@dataclass(frozen=True)
class ColorScale:
    """The colours of numbers."""

    cmap: str = "viridis"
    vmin: float | None = None
    vmax: float | None = None
    scale: str = "linear"
    """linear, log, sqrt, or power with the exponent `gamma`."""
    gamma: float | None = None

    def __post_init__(self) -> None:
        one_of("scale", self.scale, SCALES)
        if self.scale == "power" and (self.gamma is None or self.gamma <= 0):
            raise ValueError(f"scale='power' needs scale_gamma above 0, for instance 0.5; got {self.gamma}.")
        if self.scale == "log" and self.vmin is not None and self.vmin <= 0:
            raise ValueError(f"scale='log' needs vmin above 0; got {self.vmin}.")
        colormap(self.cmap)

    def norm(self, matrix: Matrix) -> Normalize:
        """Make the scale over `matrix`, from 0 (log: its smallest positive value) to its largest value."""
        from matplotlib.colors import LogNorm, Normalize, PowerNorm  # noqa: PLC0415 - optional

        high = float(matrix.max()) if self.vmax is None else self.vmax
        if self.scale == "log":
            low = float(np.min(matrix, initial=high, where=matrix > 0)) if self.vmin is None else self.vmin
            # An overlap of nothing has no logarithm: it takes the lowest colour.
            return LogNorm(low if low < high else high / 10, high, clip=True)
        low = 0.0 if self.vmin is None else self.vmin
        if self.scale == "linear":
            return Normalize(low, high)
        return PowerNorm(0.5 if self.scale == "sqrt" else self.gamma or 1.0, low, high)


@plot_keywords
def plot_topk_overlap_heatmap(
    models: Models,
    topk: float = 1000,
    part: str = DEFAULT_PART,
    value: str = "intersection",
    order: str | Sequence[str] = "input",
    cluster: bool = False,
    annot: bool | str = "auto",
    fmt: str | None = None,
    figsize: tuple[float, float] | None = None,
    cmap: str = "viridis",
    vmin: float | None = None,
    vmax: float | None = None,
    title: bool | str | None = False,
    output_path: str | Path | None = None,
    show: bool = True,
    return_data: bool = True,
    return_fig_ax: bool = False,
    ax: Axes | None = None,
    pretty_groups: Mapping[str, Sequence[str]] | None = None,
    scale: str = "linear",
    scale_gamma: float | None = None,
    annot_fontsize: float | None = None,
    tick_label_fontsize: float | None = None,
    group_label_fontsize: float | None = None,
    group_label_rotation_top: float = 0,
    group_label_rotation_right: float = 0,
    cbar_pad: float | None = None,
    cbar_fontsize: float | None = None,
    cbar_shrink: float | None = None,
    percentages: bool = True,
    row_metric: Mapping[str, float] | None = None,
    row_metric_label: str | None = "corr",
    row_metric_cmap: str = "magma",
    row_metric_vmin: float | None = None,
    row_metric_vmax: float | None = None,
    row_label_mapping: Mapping[str, str] | None = None,
    column_label_mapping: Mapping[str, str] | None = None,
) -> Any:
    """Plot how many of the top-k weights each two models share.

    Args:
        models: {name: model}, two or more; a model needs only `get_topk_weights(part=, topk=)`.
        topk: How many weights of each model, or which share of them.
        part: The part whose weights are ranked, e.g. decoder-weight.
        value: "intersection" (`|A ∩ B|`) or "intersection_frac" (`|A ∩ B| / min(|A|, |B|)`).
        order: "input", "name", or a list of the models to show.
        cluster: Put models that overlap beside each other.
        annot: Write the numbers into the cells; "auto" writes them for up to 15 models.
        fmt: Format of the numbers in the cells, e.g. ".1f" (`annot_fmt` is another name of this argument).
        figsize: Width and height in inches.
        cmap: Colormap.
        vmin: Value of the lowest colour; default 0, for the logarithmic scale the smallest positive value.
        vmax: Value of the highest colour; default the largest value.
        title: True for a default title, a string for another.
        output_path: The file to write; its extension is the format, png without an extension.
        show: Show the figure.
        return_data: Return the dict; False returns an empty dict.
        return_fig_ax: Return (dict, figure, axes).
        ax: Axes of another figure to draw in.
        pretty_groups: {title: models}: put these models beside each other under a title; the rest is "Other".
        scale: "linear", "log", "sqrt", or "power" with `scale_gamma`, which sets small overlaps apart.
        scale_gamma: Exponent of the power scale, above 0.
        annot_fontsize: Size of the numbers in points.
        tick_label_fontsize: Size of the names in points.
        group_label_fontsize: Size of the titles of groups in points.
        group_label_rotation_top: Rotation of the titles above in degrees.
        group_label_rotation_right: Rotation of the titles on the right in degrees.
        cbar_pad: Space before the colour bar, as a share of the axes.
        cbar_fontsize: Size of the text of the colour bar in points.
        cbar_shrink: Height of the colour bar, as a share of the axes.
        percentages: Show either value in percent of the smaller set, 0 to 100; False shows counts or fractions.
        row_metric: A number of each model (such as its correlation), shown beside its row.
        row_metric_label: Name of the number beside the rows.
        row_metric_cmap: Colormap of the numbers beside the rows.
        row_metric_vmin: Number with the lowest colour; default 0, or the smallest number if it is negative.
        row_metric_vmax: Number with the highest colour; default 1, or the largest number if it is larger.
        row_label_mapping: Display names of the rows.
        column_label_mapping: Display names of the columns.

    Returns:
        {per_model: {name: indices}, model_ids: names in the order of the rows, matrix: rows of numbers, value, topk,
        part}, and pretty_groups where given.

    Raises:
        ValueError: There are fewer than two models; a value, order, scale, group or format is unknown; or the file is
            no image.
        ImportError: matplotlib is not installed.
    """
    require_matplotlib()
    path = with_image_suffix(output_path)
    if ax is None and not return_fig_ax and not return_data:
        require_destination(path, show, "output_path")
    one_of("value", value, VALUES)
    colors = ColorScale(cmap, vmin, vmax, scale, scale_gamma)
    metric_colors = ColorScale(row_metric_cmap, row_metric_vmin, row_metric_vmax)
    number_format = _number_format(fmt, value, percentages)

    sets, groups = _arranged(models, topk, part, order, cluster, pretty_groups)
    names = list(sets)
    counts = intersections(sets.values())
    matrix = shares(counts) if percentages or value == "intersection_frac" else counts
    matrix = 100.0 * matrix if percentages else matrix
    metric = {name: float(number) for name, number in (row_metric or {}).items() if name in sets}

    own = ax is None
    if ax is None:
        ax = new_figure(figsize or _size(names, bool(metric), bool(groups))).subplots()
    figure: Any = ax.figure
    image = ax.imshow(matrix, cmap=colormap(cmap), norm=colors.norm(matrix), aspect="equal")
    if len(names) <= _ANNOTATED_UP_TO if annot == "auto" else annot:
        backgrounds = image.to_rgba(matrix)
        for (row, column), number in np.ndenumerate(matrix):
            text = format(float(number), number_format)
            _write(ax, column, row, text, backgrounds[row, column].tolist(), annot_fontsize)
    _label_ticks(
        ax, [str((row_label_mapping or {}).get(name, name)) for name in names],
        [str((column_label_mapping or {}).get(name, name)) for name in names], tick_label_fontsize,
    )  # fmt: skip
    edge = len(names) - 0.5
    if metric:
        edge += 1.25
        _draw_metric(ax, names, metric, metric_colors, annot_fontsize)
        label, size = shown(row_metric_label or "", 12), tick_label_fontsize or 9
        ax.text(edge - 0.5, len(names) - 0.4, label, ha="center", va="top", fontsize=size)
    if groups:
        turns = (group_label_rotation_top, group_label_rotation_right)
        _draw_groups(ax, groups, edge + 0.3, turns, group_label_fontsize or 10)
    pad = 0.03 if cbar_pad is None else cbar_pad
    bar = figure.colorbar(image, ax=ax, shrink=cbar_shrink or 0.8, pad=pad, label=_meaning(value, percentages))
    _label_bar(bar, cbar_fontsize, decades=scale == "log")
    if head := heading(title, f"Overlap of the top {topk:,} by {part}"):
        # The titles of groups stand where a title of the axes would.
        figure.suptitle(head, fontsize=13)

    deliver(figure, path, show=show and own)
    data: dict[str, Any] = {}
    if return_data:
        data = {"per_model": sets, "model_ids": names, "matrix": matrix.tolist()}
        data |= {"value": value, "topk": topk, "part": part, **({"pretty_groups": groups} if groups else {})}
    return (data, figure, ax) if return_fig_ax else data


def _arranged(
    models: Models,
    topk: float,
    part: str,
    order: str | Sequence[str],
    cluster: bool,
    pretty_groups: Mapping[str, Sequence[str]] | None,
) -> tuple[dict[str, list[int]], dict[str, list[str]]]:
    """Return the top-k weights of each model, in the order of the rows, and the groups of the rows."""
    named = named_models(models, least=2)
    names = chosen_order(list(named), order)
    sets = topk_sets({name: named[name] for name in names}, topk, part)
    if cluster:
        names = clustered(names, shares(intersections(sets.values())))
    groups = {} if pretty_groups is None else complete_groups(names, pretty_groups)
    if groups:
        names = [name for members in groups.values() for name in members]
    return {name: sets[name] for name in names}, groups


def _meaning(value: str, percentages: bool) -> str:
    if percentages:
        return "shared weights in % (of the smaller set)"
    return "shared weights" if value == "intersection" else "share of the smaller set"


def _number_format(fmt: str | None, value: str, percentages: bool) -> str:
    if fmt is None:
        return ".0f" if percentages or value == "intersection" else ".2f"
    try:
        format(0.5, fmt)
    except ValueError as error:
        raise ValueError(f"fmt={fmt!r} is no format of a number; try '.1f' or '.0f'.") from error
    return fmt


def _size(names: Sequence[str], with_metric: bool, with_groups: bool) -> tuple[float, float]:
    side = min(max(2.6, 0.62 * len(names)), 16.0) + 0.07 * max(len(shown(str(name), lines=1)) for name in names)
    return side + 0.7 * with_metric + 1.4 * with_groups + 1.6, side + 0.4 * with_groups + 0.4


def _write(ax: Axes, x: float, y: float, text: str, background: Sequence[float], size: float | None) -> None:
    ax.text(x, y, text, ha="center", va="center", color=text_color(background), fontsize=size or 9)


def _label_ticks(ax: Axes, rows: Sequence[str], columns: Sequence[str], size: float | None) -> None:
    rows, columns = ([shown(name, lines=1) for name in names] for names in (rows, columns))
    ax.set_yticks(range(len(rows)), rows, fontsize=size or 9)
    long = max(map(len, columns)) > 5
    turn: dict[str, Any] = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if long else {}
    ax.set_xticks(range(len(columns)), columns, fontsize=size or 9, **turn)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)


def _label_bar(bar: Colorbar, size: float | None, *, decades: bool) -> None:
    """Set the size of the text and, for a logarithmic scale, ticks at 1, 2 and 5 of each power of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator  # noqa: PLC0415 - optional

    if size:
        bar.ax.tick_params(labelsize=size)
        bar.ax.yaxis.label.set_fontsize(size)
    if not decades:
        return
    bar.ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    bar.ax.yaxis.set_minor_locator(NullLocator())
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _draw_metric(
    ax: Axes, names: Sequence[str], metric: Mapping[str, float], colors: ColorScale, size: float | None
) -> None:
    """Draw a column of numbers, one unit wide, a quarter right of the matrix."""
    from matplotlib.patches import Rectangle  # noqa: PLC0415 - optional

    low = min(0.0, *metric.values()) if colors.vmin is None else colors.vmin
    high = max(1.0, *metric.values()) if colors.vmax is None else colors.vmax
    norm, cmap = ColorScale(vmin=low, vmax=high).norm(np.zeros(1)), colormap(colors.cmap)
    left = len(names) - 0.25
    for name, value in metric.items():
        row, color = names.index(name), cmap(float(norm(value)))
        ax.add_patch(Rectangle((left, row - 0.5), 1, 1, facecolor=color, linewidth=0, clip_on=False))
        _write(ax, left + 0.5, row, f"{value:.3g}", color, size)


def _draw_groups(
    ax: Axes, groups: Mapping[str, Sequence[str]], right: float, turns: tuple[float, float], size: float
) -> None:
    """Draw lines between groups, and a bracket with the title of each above and right of the matrix."""
    end = sum(map(len, groups.values())) - 0.5
    top, start = -0.75, -0.5
    line: dict[str, Any] = {"color": REFERENCE_COLOR, "linewidth": 1.4, "clip_on": False}
    for title, members in groups.items():
        stop = start + len(members)
        middle, name = (start + stop) / 2, shown(title, 14)
        if start > 0:
            ax.plot([start, start], [-0.5, end], color="white", linewidth=2)
            ax.plot([-0.5, end], [start, start], color="white", linewidth=2)
        ax.plot([start + 0.1, stop - 0.1], [top, top], **line)
        ax.plot([right, right], [start + 0.1, stop - 0.1], **line)
        ax.text(middle, top - 0.12, name, ha="center", va="bottom", fontsize=size, rotation=turns[0])
        ax.text(right + 0.15, middle, name, ha="left", va="center", fontsize=size, rotation=turns[1])
        start = stop
    # Lines outside of the image would move its limits.
    ax.set_xlim(-0.5, end)
    ax.set_ylim(end, -0.5)
