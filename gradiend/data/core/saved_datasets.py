"""Data sets of the package `datasets` in memory, and in folders that `save_to_disk` wrote."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from gradiend.util._files import read_json
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
    return split_of(loaded, split, f"The data set {str(configs[config])!r}")


def describe_missing_config(source: str, config: str | None, configs: Sequence[str]) -> str:
    """Say that a data set has several configs and none is named, or not the named one; and which it has."""
    missing = "Name the config" if config is None else f"There is no config {config!r}"
    return f"{missing}: the data set {source!r} has {', '.join(configs)}.{nearest(config or '', configs)}"


def is_data_set(value: object) -> bool:
    """Tell whether a value is a `Dataset` or `DatasetDict` of the package `datasets`, without loading the package.

    Raises:
        TypeError: A data set of that package that can only be iterated over.
    """
    datasets = sys.modules.get("datasets")
    if datasets is None:
        return False
    if isinstance(value, datasets.IterableDataset | datasets.IterableDatasetDict):
        raise TypeError(
            f"A {type(value).__name__} is read only once and from its beginning: load it without streaming=True, or "
            "turn its rows into a Dataset (datasets.Dataset.from_list(list(rows.take(10_000))))."
        )
    return isinstance(value, datasets.Dataset | datasets.DatasetDict)


def splits_of(data_set: Dataset | DatasetDict) -> dict[str, Dataset]:
    """The splits of a data set in memory by their names; one without a name is `"train"`."""
    if isinstance(data_set, dict):
        return {str(name): rows for name, rows in data_set.items()}
    return {str(data_set.split or "train"): data_set}


def split_of(data_set: Dataset | DatasetDict, split: str, where: str) -> Dataset:
    """One split of a data set in memory.

    Raises:
        ValueError: It has no such split; the message lists those that it has.
    """
    splits = splits_of(data_set)
    for name, found in splits.items():
        if normalize_split_name(name) == normalize_split_name(split):
            return found
    raise ValueError(f"{where} has no split {split!r}; it has: {', '.join(splits)}.")


def label_names(data_set: Any) -> dict[str, list[str]]:
    """The columns of a data set that hold codes of labels, and the label that each code stands for."""
    features = getattr(data_set, "features", None) or {}
    return {name: list(feature.names) for name, feature in features.items() if type(feature).__name__ == "ClassLabel"}


def decoded(codes: Iterable[Any], names: Sequence[str]) -> list[str | None]:
    """The labels that codes stand for; None for a code that is missing (-1, None or NaN)."""
    return [None if pd.isna(code) or code < 0 else names[int(code)] for code in codes]


def to_frame(data_set: Any) -> pd.DataFrame:
    """A split as a frame, with the labels themselves in place of their codes."""
    frame = data_set.to_pandas()
    return frame.assign(**{name: decoded(frame[name], names) for name, names in label_names(data_set).items()})


def names_classes(data_set: Dataset | DatasetDict) -> bool:
    """Whether the keys of a dictionary of data sets are classes: none of them is the name of a split."""
    return isinstance(data_set, dict) and _SPLITS.isdisjoint(map(normalize_split_name, data_set))


def _is_saved(folder: Path) -> bool:
    alone = (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file()
    return alone or (folder / "dataset_dict.json").is_file()


def _keys(folder: Path) -> list[str]:
    """The keys of a saved dictionary; none for a data set that was saved alone."""
    path = folder / "dataset_dict.json"
    return [str(key) for key in read_json(path)["splits"]] if path.is_file() else []
