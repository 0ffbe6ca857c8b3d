"""Which top-k weights two to six models share: a Venn diagram, or bars for six."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gradiend.visualizer.keywords import plot_keywords
from gradiend.visualizer.output import deliver, with_image_suffix
from gradiend.visualizer.topk.sets import DEFAULT_PART, Models, compute_topk_sets, named_models
from gradiend.visualizer.topk.upset_figure import upset_figure
from gradiend.visualizer.topk.venn_figure import MOST_SETS, require_venn_package, venn_figure
from gradiend.visualizer.topk.venn_style import VennStyle

MOST_MODELS = 6


@plot_keywords
def plot_topk_overlap_venn(
    models: Models,
    topk: float = 1000,
    part: str = DEFAULT_PART,
    output_path: str | Path | None = None,
    show: bool = True,
    figsize: tuple[float, float] | None = None,
    circle_names_fontsize: float | None = None,
    region_counts_fontsize: float | None = None,
    patch_linewidth: float | None = None,
    alpha: float = 0.5,
    title: str | None = None,
    label_mapping: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Plot how many of their top-k weights two to six models share, combination by combination.

    Up to five models are a Venn diagram. Its numbers would touch for the 63 combinations of six: these are bars, the
    largest first, over dots that say which models have these weights (an UpSet plot).

    Args:
        models: {name: model}; a model needs only `get_topk_weights(part=, topk=)`.
        topk: How many weights of each model, or which share of them.
        part: The part whose weights are ranked, e.g. decoder-weight.
        output_path: File; its extension is the format, png without one.
        show: Show the figure.
        figsize: Inches.
        circle_names_fontsize: Points of the names of the models.
        region_counts_fontsize: Points of the numbers.
        patch_linewidth: Points of the outlines.
        alpha: Opacity of the sets, or of the colours behind the dots, 0 to 1.
        title: Heading.
        label_mapping: Display names of the models.

    Returns:
        {per_model: {name: indices}, intersection, union, topk, part}; indices ascending.

    Raises:
        ValueError: Fewer than two or more than six models, or a file of no image format.
        ImportError: matplotlib, matplotlib_venn (up to three models) or venn (four, five) is not installed.
    """
    path = with_image_suffix(output_path)
    named = named_models(models, least=2, most=MOST_MODELS)
    require_venn_package(len(named))
    per_model, common, union = compute_topk_sets(named, topk, part)
    style = VennStyle(
        figsize, circle_names_fontsize, region_counts_fontsize, patch_linewidth, alpha, title, label_mapping or {}
    )
    figure = (venn_figure if len(per_model) <= MOST_SETS else upset_figure)(per_model, style)
    deliver(figure, path, show=show)
    return {"per_model": per_model, "intersection": common, "union": union, "topk": topk, "part": part}


def plot_topk_overlap(
    models: Models,
    topk: float = 100,
    part: str = DEFAULT_PART,
    output_path: str | Path | None = None,
    show: bool = False,
    **kwargs: Any,
) -> dict[str, Any]:
    """`plot_topk_overlap_venn` that shows nothing unless asked to: the overlap as numbers, and a file if given."""
    return plot_topk_overlap_venn(models, topk, part, output_path, show, **kwargs)


def plot_topk_venn(
    models: Models,
    topk: float = 100,
    part: str = DEFAULT_PART,
    output_path: str | Path | None = None,
    show: bool = False,
    **kwargs: Any,
) -> None:
    """`plot_topk_overlap_venn` without the numbers: draws a file, or the screen with `show`."""
    plot_topk_overlap_venn(models, topk, part, output_path, show, **kwargs)
