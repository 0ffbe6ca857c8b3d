"""One writer for a folder of an experiment: a lock that ends with its process, and a record of who holds the lock.

The kernel keeps the lock, so that it ends however its process ends. Where a network file system has no such locks, the
lock is a file that its holder touches every 15 seconds; a holder that has not done so for a minute is taken for dead.
"""

from __future__ import annotations

import errno
import os
import shlex
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import BaseFileLock, FileLock, SoftFileLease, Timeout

from gradiend.util._files import read_json, write_json
from gradiend.util._leftovers import Process, remove_leftovers
from gradiend.util._processes import processes
from gradiend.util.logging import get_logger
from gradiend.util.paths import LOCK_FILE, LOCK_LEASE, LOCK_RECORD

logger = get_logger(__name__)

UNSUPPORTED = {errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP}
"""The errors of a file system that has no locks."""
VANISHED = {errno.ENOENT, errno.ESTALE}
"""The errors of a folder that somebody removed."""
ATTEMPTS = 20
TOUCHED, DEAD = 15.0, 60.0
"""On such a file system: the seconds between two signs of life, and those after which a holder is taken for dead."""
FIRST_REMINDER, LONGEST_REMINDER = 60.0, 3600.0
"""The seconds after which a run that waits says so again; they double up to the second number."""
POLL = 0.1
"""Seconds between two attempts to take a lock."""
SHOWN = 120
"""The largest number of characters of a command that are shown."""

_held: set[tuple[int, str]] = set()
"""(thread, folder) of the locks of this process."""
if hasattr(os, "register_at_fork"):
    # A child has the memory of its parent, but not its locks.
    os.register_at_fork(after_in_child=_held.clear)


class ExperimentLocked(RuntimeError):  # noqa: N818 - a public name, which says what happened
    """Another run writes to the folder of the experiment, and the time to wait for that run is over."""


@dataclass(frozen=True)
class Holder:
    """Who writes to a folder."""

    process: Process
    host: str
    command: str
    since: str
    """Date and time of the machine that writes."""

    @classmethod
    def this(cls) -> Holder:
        """The calling process."""
        command = shlex.join([Path(sys.executable).name, *sys.argv] if sys.argv[0] else [sys.executable])
        return cls(Process.this(), socket.gethostname(), command, datetime.now().isoformat(" ", timespec="seconds"))

    @classmethod
    def of(cls, folder: str | Path) -> Holder | None:
        """Who writes to a folder by its record; None if nobody is known to, or only a process that has ended."""
        try:
            content = read_json(Path(folder) / LOCK_RECORD)
            found = cls(**{**content, "process": Process(**content["process"])})
            gone = found.process.is_here and not found.process.lives
        except (OSError, ValueError, TypeError, KeyError):
            return None
        return None if gone else found

    def __str__(self) -> str:
        if self.process == Process.this():
            return f"another thread of this process, since {self.since}"
        shown = self.command if len(self.command) <= SHOWN else f"{self.command[:SHOWN]}…"
        return f"process {self.process.number} on {self.host} (`{shown}`), since {self.since}"


@contextmanager
def writing(folder: str | Path | None, wait_minutes: float | None = None) -> Iterator[None]:
    """Hold the lock of a folder, which is made if it is missing; None is no folder, and needs no lock.

    A thread that holds the lock may take it again. In a folder that takes no files nothing can be written, so that no
    lock is needed either. Another run is waited for so many minutes (None: without limit); then `ExperimentLocked` says
    who it is, and since when.
    """
    if folder is None or _held_here(folder):
        yield
        return
    key = threading.get_ident(), os.path.realpath(folder)
    team = processes()
    if team.count > 1:
        # The first process holds the lock for all.
        with team.held(lambda: writing(folder, wait_minutes)):
            if not team.first:
                _held.add(key)
            try:
                yield
            finally:
                _held.discard(key)
        return
    place = Path(key[1])
    made = [folder for folder in (place, *place.parents) if not os.path.lexists(folder)]
    lock = _acquired(place, wait_minutes)
    if lock is None:
        yield
        return
    owner = os.getpid()
    _held.add(key)
    # The record only tells people: a full disk must not end the run here.
    with suppress(OSError):
        write_json(place / LOCK_RECORD, asdict(Holder.this()))
    remove_leftovers(place)
    try:
        yield
    finally:
        if os.getpid() == owner:
            _held.discard(key)
            _release(lock, place)
            # A call that wrote nothing leaves no folder either.
            with suppress(OSError):
                for one in made:
                    one.rmdir()


