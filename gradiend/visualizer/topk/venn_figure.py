"""The drawing of Venn diagrams of two to five sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gradiend.util._imports import require_package
from gradiend.visualizer.legend import LegendPlace, add_legend
from gradiend.visualizer.output import new_figure, require_matplotlib
from gradiend.visualizer.style import OKABE_ITO, shown
from gradiend.visualizer.topk.venn_style import VennStyle

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_SETS = 5
"""The numbers of the 63 regions of six sets would touch."""

_CIRCLES_UP_TO = 3


def venn_figure(sets: Mapping[str, Sequence[int]], style: VennStyle) -> Figure:
    """Draw a region for each combination of sets, with how many elements only these sets have.

    All regions are drawn in a fixed size: areas in proportion would be too small for their numbers, since
    overlaps of top-k sets are often a few of thousands. Of four sets and more, a region without number is empty.

    Args:
        sets: Two to five, by name.
        style: How.

    Returns:
        A figure that pyplot does not know.

    Raises:
        ImportError: matplotlib, or matplotlib_venn (up to three sets) or venn (more), is not installed.
    """
    circles = len(sets) <= _CIRCLES_UP_TO
    figure = new_figure(style.figsize or ((6.5, 4.6) if circles else (8.5, 9.0)))
    ax = figure.subplots()
    colors = OKABE_ITO[: len(sets)]
    (_circles if circles else _petals)(ax, sets, colors, style)
    if style.linewidth is not None:
        for patch in ax.patches:
            patch.set_linewidth(style.linewidth)
    handles = [
        ax.scatter(
            [],
            [],
            s=70,
            color=color,
            alpha=style.alpha,
            label=f"{shown(str(style.names.get(name, name)))} ({len(indices):,})",
        )
        for (name, indices), color in zip(sets.items(), colors, strict=True)
    ]
    place: dict[str, Any] = {} if circles else {"outside": "outside lower center", "outside_ncol": 2}
    add_legend(ax, handles, LegendPlace(), fontsize=style.names_fontsize or 10, **place)
    if style.title:
        figure.suptitle(style.title, fontsize=13)
    return figure


def require_venn_package(sets: int) -> None:
    """Raise ImportError, with what to install, without the packages that draw so many sets."""
    require_matplotlib()
    if sets <= _CIRCLES_UP_TO:
        require_package("matplotlib_venn", "A Venn diagram of two or three models", "plot")
    elif sets <= MOST_SETS:
        require_package("venn", "A Venn diagram of four or five models", "plot")


def _circles(ax: Axes, sets: Mapping[str, Sequence[int]], colors: Sequence[str], style: VennStyle) -> None:
    import matplotlib_venn  # noqa: PLC0415 - optional
    from matplotlib_venn.layout.venn2 import DefaultLayoutAlgorithm as Two  # noqa: PLC0415
    from matplotlib_venn.layout.venn3 import DefaultLayoutAlgorithm as Three  # noqa: PLC0415

    members = [set(indices) for indices in sets.values()]
    options: dict[str, Any] = {"set_labels": None, "set_colors": colors, "alpha": style.alpha, "ax": ax}
    if len(members) == 2:
        diagram = matplotlib_venn.venn2(members, layout_algorithm=Two(fixed_subset_sizes=(1, 1, 1)), **options)
    else:
        diagram = matplotlib_venn.venn3(members, layout_algorithm=Three(fixed_subset_sizes=(1,) * 7), **options)
    for label in diagram.subset_labels:
        if label is not None:
            label.set_fontsize(style.counts_fontsize or 11)
            label.set_text(f"{int(label.get_text()):,}")


def _petals(ax: Axes, sets: Mapping[str, Sequence[int]], colors: Sequence[str], style: VennStyle) -> None:
    from venn import venn  # noqa: PLC0415 - optional

    venn(
        {name: set(indices) for name, indices in sets.items()},
        ax=ax,
        cmap=list(colors),
        alpha=style.alpha,
        fmt="{size:,}",
        fontsize=style.counts_fontsize or 11,
        legend_loc=None,
    )
    for text in ax.texts:
        if text.get_text() == "0":
            text.set_text("")
