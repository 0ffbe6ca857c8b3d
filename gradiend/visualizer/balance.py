"""The plot of a model's preference among classes, text by text, before and after the rewrite that balances them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradiend.util import BALANCE
from gradiend.visualizer._output import FigureOptions, checked_output, plot_keywords
from gradiend.visualizer._style import REFERENCE_COLOR, distinct_colors, shown, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_TEXTS = 60
"""Texts that are drawn; of more texts, evenly spaced ones in the order of their preference."""
_ROW = 0.22
"""Height of a text, in inches."""


@plot_keywords
def plot_balance(
    decoder_results: Mapping[str, Any] | None = None, output: str | Path | None = None, show: bool = True,
    title: bool | str | None = True, figsize: tuple[float, float] | None = None, return_fig_ax: bool = False,
) -> Any:  # fmt: skip
    """Plot which class a model prefers on each text, before (hollow) and after (filled) the chosen rewrite.

    With two classes the axis is (P(a) − P(b)) / (P(a) + P(b)): −1 and 1 are one class alone, 0 is no preference. With
    more classes it is (max − min) / sum.

    Arguments that are not described are those of `plot_training_convergence`.

    Args:
        decoder_results: The result of `evaluate_decoder` with the goal "balance".
        output: The file to write; its extension is the format, png without an extension.
        title: True for the mean measures, a string for another title, False for none.

    Returns:
        `output`, unchanged.

    Raises:
        ValueError: The results have no rewrite for "balance", the format is unknown, or there is neither `output` nor
            `show`.
        ImportError: matplotlib is not installed.
    """
    options = FigureOptions.of(locals())
    path = checked_output(output, show or return_fig_ax)
    figure = balance_figure(*_found(decoder_results), options)
    delivered = options.deliver(figure, path, figure.axes)
    return delivered if return_fig_ax else output


def _found(results: Mapping[str, Any] | None) -> tuple[Mapping[str, Any], Mapping[str, Any], Mapping[str, Any]]:
    """The summary of the goal, and the grid entries of the base model and of the chosen rewrite."""
    summary = (results or {}).get(BALANCE)
    if results is None or summary is None:
        raise ValueError(
            'plot_balance needs decoder_results, the result of evaluate_decoder(target_class="balance", '
            "balance_texts=[…])."
        )
    if summary["learning_rate"] is None:
        raise ValueError(f"There is no rewrite to draw. {summary.get('reason', '')}")
    chosen = summary["feature_factor"], summary["learning_rate"]
    return summary, results["grid"]["base"][BALANCE], results["grid"][chosen][BALANCE]


def balance_figure(
    summary: Mapping[str, Any], before: Mapping[str, Any], after: Mapping[str, Any], options: FigureOptions
) -> Figure:
    """Draw a row for each text, in the order of the base model's preference."""
    texts = sorted(before["by_text"], key=lambda text: preference(before["by_text"][text]))
    if len(texts) > MOST_TEXTS:
        texts = [texts[i * (len(texts) - 1) // (MOST_TEXTS - 1)] for i in range(MOST_TEXTS)]
    figure = options.figure((9.0, 1.7 + _ROW * max(len(texts), 6)), _title(summary), fontsize=11)
    ax = figure.subplots()
    _draw(ax, texts, before["by_text"], after["by_text"])
    tidy(ax)
    return figure


def preference(probabilities: Mapping[str, float]) -> float:
    """(P(a) − P(b)) / (P(a) + P(b)) for two classes, (max − min) / sum for more; 0 if all are 0."""
    values = list(probabilities.values())
    total = sum(values)
    if not total:
        return 0.0
    return (values[0] - values[1] if len(values) == 2 else max(values) - min(values)) / total


def _draw(ax: Axes, texts: Sequence[str], before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    color = distinct_colors(1)[0]
    places = list(range(len(texts)))
    ax.axvline(0.0, color=REFERENCE_COLOR, linewidth=1.0)
    for place, text in zip(places, texts, strict=True):
        old, new = preference(before[text]), preference(after[text])
        ax.plot([old, new], [place, place], color=color, linewidth=1.2, alpha=0.6)
        ax.plot([old], [place], "o", color=color, markerfacecolor="white", markersize=5, clip_on=False)
        ax.plot([new], [place], "o", color=color, markersize=5, clip_on=False)
    ax.set_yticks(places, [shown(text, 60, 1) for text in texts], fontsize=8)
    ax.set_ylim(-0.7, len(texts) - 0.3)
    classes = [shown(name, 20, 1) for name in next(iter(before.values()))]
    if len(classes) == 2:
        ax.set_xlim(-1.0, 1.0)
        ax.set_xlabel(f"← only {classes[1]}     (P({classes[0]}) − P({classes[1]})) / sum     only {classes[0]} →")
    else:
        ax.set_xlim(0.0, 1.0)
        ax.set_xlabel(f"(largest − smallest) / sum of P({'), P('.join(classes)})")
    ax.set_title("Preference before (hollow) and after (filled)", loc="left", fontsize=10)


def _title(summary: Mapping[str, Any]) -> str:
    old, new = summary["base_measures"], summary["measures"]
    kept = summary.get("likelihood_ratio")
    told = f"gap {old['gap']:.3f} → {new['gap']:.3f}, sum {old['sum']:.3f} → {new['sum']:.3f}"
    told += f", balance {old['balance']:.3f} → {new['balance']:.3f}"
    return told + ("" if kept is None else f", likelihood {kept['value']:.4f} of the base model's")
