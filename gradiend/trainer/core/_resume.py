"""The state of a training on its way, kept in files: a training that was stopped goes on with the same bits.

`<output>_resume/step_<n>.safetensors` holds everything that the later steps depend on: the GRADIEND, the optimizer, the
position in the data, the random generators, statistics and callbacks. The header says what the training depends on, so
that only the same training goes on from there.
"""

from __future__ import annotations

import json
import logging
import random
import re
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gradiend.trainer.core._callback import TrainingCallback
from gradiend.trainer.core._seeds import best_path, remove_checkpoint
from gradiend.trainer.core.arguments import TrainingArguments
from gradiend.util._argument_fields import plain
from gradiend.util._cache import FINGERPRINT, Fingerprint, differences
from gradiend.util._files import remove
from gradiend.util._interruption import StopRequest
from gradiend.util._processes import alone, processes
from gradiend.util._tensor_files import read_header, read_tensors, write_tensors
from gradiend.util._unfinished import Pace

logger = logging.getLogger(__name__)

STATE = "state"
"""The key of the state in the header of a file."""
_NUMBER = re.compile(r"step_(\d+)\.safetensors")


class KeptStates:
    """The states of one training with one seed, which depends on `parts`, and which `stop` may ask to stop."""

    def __init__(self, output: str | Path, parts: Fingerprint, arguments: TrainingArguments, stop: StopRequest) -> None:
        self.directory = Path(f"{output}_resume")
        team = processes()
        self._sharded = arguments.fsdp
        # Each process of a sharded training keeps its own part.
        self._place = self.directory / f"process_{team.rank}_of_{team.count}" if self._sharded else self.directory
        self._best = best_path(output)
        self.stop = stop
        self._parts = plain(parts)
        self._steps = arguments.save_steps
        self._pace = Pace(60 * arguments.save_minutes)
        self._fails = False
        self._loaded: dict[str, Any] | None = None
        self.step: int | None = None
        """The step of the newest state; None without one."""

    @property
    def entries(self) -> Tensor | None:
        """The entries that pruning before the training kept, see `ParameterMap.base_indices`; None without a state."""
        return None if self._loaded is None else self._loaded["entries"]

    def take(self) -> dict[str, Any] | None:
        """The state that was found; None if there is none. It is given once, so that its tensors can be freed."""
        state, self._loaded = self._loaded, None
        return state

    def find(self) -> None:
        """Read the newest state of the same training, if there is one."""
        for path in self._common():
            found = None
            try:
                header = read_header(path)
                why = differences(self._parts, json.loads(header.get(FINGERPRINT, "null")))
                if not why:
                    found = unpacked(json.loads(header[STATE]), read_tensors(path))
            except (ValueError, KeyError, TypeError) as error:
                why = [str(error)]
            if not processes().anywhere(found is None)[0]:
                self._loaded, self.step = found, _step_of(path)
                logger.info("The training goes on after step %d, from the state in %s.", self.step, path)
                return
            logger.info("The state in %s is not used (%s).", path, "; ".join(why))

    def due(self, step: int) -> bool:
        """Whether a state should be kept after a step."""
        return step % self._steps == 0 or self._pace.due

    def save(self, state: Mapping[str, Any]) -> None:
        """Keep a state, and then remove the older ones; where there is no room, the older ones stay."""
        path = self._place / f"step_{state['step']}.safetensors"
        with self._pace.writing():
            if self._sharded:
                with alone():
                    is_kept = self._write(state, path)
                is_kept = not processes().anywhere(not is_kept)[0]
            else:
                is_kept = processes().agreed(lambda: self._write(state, path))
        if is_kept:
            self.step = state["step"]
            with alone() if self._sharded else nullcontext():
                for older in self._files():
                    if older != path:
                        remove(older)
        self._fails = not is_kept

    def _write(self, state: Mapping[str, Any], path: Path) -> bool:
        """Write the file of a state; returns whether that was possible."""
        tensors: dict[str, Tensor] = {}
        try:
            content = {STATE: packed(state, tensors), FINGERPRINT: self._parts}
            write_tensors(path, tensors, {name: json.dumps(part) for name, part in content.items()})
        except (OSError, TypeError) as error:
            if not self._fails:
                logger.warning("The state of the training is not kept (%s): it goes on without.", error)
            return False
        return True

    def described(self) -> str:
        """What is kept, for a person."""
        if self.step is None:
            return "No state of it is kept yet."
        return f"Its state after step {self.step:,} is kept in {self.directory}."

    def forget(self) -> None:
        """Remove all states, and the best model on the way: the result is whole, and known to be."""
        remove_checkpoint(self._best)
        remove(self.directory)

    def _files(self) -> list[Path]:
        """The files, the newest first."""
        return sorted(_states_in(self._place), key=_step_of, reverse=True)

    def _common(self) -> list[Path]:
        """The files of steps whose states all processes have, the newest first."""
        found = self._files()
        steps = set.intersection(*processes().exchanged({_step_of(path) for path in found}))
        return [path for path in found if _step_of(path) in steps]


def kept_states(experiment_dir: str | Path) -> list[Path]:
    """The files of the states of unfinished trainings in an experiment, the newest last."""
    return sorted(_states_in(Path(experiment_dir), "**/*_resume/"), key=lambda path: path.stat().st_mtime)


def _states_in(folder: Path, below: str = "") -> Iterator[Path]:
    """The files of states; others of such names may be on their way."""
    return (path for path in folder.glob(f"{below}step_*.safetensors") if _NUMBER.fullmatch(path.name))


def _step_of(path: Path) -> int:
    return int(path.stem.removeprefix("step_"))


def random_state() -> dict[str, Any]:
    """The states of the generators that `set_seed` seeds."""
    kind, keys, *rest = np.random.get_state()
    state = {"python": random.getstate(), "numpy": [kind, torch.from_numpy(np.array(keys, np.int64)), *rest]}
    devices = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {**state, "torch": torch.get_rng_state(), "devices": devices}


def set_random_state(state: Mapping[str, Any]) -> None:
    """Put the generators into the states that `random_state` gave."""
    random.setstate(state["python"])
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if len(state["devices"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["devices"])


def packed(value: Any, tensors: dict[str, Tensor]) -> Any:  # noqa: PLR0911 - one for each kind of value
    """A value as JSON, whose tensors go into `tensors`; `unpacked` gives the same value back."""
    if isinstance(value, TrainingCallback):
        try:
            return packed(value.state_dict(), tensors)
        except TypeError as error:
            raise TypeError(f"{type(value).__name__} needs its own state_dict and load_state_dict: {error}") from error
    if isinstance(value, Tensor):
        name = f"t{len(tensors)}"
        tensors[name] = value.detach().cpu()
        return {"tensor": name}
    if isinstance(value, Mapping):
        return {"dict": [[packed(key, tensors), packed(item, tensors)] for key, item in value.items()]}
    if isinstance(value, tuple):
        return {"tuple": [packed(item, tensors) for item in value]}
    if isinstance(value, list):
        return [packed(item, tensors) for item in value]
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"no file can hold a {type(value).__name__}")


def unpacked(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Undo `packed`."""
    if isinstance(value, list):
        return [unpacked(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "tuple":
        return tuple(unpacked(item, tensors) for item in content)
    return {unpacked(key, tensors): unpacked(item, tensors) for key, item in content}
