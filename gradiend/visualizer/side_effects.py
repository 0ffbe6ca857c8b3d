"""The plot of what a rewrite changes beside its class: tokens that gained and lost, and classes before and after."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from gradiend.visualizer._output import FigureOptions, checked_output, plot_keywords
from gradiend.visualizer._style import REFERENCE_COLOR, distinct_colors, shown, signed, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NEEDED = ("kind", "group", "name", "context", "before", "after", "change", "low", "high", "n", "n_texts")
GAINED_COLOR, LOST_COLOR = distinct_colors(2)
NOT_ESTIMABLE = "interval not estimable"
"""The words in place of an interval that cannot be estimated, because nothing varies."""
_ROW = 0.27
"""Height of a bar or of a class, in inches."""


@plot_keywords
def plot_side_effects(
    side_effects: pd.DataFrame | None = None, output: str | Path | None = None, show: bool = True,
    title: bool | str | None = True, figsize: tuple[float, float] | None = None, return_fig_ax: bool = False,
) -> Any:  # fmt: skip
    """Plot what `evaluate_side_effects` measured: tokens as bars, classes before → after, the divergence as the title.

    Bars are the mean change of a token's probability on neutral texts. A hollow dot is P(class) before the rewrite, a
    filled dot P(class) after it. Lines with caps are 95 % intervals of the change over texts.

    Arguments that are not described are those of `plot_training_convergence`.

    Args:
        side_effects: The frame that `evaluate_side_effects` returned.
        output: The file to write; its extension is the format, png without an extension.
        title: True for the divergence, a string for another title, False for none.

    Returns:
        `output`, unchanged.

    Raises:
        TypeError, ValueError: There is no such frame, the format is unknown, or there is neither `output` nor `show`.
        ImportError: matplotlib is not installed.
    """
    options = FigureOptions.of(locals())
    path = checked_output(output, show or return_fig_ax)
    figure = side_effects_figure(_checked(side_effects), options)
    delivered = options.deliver(figure, path, figure.axes)
    return delivered if return_fig_ax else output


def side_effects_figure(frame: pd.DataFrame, options: FigureOptions) -> Figure:
    """Draw a panel for the tokens and a panel for the classes, as far as the frame has such rows."""
    tokens = pd.concat([frame[frame["kind"] == kind] for kind in ("gained", "lost")])
    classes = frame[frame["kind"] == "class"]
    panels = [(rows, draw) for rows, draw in ((tokens, _draw_tokens), (classes, _draw_classes)) if len(rows)]
    most = max((len(rows) for rows, _ in panels), default=1)
    size = (7.0 * max(1, len(panels)), 1.6 + _ROW * max(most, 6))
    figure = options.figure(size, divergence_title(frame), fontsize=11)
    grid = figure.subplots(1, max(1, len(panels)), squeeze=False).ravel()
    for ax, (rows, draw) in zip(grid, panels, strict=False):
        draw(ax, rows)
        tidy(ax)
        ax.grid(visible=False, axis="y")
        ax.grid(axis="x", color="#DDDDDD", linewidth=0.7)
    return figure


def divergence_title(frame: pd.DataFrame) -> str | None:
    """The divergence with its interval as a line of text; None if it was not measured."""
    found = frame[frame["kind"] == "divergence"]
    if found.empty:
        return None
    row = found.iloc[0]
    interval = NOT_ESTIMABLE if np.isnan(row["low"]) else f"95 %: {row['low']:.3g} to {row['high']:.3g}"
    return (
        f"KL(base ‖ rewritten): {row['after']:.3g} nats per position of neutral texts ({interval}; "
        f"{row['n']} positions of {row['n_texts']} texts)"
    )


def _checked(frame: Any) -> pd.DataFrame:
    if not isinstance(frame, pd.DataFrame):
        raise TypeError(f"plot_side_effects needs what evaluate_side_effects() returns; got {type(frame).__name__}.")
    missing = [name for name in NEEDED if name not in frame.columns]
    if missing or frame.empty:
        what = f"lacks {', '.join(missing)}" if missing else "has no rows"
        raise ValueError(f"The frame of side effects {what}: pass what evaluate_side_effects() returned.")
    return frame


def _draw_tokens(ax: Axes, rows: pd.DataFrame) -> None:
    places = _places(rows["kind"].tolist())
    colors = [GAINED_COLOR if kind == "gained" else LOST_COLOR for kind in rows["kind"]]
    change = rows["change"].to_numpy(float)
    ax.barh(places, change, color=colors, height=0.75)
    _draw_intervals(ax, rows, np.zeros(len(rows)), places)
    ax.axvline(0.0, color="#999999", linewidth=0.8)
    ax.set_yticks(places, [shown(shown_token(name), lines=1) for name in rows["name"]], fontsize=9)
    ax.set_title("Tokens that gained and lost most", loc="left", fontsize=10)
    ax.set_xlabel("mean change of the probability on neutral texts")
    ax.invert_yaxis()


def _draw_classes(ax: Axes, rows: pd.DataFrame) -> None:
    places = _places(list(zip(rows["group"], rows["context"], strict=True)))
    names = list(dict.fromkeys(zip(rows["group"], rows["name"], strict=True)))
    colors = dict(zip(names, distinct_colors(len(names)), strict=True))
    before, after = rows["before"].to_numpy(float), rows["after"].to_numpy(float)
    _draw_intervals(ax, rows, before, places)
    keys = zip(rows["group"], rows["name"], strict=True)
    for key, place, old, new in zip(keys, places, before, after, strict=True):
        ax.plot([old, new], [place, place], color=colors[key], linewidth=1.6, zorder=2)
        dot: dict[str, Any] = {"color": colors[key], "markersize": 6, "zorder": 3, "clip_on": False}
        ax.plot([old], [place], "o", markerfacecolor="white", **dot)
        ax.plot([new], [place], "o", **dot)
        ax.annotate(
            f"{old:.3g} → {new:.3g} ({signed(new - old, '.2g')})", (1.0, place), xycoords=("axes fraction", "data"),
            xytext=(4, 0), textcoords="offset points", va="center", fontsize=8,
        )  # fmt: skip
    ax.set_yticks(places, [_class_label(row) for row in rows.to_dict("records")], fontsize=9)
    ax.set_xlim(left=0.0)
    ax.set_title("Classes before (hollow) and after", loc="left", fontsize=10)
    ax.set_xlabel("probability")
    ax.invert_yaxis()


def _draw_intervals(ax: Axes, rows: pd.DataFrame, start: np.ndarray, places: Sequence[float]) -> None:
    """Draw the interval of each change, from `start` on, where it is estimable."""
    low, high = start + rows["low"].to_numpy(float), start + rows["high"].to_numpy(float)
    known = np.isfinite(low) & np.isfinite(high)
    middle = (low + high) / 2
    ax.errorbar(
        middle[known], np.asarray(places)[known], xerr=(high - low)[known] / 2, fmt="none", ecolor=REFERENCE_COLOR,
        elinewidth=1.0, capsize=2.5, zorder=4,
    )  # fmt: skip


def _places(blocks: Sequence[Any]) -> list[float]:
    """Heights of rows, with a gap between rows of different blocks."""
    places, place = [], 0.0
    for number, block in enumerate(blocks):
        place += (1.0 if block == blocks[number - 1] else 1.6) if number else 0.0
        places.append(place)
    return places


def shown_token(name: str) -> str:
    """A token as text; the space with which it may begin is made visible."""
    return f"␣{name[1:]}" if name.startswith(" ") else name


def _class_label(row: dict[Any, Any]) -> str:
    group = "" if row["group"] in {"target classes", "other classes"} else f"{shown(row['group'], 16, 1)}: "
    of = "" if row["context"] == "neutral texts" else "texts of "
    return f"{group}P({shown(row['name'], 16, 1)}), {of}{shown(row['context'], 16, 1)}"
