"""Do two commits give the same numbers and files, bit by bit?

    python scripts/same_bits.py OLD [NEW] [--models DIR] [--only CASE …] [--python PYTHON | --fresh] [--keep FOLDER]

Runs the fixed set (`same_bits_set.py` as it is here, for both) with the package of either commit, each in a worktree
and processes of its own and both at once, and compares every file that was written. NEW is the working tree unless it
is given. Prints "equal", or for each file that differs the first place and by how much; the status is then 1.

DIR is a folder of local models, with models/minilm-mlm (masked), models/gpt-small-en (causal),
models/german-bert-small, spacy/de_ud, and data/english_gender.csv, english_neutral.csv, english_novels.txt.gz,
german_articles_gold.csv, german_captions.txt.gz. Without it the embedded model and texts are used. --fresh makes a
virtual environment for each commit; otherwise both use one (--python, by default this one) and differ in the package.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors import safe_open

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent
CASES = ["demo", "masked", "masked_all", "causal", "causal_head", "identity", "variants", "data", "data_spacy"]
ANOTHER_EACH_TIME = {
    "seconds": "how long the steps of the demo took",
    "time": "how long a training took, in training.json",
    "started": "when a command was started",
    "cpu": "the peak of a process's memory",
    "checksum": "of a file, whose content is compared itself",
    "files": "checksums of the files of a checkpoint",
    "header_checksum": "of the metadata of a file",
    "version": "of this package, in the record of a head",
    "gradiend_version": "of this package, in the record of a rewrite",
    "transformers_version": "written by save_pretrained of transformers",
}
"""Keys in JSON that are left out, and why."""
OF_THE_CACHE = {"fingerprint", "format_version", "encodings", "result"}
"""Keys in JSON that say what a result was made from; a rebuilt cache may say it otherwise."""
CACHE_FILES = re.compile(r"(^|/)cache/|made_from\.json$|fingerprint[^/]*\.json$|base_model_digest")
FIGURES = {".png", ".pdf", ".svg", ".html"}
UNIQUE = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""Plotly draws a name for each figure."""
SECTIONS = "numbers and files", "figures", "cache files"


@contextmanager
def checked_out(commit: str | None) -> Iterator[Path]:
    """The folder of a commit's worktree, which is removed afterwards; of None, the working tree as it is."""
    if commit is None:
        yield REPOSITORY
        return
    with tempfile.TemporaryDirectory(prefix="gradiend_same_bits_") as folder:
        root = Path(folder).resolve() / "tree"
        subprocess.run(["git", "worktree", "add", "--quiet", "--detach", root, commit], cwd=REPOSITORY, check=True)
        try:
            yield root
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", root], cwd=REPOSITORY, check=True)


def fresh_python(root: Path, folder: Path) -> str:
    """The interpreter of a new environment with what the commit's own constraints ask for."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = str(folder / "bin" / "python")
    install = [python, "-m", "pip", "install", "--quiet", "-c", "constraints.txt", "--editable", ".[recommended]"]
    subprocess.run(install, cwd=root, check=True)
    return python


def start(root: Path, output: Path, python: str, cases: Iterable[str], models: Path | None) -> subprocess.Popen[str]:
    """Run the fixed set with the package in `root`, within the folder `output`."""
    output.mkdir(parents=True)
    settings = {"PYTHONPATH": str(root), "HF_HUB_OFFLINE": "1", "MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1"}
    environment = os.environ | settings | {"TOKENIZERS_PARALLELISM": "false", "PYTHONWARNINGS": "ignore"}
    found = subprocess.run(
        [python, "-c", "import gradiend; print(gradiend.__file__)"],
        cwd=output, env=environment, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    if not Path(found.strip()).resolve().is_relative_to(root):
        raise SystemExit(f"{python} imports {found.strip()}, not the package in {root}.")
    script = [python, str(HERE / "same_bits_set.py"), *cases, *(["--models", str(models.resolve())] if models else [])]
    with (output / "log.txt").open("w") as log:
        return subprocess.Popen(script, cwd=output, env=environment, stdout=log, stderr=log, text=True)


class Side:
    """The files that one commit has written."""

    def __init__(self, output: Path, root: Path) -> None:
        self.output = output
        self.places = [str(output.resolve()), str(root)]
        self.files = {path.relative_to(output).as_posix(): path for path in output.rglob("*") if path.is_file()}
        self.files.pop("log.txt", None)

    def text(self, name: str) -> str:
        """A file's text without the folders that this side alone has, and without random names."""
        text = self.files[name].read_text(encoding="utf-8")
        for place in self.places:
            text = text.replace(place, "…")
        return UNIQUE.sub("…", text)


def flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of a JSON value, each with the keys that lead to it."""
    if isinstance(value, dict | list) and value:
        for key, one in value.items() if isinstance(value, dict) else enumerate(value):
            if key not in ANOTHER_EACH_TIME:
                yield from flat(one, f"{path}/{key}")
    else:
        yield path, value


def cells(frame: pd.DataFrame) -> Iterator[tuple[str, Any]]:
    """The values of a table by row and column."""
    yield "columns", list(frame.columns)
    for column in frame.columns:
        yield from ((f"row {number}, {column}", one) for number, one in enumerate(frame[column].tolist()))


def content(side: Side, name: str) -> dict[str, Any]:
    """What a file holds: place → value."""
    path = side.files[name]
    if path.suffix == ".json":
        return dict(flat(json.loads(side.text(name))))
    if path.suffix == ".csv":
        return {f"line {number}": line for number, line in enumerate(side.text(name).split("\n"), 1)}
    if path.suffix == ".parquet":
        return dict(cells(pd.read_parquet(path)))
    if path.suffix == ".safetensors":
        with safe_open(path, framework="pt") as file:
            metadata = {key: value for key, value in (file.metadata() or {}).items() if key not in ANOTHER_EACH_TIME}
            meta = {f"metadata {key}": value for key, value in metadata.items()}
            found = {key: json.loads(value) if value.startswith("{") else value for key, value in meta.items()}
            return dict(flat(found)) | {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    if path.suffix in {".txt", ".html", ".md", ".yaml"}:
        return {f"line {number}": line for number, line in enumerate(side.text(name).split("\n"), 1)}
    return {"bytes": path.read_bytes()}


def same(old: Any, new: Any) -> bool:
    """Equal to the last bit; NaN is itself."""
    if isinstance(old, torch.Tensor) and isinstance(new, torch.Tensor):
        if old.dtype != new.dtype or old.shape != new.shape:
            return False
        return torch.equal(old.contiguous().view(-1).view(torch.uint8), new.contiguous().view(-1).view(torch.uint8))
    both = isinstance(old, float) and isinstance(new, float)
    return type(old) is type(new) and (old == new or (both and math.isnan(old) and math.isnan(new)))


def difference(old: Any, new: Any) -> str:
    """By how much two values differ."""
    if isinstance(old, torch.Tensor) and isinstance(new, torch.Tensor):
        if old.shape != new.shape or old.dtype != new.dtype:
            return f"{old.dtype} {tuple(old.shape)} → {new.dtype} {tuple(new.shape)}"
        first, second = old.double(), new.double()
        return f"‖new − old‖/‖old‖ = {float((second - first).norm() / first.norm()):.1e}"
    if isinstance(old, bytes):
        return f"{len(old)} → {len(new)} bytes"
    shown = f"{str(old)[:120]!r} → {str(new)[:120]!r}"
    try:
        return f"{shown}, relative {abs(float(new) - float(old)) / abs(float(old)):.1e}"
    except (TypeError, ValueError, ZeroDivisionError):
        return shown


def compare_file(old: Side, new: Side, name: str) -> Iterator[tuple[str, str]]:
    """Section and line for what differs in a file that both have: at most one line a section."""
    home = "cache files" if CACHE_FILES.search(name) else "figures" if Path(name).suffix in FIGURES else SECTIONS[0]
    before, after = content(old, name), content(new, name)
    found: dict[str, list[str]] = {}
    for key in dict.fromkeys([*before, *after]):
        if key in before and key in after and same(before[key], after[key]):
            continue
        section = "cache files" if OF_THE_CACHE & set(key.split("/")) else home
        if key in before and key in after:
            what = difference(before[key], after[key])
        else:
            what = "is gone" if key in before else "is new"
        found.setdefault(section, []).append(f"{key}: {what}")
    for section, lines in found.items():
        more = f" (and {len(lines) - 1} more places)" if len(lines) > 1 else ""
        yield section, f"{name}: {lines[0]}{more}"


def compare(old: Side, new: Side) -> dict[str, list[str]]:
    """Section → one line for each file that differs."""
    result: dict[str, list[str]] = {section: [] for section in SECTIONS}
    for name in sorted(old.files.keys() | new.files.keys()):
        if name in old.files and name in new.files:
            if old.files[name].read_bytes() != new.files[name].read_bytes():
                for section, line in compare_file(old, new, name):
                    result[section].append(line)
        else:
            section = "cache files" if CACHE_FILES.search(name) else SECTIONS[0]
            result[section].append(f"{name}: {'is gone' if name in old.files else 'is new'}")
    return result


def main() -> int:
    """Run both sides and print what differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old")
    parser.add_argument("new", nargs="?")
    parser.add_argument("--models", type=Path)
    parser.add_argument("--only", nargs="+", choices=CASES, default=CASES)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--fresh", action="store_true")
    parser.add_argument("--keep", type=Path, help="leave the files in this folder, in old/ and new/")
    given = parser.parse_args()
    with ExitStack() as stack:
        roots = [stack.enter_context(checked_out(commit)) for commit in (given.old, given.new)]
        work = given.keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gradiend_same_bits_")))
        outputs = [work.resolve() / name for name in ("old", "new")]
        pythons = [
            fresh_python(root, work.resolve() / f"venv_{output.name}") if given.fresh else given.python
            for root, output in zip(roots, outputs, strict=True)
        ]
        runs = [
            start(root, output, python, given.only, given.models)
            for root, output, python in zip(roots, outputs, pythons, strict=True)
        ]
        statuses = [run.wait() for run in runs]
        if any(statuses):
            raise SystemExit("\n".join((output / "log.txt").read_text()[-2000:] for output in outputs))
        old, new = (Side(output, root) for output, root in zip(outputs, roots, strict=True))
        failed = [name for name in old.files | new.files if name.endswith("error.txt")]
        result = compare(old, new)
        print(f"{len(old.files)} files, {sum(path.stat().st_size for path in old.files.values()) / 2**20:.0f} MiB")
        for line in (outputs[1] / "log.txt").read_text().splitlines():
            if line.split(":")[0] in CASES:
                print(f"  {line}")
    for section, lines in result.items():
        print(f"{section}: {'equal' if not lines else f'{len(lines)} differ'}")
        print("".join(f"  {line}\n" for line in lines), end="")
    for name in failed:
        print(f"A case failed: {name}")
    return int(bool(failed or any(result[section] for section in SECTIONS[:2])))


if __name__ == "__main__":
    sys.exit(main())
