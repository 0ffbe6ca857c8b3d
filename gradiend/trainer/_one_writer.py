"""Calls of a trainer that write to its experiment: each holds the lock of the folder until it ends."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from gradiend.trainer._runtime_monitor import monitored
from gradiend.util._files import ONLY_OF_WRITES, UnwrittenError, unwritten
from gradiend.util._interruption import StopRequest
from gradiend.util._lock import writing
from gradiend.util.paths import safe_path

P = ParamSpec("P")
R = TypeVar("R")


def one_writer(*outputs: str, only_to_outputs: bool = False) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a method of a trainer: a second call, of this or any other process, waits until the first has ended.

    The lock is that of the trainer's experiment directory, else of the folder around the output, which the arguments
    `outputs` of the method name. With `only_to_outputs`, it writes nothing if none of them is given.
    """

    def decorate(method: Callable[P, R]) -> Callable[P, R]:
        """Wrap the method, whose arguments name the output."""
        signature = inspect.signature(method)
        flexible = next((one.name for one in signature.parameters.values() if one.kind is one.VAR_KEYWORD), None)

        @functools.wraps(method)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            """Call the method while the folder is locked and, if that is asked for, watched."""
            try:
                bound = signature.bind(*args, **kwargs).arguments
            except TypeError:
                # The call itself says what is wrong with it.
                return method(*args, **kwargs)
            trainer: Any = args[0]
            given = {**bound, **bound.get(flexible or "", {})}
            output = next((given[name] for name in outputs if given.get(name) is not None), None)
            arguments = trainer.placed_args
            folder = None
            # A method that writes to outputs only, and was given none, has no place for the file of a monitor.
            watched: AbstractContextManager[None] = nullcontext()
            if output is not None or not only_to_outputs:
                experiment = given.get("experiment_dir", arguments.experiment_dir)
                folder = _folder(trainer, experiment, output or arguments.output_dir)
                watched = monitored(method.__name__, arguments, given, folder)
            resumes = folder is not None and arguments.resumes
            wait = given.get("lock_wait_minutes", arguments.lock_wait_minutes)
            with writing(folder, wait), StopRequest() if resumes else nullcontext(), watched:
                try:
                    return method(*args, **kwargs)
                except OSError as error:
                    if isinstance(error, UnwrittenError) or error.filename is None or error.errno not in ONLY_OF_WRITES:
                        raise
                    raise unwritten(Path(error.filename), error.errno) from error

        return call

    return decorate


def _folder(trainer: Any, experiment: Any, output: Any) -> Path | None:
    """The folder that a call locks; None if it writes to none, or to something that is no folder."""
    if isinstance(experiment, (str, Path)) and str(experiment):
        return Path(experiment) / safe_path(trainer.run_id) if trainer.run_id else Path(experiment)
    return Path(output).parent if isinstance(output, (str, Path)) and str(output) else None
