"""Where a figure goes: its path, its format, the file and the screen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gradiend.util._files import replacing
from gradiend.util.keywords import nearest
from gradiend.util.optional import require_package, without_package
from gradiend.visualizer.fonts import cover_characters

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DEFAULT_DPI = 150


def require_matplotlib() -> bool:
    """Return True if matplotlib is installed; otherwise raise an ImportError that says what to install."""
    require_package("matplotlib", "A plot", "plot")
    return True


def plot_is_possible() -> bool:
    """Tell whether matplotlib is installed; if it is not, a warning before the work says what is left out."""
    return bool(without_package(require_matplotlib, "The plot"))


def new_figure(size: tuple[float, float]) -> Figure:
    """An empty figure of `size` inches, unknown to pyplot: drawing on it has no global effect.

    Raises:
        ImportError: matplotlib is not installed.
    """
    require_matplotlib()
    from matplotlib.figure import Figure  # noqa: PLC0415 - optional

    return Figure(figsize=size, layout="constrained")


def with_format(path: str | Path, img_format: str) -> Path:
    """`path` with the extension of `img_format`, which replaces that of another image format.

    Any other dot belongs to the name: `run.v1.2` becomes `run.v1.2.png`.

    Raises:
        ValueError: matplotlib cannot write `img_format`.
    """
    path, wanted = Path(path), _supported(img_format)
    if path.suffix[1:].lower() in _formats():
        return path.with_suffix(f".{wanted}")
    return path.with_name(f"{path.name}.{wanted}")


def with_image_suffix(path: str | Path | None) -> Path | None:
    """`path` as it is where it names an image format, with `.png` where it has no extension.

    Raises:
        ValueError: The extension is not that of an image format that matplotlib writes.
    """
    if path is None:
        return None
    path = Path(path)
    img_format = format_of(path)
    return path if path.suffix else path.with_name(f"{path.name}.{img_format}")


def deliver(
    figure: Figure, path: Path | None, *, show: bool, dpi: float | None = None, img_format: str | None = None
) -> str:
    """Save `figure` to `path` (whole or not at all, folders are made) and show it.

    Args:
        figure: What to deliver.
        path: Where to save, None for nowhere.
        show: Hand the figure to pyplot and show it.
        dpi: Pixels per inch of raster formats.
        img_format: The file format; by default that of the extension of `path`.

    Returns:
        The path as a string, "" where nothing was saved.
    """
    cover_characters(figure)
    if path is not None:
        with replacing(path) as temporary:
            figure.savefig(
                temporary,
                format=img_format or path.suffix[1:].lower(),
                dpi=dpi or DEFAULT_DPI,
                bbox_inches="tight",
            )
    if show:
        _show(figure)
    return "" if path is None else str(path)


def require_destination(path: Path | None, show: bool, ways: str) -> None:
    """Refuse a plot that would neither be saved nor shown.

    Raises:
        ValueError: No path and `show` is False; the message names `ways` to give a path.
    """
    if path is None and not show:
        raise ValueError(f"show=False without a path would draw for nobody: pass {ways}, or show=True.")


def format_of(path: str | Path) -> str:
    """The image format that the extension of `path` names; png without an extension.

    Raises:
        ValueError: The extension is not that of an image format that matplotlib writes.
    """
    suffix = Path(path).suffix
    return _supported(suffix) if suffix else "png"


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

    # pyplot shows only figures that it manages. A window is made for an empty one and given ours: that works
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
