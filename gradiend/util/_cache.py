"""Results on disk that are used again only if everything that they depend on is the same.

A fingerprint is a dict of named parts: settings as they are, large things (weights, rows, files) as digests. The
fingerprint lies beside the result. Comparing it with the fingerprint of what is asked for names the parts that differ.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gradiend.util._files import read_json, write_json

CACHE_FORMAT = 2
"""Part of every fingerprint; raised when the same inputs come to give other results or other digests."""
FINGERPRINT = "fingerprint"
"""Key of the fingerprint in a JSON file."""
RESULT = "result"
"""Key of the digest of a result that lies in other files."""
DIGEST_SIGN = "blake2b:"
"""What every digest begins with: a difference of digests is named, but not shown."""

Fingerprint = dict[str, Any]


@dataclass(frozen=True)
class Cache:
    """One result and the parts that it depends on, in a JSON file."""

    path: Path
    """The file: the result itself, or a record of a result in other files."""
    parts: Fingerprint | None
    """What the result that is asked for depends on: JSON values. None where that is not known: such a result is never
    used again."""
    digest: Callable[[], str | None] | None = None
    """Gives the digest of a result that lies in other files, so that a change of these is noticed."""

    def read(self) -> tuple[dict[str, Any] | None, list[str]]:
        """The content of the file without the fingerprint, if it has the same parts; or None and why not.

        A missing file is (None, []); one that cannot be read is a difference, not an error.
        """
        if self.parts is None:
            return None, ["nobody knows what it depends on"]
        if not self.path.is_file():
            return None, []
        try:
            content = read_json(self.path)
        except ValueError:
            return None, ["it cannot be read"]
        if not isinstance(content, dict):
            return None, ["it holds something else"]
        why = differences(self.parts, content.pop(FINGERPRINT, None))
        if not why and self.digest is not None and content.pop(RESULT, None) != self.digest():
            why = ["it was changed after it was made"]
        return (None, why) if why else (content, [])

    def write(self, content: Mapping[str, Any]) -> None:
        """Write the file, whole or not at all; a result in other files must be there by then."""
        result = {} if self.digest is None else {RESULT: self.digest()}
        parts = {} if self.parts is None else {FINGERPRINT: self.parts}
        write_json(self.path, {**content, **result, **parts})

    def forget(self) -> None:
        """Remove the file."""
        self.path.unlink(missing_ok=True)


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


def _difference(name: str, before: Any, now: Any) -> str:
    shown = [value for value in (before, now) if isinstance(value, str) and value.startswith(DIGEST_SIGN)]
    return f"other {name}" if shown else f"{name} was {before!r} and is {now!r}"
