"""Legends that do not cover data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class LegendPlace:
    """Where the user wants a legend; what is None is chosen by the figure."""

    loc: str | None = None
    bbox_to_anchor: tuple[float, ...] | None = None
    ncol: int | None = None

    @property
    def outside(self) -> bool:
        """No place was asked for: the legend stands beside the panels."""
        return self.loc is None and self.bbox_to_anchor is None


def add_legend(
    ax: Axes,
    handles: Sequence[Artist],
    place: LegendPlace,
    *,
    outside: str = "outside right upper",
    outside_ncol: int = 1,
    fontsize: float | None = None,
) -> None:
    """Add a legend in `ax` where `place` says, otherwise beside all panels of its figure.

    Args:
        ax: The panel that a place refers to.
        handles: Artists with labels; without any there is no legend.
        place: What the user asked for.
        outside: The figure-level place used otherwise.
        outside_ncol: Columns there, unless `place` says.
        fontsize: Points.
    """
    if not handles:
        return
    options: dict[str, Any] = {"fontsize": fontsize or 9}
    if place.outside:
        options |= {"loc": outside, "ncols": place.ncol or outside_ncol, "frameon": False}
        ax.figure.legend(handles=handles, **options)
        return
    options |= {"loc": place.loc or "best", "bbox_to_anchor": place.bbox_to_anchor, "ncols": place.ncol or 1}
    ax.legend(handles=handles, **options)
