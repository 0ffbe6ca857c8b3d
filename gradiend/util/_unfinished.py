"""Long computations that go on where they were stopped: the units that are done are kept in a file now and then.

The code that computes does not know who asked for it, and the code that asks does not know in which units it is
computed. So the asking code says in a with-block where results may be kept (`kept_in`), and the computing code asks for
the place of its own result (`next_result`). The n-th result that is asked for has the n-th file.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING

from gradiend.util._cache import FINGERPRINT, Fingerprint, differences
from gradiend.util._files import remove
from gradiend.util._processes import processes
from gradiend.util._tensor_files import read_header, read_tensors, write_tensors

if TYPE_CHECKING:
    from torch import Tensor

logger = logging.getLogger(__name__)

_VALUES, _UNITS, _DONE = "values", "units", "done"


class Pace:
    """Tells when to write again: after so many seconds, or 20 times the time of the last write if that is longer."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._next = time.monotonic() + seconds

    @property
    def due(self) -> bool:
        """Whether it is time to write."""
        return time.monotonic() >= self._next

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Write in the block."""
        began = time.monotonic()
        try:
            yield
        finally:
            now = time.monotonic()
            self._next = now + max(self._seconds, 20 * (now - began))


class UnfinishedResult:
    """A tensor that is filled unit by unit, always in the same order; without a path it is kept in memory alone."""

    def __init__(self, path: Path | None = None, parts: Fingerprint | None = None, seconds: float = 60.0) -> None:
        self._path = path
        self._parts = parts
        self._units = ""
        self._pace = Pace(seconds)

    def begin(self, values: Tensor, *units: object) -> int:
        """Fill `values` with what an earlier call has kept of the same `units` (by repr); returns how many are done."""
        if self._path is None:
            return 0
        self._units = hashlib.blake2b(repr(units).encode(), digest_size=16).hexdigest()
        if not self._path.is_file():
            return 0
        try:
            header, kept = read_header(self._path), read_tensors(self._path)[_VALUES]
            same = header[_UNITS] == self._units and not differences(self._parts or {}, json.loads(header[FINGERPRINT]))
            done = int(header[_DONE]) if same and (kept.shape, kept.dtype) == (values.shape, values.dtype) else 0
        except (ValueError, KeyError) as error:
            logger.info("%s is not used (%s).", self._path, error)
            return 0
        if done:
            values.copy_(kept)
            logger.info("%s goes on after %d units.", self._path, done)
        return done

    def keep(self, values: Tensor, done: int) -> None:
        """Write `values`, of whose units `done` are done, if that is due."""
        if self._path is None or not processes().anywhere(self._pace.due)[0]:
            return
        header = {FINGERPRINT: json.dumps(self._parts), _UNITS: self._units, _DONE: str(done)}
        try:
            with self._pace.writing():
                write_tensors(self._path, {_VALUES: values}, header)
        except OSError as error:
            logger.warning("What is done is not kept (%s).", error)
            self._path = None


_PLACES: ContextVar[Iterator[UnfinishedResult] | None] = ContextVar("places", default=None)


def next_result() -> UnfinishedResult:
    """The place of the next result in the block `kept_in` around the call; without such a block, nothing is kept."""
    places = _PLACES.get()
    return UnfinishedResult() if places is None else next(places)


@contextmanager
def kept_in(directory: Path, name: str, parts: Fingerprint, seconds: float) -> Iterator[None]:
    """Results in the block are kept in `<directory>/<name>_<n>.unfinished.safetensors`, and removed at its end.

    They stay if the block ends by an error or an interruption; a block with other `parts`, on which results depend,
    does not use them. Writes are so many seconds apart.
    """
    paths = (directory / f"{name}_{number}.unfinished.safetensors" for number in itertools.count())
    token = _PLACES.set(UnfinishedResult(path, parts, seconds) for path in paths)
    try:
        yield
    finally:
        _PLACES.reset(token)
    for path in directory.glob(f"{name}_*.unfinished.safetensors"):
        remove(path)
