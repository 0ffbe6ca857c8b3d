"""Results on disk that are used again only if everything that the results depend on is the same.

A fingerprint is a dict of named parts: settings as they are, and digests of weights, rows and files. A result on disk
has a fingerprint beside it. A comparison with the fingerprint of the wanted result names the parts that differ.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from gradiend.util._files import DIGEST_SIGN, read_checked_json, remove, write_checked_json
from gradiend.util._keywords import nearest

CACHE_FORMAT = 3
"""A part of every fingerprint; the number is raised when the same inputs give other results or other digests."""
FINGERPRINT = "fingerprint"
"""The key of the fingerprint in a JSON file."""
RESULT = "result"
"""The key of the digest of a result that lies in other files."""
SETTINGS = "settings of the base model"
"""The part for the class and config of a base model; a fingerprint of an older version lacks it, and is not refused."""

Fingerprint = dict[str, Any]
CachePolicy = bool | Literal["always", "only_convergent"]
"""Values of `use_cache`; for other results than trainings, every policy but False means True."""


def parse_policy(name: str, value: Any) -> CachePolicy:
    """A value of `use_cache`. Raises ValueError for another value, which names the nearest."""
    if isinstance(value, bool):
        return value
    policies = get_args(get_args(CachePolicy)[1])
    if not isinstance(value, str) or value not in policies:
        hint = nearest(value, policies) if isinstance(value, str) else ""
        raise ValueError(f'{name} must be True, False, "always" or "only_convergent"; got {value!r:.60}.{hint}')
    return "always" if value == "always" else "only_convergent"


@dataclass(frozen=True)
class Cache:
    """One result and the parts that the result depends on, in a JSON file."""

    path: Path
    """The JSON file: the result itself, or a record of a result in other files."""
    parts: Fingerprint | None
    """The parts that the wanted result depends on, as JSON values; None if they are unknown, and nothing is read."""
    digest: Callable[[], str | None] | None = None
    """A function that gives the digest of a result in other files, so that a change of those files is noticed."""
    keys: Collection[str] = ()
    """Keys that the content must have."""
    free: Collection[str] = ()
    """Parts that may differ."""

    def read(self) -> tuple[dict[str, Any] | None, list[str]]:
        """(content of the file without the fingerprint, []) if the parts are the same, else (None, reasons).

        A missing file gives (None, []); a file that cannot be read is a reason, not an error.
        """
        if self.parts is None:
            return None, ["nobody knows what it depends on"]
        if not self.path.is_file():
            return None, []
        try:
            content = read_checked_json(self.path)
        except (ValueError, PermissionError):
            return None, [f"{self.path.name} is damaged or cannot be read"]
        why = differences(self.parts, content.pop(FINGERPRINT, None), self.free)
        if missing := [key for key in self.keys if key not in content]:
            why = [f"{self.path.name} lacks {', '.join(missing)}"]
        if not why and self.digest is not None and content.pop(RESULT, None) != self.digest():
            why = ["it was changed after it was made"]
        return (None, why) if why else (content, [])

    def write(self, content: Mapping[str, Any]) -> None:
        """Write the file, whole or not at all; a result in other files must be written before."""
        result = {} if self.digest is None else {RESULT: self.digest()}
        parts = {} if self.parts is None else {FINGERPRINT: self.parts}
        write_checked_json(self.path, {**content, **result, **parts})

    def forget(self) -> None:
        """Remove the file."""
        remove(self.path)


def differences(now: Mapping[str, Any], saved: Any, free: Collection[str] = ()) -> list[str]:
    """Readable differences, apart from parts in `free`, of the wanted fingerprint and a saved one; [] if equal."""
    if not isinstance(saved, Mapping):
        return ["it does not say what it was made from"]
    # JSON stores a tuple as a list and a number that is a key as text, so both fingerprints are compared as JSON.
    current = json.loads(json.dumps({name: part for name, part in now.items() if name not in free}))
    saved = {name: part for name, part in saved.items() if name not in free}
    if saved.get(SETTINGS) is None:
        current.pop(SETTINGS, None)
        saved.pop(SETTINGS, None)
    names = [name for name in dict.fromkeys([*current, *saved]) if current.get(name) != saved.get(name)]
    found = []
    for name in (one for one in names if one in saved and one in current):
        pair = (saved[name], current[name])
        is_digest = any(isinstance(value, str) and value.startswith(DIGEST_SIGN) for value in pair)
        found.append(f"other {name}" if is_digest else f"{name} was {pair[0]!r} and is {pair[1]!r}")
    for made, other in (("without", saved), ("with", current)):
        alone = [name for name in names if name not in other]
        if alone:
            found.append(f"it was made {made} {', '.join(alone)}")
    return found
