"""Kill `gradiend run FILE` at random moments, run it again to the end, and compare with a run that nothing disturbed.

    python scripts/kill_a_run.py FILE [--kills 3] [--seed 0] [-- FLAGS …]

Both runs get a folder of their own in a temporary folder. Compared are the metrics of run.json, the GRADIEND, the
rewritten models and the encodings, bit by bit.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from gradiend.util._bits import digest_files

FILES = ("model/model.safetensors", "rewritten/*/model.safetensors", "deltas/*.safetensors", "encoded_values*.csv")


def start(given: argparse.Namespace, folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "gradiend", "run", given.file, "--experiment-dir", str(folder), *given.flags]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def found(folder: Path) -> dict[str, object]:
    metrics = json.loads((folder / "run.json").read_text())["metrics"]
    return {pattern: digest_files(sorted(folder.glob(pattern)), folder) for pattern in FILES} | {"metrics": metrics}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file")
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("flags", nargs="*")
    given = parser.parse_args()
    draw = random.Random(given.seed)
    with tempfile.TemporaryDirectory() as directory:
        calm, killed = Path(directory) / "calm", Path(directory) / "killed"
        began = time.perf_counter()
        if start(given, calm).wait():
            sys.exit("The undisturbed run failed.")
        seconds = time.perf_counter() - began
        print(f"undisturbed: {seconds:.0f} s")
        for _ in range(given.kills):
            process = start(given, killed)
            after = draw.uniform(0.05, 0.3) * seconds
            try:
                process.wait(after)
                print(f"ended before {after:.0f} s")
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                there = sorted(path.name for path in killed.iterdir()) if killed.is_dir() else []
                print(f"killed after {after:.0f} s; there: {', '.join(there)}")
        if start(given, killed).wait():
            sys.exit("The run after the kills failed.")
        one, other = found(calm), found(killed)
        for name, value in one.items():
            print(f"{name}: {'equal' if value == other[name] else 'DIFFERENT'}")
        sys.exit(one != other)


if __name__ == "__main__":
    main()
