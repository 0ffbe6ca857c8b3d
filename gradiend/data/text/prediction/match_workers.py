"""Blocks of texts matched in several processes, the results in the order of the blocks.

The processes are started with a command of their own rather than by `multiprocessing`: forking a process that has
threads (torch has) can hang, and spawning runs the user's script once more in each.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from typing import IO, TYPE_CHECKING

from gradiend.data.text.prediction.block_matcher import BlockMatcher, MatchedBlock

if TYPE_CHECKING:
    from gradiend.data.core.text_stream import TextBlock

_SERVE = "import sys; sys.path[:] = {path!r}; from gradiend.data.text.prediction.match_workers import serve; serve()"


def can_be_sent(matcher: BlockMatcher) -> bool:
    """Tell whether another process can have a matcher: the user's functions stay where they were defined."""
    if matcher.is_costly_to_copy:
        return False
    try:
        return b"__main__" not in pickle.dumps(matcher)
    except (pickle.PicklingError, AttributeError, TypeError):
        return False


class MatchWorkers:
    """Processes that match blocks, until they are closed.

    Each has one block at a time, so that nobody waits for a full pipe while the other side waits too.

    Args:
        matcher: What each does with a block.
        n_processes: How many.
    """

    def __init__(self, matcher: BlockMatcher, n_processes: int) -> None:
        command = [sys.executable, "-c", _SERVE.format(path=sys.path)]
        self._workers = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(n_processes)
        ]
        for worker in self._workers:
            _send(worker, matcher)

    def map(self, blocks: Iterable[TextBlock]) -> Iterator[MatchedBlock]:
        """Match the blocks, in their order."""
        busy: deque[subprocess.Popen[bytes]] = deque()
        for number, block in enumerate(blocks):
            result = None
            if len(busy) == len(self._workers):
                worker = busy.popleft()
                result = _receive(worker)
            else:
                worker = self._workers[number]
            _send(worker, block)
            busy.append(worker)
            if result is not None:
                yield result
        while busy:
            yield _receive(busy.popleft())

    def close(self) -> None:
        """End the processes."""
        for worker in self._workers:
            worker.kill()
            for stream in (worker.stdin, worker.stdout):
                if stream is not None:
                    stream.close()
            worker.wait()


def serve() -> None:
    """Be a worker: a matcher, then blocks come in; a result goes out for each."""
    incoming, outgoing = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr  # what user code prints must not get between the results
    matcher = pickle.load(incoming)
    while True:
        try:
            block = pickle.load(incoming)
        except EOFError:
            return
        pickle.dump(matcher(block), outgoing, pickle.HIGHEST_PROTOCOL)
        outgoing.flush()


def _send(worker: subprocess.Popen[bytes], item: object) -> None:
    stream = _open(worker.stdin)
    try:
        pickle.dump(item, stream, pickle.HIGHEST_PROTOCOL)
        stream.flush()
    except BrokenPipeError as error:
        raise _died(worker) from error


def _receive(worker: subprocess.Popen[bytes]) -> MatchedBlock:
    try:
        result = pickle.load(_open(worker.stdout))
    except EOFError as error:
        raise _died(worker) from error
    if not isinstance(result, MatchedBlock):
        raise RuntimeError(f"A process that matches texts answered {result!r:.60}.")
    return result


def _open(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise RuntimeError("The process has no pipe.")
    return stream


def _died(worker: subprocess.Popen[bytes]) -> RuntimeError:
    return RuntimeError(
        f"A process that matches texts ended with status {worker.wait()}; its last words are above. "
        "n_processes=1 does the same work in this process."
    )
