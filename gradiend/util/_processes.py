"""The processes of one run, which torchrun or `accelerate launch` started: what they share, and which of them writes.

Every process runs the same program and makes the same calls. Passes over the base model are divided and their results
exchanged, so that all processes go on with the same numbers and take the same decisions. The first process alone writes
files, logs and shows bars; what depends on a clock, a signal or a disk in one process is decided for all.
"""

from __future__ import annotations

import atexit
import datetime
import functools
import itertools
import logging
import os
import pickle
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from gradiend.util._progress import set_quiet

if TYPE_CHECKING:
    from torch import Tensor

P = ParamSpec("P")
T = TypeVar("T")
U = TypeVar("U")

RANK, COUNT, LOCAL_RANK, LOCAL_COUNT = "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"
"""The variables of the environment by which a launcher tells a process its number, and how many there are."""
PATIENCE = datetime.timedelta(days=7)
"""How long a process waits for the others. A process that dies is noticed at once, because its connections end."""


@dataclass(frozen=True)
class Processes:
    """The processes of a run, as one of them sees them; a program that was started alone has one."""

    rank: int = 0
    """The number of this process, from 0."""
    count: int = 1
    group: Any = None
    """The group of torch.distributed for tensors and objects on the CPU."""
    torch: Any = None
    """The module, which a program that was started alone need not import here."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Processes:
        """Return the same object: whatever refers to the processes of a run is copied within one of them."""
        del memo
        return self

    @property
    def first(self) -> bool:
        """Whether this process writes, logs and shows bars."""
        return self.rank == 0

    @property
    def on_this_machine(self) -> int:
        """How many of the processes run on this machine."""
        return min(self.count, int(os.environ.get(LOCAL_COUNT, self.count)))

    @property
    def round_size(self) -> int:
        """How many pieces of work lie between two exchanges, so that processes rarely wait for each other."""
        return 1 if self.count == 1 else 16 * self.count

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """Every count-th item, from the item number `rank` on; the shares of all processes together are all items."""
        return items[self.rank :: self.count]

    def exchanged(self, value: T) -> list[T]:
        """The value of every process, in the order of the processes."""
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        self.torch.distributed.all_gather_object(values, value, group=self.group)
        return values

    def sum_(self, tensor: Tensor) -> Tensor:
        """Replace a tensor by the sum of every process's tensor, and return it."""
        if self.count > 1:
            self.torch.distributed.all_reduce(tensor, group=self.group if tensor.device.type == "cpu" else None)
        return tensor

    def take_over(self, tensors: Iterable[Tensor]) -> None:
        """Replace the values of tensors by those of the first process's tensors."""
        for tensor in tensors if self.count > 1 else ():
            group = self.group if tensor.device.type == "cpu" else None
            self.torch.distributed.broadcast(tensor.detach(), 0, group=group)

    def anywhere(self, *flags: bool) -> list[bool]:
        """Which of some flags are set in any process."""
        if self.count == 1:
            return list(flags)
        set_here = self.torch.tensor(flags, dtype=self.torch.int32)
        return [bool(found) for found in self.sum_(set_here).tolist()]

    def agreed(self, function: Callable[[], T]) -> T:
        """What a function gives in the first process, which alone calls it; its error is raised in every process.

        The first process waits until all have come here, so that none still reads what the function changes.
        """
        if self.count == 1:
            return function()
        self.exchanged(None)
        outcome: list[Any] = [None]
        if self.first:
            try:
                with alone():
                    outcome = [(function(), None)]
            except Exception as raised:  # noqa: BLE001 - a boundary of processes
                outcome = [(None, sendable(raised))]
        self.torch.distributed.broadcast_object_list(outcome, group=self.group)
        result, error = outcome[0]
        if error is not None:
            raise error
        return result

    @contextmanager
    def together(self) -> Iterator[None]:
        """A block whose error in one process is raised in every process, at the end of the block."""
        if self.count == 1:
            yield
            return
        error: Exception | None = None
        try:
            yield
        except Exception as raised:  # noqa: BLE001 - a boundary of processes
            error = raised
        errors = self.exchanged(None if error is None else sendable(error))
        if error is not None:
            raise error
        for other in errors:
            if other is not None:
                raise other

    @contextmanager
    def held(self, entering: Callable[[], AbstractContextManager[Any]]) -> Iterator[None]:
        """A block that the first process alone enters, such as a lock; all processes wait until it has."""
        with ExitStack() as stack:
            self.agreed(lambda: stack.enter_context(entering()) and None)
            yield

    def compute(
        self, items: Sequence[T], function: Callable[[T], U], advance: Callable[[int], Any] | None = None, *,
        in_step: bool = False,
    ) -> list[U]:  # fmt: skip
        """The results of a function for all items, each of which one process computes.

        The items are the same in every process, the longest first; results can be pickled, such as tensors on the CPU.
        `advance` is called with a number of items whenever so many are done. With `in_step`, every process calls the
        function equally often.
        """
        # Each round goes in the other direction, so that no process always gets the longer items.
        forth = range(self.count)
        owners = [turn for _, turn in zip(items, itertools.cycle([*forth, *reversed(forth)]), strict=False)]
        mine = [item for item, owner in zip(items, owners, strict=True) if owner == self.rank]
        more = in_step and len(mine) < -(-len(items) // self.count)
        own = []
        for item in [*mine, items[0]] if more else mine:
            own.append(function(item))
            if advance is not None:
                advance(min(self.count, len(items) - self.count * (len(own) - 1)))
        if self.count == 1:
            return own
        results = [iter(some) for some in self.exchanged(own)]
        return [next(results[owner]) for owner in owners]


def by_first(function: Callable[P, T]) -> Callable[P, T]:
    """Decorate a function that writes or removes files: the first process calls it, see `Processes.agreed`."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        return processes().agreed(lambda: function(*args, **kwargs))

    return call


def sendable(error: Exception) -> Exception:
    """An error as another process can raise it: itself, or a RuntimeError of its text if it cannot be pickled."""
    try:
        return pickle.loads(pickle.dumps(error))
    except (TypeError, AttributeError, pickle.PicklingError):
        return RuntimeError(f"{type(error).__name__}: {error}")


ONE = Processes()
"""A program that was started alone."""
_ALONE: ContextVar[bool] = ContextVar("alone", default=False)


@contextmanager
def alone() -> Iterator[None]:
    """In the block, this process acts for itself: it does all the work, and it writes files whatever its rank is."""
    token = _ALONE.set(True)
    try:
        yield
    finally:
        _ALONE.reset(token)


def processes() -> Processes:
    """The processes of the run; the first call in a launched process connects it with the others."""
    if _ALONE.get():
        return ONE
    return _connected() if int(os.environ.get(COUNT, "1")) > 1 and RANK in os.environ else ONE


@functools.cache
def _connected() -> Processes:
    import torch  # noqa: PLC0415 - a program that was started alone need not wait for it
    from torch import cuda, distributed  # noqa: PLC0415

    if cuda.is_available():
        cuda.set_device(int(os.environ.get(LOCAL_RANK, "0")) % cuda.device_count())
    own = not distributed.is_initialized()
    if own:
        # Without a backend, PyTorch takes gloo for the CPU and NCCL for GPUs.
        distributed.init_process_group(timeout=PATIENCE)
    group = distributed.new_group(backend="gloo", timeout=PATIENCE)
    # The threads of a connection that is still open at the end would abort the process.
    atexit.register(lambda: distributed.is_initialized() and distributed.destroy_process_group(None if own else group))
    made = Processes(distributed.get_rank(), distributed.get_world_size(), group, torch)
    if not made.first:
        set_quiet()
        logging.getLogger("gradiend").setLevel(logging.CRITICAL)
    return made