@contextmanager
def unchanged(mark: Path) -> Iterator[None]:
    """A with-block that reads several files which belong together, without a lock, so that a reader never waits.

    `mark` is the file that is removed, or replaced, whenever one of the others is about to change. Raises
    `ExperimentLocked`, which says who, if another run changed them in the meantime.
    """
    before = _state(mark)
    try:
        yield
    except (OSError, ValueError) as error:
        if _state(mark) != before:
            raise ExperimentLocked(_changed(mark)) from error
        raise
    if _state(mark) != before:
        raise ExperimentLocked(_changed(mark))


def _state(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _changed(mark: Path) -> str:
    return f"{mark.parent} was changed while it was read{written_by(mark)}. Read it again when that run has ended."


def _held_here(folder: str | Path) -> bool:
    """Whether the calling thread itself holds the lock of a folder."""
    return (threading.get_ident(), os.path.realpath(folder)) in _held


def written_by(path: str | Path) -> str:
    """`, by process …`, if another run is known to write to a folder around `path`; else an empty text."""
    folders = [folder for folder in list(Path(path).absolute().parents)[:2] if not _held_here(folder)]
    found = next(filter(None, map(Holder.of, folders)), None)
    return f", by {found}" if found else ""


def _release(lock: BaseFileLock, place: Path) -> None:
    with suppress(OSError):
        (place / LOCK_RECORD).unlink(missing_ok=True)
    if isinstance(lock, FileLock) and os.name == "posix":
        # Removed while it is held: whoever waits for the file that is gone notices, and takes the new one.
        with suppress(OSError):
            (place / LOCK_FILE).unlink()
    with suppress(OSError):
        lock.release()


def _acquired(place: Path, wait_minutes: float | None) -> BaseFileLock | None:
    """The lock of a folder, held; None where no file can be written."""
    began, pause = time.monotonic(), 0.0
    lock: BaseFileLock | None = None
    vanished = 0
    while True:
        left = float("inf") if wait_minutes is None else 60 * wait_minutes - (time.monotonic() - began)
        try:
            place.mkdir(parents=True, exist_ok=True)
            lock = lock or _native(place / LOCK_FILE)
            lock.acquire(timeout=max(0.0, min(pause, left)), poll_interval=POLL)
            return lock
        except _ReplacedError:
            continue
        except Timeout:
            found = Holder.of(place)
            who = f"{place} is in use by {found or 'another run'}"
            if left <= pause:
                raise ExperimentLocked(
                    f"{who}. Run this again when that run has ended, choose another experiment_dir, or let it wait "
                    "(lock_wait_minutes; None waits without limit)."
                ) from None
            logger.warning("%s: waiting for it.", who)
            pause = FIRST_REMINDER if not pause else min(2 * pause, LONGEST_REMINDER)
        except OSError as error:
            if error.errno in UNSUPPORTED and not isinstance(lock, SoftFileLease):
                with suppress(OSError):
                    (place / LOCK_FILE).unlink()
                lock = SoftFileLease(place / LOCK_LEASE, lease_duration=DEAD, heartbeat_interval=TOUCHED)
                continue
            # The run that made the folder may remove it while this one opens its lock.
            vanished += error.errno in VANISHED
            if error.errno in VANISHED and vanished < ATTEMPTS:
                continue
            if os.path.isdir(place) and os.access(place, os.W_OK):
                logger.warning("%s cannot be locked (%s): two runs at once would mix up.", place, error.strerror)
            return None


class _ReplacedError(RuntimeError):
    """The file that was locked is no longer the one of that name."""


def _native(path: Path) -> FileLock:
    """A lock of the kernel. The file of a lock that ends is removed, so that the lock of a removed file is void."""

    def require_same(descriptor: int) -> None:
        own = os.fstat(descriptor)
        try:
            there: Any = path.stat()
        except FileNotFoundError:
            there = None
        if there is None or (there.st_dev, there.st_ino) != (own.st_dev, own.st_ino):
            raise _ReplacedError

    # Everybody who may write to the folder may take its lock.
    return FileLock(path, mode=0o666, fallback_to_soft=False, on_acquired=require_same)
