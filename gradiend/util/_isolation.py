"""Numbers that nothing else in the process changes: no other thread, and no mode that the caller has switched on.

Much of what a pass needs belongs to the model (its modes, flags, hooks and weights) or to the whole process (PyTorch's
level of forward-mode derivatives, its random state). Whoever uses it holds it with `exclusive`. `plain_modes` switches
off what PyTorch lets callers switch on around a call.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn


class Shared:
    """Something that the whole process shares, for `exclusive`."""


FORWARD_MODE = Shared()
"""PyTorch has one level of forward-mode derivatives, whatever thread is in it."""
RANDOM_STATE = Shared()
"""The generators of Python, NumPy and PyTorch."""
LOADING = Shared()
"""The functions that transformers replaces while it loads a model."""


class _Locks:
    """A reentrant lock for each object that was ever held."""

    def __init__(self) -> None:
        self.guard = threading.RLock()
        self.of: WeakKeyDictionary[Any, tuple[int, Any]] = WeakKeyDictionary()
        self.count = 0

    def shared_by(self, owners: list[Any]) -> list[Any]:
        """The locks of `owners`, always in the same order; owners without a lock get that of another owner."""
        with self.guard:
            known = {one: self.of.get(one) for one in owners}
            found = dict(lock for lock in known.values() if lock is not None)
            if not found:
                self.count += 1
                found[self.count] = threading.RLock()
            first = min(found)
            for owner, lock in known.items():
                if lock is None:
                    self.of[owner] = first, found[first]
            return [found[number] for number in sorted(found)]


_locks = _Locks()
_of_thread = threading.local()
"""What the thread holds at the moment."""


def _renew_locks() -> None:
    """A forked process has none of the threads that may hold a lock."""
    global _locks  # noqa: PLW0603 - one table for the process
    _locks = _Locks()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_renew_locks)


@contextmanager
def exclusive(*owners: Any) -> Iterator[None]:
    """In the block, no other thread is in a block of one of the same `owners`; a thread may nest its own blocks.

    A module counts with all modules inside it, so a model with a head and the bare model inside it exclude each other.
    """
    held: set[int] = vars(_of_thread).setdefault("held", set())
    # A pass nests such blocks a few times, and collecting the modules of a large model takes a while.
    new = [owner for owner in owners if id(owner) not in held]
    parts = [part for owner in new for part in (owner.modules() if isinstance(owner, nn.Module) else [owner])]
    with ExitStack() as locked:
        for lock in _locks.shared_by(parts) if parts else []:
            locked.enter_context(lock)
        held.update(map(id, new))
        try:
            yield
        finally:
            held.difference_update(map(id, new))


@contextmanager
def plain_modes() -> Iterator[None]:
    """Inside the block, no mode that the caller has switched on changes a number; also a decorator of functions.

    Autocast and inference mode are off, and new tensors are float32 and on the CPU, unless code says otherwise.
    """
    with ExitStack() as changed:
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                # The casts that autocast keeps belong to the graphs, and to the weights, of one pass.
                torch.clear_autocast_cache()
                changed.callback(torch.clear_autocast_cache)
                changed.enter_context(torch.autocast(device, enabled=False))
        if torch.is_inference_mode_enabled():
            changed.enter_context(torch.inference_mode(False))
        if torch.get_default_device().type != "cpu":
            changed.enter_context(torch.device("cpu"))
        changed.enter_context(_float32_by_default())
        yield


_defaults: list[torch.dtype] = []
"""The default dtypes before each block that is entered; the first one is the caller's."""
_defaults_lock = threading.Lock()


@contextmanager
def _float32_by_default() -> Iterator[None]:
    """The default dtype belongs to the process: the first block changes it, and the last block restores it."""
    with _defaults_lock:
        _defaults.append(torch.get_default_dtype())
        if len(_defaults) == 1:
            # A dtype that code inside an outer block has set is wanted there.
            torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        with _defaults_lock:
            # The last block to end takes the only entry that is left, the first one.
            before = _defaults.pop()
            if not _defaults:
                torch.set_default_dtype(before)
