"""The door to the package `datasets`: data sets of the hub, in folders, and in memory."""

from __future__ import annotations

import inspect
import re
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pandas as pd

from gradiend.data.core._table_formats import CSV_SUFFIXES, csv_rows
from gradiend.util._files import read_json
from gradiend.util._imports import require_package
from gradiend.util._keywords import nearest, normalize_split_name

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

_HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?", re.ASCII)
_SPLIT_EXPRESSION = re.compile(r"[\[+]")
"""What makes a split an expression (`train[:1000]`, `train+test`), which `datasets` evaluates."""


def looks_like_hub_id(name: str) -> bool:
    """Tell whether a string could name a data set of the hub: `name` or `owner/name`."""
    return _HUB_ID.fullmatch(name) is not None


def load_hub_dataset(
    name: str | PathLike[str], config: str | None = None, *, split: str | None = None, trust_remote_code: bool = False
) -> Dataset | DatasetDict:
    """Load a data set of the hub or of a local folder.

    A folder has the layout of a hub repository (CSV, JSON Lines, Parquet or text files, in sub-folders or
    listed under `configs:` in its README.md), or was written by `save_to_disk`: a data set, a dictionary of
    splits, or one such sub-folder for each config.

    Args:
        name: Hub id (`"name"` or `"owner/name"`) or path of a folder; an existing folder wins.
        config: Name of one of several configs (also called subsets).
        split: Name of the split, or an expression such as `"train[:1000]"`; None gives all. `"val"` and `"validation"`
            mean the same split.
        trust_remote_code: Let the data set run its own loading script, which only old versions of `datasets` do.

    Returns:
        A `Dataset` if a split is asked for or was saved alone; otherwise a `DatasetDict`.

    Raises:
        ImportError: `datasets` is not installed.
        FileNotFoundError: There is no such folder or hub id, or the folder has no data.
        ConnectionError: The hub cannot be reached.
        ValueError: The config or split does not exist, or one of several configs must be named (the messages name the
            available ones); the data cannot be read; remote code cannot run.
    """
    require_package("datasets", f"Loading the data set {str(name)!r}", "data")
    saved = find_saved(Path(name))
    if saved is not None:
        return load_saved(saved, config, split)

    import datasets  # noqa: PLC0415

    source = _source(name)
    options = _options(source, trust_remote_code)
    configs = () if config is None else (config,)
    reading: dict[str, Any] = {}
    try:
        with _explained(source):
            reading = _reading_options(source, configs, options)
            found = datasets.load_dataset(source, *configs, split=split, **options, **reading)
            return cast("Dataset | DatasetDict", found)
    except (ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        name = _other_spelling(source, config, split, options, error)
        return cast("Dataset | DatasetDict", datasets.load_dataset(source, *configs, split=name, **options, **reading))


def hub_config_names(name: str | PathLike[str], *, trust_remote_code: bool = False) -> list[str]:
    """List the configs (subsets) of a data set of the hub or of a local folder: `["default"]` where one has no name.

    The arguments and errors are those of `load_hub_dataset`.
    """
    require_package("datasets", f"Listing the configs of {str(name)!r}", "data")
    saved = find_saved(Path(name))
    if saved is not None:
        return list(saved)

    import datasets  # noqa: PLC0415

    source = _source(name)
    options = _options(source, trust_remote_code)
    try:
        with _explained(source):
            return list(datasets.get_dataset_config_names(source, **options))
    except (ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise ValueError(_unreadable(source, error)) from error


def _source(name: str | PathLike[str]) -> str:
    """Return the folder or hub id as `datasets` takes it; a name that can be neither is an error at once."""
    folder = Path(name)
    if folder.is_dir():
        return str(folder)
    if folder.is_file():
        raise ValueError(f"{str(name)!r} is a file; expected a hub id or the folder of a data set.")
    if isinstance(name, str) and looks_like_hub_id(name):
        return name
    raise FileNotFoundError(f"There is no folder {str(name)!r}, and it is no hub id ('name' or 'owner/name') either.")


def _options(source: str, trust_remote_code: bool) -> dict[str, bool]:
    if not trust_remote_code:
        return {}
    import datasets  # noqa: PLC0415

    if "trust_remote_code" not in inspect.signature(datasets.load_dataset).parameters:
        raise ValueError(
            f"trust_remote_code=True asks to run the loading script of {source!r}, which datasets "
            f"{datasets.__version__} never does. Leave it out (CSV, JSON Lines and Parquet files need no script), "
            'or pip install "datasets<4".'
        )
    return {"trust_remote_code": True}


def _reading_options(source: str, configs: Sequence[str], options: dict[str, bool]) -> dict[str, Any]:
    """Return the options by which values in CSV files of a folder stay the strings that they are (`NA`, `007`)."""
    import datasets  # noqa: PLC0415

    # Without a connection, `datasets` finds a data set of the hub only under the options that it was loaded with.
    if not Path(source).is_dir():
        return {}
    builder = datasets.load_dataset_builder(source, *configs, **options)
    if builder.name != "csv":
        return {}
    config: Any = builder.config
    header: list[str] = []
    for file in (Path(file) for files in (config.data_files or {}).values() for file in files):
        if file.name.lower().endswith(CSV_SUFFIXES):
            rows = csv_rows(file, config.sep)
            header = header or next(rows)[1]
            deque(rows, maxlen=0)  # reading to the end finds shifted rows
    reading: dict[str, Any] = {"keep_default_na": False, "na_values": [""]}
    if builder.info.features is None and header:
        reading["features"] = datasets.Features({name: datasets.Value("string") for name in header})
    return reading


def _other_spelling(
    source: str, config: str | None, split: str | None, options: dict[str, Any], error: Exception
) -> str:
    """Return the name that the data set itself has for a split, or raise an error that explains `error`."""
    configs = hub_config_names(source, **options)
    if (config is None and len(configs) > 1) or (config is not None and config not in configs):
        raise ValueError(describe_missing_config(source, config, configs)) from error
    if split is None or _SPLIT_EXPRESSION.search(split):
        raise ValueError(_unreadable(source, error)) from error
    import datasets  # noqa: PLC0415

    try:
        splits = list(datasets.get_dataset_split_names(source, config, **options))
    except (ValueError, RuntimeError, datasets.exceptions.DatasetsError):
        raise ValueError(_unreadable(source, error)) from error
    if split in splits:
        raise ValueError(_unreadable(source, error)) from error
    for name in splits:
        if normalize_split_name(name) == normalize_split_name(split):
            return name
    raise ValueError(f"The data set {source!r} has no split {split!r}; it has: {', '.join(splits)}.") from error


def _unreadable(source: str, error: Exception) -> str:
    causes = [str(cause).strip() for cause in (error, error.__cause__) if cause is not None]
    return (
        f"The data set {source!r} cannot be read: {'; '.join(causes)}. "
        "Its files must be CSV, JSON Lines, Parquet or text with the same columns, without a loading script."
    )


@contextmanager
def _explained(source: str) -> Iterator[None]:
    """In the block, errors for a hub that cannot be reached, and for a data set that is not there, say what helps."""
    try:
        yield
    except ConnectionError as error:
        raise ConnectionError(
            f"The hub cannot be reached for the data set {source!r} ({error}). Without a connection (or with "
            "HF_HUB_OFFLINE=1) only data sets that were loaded before can be read; a local folder or file needs none."
        ) from error
    except FileNotFoundError as error:
        if Path(source).is_dir():
            raise FileNotFoundError(
                f"The folder {source!r} has no data files ({error}); expected CSV, JSON Lines, Parquet or text files, "
                "or what save_to_disk writes."
            ) from error
        raise FileNotFoundError(
            f"There is no data set {source!r} on the hub, and no folder of that name here ({error}). Check the "
            "spelling; a private or gated one needs `hf auth login`."
        ) from error


DEFAULT_CONFIG = "default"
"""The name that `datasets` gives to the only config of a data set."""

_SPLITS = {"train", "training", "validation", "valid", "dev", "test", "eval"}
"""A saved dictionary with none of these among its keys holds configs rather than splits."""


def find_saved(folder: Path) -> dict[str, Path] | None:
    """Find the saved data sets of a folder, as config → folder; None where there is none.

    A folder with one data set or a dictionary of splits is the config `"default"`. Otherwise each sub-folder with a
    saved data set is a config of its own name; so is each key of a saved dictionary whose keys name no split.
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
    """Load a data set that `find_saved` found, or a split of it, memory-mapped; one without a name is `"train"`."""
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
    """Say that a config must be named, or that the named one does not exist, and list the configs of the data set."""
    missing = "Name the config" if config is None else f"There is no config {config!r}"
    return f"{missing}: the data set {source!r} has {', '.join(configs)}.{nearest(config or '', configs)}"


def is_data_set(value: object) -> bool:
    """Tell whether a value is a `Dataset` or `DatasetDict` of the package `datasets`, without loading the package.

    A data set that can only be iterated over is a TypeError.
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
    """Return the splits of a data set in memory by their names; a split without a name is `"train"`."""
    if isinstance(data_set, dict):
        return {str(name): rows for name, rows in data_set.items()}
    return {str(data_set.split or "train"): data_set}


def split_of(data_set: Dataset | DatasetDict, split: str, where: str) -> Dataset:
    """Return one split of a data set in memory; a missing split is a ValueError that lists the splits."""
    splits = splits_of(data_set)
    for name, found in splits.items():
        if normalize_split_name(name) == normalize_split_name(split):
            return found
    raise ValueError(f"{where} has no split {split!r}; it has: {', '.join(splits)}.")


def label_names(data_set: Any) -> dict[str, list[str]]:
    """Return the columns of a data set that hold codes of labels, with the label that each code stands for."""
    features = getattr(data_set, "features", None) or {}
    return {name: list(feature.names) for name, feature in features.items() if type(feature).__name__ == "ClassLabel"}


def decoded(codes: Iterable[Any], names: Sequence[str]) -> list[str | None]:
    """Return the labels that codes stand for; None for a code that is missing (-1, None or NaN)."""
    return [None if pd.isna(code) or code < 0 else names[int(code)] for code in codes]


def to_frame(data_set: Any) -> pd.DataFrame:
    """Return a split as a frame, with labels in place of their codes."""
    frame = data_set.to_pandas()
    return frame.assign(**{name: decoded(frame[name], names) for name, names in label_names(data_set).items()})


def names_classes(data_set: Dataset | DatasetDict) -> bool:
    """Whether the keys of a dictionary of data sets are classes: none of them is the name of a split."""
    return isinstance(data_set, dict) and _SPLITS.isdisjoint(map(normalize_split_name, data_set))


def _is_saved(folder: Path) -> bool:
    alone = (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file()
    return alone or (folder / "dataset_dict.json").is_file()


def _keys(folder: Path) -> list[str]:
    """Return the keys of a saved dictionary; a data set that was saved alone has none."""
    path = folder / "dataset_dict.json"
    if not path.is_file():
        return []
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("splits"), list):
        raise ValueError(f"{path} does not name the splits of its data sets: was it written completely?")
    return [str(key) for key in content["splits"]]
