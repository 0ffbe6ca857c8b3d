"""run.json: what a run was asked for, where and how long it ran, and the numbers that it found."""

from __future__ import annotations

import dataclasses
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gradiend._version import __version__
from gradiend.experiment._fields import HIDDEN
from gradiend.experiment.sections import Experiment
from gradiend.util._argument_fields import Arguments, plain
from gradiend.util._files import read_checked_json, write_checked_json
from gradiend.util._imports import installed_versions
from gradiend.util.paths import RUN_RECORD

RECORD_FORMAT = 1
PATHS = (("model",), ("corpus", "base_data"), ("data", "data"), ("data", "hf_dataset"), ("data", "eval_neutral_data"),
         ("data", "balance_texts"), ("corpus", "spacy_model"))  # fmt: skip
"""Keys whose value may be a local path; a record keeps it as an absolute path, so that it holds in any folder."""


class RunRecord:
    """The content of run.json, which is written after each step; `command` is what a person would type."""

    def __init__(self, experiment: Experiment, command: str | None = None) -> None:
        self.path = Path(experiment.experiment_dir) / RUN_RECORD
        self.earlier: dict[str, Any] | None = None
        """The record of the last run in the folder, if there was one."""
        self.renew()
        self.running: str | None = None
        """The part of the run that is under way."""
        self.done: list[str] = []
        """The parts that this run has been through."""
        self.content: dict[str, Any] = {
            "format": RECORD_FORMAT, "gradiend": __version__, "command": command, "started": _now(), "finished": None,
            "experiment": experiment_dict(experiment),
            "versions": {"python": platform.python_version(), **installed_versions()},
            "platform": platform.platform(),
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
            "git": _git(), "seeds": None, "data": None, "phases": {}, "metrics": {},
        }  # fmt: skip

    def renew(self) -> None:
        """Read the record of the last run again, which may have ended after this record was begun."""
        self.earlier = read_record(self.path) if self.path.is_file() else None

    @contextmanager
    def phase(self, name: str) -> Iterator[dict[str, Any]]:
        """Measure a step; the body may set `reused` in the dict that it gets. The record is written at the end."""
        entry: dict[str, Any] = {"seconds": None, "peak_memory_bytes": None, "reused": False}
        self.running = name
        _reset_peak()
        start = time.perf_counter()
        yield entry
        self.running = None
        self.done.append(name)
        entry["seconds"] = round(time.perf_counter() - start, 3)
        entry["peak_memory_bytes"] = _peak()
        earlier = (self.earlier or {}).get("phases", {}).get(name)
        # What a step took is what it took when it was done, not when its result was read.
        self.content["phases"][name] = {**(earlier or entry), "reused": True} if entry["reused"] else entry
        self.write()

    def write(self) -> None:
        """Write the file, whole or not at all."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_checked_json(self.path, plain(self.content))

    def finish(self) -> None:
        """Note the time of the end."""
        self.content["finished"] = _now()
        self.write()


def read_record(path: str | Path) -> dict[str, Any]:
    """The record of a run: a run.json, or that in a folder.

    Raises:
        FileNotFoundError: There is none.
        ValueError: The file is no record, or of a newer version.
    """
    file = Path(path) / RUN_RECORD if Path(path).is_dir() else Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"{file}: there is no record of a run; `gradiend run` writes {RUN_RECORD}.")
    content = read_checked_json(file)
    kinds = {"format": int, "experiment": dict, "metrics": dict}
    if not all(isinstance(content.get(key), kind) for key, kind in kinds.items()):
        raise ValueError(f"{file} is no record of a run: it has no format, experiment and metrics.")
    if content["format"] > RECORD_FORMAT:
        raise ValueError(
            f"{file} has format {content['format']}; this version of gradiend reads up to {RECORD_FORMAT}. Update it."
        )
    return content


def experiment_dict(experiment: Experiment) -> dict[str, Any]:
    """The experiment as its file would hold it, with every default; `read_experiment` reads it again.

    Values that a file cannot hold, such as a table in memory, become null, so that `read_experiment` then says what is
    missing.
    """
    content = _resolved(experiment)
    for section, key in HIDDEN:
        content[section].pop(key, None)
    for keys in PATHS:
        owner = content
        for key in keys[:-1]:
            owner = owner.get(key) or {}
        value = owner.get(keys[-1])
        if isinstance(value, str) and Path(value).exists():
            owner[keys[-1]] = str(Path(value).resolve())
    return content


def _resolved(value: Any) -> Any:
    if isinstance(value, Arguments):
        return value.to_dict()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: _resolved(vars(value)[item.name]) for item in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _resolved(item) for key, item in value.items()}
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    if isinstance(value, (str, int, float, bool, Path)):
        return str(value) if isinstance(value, Path) else value
    return [_resolved(item) for item in value] if isinstance(value, Sequence) else None


def _now() -> str:
    return datetime.now(timezone.utc).astimezone().isoformat(timespec="seconds")


def _git() -> dict[str, Any] | None:
    """The commit of the working directory, and whether files differ from it; None outside a repository."""
    try:
        run = [
            subprocess.run(["git", *words], capture_output=True, text=True, check=True, timeout=10).stdout.strip()
            for words in (["rev-parse", "HEAD"], ["status", "--porcelain"])
        ]
    except (OSError, subprocess.SubprocessError):
        return None
    return {"commit": run[0], "dirty": bool(run[1])}


def _reset_peak() -> None:
    """Start the measurement of the largest memory anew, where the system allows this."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    if sys.platform == "linux":
        try:
            Path("/proc/self/clear_refs").write_text("5")
        except OSError:
            return


def _peak() -> dict[str, int | None]:
    """Device → largest bytes in use since `_reset_peak`; without Linux, since the process began."""
    of_cuda = {"cuda": torch.cuda.max_memory_allocated()} if torch.cuda.is_available() else {}
    return {"cpu": _resident_peak(), **of_cuda}


def _resident_peak() -> int | None:
    status = Path("/proc/self/status")
    if status.is_file():
        fields = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        return int(fields["VmHWM"].split()[0]) * 1024 if "VmHWM" in fields else None
    try:
        import resource  # noqa: PLC0415 - Windows has none
    except ModuleNotFoundError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
