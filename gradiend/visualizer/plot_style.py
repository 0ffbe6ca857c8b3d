"""The look that a user chooses for all figures: font, and the arrow between the classes of a transition."""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from gradiend.util._checks import require_path, require_text
from gradiend.util._display import Shown, Table, facts
from gradiend.util._keywords import known_keywords, nearest, one_of, strict_keywords

logger = logging.getLogger(__name__)

ARROWS: dict[str, tuple[str, str]] = {
    "unicode": ("→", "↔"),
    "latex": (r"$\rightarrow$", r"$\leftrightarrow$"),
    "ascii": ("->", "<->"),
}
"""Style → the arrow of a transition, and that of a pair of transitions."""
VARIABLE = "GRADIEND_PLOT_"
YES, NO = ("1", "true", "yes", "on"), ("0", "false", "no", "off", "")

_ARROW = re.compile(r"\s*(<->|↔|->|→)\s*")
_PACKAGES = ("matplotlib", "matplotlib_venn", "venn", "plotly")
_NO_LATEX = (
    "Figures are drawn without LaTeX (use_latex and latex_preamble_extra have no effect): matplotlib draws text and "
    "mathematics itself, and class names, which are untrusted, never reach a LaTeX run."
)


@strict_keywords
@dataclass(frozen=True)
class PlotStyleConfig:
    """How figures look. None: as the environment says, or else as the figure chooses.

    Raises:
        TypeError: A value is of another type.
        ValueError: An unknown style of arrows, or an empty font.
    """

    use_latex: bool | Literal["auto"] = "auto"
    """Has no effect: matplotlib draws text and mathematics itself. True is answered with a warning."""
    latex_preamble_extra: str | None = None
    """Has no effect, see use_latex."""
    font_path: str | Path | None = None
    """A font file (.ttf, .otf) for all text."""
    font_family: str | None = None
    """An installed font for all text; font_path goes before it."""
    transition_arrows: Literal["auto", "latex", "unicode", "ascii"] | None = None
    r"""The arrow between classes: → (unicode, also auto), $\rightarrow$ (latex, drawn as mathematics) or -> (ascii)."""

    def __post_init__(self) -> None:
        if not isinstance(self.use_latex, bool) and self.use_latex != "auto":
            raise TypeError(f"use_latex must be True, False or 'auto'; got {self.use_latex!r:.60}.")
        if self.transition_arrows is not None:
            one_of("transition_arrows", self.transition_arrows, ("auto", *ARROWS))
        if self.font_path is not None:
            require_path("font_path", self.font_path)
        if self.font_family is not None:
            require_text("font_family", self.font_family)

    @classmethod
    def of_environment(cls, environment: Mapping[str, str] = os.environ) -> PlotStyleConfig:
        """What the variables GRADIEND_PLOT_USE_LATEX, _LATEX_PREAMBLE_EXTRA, _FONT_PATH, … say.

        Raises:
            ValueError: A variable has a value that its field cannot have; the message names the variable.
        """
        given: dict[str, Any] = {
            field.name: environment[VARIABLE + field.name.upper()]
            for field in fields(cls)
            if environment.get(VARIABLE + field.name.upper())
        }
        if "use_latex" in given:
            said = str(given["use_latex"]).lower()
            if said not in (*YES, *NO, "auto"):
                raise ValueError(f"{VARIABLE}USE_LATEX must be 1, 0 or auto; got {given['use_latex']!r}.")
            given["use_latex"] = "auto" if said == "auto" else said in YES
        try:
            return cls(**given)
        except ValueError as error:
            raise ValueError(f"A variable {VARIABLE}… of the environment cannot be used: {error}") from error

    def over(self, other: PlotStyleConfig) -> PlotStyleConfig:
        """This configuration, with what it leaves open taken from another one."""
        own = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(other, **{name: value for name, value in own.items() if value not in (None, "auto")})


@dataclass(frozen=True, repr=False)
class PlotStyleStatus(Shown):
    """The packages, the font and the arrows that figures are drawn with."""

    packages: Mapping[str, bool]
    """Package → whether it is installed."""
    font: str | None
    """The font of all text; None without matplotlib."""
    transition_arrows: str
    """unicode, latex or ascii."""
    use_latex: bool = False
    """Whether text is drawn by LaTeX, which it never is."""
    latex_installed: bool = False
    """Whether there is a command latex."""

    def _tables(self) -> tuple[str, Sequence[Table]]:
        known = {
            "installed": ", ".join(name for name, there in self.packages.items() if there),
            "missing": ", ".join(name for name, there in self.packages.items() if not there) or None,
            "font": self.font,
            "transitions": format_transition_label("a", "b"),
            "LaTeX": f"{'installed' if self.latex_installed else 'not installed'}, and not used",
        }
        return "Plots", [facts("", known)]


class _Chosen:
    """The argument of the last call of `configure_plot_style`."""

    config = PlotStyleConfig()


