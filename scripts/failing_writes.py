"""Let one change of a file after the other fail as on a full disk, and compare the run after it with a calm one.

    python scripts/failing_writes.py [--stride 1] [--first 1]

A moment is a file that is opened for writing, a rename, or a new folder, below the folder of the experiment. Each
moment fails twice: alone, and with all that follow. Every call must return its result or raise an error that says what
is wrong; the same script, run again, must give the undisturbed numbers and files.
"""

from __future__ import annotations

import argparse
import builtins
import errno
import io
import json
import os
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from two_writers import RATES, results

from gradiend import TextPredictionTrainer
from gradiend.util._files import UnwrittenError

HOLD_TIMES = {"training.json", "seed_report.json", "fingerprint.json"}
"""Files that hold seconds, or a digest of such a file."""
NOT_A_FOLDER = "Nothing can be written to"
"""The beginning of the error of a call whose folder takes no files at all."""


class Disk:
    """Counts changes of files below a folder, and lets one of them, or all from one on, fail."""

    def __init__(self, folder: Path, fatal: int | None, *, lasting: bool) -> None:
        self.folder, self.fatal, self.lasting, self.count = str(folder), fatal, lasting, 0

    def refuses(self, path: Any) -> bool:
        if not isinstance(path, (str, os.PathLike)) or not os.fspath(path).startswith(self.folder):
            return False
        self.count += 1
        return self.fatal is not None and (self.count >= self.fatal if self.lasting else self.count == self.fatal)

    def install(self) -> None:
        for owner, name in ((os, "mkdir"), (os, "rename"), (os, "replace")):
            setattr(owner, name, self._failing(getattr(owner, name)))
        opening = builtins.open

        def opened(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
            if set(mode) & set("wxa+") and self.refuses(file):
                raise full(file)
            return opening(file, mode, *args, **kwargs)

        builtins.open = io.open = opened
        serialize = safetensors.torch.serialize_file

        def serialized(tensors: Any, filename: Any, *args: Any, **kwargs: Any) -> None:
            if self.refuses(filename):
                Path(filename).write_bytes(b"half of a file")
                raise SafetensorError(f"I/O error: No space left on device (os error {errno.ENOSPC})")
            serialize(tensors, filename, *args, **kwargs)

        vars(safetensors.torch)["serialize_file"] = serialized

    def _failing(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def failing(path: Any, *args: Any, **kwargs: Any) -> Any:
            if self.refuses(path):
                raise full(path)
            return call(path, *args, **kwargs)

        return failing


def full(path: Any) -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fspath(path))


def script(folder: Path) -> dict[str, Any]:
    """Everything that writes: a training, both evaluations, a rewritten model and a delta."""

    def save(trainer: TextPredictionTrainer, decoder: dict[str, Any]) -> None:
        goal = next(name for name in ("3SG", "3PL") if decoder[name]["learning_rate"] is not None)
        trainer.rewrite_base_model(decoder, strengthen=goal, output_dir=str(folder / "rewritten"))
        trainer.export_delta(decoder, strengthen=goal)

    return results(folder, RATES[0], save)


def contents(folder: Path) -> dict[str, str]:
    """Name → bytes of the files below a folder; of those that hold times, only the name."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): "" if path.name in HOLD_TIMES else path.read_bytes().hex() for path in files}


def in_child(folder: Path, fatal: int | None = None, *, lasting: bool = False) -> dict[str, Any]:
    """What the script finds in a forked process, or its error."""
    result = folder.with_suffix(".result")
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        disk = Disk(folder, fatal, lasting=lasting)
        disk.install()
        end: dict[str, Any] = {}
        try:
            end["found"] = json.loads(json.dumps(script(folder), default=float))
        except UnwrittenError as error:
            end["clear"] = str(error)
        except BaseException as error:  # noqa: BLE001 - the end of a process, which says what ended it
            clear = isinstance(error, ValueError) and NOT_A_FOLDER in str(error)
            end["clear" if clear else "crash"] = traceback.format_exc()
        disk.fatal = None
        result.write_text(json.dumps({**end, "moments": disk.count}))
        os._exit(0)
    os.waitpid(child, 0)
    return json.loads(result.read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stride", type=int, default=1)
    parser.add_argument("--first", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(1)
    counts = dict.fromkeys(("runs", "errors", "crashes", "other numbers", "other files", "leftovers"), 0)
    with tempfile.TemporaryDirectory() as home:
        # Forks of this process then have everything loaded.
        script(Path(home) / "first")
        folder = Path(home) / "run"
        calm = in_child(folder)
        if "found" not in calm:
            sys.exit(f"The undisturbed run failed: {calm}")
        files = contents(folder)
        for fatal in range(given.first, calm["moments"] + 1, given.stride):
            for lasting in (False, True):
                shutil.rmtree(folder)
                first = in_child(folder, fatal, lasting=lasting)
                again = in_child(folder)
                counts["runs"] += 1
                counts["errors"] += "clear" in first
                ends = [first.get("crash"), again.get("crash"), again.get("clear")]
                counts["crashes"] += any(ends)
                found = [one["found"] for one in (first, again) if "found" in one]
                counts["other numbers"] += any(one != calm["found"] for one in found)
                now = contents(folder)
                different = sorted(name for name in files | now if files.get(name) != now.get(name))
                counts["other files"] += bool(different)
                counts["leftovers"] += any(path.name.startswith(".") for path in folder.rglob("*"))
                for problem in (*filter(None, ends), *different):
                    print(f"moment {fatal}{' and all that follow' if lasting else ''}: {problem}")
    print(f"{calm['moments']} moments: " + ", ".join(f"{count} {name}" for name, count in counts.items()))
    sys.exit(bool(sum(list(counts.values())[2:])))


if __name__ == "__main__":
    main()
