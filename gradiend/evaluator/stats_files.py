"""The files of decoder evaluations, written and read side by side."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gradiend.evaluator.selection import BASE
from gradiend.util.files import read_json, write_json
from gradiend.util.fingerprint import FINGERPRINT
from gradiend.util.hashing import restore_tuple_keys_recursively

GRID = "grid"


def write_decoder_stats(path: str | Path, results: Mapping[str, Any], **more: Any) -> None:
    """Write decoder results as JSON: the summaries, and the grid as a list of its entries.

    Args:
        path: The file.
        results: What `evaluate_decoder` returns.
        **more: Further keys, such as the fingerprint; left out when the file is read.
    """
    write_json(path, {**results, GRID: list(results[GRID].values()), **more})


def read_decoder_stats_file(path: str | Path) -> dict[str, Any]:
    """Decoder results from a file.

    Args:
        path: Written by `evaluate_decoder`. Read as well: {"summary": …, "grid": …} of older versions, and grids that
            are a dict with the text of a list or tuple as key.

    Returns:
        The summaries and "grid" {"base" or (feature_factor, learning_rate): measurements}, as `evaluate_decoder` gives.

    Raises:
        FileNotFoundError: No such file.
        ValueError: It holds something else; the message names it.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds no decoder results: they are a JSON object, not a {type(content).__name__}.")
    content.pop(FINGERPRINT, None)
    if isinstance(content.get("summary"), dict):
        content = {**content.pop("summary"), **content}
    grid = content.get(GRID, {})
    if isinstance(grid, dict):
        # Older grids have the candidate in the key only.
        grid = [_with_id(key, entry) for key, entry in restore_tuple_keys_recursively(grid).items()]
    if not isinstance(grid, list) or not all(isinstance(entry, dict) and "id" in entry for entry in grid):
        raise ValueError(f"{path} holds no decoder results: every entry of its grid needs an 'id'.")
    try:
        content[GRID] = {grid_key(entry["id"]): entry for entry in grid}
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path}: a grid entry's id must be 'base', or name feature_factor and learning_rate."
        ) from error
    return content


def read_fingerprint(path: str | Path) -> Any:
    """What a file of decoder results was made from; None where it does not say (older versions)."""
    return read_json(path).get(FINGERPRINT)


def grid_key(identity: Any) -> Any:
    """ "base", or (feature_factor, learning_rate), for the id of a grid entry."""
    if identity == BASE:
        return BASE
    factor, rate = identity["feature_factor"], identity["learning_rate"]
    return (tuple(factor) if isinstance(factor, list) else float(factor)), float(rate)


def _with_id(key: Any, entry: Any) -> Any:
    if not isinstance(entry, dict) or "id" in entry:
        return entry
    identity = key if key == BASE else {"feature_factor": key[0], "learning_rate": key[1]}
    return {**entry, "id": identity}
