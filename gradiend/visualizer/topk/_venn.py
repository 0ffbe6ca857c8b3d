"""The plot of the top-k weights that two to six models share: a Venn diagram, or bars for six models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradiend.util._imports import require_package
from gradiend.visualizer._output import FigureOptions, plot_keywords, require_matplotlib, with_image_suffix
from gradiend.visualizer._style import OKABE_ITO, REFERENCE_COLOR, add_legend, shown, tidy
from gradiend.visualizer.topk._overlaps import DEFAULT_PART, Models, combination_sizes, compute_topk_sets, named_models

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_MODELS = 6

MOST_SETS = 5
"""The most sets of a Venn diagram: the numbers in the 63 regions of six sets would touch."""

MOST_COLUMNS = 32
"""Number of bars; the last bar adds up the smaller combinations if there are more."""

_CIRCLES_UP_TO = 3
_LACKING, _REST = "#DDDDDD", "#BBBBBB"


@plot_keywords
def plot_topk_overlap_venn(
    models: Models, topk: float = 1000, part: str = DEFAULT_PART, output_path: str | Path | None = None,
    show: bool = True, figsize: tuple[float, float] | None = None, circle_names_fontsize: float | None = None,
    region_counts_fontsize: float | None = None, patch_linewidth: float | None = None, alpha: float = 0.5,
    title: str | None = None, label_mapping: Mapping[str, str] | None = None, seed_group_policy: str = "primary",
) -> dict[str, Any]:  # fmt: skip
    """Plot how many of their top-k weights two to six models share, combination by combination.

    Up to five models give a Venn diagram. Six models have 63 combinations, whose numbers would touch there: they give
    bars, the largest first, over dots that show which models have these weights (an UpSet plot).

    Arguments that are not described are those of `plot_training_convergence`.

    Args:
        models: {name: model}; a model needs only `get_topk_weights(part=, topk=)`.
        topk: How many weights of each model, or which share of them.
        part: The part whose weights are ranked, e.g. decoder-weight.
        output_path: The file to write; its extension is the format, png without an extension.
        circle_names_fontsize: Size of the names of the models in points.
        region_counts_fontsize: Size of the numbers in points.
        patch_linewidth: Width of the outlines in points.
        alpha: Opacity of the sets, or of the colours behind the dots, 0 to 1.
        title: Title of the figure.
        label_mapping: Display names of the models.
        seed_group_policy: Of a SeedModelGroup, the set of its "primary" (best) model, or the "union" or "intersection"
            of the sets of its seeds.

    Returns:
        {per_model: {name: indices}, intersection, union, topk, part}; indices ascending.

    Raises:
        ValueError: There are fewer than two or more than six models, or the file has no image format.
        ImportError: matplotlib, matplotlib_venn (up to three models) or venn (four, five) is not installed.
    """
    options = VennOptions.of(locals())
    path = with_image_suffix(output_path)
    named = named_models(models, least=2, most=MOST_MODELS)
    require_matplotlib()
    if len(named) <= _CIRCLES_UP_TO:
        require_package("matplotlib_venn", "A Venn diagram of two or three models", "plot")
    elif len(named) <= MOST_SETS:
        require_package("venn", "A Venn diagram of four or five models", "plot")
    per_model, common, union = compute_topk_sets(named, topk, part, seed_group_policy)
    figure = (venn_figure if len(per_model) <= MOST_SETS else upset_figure)(per_model, options)
    options.deliver(figure, path, figure.axes)
    return {"per_model": per_model, "intersection": common, "union": union, "topk": topk, "part": part}


def plot_topk_overlap(
    models: Models, topk: float = 100, part: str = DEFAULT_PART, output_path: str | Path | None = None,
    show: bool = False, **kwargs: Any,
) -> dict[str, Any]:  # fmt: skip
    """Call `plot_topk_overlap_venn` without showing the figure by default, for its numbers, and for a file if given."""
    return plot_topk_overlap_venn(models, topk, part, output_path, show, **kwargs)


def plot_topk_venn(
    models: Models, topk: float = 100, part: str = DEFAULT_PART, output_path: str | Path | None = None,
    show: bool = False, **kwargs: Any,
) -> None:  # fmt: skip
    """Call `plot_topk_overlap_venn` for its figure alone, in a file, or on the screen with `show`."""
    plot_topk_overlap_venn(models, topk, part, output_path, show, **kwargs)


@dataclass(frozen=True, kw_only=True)
class VennOptions(FigureOptions):
    """The look of combinations of sets, as a Venn diagram or as bars; see `plot_topk_overlap_venn`."""

    circle_names_fontsize: float | None = None
    region_counts_fontsize: float | None = None
    patch_linewidth: float | None = None
    alpha: float = 0.5
    label_mapping: Mapping[str, str] | None = None

    def labels(self, sets: Mapping[str, Sequence[int]], lines: int) -> list[str]:
        """Return the display name and the size of each set, in at most `lines` lines."""
        chosen = self.label_mapping or {}
        return [f"{shown(str(chosen.get(name, name)), lines=lines)} ({len(ids):,})" for name, ids in sets.items()]


def venn_figure(sets: Mapping[str, Sequence[int]], options: VennOptions) -> Figure:
    """Draw a region for each combination of two to five sets, with how many elements only these sets have.

    All regions are drawn in a fixed size: areas in proportion would be too small for their numbers, since
    overlaps of top-k sets are often a few of thousands. With four sets and more, a region without number is empty.
    """
    circles = len(sets) <= _CIRCLES_UP_TO
    figure = options.figure((6.5, 4.6) if circles else (8.5, 9.0))
    ax = figure.subplots()
    colors = OKABE_ITO[: len(sets)]
    (_circles if circles else _petals)(ax, sets, colors, options)
    if options.patch_linewidth is not None:
        for patch in ax.patches:
            patch.set_linewidth(options.patch_linewidth)
    handles = [
        ax.scatter([], [], s=70, color=color, alpha=options.alpha, label=label)
        for label, color in zip(options.labels(sets, lines=3), colors, strict=True)
    ]
    place: dict[str, Any] = {} if circles else {"outside": "outside lower center", "outside_ncol": 2}
    add_legend(ax, handles, fontsize=options.circle_names_fontsize or 10, **place)
    return figure


def _circles(ax: Axes, sets: Mapping[str, Sequence[int]], colors: Sequence[str], options: VennOptions) -> None:
    import matplotlib_venn  # noqa: PLC0415 - optional
    from matplotlib_venn.layout.venn2 import DefaultLayoutAlgorithm as Two  # noqa: PLC0415
    from matplotlib_venn.layout.venn3 import DefaultLayoutAlgorithm as Three  # noqa: PLC0415

    members = [set(indices) for indices in sets.values()]
    look: dict[str, Any] = {"set_labels": None, "set_colors": colors, "alpha": options.alpha, "ax": ax}
    if len(members) == 2:
        diagram = matplotlib_venn.venn2(members, layout_algorithm=Two(fixed_subset_sizes=(1, 1, 1)), **look)
    else:
        diagram = matplotlib_venn.venn3(members, layout_algorithm=Three(fixed_subset_sizes=(1,) * 7), **look)
    for label in diagram.subset_labels:
        if label is not None:
            label.set_fontsize(options.region_counts_fontsize or 11)
            label.set_text(f"{int(label.get_text()):,}")


def _petals(ax: Axes, sets: Mapping[str, Sequence[int]], colors: Sequence[str], options: VennOptions) -> None:
    from venn import venn  # noqa: PLC0415 - optional

    members = {name: set(indices) for name, indices in sets.items()}
    size = options.region_counts_fontsize or 11
    venn(members, ax=ax, cmap=list(colors), alpha=options.alpha, fmt="{size:,}", fontsize=size, legend_loc=None)
    for text in ax.texts:
        if text.get_text() == "0":
            text.set_text("")


def upset_figure(sets: Mapping[str, Sequence[int]], options: VennOptions) -> Figure:
    """Draw a bar for each combination of sets, the largest first: how many elements only these sets have.

    Dots below a bar show its sets (Lex et al. 2014, UpSet).
    """
    columns, rest = _columns(combination_sizes(sets), everything=frozenset(sets))
    width = 3.2 + 0.3 * (len(columns) + bool(rest))
    figure = options.figure((width, 3.2 + 0.32 * len(sets)))
    bars, dots = figure.subplots(2, 1, sharex=True, height_ratios=(3.2, 0.32 * len(sets)))
    _draw_bars(bars, [size for _, size in columns], rest, options)
    _draw_dots(dots, list(sets), [members for members, _ in columns], options)
    dots.set_yticks(range(len(sets)), options.labels(sets, lines=1), fontsize=options.circle_names_fontsize or 10)
    if rest:
        dots.text(len(columns), len(sets) / 2 - 0.5, f"{len(rest)} others", rotation=90, ha="center", va="center")
    return figure


def _columns(
    sizes: Mapping[frozenset[str], int], everything: frozenset[str]
) -> tuple[list[tuple[frozenset[str], int]], list[int]]:
    """Return the combinations to show, with their sizes and always with the one of all sets, and the other sizes."""
    ordered = sorted(sizes.items(), key=lambda item: -item[1])
    if len(ordered) <= MOST_COLUMNS:
        return ordered, []
    kept = ordered[: MOST_COLUMNS - 1]
    if everything in sizes and everything not in dict(kept):
        kept = [*kept[:-1], (everything, sizes[everything])]
    drawn = dict(kept)
    return kept, [size for members, size in ordered if members not in drawn]


def _draw_bars(ax: Axes, sizes: Sequence[int], rest: Sequence[int], options: VennOptions) -> None:
    heights = [*sizes, *([sum(rest)] if rest else [])]
    colors = [REFERENCE_COLOR] * len(sizes) + [_REST] * bool(rest)
    width = options.patch_linewidth or 0
    bars = ax.bar(range(len(heights)), heights, width=0.7, color=colors, edgecolor="black", linewidth=width)
    texts = [f"{height:,}" for height in heights]
    # Numbers of up to three digits fit above a bar as they are.
    turned = any(len(text) > 3 for text in texts)
    ax.bar_label(bars, texts, padding=2, fontsize=options.region_counts_fontsize or 8, rotation=90 if turned else 0)
    ax.margins(y=0.16 if turned else 0.06)
    ax.set_xlim(-0.8, len(heights) - 0.2)
    ax.set_ylabel("weights of exactly these")
    ax.yaxis.set_major_formatter("{x:,.0f}")
    ax.tick_params(axis="x", length=0)
    tidy(ax)


def _draw_dots(ax: Axes, names: Sequence[str], columns: Sequence[frozenset[str]], options: VennOptions) -> None:
    for row, (name, color) in enumerate(zip(names, OKABE_ITO, strict=False)):
        ax.axhspan(row - 0.45, row + 0.45, color=color, alpha=0.25 * options.alpha, linewidth=0)
        inside = [place for place, members in enumerate(columns) if name in members]
        outside = [place for place, members in enumerate(columns) if name not in members]
        ax.scatter(outside, [row] * len(outside), s=38, color=_LACKING, zorder=2)
        ax.scatter(inside, [row] * len(inside), s=42, color=color, zorder=3)
    for place, members in enumerate(columns):
        rows = [row for row, name in enumerate(names) if name in members]
        ax.plot([place, place], [rows[0], rows[-1]], color=REFERENCE_COLOR, linewidth=1.6, zorder=1.5)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.set_xticks([])
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