@known_keywords("configure_plot_style")
def configure_plot_style(config: PlotStyleConfig | None = None) -> PlotStyleStatus:
    """Choose the look of all figures that are drawn from now on in this process.

    Args:
        config: What it leaves open is as the environment says (GRADIEND_PLOT_FONT_PATH, GRADIEND_PLOT_FONT_FAMILY,
            GRADIEND_PLOT_TRANSITION_ARROWS). None: everything is.

    Returns:
        What figures are drawn with. The settings of matplotlib itself are not changed.

    Raises:
        TypeError: config is no PlotStyleConfig.
        ValueError: A font is not installed (the message names the nearest), or its file is no font.
        FileNotFoundError: There is no font file.
    """
    if config is not None and not isinstance(config, PlotStyleConfig):
        raise TypeError(f"configure_plot_style takes a PlotStyleConfig; got {type(config).__name__}.")
    chosen = config or PlotStyleConfig()
    effective = chosen.over(PlotStyleConfig.of_environment())
    if effective.use_latex is True or effective.latex_preamble_extra:
        logger.warning(_NO_LATEX)
    _family_of(effective)
    _Chosen.config = chosen
    return _status()


@known_keywords("check_plot_environment")
def check_plot_environment() -> PlotStyleStatus:
    """Print, and return, what figures are drawn with: packages, font, arrows.

    Raises:
        ValueError, FileNotFoundError: A font that the environment names cannot be used, see `configure_plot_style`.
    """
    status = _status()
    print(status)
    return status


def transition_directed_arrow() -> str:
    """The arrow from the factual to the alternative class, in the configured style."""
    return ARROWS[_arrows()][0]


def transition_bidi_arrow() -> str:
    """The arrow between two classes, for both directions, in the configured style."""
    return ARROWS[_arrows()][1]


@known_keywords("format_transition_label")
def format_transition_label(transition: str, target: str | None = None, *, bidirectional: bool = False) -> str:
    """Write a transition with the configured arrow.

    Args:
        transition: A transition such as "a -> b", "a → b", "a <-> b" or "a ↔ b", or the class that it comes from.
        target: The class that it goes to, if `transition` is a class.
        bidirectional: Whether it goes both ways, if `transition` is a class.

    Returns:
        Both classes with the arrow and spaces between; a text without an arrow as it is.

    Raises:
        TypeError: A class is no string.
        ValueError: A class is empty.
    """
    require_text("transition", transition)
    arrows = ARROWS[_arrows()]
    if target is None:
        return _ARROW.sub(lambda found: f" {arrows[found[1] in ('<->', '↔')]} ", transition)
    require_text("target", target)
    return f"{transition} {arrows[bidirectional]} {target}"


def arrow_or(default: str, *, bidirectional: bool = False) -> str:
    """The arrow of the chosen style, `default` if none was chosen."""
    chosen = _effective().transition_arrows
    return default if chosen in (None, "auto") else ARROWS[str(chosen)][bidirectional]


def drawn_arrows(text: str) -> str:
    """The text of a figure, with the unicode arrows that this package writes in the configured style."""
    if _arrows() == "unicode" or not ("→" in text or "↔" in text):
        return text
    directed, both = ARROWS[_arrows()]
    return text.replace("→", directed).replace("↔", both)


@contextmanager
def plot_style() -> Iterator[None]:
    """A block in which matplotlib makes text in the configured font."""
    family = _family_of(_effective())
    if family is None:
        yield
        return
    import matplotlib as mpl  # noqa: PLC0415 - optional

    with mpl.rc_context({"font.family": [family, *mpl.rcParamsDefault["font.family"]]}):
        yield


def _effective() -> PlotStyleConfig:
    return _Chosen.config.over(PlotStyleConfig.of_environment())


def _arrows() -> str:
    chosen = _effective().transition_arrows
    return "unicode" if chosen in (None, "auto") else str(chosen)


def _family_of(config: PlotStyleConfig) -> str | None:
    """The name of the configured font, which matplotlib then knows; None if there is none."""
    if config.font_path is None and config.font_family is None:
        return None
    if find_spec("matplotlib") is None:
        return None
    from matplotlib import font_manager  # noqa: PLC0415 - optional

    if config.font_path is not None:
        path = Path(config.font_path)
        if not path.is_file():
            raise FileNotFoundError(f"There is no font file {str(path)!r} (font_path, or {VARIABLE}FONT_PATH).")
        try:
            name = font_manager.get_font(str(path)).family_name
        except (RuntimeError, OSError) as error:
            raise ValueError(f"{str(path)!r} is no font that matplotlib reads (.ttf, .otf): {error}") from error
        if not any(entry.fname == str(path) for entry in font_manager.fontManager.ttflist):
            font_manager.fontManager.addfont(path)
        return name
    family = str(config.font_family)
    installed = font_manager.get_font_names()
    if family not in installed:
        raise ValueError(f"font_family={family!r} is not installed.{nearest(family, installed)}")
    return family


def _status() -> PlotStyleStatus:
    packages = {name: find_spec(name) is not None for name in _PACKAGES}
    font = None
    if packages["matplotlib"]:
        from matplotlib import font_manager  # noqa: PLC0415 - optional

        with plot_style():
            font = font_manager.get_font(font_manager.findfont(font_manager.FontProperties())).family_name
    return PlotStyleStatus(packages, font, _arrows(), latex_installed=shutil.which("latex") is not None)
