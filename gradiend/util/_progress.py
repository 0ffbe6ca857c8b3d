"""How far a long piece of work is, on standard error: a bar in terminals and notebooks, now and then a line elsewhere.

A bar rewrites its line with carriage returns, which a log file would keep by the thousand. So where standard error is
neither a terminal nor a notebook, whole lines are written, each readable on its own.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO, TypeVar

from tqdm.auto import tqdm
from tqdm.utils import disp_len, disp_trim
from typing_extensions import Self

from gradiend.util._display import one_line

T = TypeVar("T")

EVERY = 10.0
"""Seconds from one line to the next."""
SHARE = 0.05
"""The least share of the time so far between two lines, so that a day of work has some hundred lines."""
NEWS = 2.0
"""Seconds after a line from which news, such as an evaluation, have a line of their own."""
BAR_WIDTH = 30
SWITCH = "TQDM_DISABLE"
"""The variable of the environment that switches all progress off, unless it is 0."""

_quiet = False


def set_quiet(quiet: bool = True) -> None:
    """Show no progress in this process from now on, or show it again."""
    global _quiet  # noqa: PLW0603 - a switch of the process
    _quiet = quiet


def is_quiet() -> bool:
    """Whether no progress is shown: by `set_quiet`, or by `TQDM_DISABLE=1` in the environment."""
    return _quiet or os.environ.get(SWITCH, "0") not in {"", "0"}


def duration(seconds: float) -> str:
    """A time in the unit that a person would say: `12 s`, `3 min`, `1 h 20 min`."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


class Progress:
    """The progress of one piece of work, `label`, in a with-block.

    There are `total` units (None: not known), called `unit` in the singular; `done` is the number of units that were
    done before.
    With `brief`, the bar goes when the work is done, and work of less than `EVERY` seconds leaves no line. Nothing is
    seen unless `shown`.
    """

    def __init__(
        self, label: str, total: int | None = None, unit: str = "step", *, brief: bool = False, shown: bool = True,
        done: int = 0,
    ) -> None:  # fmt: skip
        self.label = one_line(label)
        self.total = total
        self.unit = unit
        self.n = self._before = done
        self.notes: tuple[str, ...] = ()
        self._brief = brief
        self._start = self._line_time = time.monotonic()
        self._done = self._written = False
        self._file: TextIO | None = sys.stderr if shown and not is_quiet() else None
        self._bar: _Bar | None = None
        if self._file is not None and _draws_bars():
            self._bar = _Bar(self, terminal=self._file.isatty())

    def advance(self, n: int = 1, *notes: str | None, news: bool = False) -> None:
        """Count `n` units as done, and show `notes`, such as `loss 0.012`, from now on; without any, those before stay.

        A note of None is left out. With `news`, the notes have something new, which is worth a line soon.
        """
        self.n += n
        self.notes = tuple(one_line(note) for note in notes if note) or self.notes
        if self._bar is not None:
            self._bar.update(n)
        elif self._file is not None:
            now = time.monotonic()
            if now - self._line_time >= (NEWS if news else max(EVERY, SHARE * (now - self._start))):
                self._write(now)

    def over(self, items: Iterable[T]) -> Iterator[T]:
        """The items, each of which counts as done when the next one is asked for."""
        for item in items:
            yield item
            self.advance()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *raised: object) -> None:
        self._done = True
        if self._bar is not None:
            if kind is None:
                # What ends early without an error is whole: notebooks paint other bars red.
                self._bar.total = self._bar.n
            self._bar.close()
        elif self._file is not None and (self._written or not self._brief):
            self._write(time.monotonic())

    def _write(self, now: float) -> None:
        assert self._file is not None
        self._line_time, self._written = now, True
        self._file.write(f"{self.label}: {', '.join([self._count(), *self.notes, *self._time()])}\n")
        self._file.flush()

    def _count(self) -> str:
        return f"{self.unit} {self.n:,}/{self.total:,}" if self.total else f"{self.n:,} {self.unit}s"

    def _time(self) -> list[str]:
        """The time that the work took or, while it goes on, the time left, if that is known."""
        spent = time.monotonic() - self._start
        if self._done:
            return [f"took {duration(spent)}"]
        done = self.n - self._before
        return [f"{duration(spent / done * (self.total - self.n))} left"] if self.total and done else []

    def parts(self, width: int | None) -> tuple[str, str]:
        """What stands before and after the bar on a line of `width` columns; None is any width.

        A narrow line has no bar, then not the first notes; what is left is cut.
        """
        share = f" {100 * self.n / self.total:3.0f} %" if self.total else ""
        count = f"{self.n:,}/{self.total:,}" if self.total else f"{self.n:,} {self.unit}s"
        before, after = f"{self.label}{share}", ", ".join([count, *self._time(), *self.notes])
        if width is None or disp_len(f"{before}|{after}") + 4 <= width:
            return (f"{before}|", f"| {after}") if self.total else (f"{before}: {after}", "")
        for first in range(len(self.notes) + 1):
            told = [*([] if self.total else [count]), *self._time(), *self.notes[first:]]
            text = f"{before}{', ' if self.total else ': '}{', '.join(told)}"
            if disp_len(text) <= width:
                return text, ""
        return disp_trim(text, width), ""


class _Bar(tqdm):
    """The bar of a `Progress`, which says what stands beside it."""

    def __init__(self, progress: Progress, *, terminal: bool) -> None:
        self.progress = progress
        brief = progress._brief
        super().__init__(
            total=progress.total, initial=progress.n, leave=not brief, delay=0.5 if brief else 0.0, miniters=1,
            file=progress._file,
            # A notebook has no columns, and where it cannot draw it keeps every line that is written.
            dynamic_ncols=terminal, mininterval=0.1 if terminal else 0.5, disable=False,
            bar_format="{before}{bar}{after}",
        )  # fmt: skip

    @property
    def format_dict(self) -> dict[str, Any]:
        """The values of `bar_format`."""
        known = super().format_dict
        ncols = known["ncols"]
        # In the last column some terminals begin a new line.
        before, after = self.progress.parts(None if ncols is None else ncols - 1)
        if not after:
            return {**known, "bar_format": "{before}", "before": before}
        if ncols is None:
            return {**known, "before": before, "after": after}
        width = min(BAR_WIDTH, ncols - 1 - disp_len(before + after))
        return {**known, "bar_format": f"{{before}}{{bar:{width}}}{{after}}", "before": before, "after": after}


def _draws_bars() -> bool:
    """Whether standard error is a terminal, or a notebook, which shows a bar although it is no terminal."""
    is_notebook = type(sys.stderr).__module__.startswith("ipykernel")
    return not is_quiet() and sys.stderr is not None and (is_notebook or sys.stderr.isatty())


@contextmanager
def others_bars() -> Iterator[None]:
    """Let transformers draw bars, in a with-block, only where bars are drawn here: it writes them into files too."""
    from transformers.utils import logging as others  # noqa: PLC0415 - importing this module loads no transformers

    drawn = others.is_progress_bar_enabled()
    if drawn and not _draws_bars():
        others.disable_progress_bar()
    try:
        yield
    finally:
        if drawn:
            others.enable_progress_bar()


class BesideBars(logging.StreamHandler[TextIO]):
    """Writes log lines to standard error above the bars, which would otherwise share their lines with the log."""

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler.emit`."""
        with tqdm.external_write_mode(file=self.stream):
            super().emit(record)
