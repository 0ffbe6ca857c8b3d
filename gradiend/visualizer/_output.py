"""The door of the plots: the keywords that they take, and the file and screen that a figure goes to."""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, fields
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar, runtime_checkable

import numpy as np

from gradiend.util._checks import (
    lone_surrogate,
    require_finite,
    require_mapping,
    require_path,
    require_texts,
    require_whole,
)
from gradiend.util._files import replacing
from gradiend.util._imports import require_package, without_package
from gradiend.util._keywords import ALIASES, nearest, one_of, resolve_keywords
from gradiend.visualizer._style import colormap, cover_characters
from gradiend.visualizer.plot_style import plot_style

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from typing_extensions import Self

logger = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

LARGEST_FIGURE = 400
"""Inches from which a side of a figure is a mistake: matplotlib draws at most 2¹⁶ pixels."""
LENGTHS = {"figsize": (2,), "legend_bbox_to_anchor": (2, 4)}
"""Keywords that are a few numbers → how many."""
FONT_SIZES = ("xx-small", "x-small", "small", "medium", "large", "x-large", "xx-large", "smaller", "larger")
SIZES = {"least": 0.0, "most": 10_000.0}
LIMITS = {
    **dict.fromkeys(("fontsize", "linewidth", "dpi", "shrink", "pad"), SIZES),
    "alpha": {"least": 0.0, "most": 1.0},
}
"""End of the name of a number → its limits."""
WITHOUT_EFFECT = frozenset((
    "cbar_y_pad", "class_spread", "converged_by_id", "dispersion", "dispersion_display", "highlight_non_convergence",
    "include_neutral", "neutral_data_split", "seed_aggregate", "seed_group_policy", "seed_pairing_mode",
    "split_plot_mode",
))  # fmt: skip
"""Keywords of other versions of the API, for things that these plots do not draw."""


