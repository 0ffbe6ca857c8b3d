"""The heatmap of any comparison between several models."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from gradiend.util._checks import require_mapping, require_path
from gradiend.util._files import write_csv
from gradiend.util._keywords import known_keywords, nearest, one_of
from gradiend.visualizer._arrangement import DISPLAYS, Matrix, Payload, cell_texts, copied, require_known
from gradiend.visualizer._matrix import DrawnMatrix, HeatmapOptions, by_text
from gradiend.visualizer._output import plot_keywords
from gradiend.visualizer._style import REFERENCE_COLOR

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DAGGER = " †"
"""The mark behind the name of a model that has not converged."""


@plot_keywords
def plot_comparison_heatmap(
    payload: Mapping[str, Any], order: str | Sequence[str] = "input", cluster: bool = False, annot: bool | str = "auto",
    annot_fmt: str | None = None, fmt: str | None = None, figsize: tuple[float, float] | None = None,
    cmap: str = "coolwarm", vmin: float | None = None, vmax: float | None = None, scale: str = "linear",
    scale_gamma: float | None = None, title: bool | str | None = False, output_path: str | Path | None = None,
    csv: str | Path | None = None, show: bool = True, return_data: bool = True, return_fig_ax: bool = False,
    ax: Axes | None = None, pretty_groups: Mapping[str, Sequence[str]] | None = None, dispersion_display: str = "none",
    seed_annotation: bool = False, converged_by_id: Mapping[str, Any] | None = None, percentages: bool = False,
    annot_fontsize: float | None = None, tick_label_fontsize: float | None = None,
    group_label_fontsize: float | None = None, group_label_rotation_top: float = 0,
    group_label_rotation_right: float = 0, cbar_pad: float | None = None, cbar_fontsize: float | None = None,
    cbar_shrink: float | None = None, cbar_label: str | None = None, row_metric: Mapping[str, float] | None = None,
    row_metric_label: str | None = "corr", row_metric_cmap: str = "magma", row_metric_vmin: float | None = None,
    row_metric_vmax: float | None = None, row_label_mapping: Mapping[str, str] | None = None,
    column_label_mapping: Mapping[str, str] | None = None,
) -> Any:  # fmt: skip
    """Plot a comparison as a heatmap.

    Args:
        payload: The dict of a comparison, such as that of `compute_similarity_matrix`: measure, matrix and names
            (model_ids, or rows and columns).
        order: "input", "name", "cluster" (see `cluster`), or a list of the names to show. Where rows and columns
            have different names, a list orders those that it names.
        cluster: Put rows, and columns, that are alike beside each other: by average linkage on the similarities of a
            symmetric matrix, otherwise on the root mean square distances between rows, and between columns.
        annot: Write the numbers into the cells; "auto" writes them in up to 225 cells.
        annot_fmt: Format of the numbers in the cells, e.g. ".2f".
        fmt: The former name of `annot_fmt`, with a DeprecationWarning.
        figsize: Width and height in inches.
        cmap: Colormap.
        vmin: Value of the lowest colour; default 0, for the logarithmic scale the smallest positive value, where there
            are negative numbers the opposite of the highest.
        vmax: Value of the highest colour; default the largest value, where there are negative ones the largest
            absolute value.
        scale: "linear", "log", "sqrt", or "power" with `scale_gamma`; negative numbers are mirrored.
        scale_gamma: Exponent of the power scale, above 0.
        title: True for a default title, a string for another.
        output_path: The file to write; its extension is the format, png without an extension.
        csv: A CSV file for the numbers, in the order of the figure and with the names of the comparison.
        show: Show the figure.
        return_data: Return the comparison in the order of the figure; False returns an empty dict.
        return_fig_ax: Return (dict, figure, axes).
        ax: Axes of another figure to draw in.
        pretty_groups: {title: names}: put these rows (and columns) beside each other under a bracket; the rest is
            "Other".
        dispersion_display: The spread of a cell over seeds: "none", "stacked" (below the number) or "corner_glyph" (a
            triangle in the corner, as large as the spread is beside the largest).
        seed_annotation: Say below the figure what the numbers of several seeds are.
        converged_by_id: {name: whether it has converged}: names that have not get a dagger.
        percentages: Show fractions in percent.
        annot_fontsize: Size of the numbers in points.
        tick_label_fontsize: Size of the names in points.
        group_label_fontsize: Size of the titles of groups in points.
        group_label_rotation_top: Rotation of the titles above in degrees.
        group_label_rotation_right: Rotation of the titles on the right in degrees.
        cbar_pad: Space before the colour bar, as a share of the axes.
        cbar_fontsize: Size of the text of the colour bar in points.
        cbar_shrink: Height of the colour bar, as a share of the axes.
        cbar_label: Text of the colour bar; default what the measure is.
        row_metric: A number of each row (such as a correlation), shown beside it.
        row_metric_label: Name of the number beside the rows.
        row_metric_cmap: Colormap of the numbers beside the rows.
        row_metric_vmin: Number with the lowest colour; default 0, or the smallest number if it is negative.
        row_metric_vmax: Number with the highest colour; default 1, or the largest number if it is larger.
        row_label_mapping: Display names of the rows.
        column_label_mapping: Display names of the columns.

    Returns:
        The comparison, its rows, columns and cells in the order of the figure, with pretty_groups where given.

    Raises:
        TypeError: payload is no dict.
        ValueError: The names do not fit the matrix; an order, scale, group, name or format is unknown; the spread of a
            comparison without seeds, or counts in percent, are asked for; or the file is no image.
        ImportError: matplotlib is not installed.
    """
    options = HeatmapOptions.of(locals())
    given = Payload.parse(payload)
    path = options.path(output_path, also=csv is not None)
    if csv is not None:
        require_path("csv", csv)
    one_of("dispersion_display", dispersion_display, DISPLAYS)
    if percentages and given.counts:
        raise ValueError("percentages=True shows fractions in percent; counts have none: value='intersection_frac'.")
    written = options.number_format("annot_fmt", _one_format(annot_fmt, fmt), counts=given.counts)
    options = _with_daggers(options, given, by_text(converged_by_id))
    colors = options.colors(signed=given.signed)
    arranged = given.arranged(order, cluster, pretty_groups)
    factor = 100.0 if percentages else 1.0
    texts = cell_texts(arranged, written, factor, dispersion_display)
    meaning = cbar_label or arranged.meaning + (" in %" if percentages else "")
    drawn = DrawnMatrix(
        factor * arranged.matrix, arranged.rows, arranged.columns, texts, meaning, colors, arranged.row_groups,
        arranged.column_groups, options,
    )  # fmt: skip
    notes = _notes(arranged, options, dispersion_display, seeds=seed_annotation)
    drawn_in = drawn.draw(f"Comparison by {arranged.content.get('measure', 'value')}")
    if dispersion_display == "corner_glyph":
        _draw_glyphs(drawn_in, arranged.widths())
    if notes:
        drawn_in.figure.supxlabel(notes, fontsize=8, color=REFERENCE_COLOR)
    if csv is not None:
        write_csv(csv, pd.DataFrame(arranged.matrix, index=arranged.rows, columns=arranged.columns), index=True)
    return drawn.deliver(drawn_in, path, arranged.content)


@known_keywords("comparison_matrix_from_cell_stat")
def comparison_matrix_from_cell_stat(payload: Mapping[str, Any], field: str = "std") -> Any:
    """Make a comparison of its own of a statistic of the cells of another one, such as their spread over seeds.

    Args:
        payload: A comparison of several seeds.
        field: A number that its `cell_stats` have: aggregate, n, min, max, and std or range_half_width where computed.

    Returns:
        A comparison like `payload` whose matrix has this statistic, NaN for a cell without it.

    Raises:
        TypeError: payload is no dict.
        ValueError: The comparison has no cell_stats, or they have no such number.
    """
    require_mapping("payload", payload)
    stats = payload.get("cell_stats")
    if not stats:
        raise ValueError("This comparison has no cell_stats: only one of several seeds has (SeedModelGroup).")
    cells = [cell for row in stats for cell in row if cell]
    known = {key for cell in cells for key, value in cell.items() if isinstance(value, int | float)}
    if field not in known:
        raise ValueError(f"cell_stats have {', '.join(sorted(known))}; got field={field!r}.{nearest(field, known)}")
    result: Any = copied(payload)
    result["matrix"] = [[float((cell or {}).get(field, np.nan)) for cell in row] for row in stats]
    result["measure"] = f"{field} of {payload.get('measure', 'value')}"
    for key in ("interval", "interval_note", "null_level", "same_seed_null", "cell_stats"):
        result.pop(key, None)
    return result


def _one_format(annot_fmt: str | None, fmt: str | None) -> str | None:
    if fmt is None:
        return annot_fmt
    if annot_fmt is not None:
        raise TypeError("plot_comparison_heatmap got 'fmt' and 'annot_fmt', which mean the same: give annot_fmt.")
    warnings.warn("fmt is the former name of annot_fmt: write annot_fmt.", DeprecationWarning, stacklevel=4)
    return fmt


def _with_daggers(options: HeatmapOptions, given: Payload, converged: Mapping[str, Any]) -> HeatmapOptions:
    """The options with a dagger behind the display names of rows and columns that have not converged."""
    require_known("converged_by_id", converged, list(dict.fromkeys([*given.rows, *given.columns])))
    found = []
    for names, mapping in ((given.rows, options.row_label_mapping), (given.columns, options.column_label_mapping)):
        chosen = by_text(mapping)
        marks = {name: "" if converged.get(name, True) else DAGGER for name in names}
        found.append({name: f"{chosen.get(name, name)}{mark}" for name, mark in marks.items()})
    return replace(options, row_label_mapping=found[0], column_label_mapping=found[1])


def _notes(arranged: Payload, options: HeatmapOptions, display: str, *, seeds: bool) -> str:
    """The line below the figure."""
    found = []
    if seeds:
        arranged.spreads()
        found.append(arranged.notes())
    if display == "corner_glyph":
        found.append(f"corner: spread, the largest is ±{arranged.widths().max():.2g}")
    of_rows, of_columns = options.row_label_mapping or {}, options.column_label_mapping or {}
    shown = [of_rows[name] for name in arranged.rows] + [of_columns[name] for name in arranged.columns]
    if any(label.endswith(DAGGER) for label in shown):
        found.append("†: has not converged")
    return "   ".join(found)


def _draw_glyphs(ax: Axes, widths: Matrix) -> None:
    """Draw a triangle in the upper right corner of each cell, whose legs are in proportion to the cell's spread."""
    from matplotlib.patches import Polygon  # noqa: PLC0415 - optional

    for (row, column), width in np.ndenumerate(widths):
        if width > 0:
            leg = 0.4 * float(width) / float(widths.max())
            corner = [(column + 0.5, row - 0.5), (column + 0.5 - leg, row - 0.5), (column + 0.5, row - 0.5 + leg)]
            ax.add_patch(Polygon(corner, closed=True, facecolor=REFERENCE_COLOR, linewidth=0))
