"""The heatmap of the overlaps between the top-k weights of each two models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradiend.util._keywords import one_of
from gradiend.visualizer._arrangement import chosen_order, clustered, complete_groups
from gradiend.visualizer._matrix import DrawnMatrix, HeatmapOptions
from gradiend.visualizer._output import plot_keywords
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
    models: Models, topk: float = 1000, part: str = DEFAULT_PART, value: str = "intersection",
    order: str | Sequence[str] = "input", cluster: bool = False, annot: bool | str = "auto", fmt: str | None = None,
    figsize: tuple[float, float] | None = None, cmap: str = "viridis", vmin: float | None = None,
    vmax: float | None = None, title: bool | str | None = False, output_path: str | Path | None = None,
    show: bool = True, return_data: bool = True, return_fig_ax: bool = False, ax: Axes | None = None,
    pretty_groups: Mapping[str, Sequence[str]] | None = None, scale: str = "linear", scale_gamma: float | None = None,
    annot_fontsize: float | None = None, tick_label_fontsize: float | None = None,
    group_label_fontsize: float | None = None, group_label_rotation_top: float = 0,
    group_label_rotation_right: float = 0, cbar_pad: float | None = None, cbar_fontsize: float | None = None,
    cbar_shrink: float | None = None, percentages: bool = True, row_metric: Mapping[str, float] | None = None,
    row_metric_label: str | None = "corr", row_metric_cmap: str = "magma", row_metric_vmin: float | None = None,
    row_metric_vmax: float | None = None, row_label_mapping: Mapping[str, str] | None = None,
    column_label_mapping: Mapping[str, str] | None = None, seed_group_policy: str = "primary",
) -> Any:  # fmt: skip
    """Plot how many of the top-k weights each two models share.

    Every argument that is not described here is that of `plot_comparison_heatmap`: order, annot, figsize, cmap, vmin,
    vmax, title, output_path, show, return_data, return_fig_ax, ax, pretty_groups, scale, scale_gamma, annot_fontsize,
    tick_label_fontsize, group_label_fontsize, group_label_rotation_top, group_label_rotation_right, cbar_pad,
    cbar_fontsize, cbar_shrink, row_metric, row_metric_label, row_metric_cmap, row_metric_vmin, row_metric_vmax,
    row_label_mapping and column_label_mapping.

    Args:
        models: {name: model}, two or more; a model needs only `get_topk_weights(part=, topk=)`.
        topk: How many weights of each model, or which share of them.
        part: The part whose weights are ranked, e.g. decoder-weight.
        value: "intersection" (`|A ∩ B|`) or "intersection_frac" (`|A ∩ B| / min(|A|, |B|)`).
        percentages: Show either value in percent of the smaller set, 0 to 100; False shows counts or fractions.
        cluster: Put models beside each other that share many of their weights: by average linkage on the shares
            `|A ∩ B| / min(|A|, |B|)`, whatever `value` is. `order="cluster"` does the same.
        fmt: Format of the numbers in the cells, e.g. ".1f" (`annot_fmt` is another name of this argument).
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
    options = HeatmapOptions.of(locals())
    path = options.path(output_path)
    one_of("value", value, VALUES)
    one_of("seed_group_policy", seed_group_policy, POLICIES)
    colors = options.colors()
    written = options.number_format("fmt", fmt, counts=value == "intersection")

    named = named_models(models, least=2)
    names = chosen_order(list(named), order)
    sets = topk_sets({name: named[name] for name in names}, topk, part, seed_group_policy)
    if cluster or order == "cluster":
        names = clustered(names, 1.0 - shares(intersections(sets.values())))
    groups = {} if pretty_groups is None else complete_groups(names, pretty_groups)
    names = [name for members in groups.values() for name in members] or names
    sets = {name: sets[name] for name in names}
    counts = intersections(sets.values())
    matrix = shares(counts) if percentages or value == "intersection_frac" else counts
    matrix = 100.0 * matrix if percentages else matrix
    meaning = "shared weights" if value == "intersection" else "share of the smaller set"
    if percentages:
        meaning = "shared weights in % (of the smaller set)"
    texts = [[format(float(number), written) for number in row] for row in matrix]
    shown = [str(name) for name in names]
    drawn = DrawnMatrix(matrix, shown, shown, texts, meaning, colors, groups, groups, options)
    data: dict[str, Any] = {"per_model": sets, "model_ids": names, "matrix": matrix.tolist()}
    data |= {"value": value, "topk": topk, "part": part, **({"pretty_groups": groups} if groups else {})}
    return drawn.deliver(drawn.draw(f"Overlap of the top {topk:,} by {part}"), path, data)