def checked_plot_options(plot: Callable[..., Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Check the keywords of a plot, and their image format and colormaps, without drawing the plot.

    Every plot checks its keywords first; a caller that draws after long work checks them before the work. The keywords
    are returned under the names that `plot` has; those in `WITHOUT_EFFECT` are left out with a warning in the log.

    Raises:
        TypeError: A keyword is unknown (the message names the nearest), both spellings of a keyword are given, or a
            value is of another type.
        ValueError: matplotlib has no such image format or colormap, or a number or path is none that can be used.
    """
    name = plot.__name__
    parameters = inspect.signature(plot).parameters
    without = sorted((WITHOUT_EFFECT & given.keys()) - parameters.keys())
    if without:
        logger.warning("%s draws the same with and without %s.", name, ", ".join(without))
    second = ALIASES.get(name, {})
    kept = {key: value for key, value in given.items() if key not in without and not (key in second and value is None)}
    options = resolve_keywords(name, kept, tuple(parameters))
    for key, value in options.items():
        annotation = str(parameters[key].annotation) if key in parameters else "Any"
        if value is not None or "None" not in annotation:
            _check(key, value, annotation)
    if find_spec("matplotlib") is not None:
        for key, check in (
            ("img_format", _supported),
            ("legend_loc", _place),
            ("cmap", colormap),
            ("row_metric_cmap", colormap),
        ):
            if options.get(key) is not None:
                check(options[key])
    return options


_TRAINER_HAS = ("experiment_dir", "target_classes")
"""Every trainer has one of these; the first is asked first, because a trainer may read its data for the second."""


def _check(name: str, value: Any, annotation: str) -> None:
    """Check a keyword of a plot by its annotation; matplotlib's own errors do not say which keyword is meant."""
    kind = annotation.removesuffix(" | None")
    if name in LENGTHS:
        _check_numbers(name, value)
    elif name == "trainer" and not any(hasattr(value, part) for part in _TRAINER_HAS):
        raise TypeError(f"trainer must be a trainer, such as a TextPredictionTrainer; got {value!r:.60}.")
    elif name.endswith("fontsize") and isinstance(value, str):
        one_of(name, value, FONT_SIZES)
    elif kind == "float":
        require_finite(name, value, **next((LIMITS[end] for end in LIMITS if name.endswith(end)), {}))
    elif kind == "int":
        require_whole(name, value, 10 if name == "height" else 0)
        require_finite(name, value, most=1e9)
    elif kind in ("str", "bool | str"):
        _check_text(name, value, kind)
    elif kind.startswith("Mapping"):
        if "| Sequence" not in kind or isinstance(value, str):
            require_mapping(name, value)
        if "str]" in kind and "Sequence[str]]" not in kind and isinstance(value, Mapping):
            list(require_texts(name, list(value.values())))
    elif kind == "Sequence[str]":
        list(require_texts(name, value))
    elif "Path" in kind:
        require_path(name, value)


def _check_numbers(name: str, value: Any) -> None:
    given = [] if isinstance(value, str) or not isinstance(value, Iterable) else list(value)
    if len(given) not in LENGTHS[name] or not all(isinstance(one, int | float | np.number) for one in given):
        raise ValueError(f"{name} must be {LENGTHS[name][0]} numbers, such as (6, 4); got {value!r:.60}.")
    if name == "figsize" and not all(0 < one < LARGEST_FIGURE for one in given):
        raise ValueError(f"figsize must be width and height in inches, up to {LARGEST_FIGURE}; got {value!r}.")


def _check_text(name: str, value: Any, kind: str) -> None:
    if not isinstance(value, str if kind == "str" else bool | str):
        raise TypeError(f"{name} must be a string{', True or False' if kind != 'str' else ''}; got {value!r:.60}.")
    if isinstance(value, str) and lone_surrogate(value) is not None:
        raise ValueError(f"{name} has half a character, which cannot be drawn: {value!r:.60}.")


def _place(name: str) -> None:
    from matplotlib.legend import Legend  # noqa: PLC0415 - matplotlib is optional

    one_of("legend_loc", name, Legend.codes)


def plot_keywords(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a plot: every call goes through `checked_plot_options`, and text has the configured font."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        options = checked_plot_options(function, kwargs)
        with plot_style():
            return function(*args, **options)

    return call


def require_matplotlib() -> bool:
    """Return True if matplotlib is installed; otherwise raise an ImportError that says how to install it."""
    require_package("matplotlib", "A plot", "plot")
    return True


def plot_is_possible() -> bool:
    """Tell whether matplotlib is installed; if it is not, a warning before the work says that the plot is left out."""
    return bool(without_package(require_matplotlib, "The plot"))


class Run(Protocol):
    """The attributes and methods of a trainer that plots use; no plot uses all of them."""

    @property
    def run_id(self) -> str | None: ...

    @property
    def experiment_dir(self) -> str | Path | None: ...

    @property
    def target_classes(self) -> Sequence[str] | None: ...

    @property
    def pair(self) -> tuple[str, str] | None: ...

    def get_training_stats(self) -> Mapping[str, Any] | None: ...

    def evaluate_encoder(self, *, split: str | Sequence[str], return_df: bool) -> Mapping[str, Any]: ...


@runtime_checkable
class KnowsConvergence(Protocol):
    """A trainer that says how the titles of its plots end."""

    def title_mark(self) -> str:
        """Return a dagger for a training that has not converged, otherwise nothing."""


_mark: ContextVar[str] = ContextVar("end of titles", default="")


@contextmanager
def marked_titles(trainer: Any) -> Iterator[None]:
    """End the titles of the plots in a with-block by the mark of a trainer."""
    before = _mark.set(trainer.title_mark() if isinstance(trainer, KnowsConvergence) else "")
    try:
        yield
    finally:
        _mark.reset(before)


def marked(title: str) -> str:
    """Return a title with the mark of the trainer that is plotted, see `marked_titles`."""
    return title + _mark.get()


@dataclass(frozen=True, kw_only=True)
class PlotOptions:
    """The arguments that all plots have, by their public names; `plot_training_convergence` describes them."""

    show: bool = True
    title: bool | str | None = False
    figsize: tuple[float, float] | None = None
    return_fig_ax: bool = False

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Self:
        """The options among the arguments of a plot, its `locals()`, before the plot has changed any of them."""
        return cls(**{item.name: given[item.name] for item in fields(cls) if item.name in given})

    def heading(self, default: str | None) -> str | None:
        """The title of the figure: `default` for True, another title for a string, and None for anything else."""
        return default if self.title is True else self.title or None


@dataclass(frozen=True, kw_only=True)
class FigureOptions(PlotOptions):
    """The arguments that most plots of curves, bars and points have besides; the same plot describes them."""

    img_format: str = "png"
    dpi: float | None = None
    legend_loc: str | None = None
    legend_ncol: int | None = None
    legend_bbox_to_anchor: tuple[float, ...] | None = None

    @property
    def legend(self) -> dict[str, Any]:
        """The place of the legend that the user wants, for `add_legend`; the figure chooses where a value is None."""
        return {"loc": self.legend_loc, "bbox_to_anchor": self.legend_bbox_to_anchor, "ncol": self.legend_ncol}

    def path(self, output: str | Path | None, ways: str) -> Path | None:
        """The file, with the extension of `img_format`; ValueError, with `ways`, if it is neither saved nor shown."""
        path = None if output is None else with_format(output, self.img_format)
        require_destination(path, self.show or self.return_fig_ax, ways)
        return path

    def figure(self, size: tuple[float, float], title: str | None = None, fontsize: float = 13) -> Figure:
        """An empty figure with its default size and title, unless the user wants others."""
        return new_figure(self.figsize or size, self.heading(title), fontsize)

    def deliver(self, figure: Figure, path: Path | None, axes: Any) -> Any:
        """Save and show a figure; return its path, or with `return_fig_ax` the figure and axes."""
        delivered = deliver(figure, path, show=self.show, dpi=self.dpi)
        return (figure, axes) if self.return_fig_ax else delivered


USUAL = FigureOptions()


def new_figure(size: tuple[float, float], title: str | None = None, fontsize: float = 13) -> Figure:
    """Return an empty figure of `size` inches. pyplot does not know it, so drawing on it has no global effect."""
    require_matplotlib()
    from matplotlib.figure import Figure  # noqa: PLC0415 - optional

    figure = Figure(figsize=size, layout="constrained")
    if title:
        figure.suptitle(marked(title), fontsize=fontsize)
    return figure


def with_format(path: str | Path, img_format: str) -> Path:
    """Return `path` with the extension of `img_format`, which replaces the extension of another image format.

    Any other dot belongs to the name: `run.v1.2` becomes `run.v1.2.png`.
    """
    path, wanted = Path(path), _supported(img_format)
    if path.suffix[1:].lower() in _formats():
        return path.with_suffix(f".{wanted}")
    return path.with_name(f"{path.name}.{wanted}")


def with_image_suffix(path: str | Path | None) -> Path | None:
    """Return `path` as it is if its extension names an image format, and with `.png` if it has no extension."""
    if path is None:
        return None
    path = Path(path)
    img_format = format_of(path)
    return path if path.suffix else path.with_name(f"{path.name}.{img_format}")


def format_of(path: Path) -> str:
    """Return the image format that the extension of `path` names, png without extension, or raise a ValueError."""
    return _supported(path.suffix) if path.suffix else "png"


def require_destination(path: Path | None, show: bool, ways: str) -> None:
    """Raise ValueError for a plot that would neither be saved nor shown; the message names `ways` to give a path."""
    if path is None and not show:
        raise ValueError(f"show=False without a path would draw for nobody: pass {ways}, or show=True.")


def checked_output(output: str | Path | None, visible: bool) -> Path | None:
    """Return `output` as a path; raise ValueError for an unknown format, or for a plot neither saved nor shown."""
    path = None if output is None else Path(output)
    require_destination(path, visible, "output")
    if path is not None:
        format_of(path)
    return path


def deliver(figure: Figure, path: Path | None, *, show: bool, dpi: float | None = None) -> str:
    """Save `figure` whole or not at all, make the folders for it, show it on request; return the path or ""."""
    cover_characters(figure)
    if path is not None:
        with replacing(path) as temporary:
            figure.savefig(temporary, format=format_of(path), dpi=dpi or 150, bbox_inches="tight")
    if show:
        _show(figure)
    return "" if path is None else str(path)


def _formats() -> set[str]:
    return set(new_figure((1, 1)).canvas.get_supported_filetypes())


def _supported(img_format: str) -> str:
    wanted, formats = img_format.lower().removeprefix("."), _formats()
    if wanted not in formats:
        raise ValueError(
            f"{img_format!r} is not an image format that matplotlib writes: {', '.join(sorted(formats))}."
            f"{nearest(wanted, formats)}"
        )
    return wanted


def _show(figure: Figure) -> None:
    import matplotlib.pyplot as plt  # noqa: PLC0415 - optional

    # pyplot shows only figures that it manages. A window for an empty figure gets this figure in its place: that works
    # in every matplotlib since 3.8, while plt.figure(figure) needs 3.11.
    width, height = figure.get_size_inches()
    holder = plt.figure(figsize=(width, height))
    manager = holder.canvas.manager
    if manager is None:
        return
    manager.canvas.figure = figure
    figure.set_canvas(manager.canvas)
    plt.show()
    if not plt.isinteractive():
        plt.close(figure)
