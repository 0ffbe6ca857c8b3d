"""Hashes and JSON of values that neither takes as they are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def hash_it(value: Any, return_num: bool = False) -> Any:
    """SHA-256 of a value's JSON form, the same in every process; the order of dict keys does not matter.

    Args:
        value: Text, number, list, tuple, set or dict of such; anything else counts by its repr.
        return_num: Return a number instead of hexadecimal digits.
    """
    text = json.dumps(convert_tuple_keys_recursively(value), sort_keys=True, default=_unordered)
    digest = hashlib.sha256(text.encode()).hexdigest()
    return int(digest, 16) if return_num else digest


def json_loads(text: str) -> Any:
    """Parse JSON; a text that is no JSON gives a list with that text."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return [text]


def convert_tuple_keys_recursively(value: Any) -> Any:
    """A copy in which tuples that are dict keys are their JSON texts: `(1.0, 0.1)` becomes `"[1.0, 0.1]"`."""
    if isinstance(value, Mapping):
        return {
            json.dumps(key) if isinstance(key, tuple) else key: convert_tuple_keys_recursively(item)
            for key, item in value.items()
        }
    return [convert_tuple_keys_recursively(item) for item in value] if isinstance(value, (list, tuple)) else value


def restore_tuple_keys_recursively(value: Any) -> Any:
    """Undo `convert_tuple_keys_recursively`: a key that is the text of a JSON list becomes a tuple."""
    if isinstance(value, Mapping):
        return {_restored(key): restore_tuple_keys_recursively(item) for key, item in value.items()}
    return [restore_tuple_keys_recursively(item) for item in value] if isinstance(value, list) else value


def _unordered(value: Any) -> Any:
    return sorted(value, key=repr) if isinstance(value, (set, frozenset)) else repr(value)


def _restored(key: Any) -> Any:
    if isinstance(key, str) and key.startswith("["):
        try:
            parsed = json.loads(key)
        except json.JSONDecodeError:
            return key
        return tuple(parsed) if isinstance(parsed, list) else key
    return key
