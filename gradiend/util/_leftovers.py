"""Temporary names that say which process made them, so that a later run removes what a dead process has left.

A name is `.<start of the name>.gradiend-<process>-<start of the process>-<host>-<random>`. Files without such a
name belong to somebody else, and stay.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from gradiend.util.logging import get_logger
from gradiend.util.paths import OWN_NAMES

logger = get_logger(__name__)

_NAME = re.compile(r"(?:\..*\.)?gradiend-(\d+)-(\d+)-([0-9a-f]{8})-[0-9a-f]{8}", re.DOTALL)
_LONGEST_STEM = 60
"""How many bytes of a file's own name its temporary name keeps; the mark of the process needs the rest."""
_OTHER_HOST = 24 * 3600
"""Seconds after which a leftover of another machine is dead, because its process cannot be asked for."""
_SAME_START = 2
"""Seconds between two answers of the system to when one process began."""


@dataclass(frozen=True)
class Process:
    """A process, told apart from later processes with the same number."""

    number: int
    started: int
    """When it began, in seconds since 1970."""
    host: str
    """The `host_digits` of its machine."""

    @classmethod
    def this(cls) -> Process:
        """The process that calls."""
        return cls(os.getpid(), _start_of(os.getpid()) or 0, host_digits())

    @property
    def is_here(self) -> bool:
        """Whether the process is one of this machine, so that `lives` is known."""
        return self.host == host_digits()

    @property
    def lives(self) -> bool:
        """Whether a process of this machine has not ended."""
        started = _start_of(self.number)
        return started is not None and abs(started - self.started) <= _SAME_START


@functools.cache
def host_digits() -> str:
    """Eight digits that tell machines apart, and the containers of one machine, which number processes themselves."""
    numbering = Path("/proc/self/ns/pid")
    own = str(numbering.stat().st_ino) if numbering.exists() else ""
    return hashlib.sha256(f"{socket.gethostname()} {own}".encode()).hexdigest()[:8]


def _start_of(number: int) -> int | None:
    try:
        process = psutil.Process(number)
        # A process that has ended but was not waited for writes no more.
        return None if process.status() == psutil.STATUS_ZOMBIE else int(process.create_time())
    except psutil.NoSuchProcess:
        return None


def temporary_name(name: str = "") -> str:
    """A hidden name that no other call gives, and that `remove_leftovers` knows; `name` is what it stands for."""
    start = name.encode()[:_LONGEST_STEM].decode(errors="ignore")
    return f".{start}.{_mark()}"


def temporary_folder(directory: str | Path) -> Path:
    """Make a folder in the system's folder for temporary files, after a removal of those of dead processes."""
    for path in _matching(Path(directory)):
        # On a shared machine the folder holds those of other users too, and others remove theirs at the same time.
        with suppress(FileNotFoundError):
            if not hasattr(os, "getuid") or path.lstat().st_uid == os.getuid():
                _remove_if_dead(path)
    made = Path(directory) / _mark()
    made.mkdir(mode=0o700)
    return made


def _mark() -> str:
    own = Process.this()
    return f"gradiend-{own.number}-{own.started}-{own.host}-{secrets.token_hex(4)}"


def remove_leftovers(experiment: str | Path) -> None:
    """Remove temporary files and folders of dead processes from a folder of an experiment and those below it."""
    for folder in _folders(Path(experiment)):
        for path in _matching(folder):
            _remove_if_dead(path)


def _folders(root: Path) -> Iterator[Path]:
    """Yield the folder of an experiment, the folders in it, and all folders below those that the experiment made.

    Others are not searched: the folder of an experiment may be one in which much else lies.
    """
    for place, names, _ in os.walk(root):
        folder = Path(place)
        yield folder
        is_foreign = folder != root and folder.parent == root and not folder.name.startswith(OWN_NAMES)
        names[:] = [] if is_foreign else [name for name in names if name[0] != "."]


def _matching(folder: Path) -> list[Path]:
    try:
        return [folder / name for name in os.listdir(folder) if _NAME.fullmatch(name)]
    except OSError:
        return []


def _remove_if_dead(path: Path) -> None:
    found = _NAME.fullmatch(path.name)
    assert found is not None
    maker = Process(int(found[1]), int(found[2]), found[3])
    # Another process may remove it at the same time, and a folder may take no change: then it stays.
    with suppress(OSError):
        if maker.lives if maker.is_here else time.time() - path.lstat().st_mtime < _OTHER_HOST:
            return
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
        logger.info("%s was left by a run that had ended: it is removed.", path)
