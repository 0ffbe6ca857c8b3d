"""The drawing of the interactive scatter."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from gradiend.visualizer.scatter_points import ScatterPoints
from gradiend.visualizer.style import DEFAULT_CMAP, NEUTRAL_COLORS, distinct_colors

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

SYMBOLS = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "x", "star")
"""The second thing that tells colours apart."""

_WEBGL_FROM = 5_000
_TICK_CHARS = 30


def scatter_figure(
    points: ScatterPoints,
    *,
    color_by: str,
    names: Mapping[str, str],
    cmap: str = DEFAULT_CMAP,
    title: str | None = None,
    height: int = 500,
) -> Figure:
    """Draw one trace for each value of the colour column.

    Args:
        points: What to draw.
        color_by: Title of the legend.
        names: Display names of values of the colour column.
        cmap: Colormap; the default gives way to a colour-blind safe palette for up to 16 values.
        title: Heading.
        height: Pixels.

    Returns:
        A plotly figure; the texts of the points are its `customdata`.

    Raises:
        ValueError: An unknown colormap.
    """
    import plotly.graph_objects as go  # noqa: PLC0415 - optional

    values = sorted(dict.fromkeys(points.colors), key=_value_order)
    colors = dict(zip(values, distinct_colors(len(values), cmap), strict=True))
    neutral = [value for value in values if value.startswith("neutral")]
    if cmap == DEFAULT_CMAP:
        colors |= {value: NEUTRAL_COLORS[i % len(NEUTRAL_COLORS)] for i, value in enumerate(neutral)}
    # WebGL draws tens of thousands of points smoothly; SVG is crisp and works without a graphics card.
    trace = go.Scattergl if points.y.size > _WEBGL_FROM else go.Scatter
    of_point = np.asarray(points.colors, dtype=object)
    figure = go.Figure()
    for number, value in enumerate(values):
        chosen = np.flatnonzero(of_point == value)
        figure.add_trace(
            trace(
                x=points.x[chosen],
                y=points.y[chosen],
                customdata=[points.hover[i] for i in chosen],
                hovertemplate="%{customdata}<extra></extra>",
                mode="markers",
                name=_short(names.get(value, value) or "none"),
                marker={
                    "color": colors[value],
                    "symbol": SYMBOLS[number % len(SYMBOLS)],
                    "size": 7,
                    "opacity": 0.7,
                },
            )
        )
    limit = 1.05 * max(1.0, float(np.abs(points.y).max()))
    figure.update_layout(
        title=None if title is None else {"text": html.escape(title, quote=False)},
        height=height,
        template="plotly_white",
        hoverlabel={"align": "left"},
        legend={"title": {"text": html.escape(color_by, quote=False)}, "itemsizing": "constant"},
        showlegend=True,
        xaxis={
            "tickvals": list(range(len(points.groups))),
            "ticktext": [_short(name) for name in points.groups],
            "range": [-0.6, len(points.groups) - 0.4],
            "showgrid": False,
            "zeroline": False,
            "automargin": True,
        },
        yaxis={"title": {"text": "encoding"}, "range": [-limit, limit], "zerolinecolor": "#999999"},
    )
    return figure


def _value_order(value: str) -> tuple[int, float]:
    """Numbers first, the largest first; then words as they come, neutral ones last."""
    try:
        return (0, -float(value.replace("−", "-")))
    except ValueError:
        return (2 if value.startswith("neutral") else 1, 0.0)


def _short(name: str) -> str:
    text = " ".join(name.split())
    if len(text) > _TICK_CHARS:
        half = (_TICK_CHARS - 1) // 2
        text = text[:half] + "…" + text[-half:]
    return html.escape(text, quote=False)
