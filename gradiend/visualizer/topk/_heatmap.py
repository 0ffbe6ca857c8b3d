"""The heatmap of the overlaps between the top-k weights of each two models.

The plot function is long since its docstring describes every option; its body checks, arranges and hands on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradiend.util._keywords import one_of
from gradiend.visualizer._arrangement import chosen_order, clustered, complete_groups
from gradiend.visualizer._matrix import ColorScale, DrawnMatrix, MatrixStyle, SideColumn, draw_matrix, number_format
from gradiend.visualizer._output import (
    deliver,
    heading,
    new_figure,
    plot_keywords,
    require_destination,
    require_matplotlib,
    with_image_suffix,
)
from gradiend.visualizer.topk._sets import (
    DEFAULT_PART,
    POLICIES,
    Models,
    intersections,
    named_models,
    shares,
    topk_sets,
)

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
    seed_group_policy: str = "primary",
) -> Any:
    """Plot how many of the top-k weights each two models share.

    Args:
        models: {name: model}, two or more; a model needs only `get_topk_weights(part=, topk=)`.
        topk: How many weights of each model, or which share of them.
        part: The part whose weights are ranked, e.g. decoder-weight.
        value: "intersection" (`|A ∩ B|`) or "intersection_frac" (`|A ∩ B| / min(|A|, |B|)`).
        order: "input", "name", "cluster" (see `cluster`), or a list of the models to show.
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
        seed_group_policy: Of a SeedModelGroup, the set of its "primary" (best) model, or the "union" or "intersection"
            of the sets of its seeds.

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
    one_of("seed_group_policy", seed_group_policy, POLICIES)
    style = MatrixStyle(
        ColorScale(cmap, vmin, vmax, scale, scale_gamma), annot, row_label_mapping or {}, column_label_mapping or {},
        annot_fontsize, tick_label_fontsize, group_label_fontsize, group_label_rotation_top,
        group_label_rotation_right, cbar_pad, cbar_fontsize, cbar_shrink,
    )  # fmt: skip
    metric_colors = ColorScale(row_metric_cmap, row_metric_vmin, row_metric_vmax)
    written = number_format("fmt", fmt, ".0f" if percentages or value == "intersection" else ".2f")

    sets = topk_sets(_chosen(models, order), topk, part, seed_group_policy)
    sets, groups = _arranged(sets, cluster or order == "cluster", pretty_groups)
    names = list(sets)
    counts = intersections(sets.values())
    matrix = shares(counts) if percentages or value == "intersection_frac" else counts
    matrix = 100.0 * matrix if percentages else matrix
    texts = [[format(float(number), written) for number in row] for row in matrix]
    metric = {name: float(number) for name, number in (row_metric or {}).items() if name in sets}
    side = SideColumn(metric, row_metric_label or "", metric_colors)
    drawn = DrawnMatrix(matrix, names, names, texts, _meaning(value, percentages), groups, groups, side)

    own = ax is None
    if ax is None:
        ax = new_figure(figsize or drawn.size(style)).subplots()
    figure: Any = ax.figure
    draw_matrix(ax, drawn, style)
    if head := heading(title, f"Overlap of the top {topk:,} by {part}"):
        # The titles of groups stand where a title of the axes would.
        figure.suptitle(head, fontsize=13)

    deliver(figure, path, show=show and own)
    data: dict[str, Any] = {}
    if return_data:
        data = {"per_model": sets, "model_ids": names, "matrix": matrix.tolist()}
        data |= {"value": value, "topk": topk, "part": part, **({"pretty_groups": groups} if groups else {})}
    return (data, figure, ax) if return_fig_ax else data


def _chosen(models: Models, order: str | Sequence[str]) -> dict[str, Any]:
    """Return the models that are shown, by name, in their order."""
    named = named_models(models, least=2)
    return {name: named[name] for name in chosen_order(list(named), order)}


def _arranged(
    sets: dict[str, list[int]], cluster: bool, pretty_groups: Mapping[str, Sequence[str]] | None
) -> tuple[dict[str, list[int]], dict[str, list[str]]]:
    """Return the top-k weights of each model, in the order of the rows, and the groups of the rows."""
    names = list(sets)
    if cluster:
        names = clustered(names, 1.0 - shares(intersections(sets.values())))
    groups = {} if pretty_groups is None else complete_groups(names, pretty_groups)
    if groups:
        names = [name for members in groups.values() for name in members]
    return {name: sets[name] for name in names}, groups


def _meaning(value: str, percentages: bool) -> str:
    if percentages:
        return "shared weights in % (of the smaller set)"
    return "shared weights" if value == "intersection" else "share of the smaller set"
