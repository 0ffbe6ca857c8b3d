"""What must not be published: paths of this machine, times, and tokens.

A path is replaced by the name that others know, or by its last part, and times are left out, so that two equal runs
publish equal files. A token is not removed but refused, because it is in the user's own files too.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import get_token

from gradiend.util._files import CHECKSUM, read_json, write_checked_json, write_json

PLACES = frozenset({"experiment_dir", "output_dir", "seed_runs_dir"})
"""Keys whose values are places of this machine and nothing else."""
TIMES: Mapping[str, Any] = {"time": {}, "seconds": None}
"""Keys whose values differ between two equal runs → what stands there instead."""
_PART = r"[^\s/\\'\"<>|:;,()\[\]{}]"
_PATH = re.compile(rf"(?<![\w.:/\\-])(?:[A-Za-z]:[\\/]|\\\\|~?/)(?:{_PART}+[\\/])+{_PART}*")
"""An absolute path of two parts or more within a text."""
_TOKEN = re.compile(rb"\bhf_[A-Za-z0-9]{30,}\b")


def is_local(name: str) -> bool:
    """Whether the name of a model is a path of this machine, and no name on a hub."""
    path = Path(name)
    return bool(name) and (path.is_absolute() or path.exists() or len(path.parts) > 2 or name.startswith((".", "~")))


def without_places(value: Any, names: Mapping[str, str]) -> Any:
    """A JSON value without paths of this machine and without times.

    `names` has the name that replaces a path; any other absolute path is replaced by its last part.
    """
    if isinstance(value, Mapping):
        return {
            key: None if key in PLACES else TIMES[key] if key in TIMES else without_places(item, names)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [without_places(item, names) for item in value]
    if not isinstance(value, str):
        return value
    if value in names:
        return names[value]
    for path in sorted(filter(_is_path, names), key=len, reverse=True):
        value = value.replace(path, names[path])
    if _is_path(value):
        return Path(value).name
    return _PATH.sub(lambda found: re.split(r"[\\/]", found[0].rstrip("\\/"))[-1], value)


def clean_json(path: Path, names: Mapping[str, str]) -> None:
    """Replace, in place, the texts of a model's JSON file that are a path, and give it a new checksum if it had one."""

    def cleaned(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: cleaned(item) for key, item in value.items()}
        if isinstance(value, list):
            return [cleaned(item) for item in value]
        # Words of a tokenizer may look like a path.
        is_path = isinstance(value, str) and (value in names or (_is_path(value) and Path(value).exists()))
        return names.get(value, Path(value).name) if is_path else value

    before = read_json(path)
    content = cleaned(before)
    if content == before:
        return
    write = write_json if content.pop(CHECKSUM, None) is None else write_checked_json
    write(path, content)


def _is_path(text: str) -> bool:
    return Path(text).is_absolute() and len(Path(text).parts) > 2


def refuse_private(folder: Path, places: Iterable[str], token: str | None) -> None:
    """Raise ValueError, which never shows the token, for a file with a token or the path of a place of this machine."""
    secrets = [one.encode() for one in (token, get_token()) if one]
    home = os.path.expanduser("~")
    private = {place: place for place in filter(_is_path, places)} | (
        {f"{home}{os.sep}": home} if len(home) > 1 else {}
    )
    private |= {json.dumps(place)[1:-1]: told for place, told in private.items()}
    for path in sorted(one for one in folder.rglob("*") if one.is_file()):
        name, content = path.relative_to(folder).as_posix(), _texts_of(path)
        if any(secret in content for secret in secrets) or _TOKEN.search(content):
            raise ValueError(
                f"{name} contains an access token, so nothing is published. Remove the token where it came from (such "
                "as the metadata of the model), and make a new one: the old one is in your files."
            )
        for place, told in private.items():
            if place.encode() in content:
                raise ValueError(
                    f"{name} names {told}, a place of this machine, so nothing is published. Remove it where it came "
                    "from, such as the metadata of the model."
                )


def _texts_of(path: Path) -> bytes:
    """The bytes of a file; of one with tensors, only its header, because weights hold no texts."""
    if path.suffix != ".safetensors":
        return path.read_bytes()
    with path.open("rb") as file:
        return file.read(int.from_bytes(file.read(8), "little"))
