"""Where the encoder puts the examples of each transition, and neutral text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from gradiend.util.paths import safe_name
from gradiend.visualizer.distribution_figure import FontSizes, Names, distribution_figure
from gradiend.visualizer.encoder_frame import Encodings
from gradiend.visualizer.encoding_groups import encoding_groups, group_name, merged, ordered, paired
from gradiend.visualizer.keywords import plot_keywords
from gradiend.visualizer.legend import LegendPlace
from gradiend.visualizer.output import deliver, require_destination, with_format
from gradiend.visualizer.style import DEFAULT_CMAP, shown

DEFAULT_NAME = "encoder_analysis"
DEFAULT_NAME_IN_DIR = "encoder_distributions"


class EncodedRun(Protocol):
    """What the plot asks of a trainer."""

    @property
    def run_id(self) -> str | None:
        """Name of the run."""

    @property
    def pair(self) -> tuple[str, str] | None:
        """The two target classes, first the one that encodes positive."""

    @property
    def experiment_dir(self) -> str | Path | None:
        """Where the run keeps its files."""


@plot_keywords
def plot_encoder_distributions(
    trainer: EncodedRun,
    encoder_df: Encodings | None = None,
    output: str | Path | None = None,
    output_dir: str | Path | None = None,
    show: bool = True,
    title: bool | str = True,
    violin_order: Sequence[str] | None = None,
    paired_legend_labels: Sequence[str] | None = None,
    legend_name_mapping: Mapping[str, str] | None = None,
    legend_group_mapping: Mapping[str, Sequence[str]] | None = None,
    title_fontsize: float | None = None,
    label_fontsize: float | None = None,
    axis_label_fontsize: float | None = None,
    legend_fontsize: float | None = None,
    colors: Mapping[str, str] | Sequence[str] | None = None,
    legend_loc: str | None = "best",
    legend_ncol: int | None = None,
    legend_bbox_to_anchor: tuple[float, ...] | None = None,
    cmap: str = DEFAULT_CMAP,
    img_format: str = "png",
    dpi: float | None = None,
    figsize: tuple[float, float] | None = None,
    target_and_neutral_only: bool = True,
    ignore_missing_legend_group_labels: bool = False,
    return_fig_ax: bool = False,
) -> Any:
    """Plot the encodings of each transition `factual -> alternative` and of each kind of neutral text.

    Every example is a point (of large groups, an even sample), over the density where there is any spread,
    with a triangle at the median. Groups are called `a -> b` (or `a → b`), a neutral type, or, in most options, by
    their factual class alone.

    Args:
        trainer: The run that the frame belongs to; gives order, names and the default path.
        encoder_df: One row per example: encoded, label, type, optionally source_id and target_id; or a result that
            holds it.
        output: File; an image extension is replaced by `img_format`.
        output_dir: Without `output`, the file is <run_id>_encoder_distributions.<img_format> in there.
            Without both it is encoder_analysis.<img_format> in the trainer's experiment_dir.
        show: Show the figure.
        title: True for a default title, a string for another, False for none.
        violin_order: Groups ("a -> b", a neutral type) or factual classes ("a") that come first.
        paired_legend_labels: Groups that are the left and right halves of violins, in turn: two names for each
            violin. Every other group has a violin of its own.
        legend_name_mapping: Display names by class, neutral type or group.
        legend_group_mapping: {title: groups or factual classes} that are drawn as one group of that name.
        title_fontsize: Points.
        label_fontsize: Points of the group names.
        axis_label_fontsize: Points of the axis label.
        legend_fontsize: Points of the legend.
        colors: Colours by factual class, neutral type or group, or a list in the order of the legend.
        legend_loc: Place in the plot; "best", the default, is beside it, where nothing is covered.
        legend_ncol: Columns of the legend.
        legend_bbox_to_anchor: Anchor of the legend, in coordinates of the axes.
        cmap: Colormap for factual classes; the default gives way to a colour-blind safe palette for up to 16.
        img_format: File format.
        dpi: Pixels per inch of raster formats.
        figsize: Inches.
        target_and_neutral_only: Leave out identity examples of other classes (label 0).
        ignore_missing_legend_group_labels: Pass over names in legend_group_mapping that fit no group.
        return_fig_ax: Return (figure, axes).

    Returns:
        The path of the file, "" if none was written.

    Raises:
        ValueError: The frame is missing, empty or broken; an option names an unknown group or format;
            or neither a path nor `show`.
        ImportError: matplotlib is not installed.
    """
    path = _destination(trainer, output, output_dir, img_format)
    require_destination(path, show or return_fig_ax, "output, output_dir or a trainer with an experiment_dir")
    groups = encoding_groups(
        encoder_df, first_classes=trainer.pair or (), target_and_neutral_only=target_and_neutral_only
    )
    groups = merged(groups, legend_group_mapping or {}, ignore_missing=ignore_missing_legend_group_labels)
    groups = ordered(groups, violin_order)
    figure = distribution_figure(
        groups,
        violins=paired(groups, paired_legend_labels),
        names=Names(_by_group_name(legend_name_mapping or {})),
        colors=_by_group_name(colors) if isinstance(colors, Mapping) else colors,
        cmap=cmap,
        title=_default_title(trainer.run_id) if title is True else title or None,
        figsize=figsize,
        fonts=FontSizes.chosen(title_fontsize, label_fontsize, axis_label_fontsize, legend_fontsize),
        legend=LegendPlace(
            None if legend_loc == "best" and legend_bbox_to_anchor is None else legend_loc,
            legend_bbox_to_anchor,
            legend_ncol,
        ),
    )
    delivered = deliver(figure, path, show=show, dpi=dpi)
    return (figure, figure.axes[0]) if return_fig_ax else delivered


def _by_group_name(values: Mapping[str, str]) -> dict[str, str]:
    """`values` under the names that they are given by, and under the names of groups where these hold an arrow."""
    return {**values, **{group_name(name): value for name, value in values.items()}}


def _default_title(run_id: str | None) -> str:
    return "Encodings" if run_id is None else f"Encodings of {shown(run_id, width=60, lines=1)}"


def _destination(
    trainer: EncodedRun, output: str | Path | None, output_dir: str | Path | None, img_format: str
) -> Path | None:
    if output is not None:
        return with_format(output, img_format)
    if output_dir is not None:
        # A run_id may name a subfolder; here it is part of a file name.
        prefix = "" if trainer.run_id is None else f"{safe_name(trainer.run_id.replace('/', '_'))}_"
        return with_format(Path(output_dir) / f"{prefix}{DEFAULT_NAME_IN_DIR}", img_format)
    directory = trainer.experiment_dir
    return None if directory is None else with_format(Path(directory) / DEFAULT_NAME, img_format)
