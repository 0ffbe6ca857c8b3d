"""The look of all figures: fonts and arrows that are configured are drawn, and nothing outside of a plot changes."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest

import gradiend
from gradiend import (
    PlotStyleConfig,
    check_plot_environment,
    configure_plot_style,
    format_transition_label,
    plot_comparison_heatmap,
    transition_bidi_arrow,
    transition_directed_arrow,
)
from gradiend.visualizer.plot_style import ARROWS, arrow_or

pytest.importorskip("matplotlib")

PAYLOAD = {"measure": "m", "rows": ["a → b", "b ↔ c"], "columns": ["$x$", "y"], "matrix": [[1, 2], [3, 4]]}


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch):
    """No variable of the environment speaks, and the next test finds nothing configured."""
    for name in ("USE_LATEX", "LATEX_PREAMBLE_EXTRA", "FONT_PATH", "FONT_FAMILY", "TRANSITION_ARROWS"):
        monkeypatch.delenv(f"GRADIEND_PLOT_{name}", raising=False)
    yield
    configure_plot_style()


def font_file() -> str:
    """A font that matplotlib brings and that is not the default."""
    from matplotlib import font_manager  # noqa: PLC0415 - optional

    return font_manager.findfont("STIXGeneral")


def drawn(tmp_path: Path):
    figure, ax = plot_comparison_heatmap(PAYLOAD, show=False, return_fig_ax=True, output_path=tmp_path / "plot")[1:]
    figure.canvas.draw()
    return ax


@pytest.mark.parametrize("style", [None, "auto", *ARROWS])
def test_arrows(style: str | None, tmp_path: Path) -> None:
    configure_plot_style(PlotStyleConfig(transition_arrows=style))
    directed, both = ARROWS["unicode" if style in (None, "auto") else style]
    assert (transition_directed_arrow(), transition_bidi_arrow()) == (directed, both)
    for text in ("a -> b", "a→b", "a  → b"):
        assert format_transition_label(text) == f"a {directed} b"
    assert format_transition_label("a<->b") == format_transition_label("a ↔ b") == f"a {both} b"
    assert format_transition_label("a", "b") == f"a {directed} b"
    assert format_transition_label("a", "b", bidirectional=True) == f"a {both} b"
    assert format_transition_label("a") == "a"
    assert [tick.get_text() for tick in drawn(tmp_path).get_yticklabels()] == [f"a {directed} b", f"b {both} c"]
    # A name is never parsed as mathematics, whatever the arrow is.
    assert drawn(tmp_path).get_xticklabels()[0].get_text() == r"\$x\$"
    assert arrow_or("->") == ("->" if style in (None, "auto") else directed)


def test_a_font_is_drawn_with_and_matplotlib_keeps_its_own(tmp_path: Path) -> None:
    import matplotlib as mpl  # noqa: PLC0415 - optional

    before = dict(mpl.rcParams)
    for config in (PlotStyleConfig(font_family="STIXGeneral"), PlotStyleConfig(font_path=font_file())):
        assert configure_plot_style(config).font == "STIXGeneral"
        ax = drawn(tmp_path)
        assert ax.texts[0].get_fontfamily()[0] == ax.get_yticklabels()[0].get_fontfamily()[0] == "STIXGeneral"
        assert dict(mpl.rcParams) == before
    assert configure_plot_style().font == "DejaVu Sans"
    assert drawn(tmp_path).texts[0].get_fontfamily()[0] != "STIXGeneral"


def test_a_font_of_ones_own_file(tmp_path: Path) -> None:
    copy = tmp_path / "mine.ttf"
    shutil.copy(font_file(), copy)
    assert configure_plot_style(PlotStyleConfig(font_path=copy)).font == "STIXGeneral"
    drawn(tmp_path)


def test_the_environment_speaks_where_the_configuration_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADIEND_PLOT_TRANSITION_ARROWS", "ascii")
    monkeypatch.setenv("GRADIEND_PLOT_FONT_FAMILY", "STIXGeneral")
    assert transition_directed_arrow() == "->"
    assert configure_plot_style().font == "STIXGeneral"
    assert configure_plot_style(PlotStyleConfig(transition_arrows="unicode")).transition_arrows == "unicode"
    assert configure_plot_style(PlotStyleConfig(font_family="DejaVu Serif")).font == "DejaVu Serif"
    monkeypatch.setenv("GRADIEND_PLOT_TRANSITION_ARROWS", "asci")
    with pytest.raises(ValueError, match=r"GRADIEND_PLOT_.*transition_arrows.*Did you mean 'ascii'"):
        configure_plot_style()
    monkeypatch.setenv("GRADIEND_PLOT_TRANSITION_ARROWS", "ascii")
    monkeypatch.setenv("GRADIEND_PLOT_USE_LATEX", "perhaps")
    with pytest.raises(ValueError, match="GRADIEND_PLOT_USE_LATEX must be 1, 0 or auto"):
        configure_plot_style()
    monkeypatch.delenv("GRADIEND_PLOT_USE_LATEX")


def test_latex_is_said_to_have_no_effect(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        for quiet in (PlotStyleConfig(), PlotStyleConfig(use_latex=False)):
            configure_plot_style(quiet)
        assert not caplog.text
        for asked in (PlotStyleConfig(use_latex=True), PlotStyleConfig(latex_preamble_extra=r"\usepackage{x}")):
            caplog.clear()
            assert configure_plot_style(asked).use_latex is False
            assert "without LaTeX" in caplog.text
        caplog.clear()
        monkeypatch.setenv("GRADIEND_PLOT_USE_LATEX", "1")
        configure_plot_style()
        assert "without LaTeX" in caplog.text


def test_the_check_prints_what_works(capsys: pytest.CaptureFixture[str]) -> None:
    status = check_plot_environment()
    shown = capsys.readouterr().out
    for word in ("matplotlib", "DejaVu Sans", "a → b", "not used"):
        assert word in shown
    assert status.packages["matplotlib"]
    assert (status.font, status.transition_arrows) == ("DejaVu Sans", "unicode")


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: PlotStyleConfig(use_latex="yes"), TypeError, "True, False or 'auto'"),
        (lambda: PlotStyleConfig(transition_arrows="tex"), ValueError, "transition_arrows must be one of"),
        (lambda: PlotStyleConfig(font_family=" "), ValueError, "font_family must not be empty"),
        (lambda: PlotStyleConfig(font_path=7), TypeError, "font_path must be a path"),
        (lambda: PlotStyleConfig(font="x"), TypeError, "unknown argument 'font'"),
        (lambda: configure_plot_style({"use_latex": False}), TypeError, "takes a PlotStyleConfig; got dict"),
        (lambda: configure_plot_style(PlotStyleConfig(font_family="DejaVu San")), ValueError, "'DejaVu Sans'"),
        (lambda: configure_plot_style(PlotStyleConfig(font_path="no.ttf")), FileNotFoundError, "no.ttf"),
        (lambda: configure_plot_style(PlotStyleConfig(font_path=__file__)), ValueError, "no font"),
        (lambda: format_transition_label(7), TypeError, "transition must be a string"),
        (lambda: format_transition_label("a", ""), ValueError, "target must not be empty"),
        (lambda: format_transition_label("a", "b", bidirectonal=True), TypeError, "'bidirectional'"),
    ],
)
def test_bad_input(make, error: type[Exception], message: str) -> None:
    before = transition_directed_arrow()
    with pytest.raises(error, match=message):
        make()
    assert transition_directed_arrow() == before


def test_a_configuration_that_fails_changes_nothing() -> None:
    configure_plot_style(PlotStyleConfig(transition_arrows="ascii"))
    with pytest.raises(FileNotFoundError):
        configure_plot_style(PlotStyleConfig(font_path="no.ttf"))
    assert gradiend.transition_directed_arrow() == "->"
