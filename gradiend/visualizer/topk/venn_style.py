"""How the combinations of sets look, as a Venn diagram or as bars."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class VennStyle:
    """None is chosen by the figure."""

    figsize: tuple[float, float] | None = None
    names_fontsize: float | None = None
    counts_fontsize: float | None = None
    linewidth: float | None = None
    alpha: float = 0.5
    title: str | None = None
    names: Mapping[str, str] = field(default_factory=dict)
    """Display names."""
