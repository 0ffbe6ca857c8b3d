"""What a call does while it runs, on request: phases, seconds and memory, one line of JSON each (`runtime_monitor`)."""

from __future__ import annotations

import json
import platform
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import psutil
import torch

from gradiend.trainer.core.arguments import TrainingArguments
from gradiend.util._processes import processes
from gradiend.util.logging import get_logger
from gradiend.util.paths import RUNTIME_MONITOR

logger = get_logger(__name__)


class RuntimeMonitor:
    """Lines of JSON that are added to a file until the with-block ends; nothing in them names the machine.

    Every line has `event`, `time` (local, ISO 8601) and `time_unix`. The events: `monitor_start` (process, platform,
    versions), `mark` (a phase starts or ends, with `seconds` at its end), `heartbeat` (the phase, and memory in bytes)
    and `monitor_stop` (seconds and largest memory of each phase). A file that cannot be written ends the monitor with a
    warning, not the call.

    There are `interval` seconds between two heartbeats; with `system` they have the memory of the machine and its GPUs.
    """

    def __init__(self, path: Path, interval: float, *, system: bool) -> None:
        self._path, self._interval, self._system = path, interval, system
        self._phases: list[str] = []
        self._seconds: dict[str, float] = {}
        self._peaks: dict[str, int] = {}
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._process = psutil.Process()
        self._thread = threading.Thread(target=self._beat, name="runtime monitor", daemon=True)

    def __enter__(self) -> RuntimeMonitor:
        known = {"platform": platform.platform(), "python": platform.python_version(), "torch": torch.__version__}
        self._write("monitor_start", pid=self._process.pid, cuda=torch.cuda.is_available(), **known)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        phases = {
            name: {"seconds": round(seconds, 3), "peak_rss": self._peaks.get(name)}
            for name, seconds in self._seconds.items()
        }
        self._write("monitor_stop", phases=phases)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Note that a phase starts, and that it ends, whatever ends it; phases may lie within phases."""
        self._phases.append(name)
        self._write("mark", phase=f"{name}:start", memory=self._measured())
        start = time.perf_counter()
        try:
            yield
        finally:
            seconds = time.perf_counter() - start
            memory = self._measured()
            self._phases.pop()
            self._seconds[name] = self._seconds.get(name, 0.0) + seconds
            self._write("mark", phase=f"{name}:end", seconds=round(seconds, 3), memory=memory)

    def _beat(self) -> None:
        while not self._ended.wait(self._interval):
            self._write("heartbeat", phase=self._phases[-1] if self._phases else None, memory=self._measured())

    def _measured(self) -> dict[str, int]:
        """The memory in bytes that this process has, and what the machine has; peaks of open phases are remembered."""
        found = {"rss": self._process.memory_info().rss}
        for name in list(self._phases):
            self._peaks[name] = max(self._peaks.get(name, 0), found["rss"])
        if self._system:
            found["available_ram"] = psutil.virtual_memory().available
            # Asking for a GPU that nothing uses would make a context on it.
            for number in range(torch.cuda.device_count() if torch.cuda.is_initialized() else 0):
                free, total = torch.cuda.mem_get_info(number)
                found |= {f"cuda:{number}_used": total - free}
                found |= {f"cuda:{number}_allocated": torch.cuda.memory_allocated(number)}
        return found

    def _write(self, event: str, **known: Any) -> None:
        now = time.time()
        line = {"event": event, "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(now)), "time_unix": now}
        with self._lock:
            if self._ended.is_set() and event not in ("monitor_stop", "mark"):
                return
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                with self._path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({**line, **known}) + "\n")
            except OSError as error:
                self._ended.set()
                logger.warning("The runtime monitor ends, because it cannot write to %s: %s", self._path, error)


_CURRENT: ContextVar[RuntimeMonitor | None] = ContextVar("runtime monitor", default=None)


@contextmanager
def phase(name: str) -> Iterator[None]:
    """Note a phase in the monitor of the call that runs now; without a monitor nothing happens."""
    monitor = _CURRENT.get()
    if monitor is None:
        yield
        return
    with monitor.phase(name):
        yield


@contextmanager
def monitored(name: str, args: TrainingArguments, given: dict[str, Any], folder: Path | None) -> Iterator[None]:
    """Watch a call, if what it was `given`, or else the trainer's arguments, ask for it, with a file in the folder.

    A call within another one is a phase of that one.
    """
    wanted = given.get("runtime_monitor", args.runtime_monitor)
    if not wanted or not processes().first or _CURRENT.get() is not None:
        with phase(name):
            yield
        return
    if folder is None:
        raise ValueError(
            f"runtime_monitor=True needs a place for {RUNTIME_MONITOR}: give the trainer TrainingArguments("
            "experiment_dir=…)."
        )
    interval = given.get("runtime_monitor_interval", args.runtime_monitor_interval)
    system = given.get("runtime_monitor_system_stats", args.runtime_monitor_system_stats)
    with RuntimeMonitor(folder / RUNTIME_MONITOR, interval, system=system) as monitor:
        token = _CURRENT.set(monitor)
        try:
            with monitor.phase(name):
                yield
        finally:
            _CURRENT.reset(token)
