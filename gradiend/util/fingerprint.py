"""What a cached result depends on, so that a cache is used only where all of it is the same.

A fingerprint is a dict of named parts: settings as they are, large things (weights, rows, files) as digests. It is
stored with the result; comparing it with the one of today names the parts that differ.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from gradiend.util.files import read_json

FINGERPRINT = "fingerprint"
"""Key of the fingerprint in a cached JSON file."""
CACHE_FORMAT = 1
"""Part of every fingerprint; raised when the same inputs come to give other results."""

_CHUNK = 1 << 24
_DIGEST_SIGN = "blake2b:"

Fingerprint = dict[str, Any]


def differences(now: Mapping[str, Any], saved: Any) -> list[str]:
    """The parts in which two fingerprints differ, readable; none if both say the same.

    Args:
        now: The fingerprint of what is asked for.
        saved: The one stored with a result; anything but a dict says nothing.
    """
    if not isinstance(saved, Mapping):
        return ["it does not say what it was made from"]
    # Compared as JSON gives them back: a tuple is stored as a list, a name that is a number as text.
    current = json.loads(json.dumps(dict(now)))
    names = [name for name in dict.fromkeys([*current, *saved]) if current.get(name) != saved.get(name)]
    found = [_difference(name, saved[name], current[name]) for name in names if name in saved and name in current]
    for made, other in (("without", saved), ("with", current)):
        alone = [name for name in names if name not in other]
        if alone:
            found.append(f"it was made {made} {', '.join(alone)}")
    return found


def read_cached(path: str | Path, now: Mapping[str, Any]) -> tuple[dict[str, Any] | None, list[str]]:
    """A cached JSON object that has the fingerprint `now`, without it; or None and the differences.

    A missing file is (None, []); one that cannot be read is a difference, not an error.
    """
    if not Path(path).is_file():
        return None, []
    try:
        content = read_json(path)
    except ValueError:
        return None, ["it cannot be read"]
    if not isinstance(content, dict):
        return None, ["it holds something else"]
    found = differences(now, content.pop(FINGERPRINT, None))
    return (None, found) if found else (content, [])


def digest_tensors(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """A digest of named tensors: names, types, shapes and every bit, read in place where they lie on the CPU."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in tensors:
        _add_tensor(digest, name, tensor)
    return _DIGEST_SIGN + digest.hexdigest()


def digest_frame(frame: pd.DataFrame) -> str:
    """A digest of a frame: column names and all values, in their order; the index does not count."""
    digest = hashlib.blake2b(digest_size=16)
    for column in frame.columns:
        values = frame[column]
        if values.dtype == object:
            # Mixed and unhashable values (lists) count by their repr, so that 1 and "1" differ.
            values = values.map(repr)
        digest.update(f"{column}|{values.dtype}|".encode())
        digest.update(pd.util.hash_pandas_object(values, index=False).to_numpy().tobytes())
    return _DIGEST_SIGN + digest.hexdigest()


def digest_json(value: Any) -> str:
    """A digest of a value that JSON can hold."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return _DIGEST_SIGN + hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def digest_files(paths: Iterable[Path], root: Path) -> str:
    """A digest of files: their names relative to `root`, and their contents."""
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(paths):
        digest.update(f"{path.relative_to(root).as_posix()}|{path.stat().st_size}|".encode())
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    return _DIGEST_SIGN + digest.hexdigest()


def hash_model_weights(model: torch.nn.Module) -> str:
    """SHA-256 of the parameters and buffers in a module's state: names, types, shapes and values."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        _add_tensor(digest, name, tensor)
    return digest.hexdigest()


def set_requires_grad_true(module: torch.nn.Module) -> None:
    """Let every parameter of a module require a gradient."""
    for parameter in module.parameters():
        parameter.requires_grad_(True)


def _add_tensor(digest: Any, name: str, tensor: Tensor) -> None:
    digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    if flat.numel():
        # As bytes: NumPy has no bfloat16.
        digest.update(flat.view(torch.uint8).numpy().data)


def _difference(name: str, before: Any, now: Any) -> str:
    shown = [value for value in (before, now) if isinstance(value, str) and value.startswith(_DIGEST_SIGN)]
    return f"other {name}" if shown else f"{name} was {before!r} and is {now!r}"
