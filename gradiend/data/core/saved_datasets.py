"""Folders that `save_to_disk` of the package `datasets` wrote."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gradiend.util.files import read_json
from gradiend.util.keywords import nearest
from gradiend.util.splits import normalize_split_name

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

DEFAULT_CONFIG = "default"
"""What `datasets` calls the config of a data set that has one only."""

_SPLITS = {"train", "training", "validation", "valid", "dev", "test", "eval"}
"""A saved dictionary with none of these among its keys holds configs rather than splits."""


def find_saved(folder: Path) -> dict[str, Path] | None:
    """Find the saved data sets of a folder.

    Args:
        folder: Any path.

    Returns:
        Config to folder: the folder itself as `"default"`, if it has one data set or a dictionary of splits. Its
        sub-folders by their names, where they are saved data sets or a dictionary of such by other
        names (those of classes). None for anything else.
    """
    if not folder.is_dir():
        return None
    if _is_saved(folder):
        keys = _keys(folder)
        if keys and _SPLITS.isdisjoint(map(normalize_split_name, keys)):
            return {key: folder / key for key in keys}
        return {DEFAULT_CONFIG: folder}
    return {path.name: path for path in sorted(folder.iterdir()) if path.is_dir() and _is_saved(path)} or None


def load_saved(configs: dict[str, Path], config: str | None, split: str | None) -> Dataset | DatasetDict:
    """Load one of the saved data sets that `find_saved` found.

    Args:
        configs: Config to folder.
        config: Which; None where there is only one.
        split: Which split; None gives what was saved. A data set that was saved alone, without a name, is
            `"train"`.

    Returns:
        The split, or all of them; memory-mapped.

    Raises:
        ValueError: No such config or split; the available ones are named.
    """
    import datasets  # noqa: PLC0415

    if config is None and len(configs) == 1:
        config = next(iter(configs))
    if config is None or config not in configs:
        first = next(iter(configs.values()))
        folder = first if DEFAULT_CONFIG in configs else first.parent
        raise ValueError(describe_missing_config(str(folder), config, list(configs)))
    loaded = datasets.load_from_disk(str(configs[config]))
    if split is None:
        return loaded
    splits = loaded if isinstance(loaded, datasets.DatasetDict) else {str(loaded.split or "train"): loaded}
    wanted = normalize_split_name(split)
    for name, found in splits.items():
        if normalize_split_name(str(name)) == wanted:
            return found
    raise ValueError(
        f"The data set {str(configs[config])!r} has no split {split!r}; it has: {', '.join(map(str, splits))}."
    )


def describe_missing_config(source: str, config: str | None, configs: Sequence[str]) -> str:
    """Say that a data set has several configs and none is named, or not the named one; and which it has."""
    missing = "Name the config" if config is None else f"There is no config {config!r}"
    return f"{missing}: the data set {source!r} has {', '.join(configs)}.{nearest(config or '', configs)}"


def _is_saved(folder: Path) -> bool:
    alone = (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file()
    return alone or (folder / "dataset_dict.json").is_file()


def _keys(folder: Path) -> list[str]:
    """The keys of a saved dictionary; none for a data set that was saved alone."""
    path = folder / "dataset_dict.json"
    return [str(key) for key in read_json(path)["splits"]] if path.is_file() else []
