"""How much the top-k weights of each two models overlap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradiend.util._keywords import one_of
from gradiend.visualizer.keywords import plot_keywords
from gradiend.visualizer.output import deliver, require_destination, require_matplotlib, with_image_suffix
from gradiend.visualizer.topk.heatmap_figure import SCALES, ColorScale, HeatmapStyle, OverlapTable, heatmap_figure
from gradiend.visualizer.topk.overlap import chosen_order, clustered, complete_groups, intersections, shares
from gradiend.visualizer.topk.sets import DEFAULT_PART, Models, named_models, topk_sets

if TYPE_CHECKING:
    from matplotlib.axes import Axes

VALUES = ("intersection", "intersection_frac")


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
        value: "intersection" (|A ∩ B|) or "intersection_frac" (|A ∩ B| / min(|A|, |B|)).
        order: "input", "name", or a list of the models to show.
        cluster: Put models that overlap beside each other.
        annot: Write the numbers into the cells; "auto" does for up to 15 models.
        fmt: Format of these numbers, e.g. ".1f" (`annot_fmt` is another name of it).
        figsize: Inches.
        cmap: Colormap.
        vmin: Value of the lowest colour; default 0, of the logarithmic scale the smallest positive value.
        vmax: Value of the highest colour; default the largest value.
        title: True for a default title, a string for another.
        output_path: File; its extension is the format, png without one.
        show: Show the figure.
        return_data: False returns an empty dict.
        return_fig_ax: Return (dict, figure, axes).
        ax: Draw in these axes of a figure of yours.
        pretty_groups: {title: models}: put these beside each other and name them; the rest is "Other".
        scale: "linear", "log", "sqrt", or "power" with `scale_gamma`, which sets small overlaps apart.
        scale_gamma: Exponent of the power scale, above 0.
        annot_fontsize: Points of the numbers.
        tick_label_fontsize: Points of the names.
        group_label_fontsize: Points of the titles of groups.
        group_label_rotation_top: Degrees of the titles above.
        group_label_rotation_right: Degrees of the titles on the right.
        cbar_pad: Space before the colour bar, as a share of the axes.
        cbar_fontsize: Points of the colour bar.
        cbar_shrink: Height of the colour bar, as a share of the axes.
        percentages: Both values as percent of the smaller set, 0 to 100; False for counts or fractions.
        row_metric: A number of each model (such as its correlation), shown beside its row.
        row_metric_label: Name of that number.
        row_metric_cmap: Its colormap.
        row_metric_vmin: Its lowest colour; default 0, or its smallest value if negative.
        row_metric_vmax: Its highest colour; default 1, or its largest value if larger.
        row_label_mapping: Display names of the rows.
        column_label_mapping: Display names of the columns.

    Returns:
        {per_model: {name: indices}, model_ids: names in the order of the rows, matrix: rows of numbers, value, topk,
        part}, and pretty_groups where given.

    Raises:
        ValueError: Fewer than two models, an unknown value, order, scale, group or format, or a file that is no image.
        ImportError: matplotlib is not installed.
    """
    require_matplotlib()
    path = with_image_suffix(output_path)
    if ax is None and not return_fig_ax and not return_data:
        require_destination(path, show, "output_path")
    one_of("value", value, VALUES)
    colors = _color_scale(cmap, vmin, vmax, scale, scale_gamma)
    named = named_models(models, least=2)
    sets = topk_sets({name: named[name] for name in chosen_order(list(named), order)}, topk, part)
    if cluster:
        names = clustered(list(sets), shares(intersections(list(sets.values()))))
        sets = {name: sets[name] for name in names}
    groups = {} if pretty_groups is None else complete_groups(list(sets), pretty_groups)
    if groups:
        sets = {name: sets[name] for members in groups.values() for name in members}

    counts = intersections(list(sets.values()))
    matrix = shares(counts) if percentages or value == "intersection_frac" else counts
    table = OverlapTable(
        list(sets),
        100.0 * matrix if percentages else matrix,
        _meaning(value, percentages),
        groups,
        {name: float(number) for name, number in (row_metric or {}).items() if name in sets},
    )
    style = HeatmapStyle(
        colors,
        annotate=None if annot == "auto" else bool(annot),
        fmt=_number_format(fmt, value, percentages),
        figsize=figsize,
        title=f"Overlap of the top {topk:,} by {part}" if title is True else title or None,
        row_names=row_label_mapping or {},
        column_names=column_label_mapping or {},
        annot_fontsize=annot_fontsize,
        tick_label_fontsize=tick_label_fontsize,
        group_label_fontsize=group_label_fontsize,
        group_label_rotation_top=group_label_rotation_top,
        group_label_rotation_right=group_label_rotation_right,
        cbar_pad=cbar_pad,
        cbar_shrink=cbar_shrink,
        cbar_fontsize=cbar_fontsize,
        metric_label=row_metric_label or "",
        metric_colors=ColorScale(row_metric_cmap, row_metric_vmin, row_metric_vmax),
    )
    figure = heatmap_figure(table, style, ax)
    deliver(figure, path, show=show and ax is None)
    data: dict[str, Any] = {}
    if return_data:
        data = {"per_model": sets, "model_ids": table.names, "matrix": table.matrix.tolist()}
        data |= {"value": value, "topk": topk, "part": part, **({"pretty_groups": groups} if groups else {})}
    return (data, figure, figure.axes[0] if ax is None else ax) if return_fig_ax else data


def _color_scale(cmap: str, vmin: float | None, vmax: float | None, scale: str, gamma: float | None) -> ColorScale:
    one_of("scale", scale, SCALES)
    if scale == "power" and (gamma is None or gamma <= 0):
        raise ValueError(f"scale='power' needs scale_gamma above 0, for instance 0.5; got {gamma}.")
    if scale == "log" and vmin is not None and vmin <= 0:
        raise ValueError(f"scale='log' needs vmin above 0; got {vmin}.")
    return ColorScale(cmap, vmin, vmax, scale, gamma)


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
