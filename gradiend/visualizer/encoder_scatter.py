"""Every encoded example as a point that tells its text: an interactive page."""

from __future__ import annotations

import html
import logging
import warnings
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from gradiend.util._files import replacing
from gradiend.util.optional import install_hint
from gradiend.visualizer.encoder_frame import Encodings, checked_frame
from gradiend.visualizer.keywords import plot_keywords
from gradiend.visualizer.scatter_figure import scatter_figure
from gradiend.visualizer.scatter_points import REQUIRED, scatter_points, thinned
from gradiend.visualizer.style import DEFAULT_CMAP

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

logger = logging.getLogger(__name__)

# The button "Share chart" would send texts of the corpus to a server.
_CONFIG = {
    "displaylogo": False,
    "modeBarButtonsToRemove": ["sendChartToCloud", "sendDataToCloud"],
}

DEFAULT_NAME = "encoder_analysis_scatter.html"
DEFAULT_NAME_IN_DIR = "encoder_scatter.html"


class EvaluatedRun(Protocol):
    """What the plot asks of a trainer."""

    @property
    def run_id(self) -> str | None:
        """Name of the run."""

    @property
    def experiment_dir(self) -> str | Path | None:
        """Where the run keeps its files."""

    def evaluate_encoder(self, *, split: str, return_df: bool) -> Mapping[str, Any]:
        """Called without a frame: must return it under 'encoder_df'."""


@plot_keywords
def plot_encoder_scatter(
    trainer: EvaluatedRun | None = None,
    encoder_df: Encodings | None = None,
    *,
    color_by: str = "label",
    hover_cols: Sequence[str] | None = None,
    jitter_scale: float = 0.15,
    max_points: int | None = None,
    stratify_by: str | None = None,
    cmap: str = DEFAULT_CMAP,
    output_path: str | Path | None = None,
    output_dir: str | Path | None = None,
    experiment_dir: str | Path | None = None,
    show: bool = True,
    title: bool | str | None = None,
    height: int = 500,
    split: str = "test",
    hover_text_max_chars: int = 50,
    x_col: str | None = None,
    label_name_mapping: Mapping[Any, str] | None = None,
) -> Figure | None:
    """Plot every encoded example in a web page, where hovering over a point shows its text.

    The page holds all it needs (plotly's script too, 4 to 5 MB), so it works without a network.

    Args:
        trainer: Gives the frame where encoder_df does not, and the default directory and title.
        encoder_df: One row per example: encoded, label, and any other column; or a result that holds it.
        color_by: Column that gives the colour.
        hover_cols: Columns to read when hovering; by default classes, words, type and text, where they are there.
        jitter_scale: Half width of a group of points; at 0.5 they touch the next.
        max_points: Draw that many rows at most, evenly spaced in the frame.
        stratify_by: Column whose values keep their shares when there are more rows.
        cmap: Colormap; the default gives way to a colour-blind safe palette for up to 16 values.
        output_path: The page; .html is added where it has no extension.
        output_dir: Without output_path, the page is encoder_scatter.html in there.
        experiment_dir: Without both, it is encoder_analysis_scatter.html in there; by default the trainer's.
        show: Open the page in a browser or notebook.
        title: True for a default title, a string for another.
        height: Pixels.
        split: The split that the trainer encodes where there is no frame.
        hover_text_max_chars: Characters of each value that are shown.
        x_col: Column whose values stand side by side; by default transitions and kinds of neutral text.
        label_name_mapping: Display names by value of the colour column, e.g. {1: "he"}.

    Returns:
        The plotly figure; None, with a warning, where plotly is not installed.

    Raises:
        ValueError: Neither frame nor trainer, a bad or empty frame, an unknown column or colormap, a file that is no
            page, or max_points or hover_text_max_chars below 1.
    """
    if find_spec("plotly") is None:
        message = f"plot_encoder_scatter needs plotly: {install_hint('plotly', 'plot')}"
        warnings.warn(message, stacklevel=3)
        return None
    if hover_text_max_chars < 1:
        raise ValueError(f"hover_text_max_chars must be at least 1; got {hover_text_max_chars}.")
    path = _destination(trainer, output_path, output_dir, experiment_dir)
    columns = [*REQUIRED, color_by, *(hover_cols or ()), *(name for name in (stratify_by, x_col) if name is not None)]
    frame = thinned(checked_frame(_encodings(trainer, encoder_df, split), columns), max_points, stratify_by)
    points = scatter_points(
        frame,
        color_by=color_by,
        x_col=x_col,
        hover_cols=hover_cols,
        jitter=jitter_scale,
        text_chars=hover_text_max_chars,
    )
    default = "Encodings" if trainer is None or trainer.run_id is None else f"Encodings of {trainer.run_id}"
    heading = default if title is True or title is None else title or None
    names = _value_names(label_name_mapping or {})
    figure = scatter_figure(points, color_by=color_by, names=names, cmap=cmap, title=heading, height=height)
    if path is not None:
        _write_page(figure, path, heading or default)
    if show:
        figure.show(config=_CONFIG)
    return figure


def _encodings(trainer: EvaluatedRun | None, encoder_df: Encodings | None, split: str) -> Encodings:
    if encoder_df is not None:
        return encoder_df
    if trainer is None:
        raise ValueError("There is nothing to plot: pass encoder_df or a trainer.")
    return trainer.evaluate_encoder(split=split, return_df=True)


def _destination(
    trainer: EvaluatedRun | None,
    output_path: str | Path | None,
    output_dir: str | Path | None,
    experiment_dir: str | Path | None,
) -> Path | None:
    if output_path is not None:
        path = Path(output_path)
        if path.suffix.lower() not in ("", ".html", ".htm"):
            raise ValueError(f"The scatter is a web page: output_path must end with .html; got {path.name!r}.")
        return path if path.suffix else path.with_name(f"{path.name}.html")
    if output_dir is not None:
        return Path(output_dir) / DEFAULT_NAME_IN_DIR
    directory = trainer.experiment_dir if experiment_dir is None and trainer is not None else experiment_dir
    return None if directory is None else Path(directory) / DEFAULT_NAME


def _value_names(mapping: Mapping[Any, str]) -> dict[str, str]:
    """Display names by value as it is drawn: 1, 1.0, "1" and "1.0" are the same label."""
    names = {}
    for key, name in mapping.items():
        try:
            names[f"{float(key):g}".replace("-", "−")] = name
        except (TypeError, ValueError):
            names[str(key)] = name
    return names


def _write_page(figure: Figure, path: Path, title: str) -> None:
    """A page of its own: plotly's script inline, because a linked one needs a network."""
    body = figure.to_html(full_html=False, include_plotlyjs=True, config=_CONFIG)
    page = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"<title>{html.escape(title)}</title>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    logger.info("Scatter: %s", path)
