"""Long work that is asked to stop, by Ctrl-C, SIGTERM or the end of its time: it keeps what it has, and says so."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, MethodType
from typing import Any

from typing_extensions import Self

from gradiend.util._processes import processes
from gradiend.util.logging import get_logger

logger = get_logger(__name__)

SIGNALS = {signal.SIGINT: ("Ctrl-C", 130), signal.SIGTERM: ("SIGTERM", 143)}
"""Signal → its name for a person, and the exit code of a process that it ends."""
OUT_OF_TIME = 4
"""The exit code of a process that `max_minutes` ends."""
FINISHED = "What is finished is kept."


class Interrupted(SystemExit, KeyboardInterrupt):
    """Work was asked to stop, and has kept what it had. The text says what, and how to go on.

    A script that does not catch it ends with its exit code (`code`: 130 after Ctrl-C, 143 after SIGTERM, 4 after the
    end of `max_minutes`) and without a traceback.
    """

    def __init__(self, why: str, kept: str, code: int) -> None:
        super().__init__(f"{why}. {kept} The same call goes on from there.")
        self.why = why
        self.kept = kept
        self.code = code


class StopRequest:
    """Asks the work in a with-block to stop: after Ctrl-C, SIGTERM, or so many minutes (None has no end).

    A signal ends the work at once, with `Interrupted`; inside `waiting`, the first signal waits until the work asks
    `check`. Signals reach the main thread only, and handlers of the user are left alone.
    """

    def __init__(self, minutes: float | None = None) -> None:
        self._minutes = minutes
        self._end = None if minutes is None else time.monotonic() + 60 * minutes
        self._signal: int | None = None
        self._waits = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                before = signal.getsignal(number)
                if before in (signal.SIG_DFL, signal.default_int_handler) or _is_ours(before):
                    self._before[number] = before
                    signal.signal(number, self._receive)
        return self

    def __exit__(self, kind: object, raised: BaseException | None, trace: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)
        if kind is None and self._signal is not None:
            # The signal came when nothing was left to be done.
            raised = self.interruption(FINISHED)
        if isinstance(raised, Interrupted) and not any(map(_is_ours, self._before.values())):
            logger.warning("%s", raised)
        if kind is None and raised is not None:
            raise raised

    def _receive(self, number: int, frame: FrameType | None) -> None:
        del frame
        again, self._signal = self._signal is not None, number
        if again or not self._waits:
            raise self.interruption(FINISHED)

    @property
    def wanted(self) -> bool:
        """Whether the work should stop."""
        return self._signal is not None or (self._end is not None and time.monotonic() >= self._end)

    def check(self, kept: str = FINISHED) -> None:
        """Raise `Interrupted` if the work should stop; `kept` says what is kept."""
        if processes().anywhere(self.wanted)[0]:
            raise self.interruption(kept)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Inside the block, the first signal waits for the next `check`."""
        self._waits = True
        try:
            yield
        finally:
            self._waits = False

    def interruption(self, kept: str) -> Interrupted:
        """The error that ends the work, here or in another process; `kept` says what is kept."""
        if self._signal is not None:
            why, code = SIGNALS[signal.Signals(self._signal)]
        elif self._minutes is not None:
            why, code = f"max_minutes={self._minutes:g}", OUT_OF_TIME
        else:
            why, code = SIGNALS[signal.SIGTERM]
        self._signal = None
        return Interrupted(f"Stopped by {why}", kept, code)


def _is_ours(handler: Any) -> bool:
    """Whether a handler of a signal is that of an outer `StopRequest`."""
    return isinstance(handler, MethodType) and isinstance(handler.__self__, StopRequest)
