"""The drawing of how many elements each combination of sets has, as bars over dots (Lex et al. 2014, UpSet)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gradiend.visualizer.output import new_figure
from gradiend.visualizer.style import OKABE_ITO, REFERENCE_COLOR, shown, tidy
from gradiend.visualizer.topk.overlap import combination_sizes
from gradiend.visualizer.topk.venn_style import VennStyle

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_COLUMNS = 32
"""Combinations with a bar of their own; the smaller ones are added up in a last one."""

_EMPTY, _REST = "#DDDDDD", "#BBBBBB"


def upset_figure(sets: Mapping[str, Sequence[int]], style: VennStyle) -> Figure:
    """Draw a bar for each combination of sets, the largest first: how many elements only these sets have.

    Args:
        sets: By name.
        style: How.

    Returns:
        A figure that pyplot does not know.

    Raises:
        ImportError: matplotlib is not installed.
    """
    columns, rest = _columns(combination_sizes(sets), everything=frozenset(sets))
    width = 3.2 + 0.3 * (len(columns) + bool(rest))
    figure = new_figure(style.figsize or (width, 3.2 + 0.32 * len(sets)))
    bars, dots = figure.subplots(2, 1, sharex=True, height_ratios=(3.2, 0.32 * len(sets)))
    _draw_bars(bars, [size for _, size in columns], rest, style)
    _draw_dots(dots, list(sets), [members for members, _ in columns], style)
    labels = [f"{shown(str(style.names.get(name, name)), lines=1)} ({len(ids):,})" for name, ids in sets.items()]
    dots.set_yticks(range(len(sets)), labels, fontsize=style.names_fontsize or 10)
    if rest:
        dots.text(len(columns), len(sets) / 2 - 0.5, f"{len(rest)} others", rotation=90, ha="center", va="center")
    if style.title:
        figure.suptitle(style.title, fontsize=13)
    return figure


def _columns(
    sizes: Mapping[frozenset[str], int], everything: frozenset[str]
) -> tuple[list[tuple[frozenset[str], int]], list[int]]:
    """(combinations to show, what is common to all among them, and their sizes; the sizes of the others)."""
    ordered = sorted(sizes.items(), key=lambda item: -item[1])
    if len(ordered) <= MOST_COLUMNS:
        return ordered, []
    kept = ordered[: MOST_COLUMNS - 1]
    if everything in sizes and everything not in dict(kept):
        kept = [*kept[:-1], (everything, sizes[everything])]
    drawn = dict(kept)
    return kept, [size for members, size in ordered if members not in drawn]


def _draw_bars(ax: Axes, sizes: Sequence[int], rest: Sequence[int], style: VennStyle) -> None:
    heights = [*sizes, *([sum(rest)] if rest else [])]
    colors = [REFERENCE_COLOR] * len(sizes) + [_REST] * bool(rest)
    options: dict[str, Any] = {"edgecolor": "black", "linewidth": style.linewidth or 0}
    bars = ax.bar(range(len(heights)), heights, width=0.7, color=colors, **options)
    texts = [f"{height:,}" for height in heights]
    # Numbers of up to three digits fit above a bar as they are.
    turned = any(len(text) > 3 for text in texts)
    ax.bar_label(bars, texts, padding=2, fontsize=style.counts_fontsize or 8, rotation=90 if turned else 0)
    ax.margins(y=0.16 if turned else 0.06)
    ax.set_xlim(-0.8, len(heights) - 0.2)
    ax.set_ylabel("weights of exactly these")
    ax.yaxis.set_major_formatter("{x:,.0f}")
    ax.tick_params(axis="x", length=0)
    tidy(ax)


def _draw_dots(ax: Axes, names: Sequence[str], columns: Sequence[frozenset[str]], style: VennStyle) -> None:
    for row, (name, color) in enumerate(zip(names, OKABE_ITO, strict=False)):
        ax.axhspan(row - 0.45, row + 0.45, color=color, alpha=0.25 * style.alpha, linewidth=0)
        inside = [place for place, members in enumerate(columns) if name in members]
        outside = [place for place, members in enumerate(columns) if name not in members]
        ax.scatter(outside, [row] * len(outside), s=38, color=_EMPTY, zorder=2)
        ax.scatter(inside, [row] * len(inside), s=42, color=color, zorder=3)
    for place, members in enumerate(columns):
        rows = [row for row, name in enumerate(names) if name in members]
        ax.plot([place, place], [rows[0], rows[-1]], color=REFERENCE_COLOR, linewidth=1.6, zorder=1.5)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.set_xticks([])
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
