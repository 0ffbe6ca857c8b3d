"""Where tables come from: memory, a file, or a data set with one table or one for each class."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from gradiend.data.core._datasets import (
    DEFAULT_CONFIG,
    describe_missing_config,
    hub_config_names,
    is_data_set,
    load_hub_dataset,
    names_classes,
    split_of,
    splits_of,
    to_frame,
)
from gradiend.data.core._table_formats import is_table_path, read_table
from gradiend.data.unified._schema import ColumnNames, require_columns, require_one_level
from gradiend.util._checks import frame_hint, require_ordered, require_whole

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DataSource:
    """The data as the user named it; nothing is read before `load`."""

    data: Any = None
    """A DataFrame, a dict class → DataFrame, the path of a table, a `Dataset` or `DatasetDict`, or the name of a data
    set with a config per class."""
    hf_dataset: Any = None
    """A data set (its name, or a `Dataset` or `DatasetDict`) with one table for all classes; wins over `data`."""
    hf_subset: str | Sequence[str] | None = None
    """Config of the data set, or several configs; in a data set with a config per class, these are the classes."""
    hf_splits: Sequence[str] | None = None
    """Splits to load. Default: all."""
    trust_remote_code: bool = False
    """Let a data set of the hub run its own loading script."""

    def load(self, columns: ColumnNames) -> pd.DataFrame | Mapping[str, pd.DataFrame]:
        """Read the data: a merged table, or a table per class.

        Raises ValueError for no data, or unreadable data; TypeError for another kind of data; FileNotFoundError;
        ConnectionError for a hub that cannot be reached; ImportError if a package that reads this kind of data is
        missing.
        """
        if self.hf_dataset is not None and self.data is not None:
            logger.warning("Both hf_dataset and data are given: hf_dataset=%.80r is used.", self.hf_dataset)
        data = self.data if self.hf_dataset is None else self.hf_dataset
        if is_data_set(data):
            return self._in_memory(data, columns)
        if self.hf_dataset is not None:
            return self._merged_data_set(self.hf_dataset, columns)
        if isinstance(data, str) and not is_table_path(data):
            return self._data_set_per_class(data, columns)
        if isinstance(data, str | Path):
            return read_table(Path(data))
        if isinstance(data, Mapping):
            return {
                name: load_hub_table(table, **self._options(columns)) if is_data_set(table) else table
                for name, table in data.items()
            }
        if isinstance(data, pd.DataFrame):
            return data
        if data is None:
            raise ValueError(
                "The trainer has no data: pass hf_dataset=…, or data=… (one or several DataFrames, a file, a data set)."
            )
        raise TypeError(
            "Expected data as a DataFrame, a dict class → DataFrame, a Dataset, the path of a table or the name of a "
            f"data set, got {type(data).__name__}"
            + frame_hint(data, "pandas.DataFrame(…) makes one of a list of dicts.")
        )

    def _in_memory(self, data: Any, columns: ColumnNames) -> pd.DataFrame | dict[str, pd.DataFrame]:
        """Read a data set in memory: one table, or a table for each key if the keys of a dictionary name no split."""
        if not names_classes(data):
            if self.hf_subset is not None:
                raise ValueError("hf_subset names configs of a data set by its name; a Dataset has none.")
            return load_hub_table(data, **self._options(columns))
        wanted = [self.hf_subset] if isinstance(self.hf_subset, str) else list(self.hf_subset or data)
        for name in wanted:
            if name not in data:
                raise ValueError(describe_missing_config("in memory", name, list(data)))
        return {name: load_hub_table(data[name], **self._options(columns)) for name in wanted}

    def _merged_data_set(self, name: str, columns: ColumnNames) -> pd.DataFrame | dict[str, pd.DataFrame]:
        if self.hf_subset is None or isinstance(self.hf_subset, str):
            return load_hub_table(name, self.hf_subset, **self._options(columns))
        tables = {one: load_hub_table(name, one, **self._options(columns)) for one in self.hf_subset}
        if all(columns.label_class in table.columns for table in tables.values()):
            return pd.concat(tables.values(), ignore_index=True)
        return tables

    def _data_set_per_class(self, name: str, columns: ColumnNames) -> pd.DataFrame | dict[str, pd.DataFrame]:
        options = self._options(columns)
        configs = hub_config_names(name, trust_remote_code=self.trust_remote_code) if self.hf_subset is None else None
        if configs == [DEFAULT_CONFIG]:
            # A config without a name is no class: the table has a column of classes.
            return load_hub_table(name, **options)
        classes = "all" if self.hf_subset is None else self.hf_subset
        return load_hf_per_class(name, classes, masked_col=columns.masked, **options)

    def _options(self, columns: ColumnNames) -> dict[str, Any]:
        splits = [self.hf_splits] if isinstance(self.hf_splits, str) else self.hf_splits
        return {"splits": splits, "split_col": columns.split, "trust_remote_code": self.trust_remote_code}


def resolve_dataframe(
    value: Any, split: str = "train", max_rows: int | None = None, *, trust_remote_code: bool = False
) -> pd.DataFrame | None:
    """Turn a frame, the path of a table or a data set into a frame.

    Args:
        value: A frame, a `Dataset` or `DatasetDict`, the path of a `.csv`, `.tsv`, `.jsonl` or `.parquet` file (see
            `read_table`), or as a string the folder or hub id of a data set (see `load_hub_dataset`); None gives None.
        split: Name of the split of a data set.
        max_rows: Keep at most the first `max_rows` rows; None keeps all.
        trust_remote_code: Let a data set of the hub run its own loading script.

    Returns:
        None for None; the same object for a frame that is not cut; otherwise the (first rows of the) table.

    Raises:
        FileNotFoundError: There is no such file or data set.
        ValueError: The file is of another kind or unreadable, the columns have several levels, the split is unknown, or
            `max_rows` is negative.
        TypeError: The value is no frame, path or name, or `max_rows` is no whole number.
        ImportError: A package that reads this kind of data is not installed.
    """
    require_whole("max_rows", max_rows, 0, none_means="for all")
    if value is None:
        return None
    if isinstance(value, pd.DataFrame):
        frame = value
    elif is_data_set(value):
        frame = load_hub_table(value, split=None if len(splits_of(value)) == 1 else split)
    elif isinstance(value, str) and not is_table_path(value):
        frame = load_hub_table(value, split=split, trust_remote_code=trust_remote_code)
    elif isinstance(value, str | Path):
        frame = read_table(Path(value))
    else:
        raise TypeError(
            f"Expected a DataFrame, the path of a table or a data set, got {type(value).__name__}"
            + frame_hint(value, 'pandas.DataFrame({"text": texts}) makes one of a list of texts.')
        )
    require_one_level(frame)
    return frame if max_rows is None or len(frame) <= max_rows else frame.head(max_rows)


def load_hub_table(
    name: Any, config: str | None = None, *, split: str | None = None, splits: Sequence[str] | None = None,
    split_col: str = "split", trust_remote_code: bool = False,
) -> pd.DataFrame:  # fmt: skip
    """Load a data set, by its name or in memory, as one table; the errors are those of `load_hub_dataset`.

    The rows of one `split` are taken as they are. With several `splits`, or None for all, the column `split_col` is
    added where the data has none.
    """

    def load(one: str | None) -> Any:
        if is_data_set(name):
            return name if one is None else split_of(name, one, "The data set")
        return load_hub_dataset(name, config, split=one, trust_remote_code=trust_remote_code)

    if split is not None:
        return to_frame(load(split))
    if splits is None:
        loaded = load(None)
        # A data set that was saved without splits has no names for them either.
        by_split = loaded if isinstance(loaded, dict) else {"train": loaded}
    else:
        by_split = {one: load(one) for one in splits}
    if not by_split:
        raise ValueError("There is no split to load: name one (hf_splits, splits), or leave them out for all.")
    frames = []
    for one, rows in by_split.items():
        frame = to_frame(rows)
        frames.append(frame if split_col in frame.columns else frame.assign(**{split_col: str(one).partition("[")[0]}))
    return pd.concat(frames, ignore_index=True)


def load_hf_per_class(
    dataset_name: str, classes: str | Sequence[str] = "all", splits: Sequence[str] | None = None,
    masked_col: str = "masked", split_col: str = "split", *, trust_remote_code: bool = False,
) -> dict[str, pd.DataFrame]:  # fmt: skip
    """Load a data set that has a config for each class, as class → table.

    Args:
        dataset_name: Hub id, or the path of a folder in the layout of a hub repository or of `save_to_disk`.
        classes: Names of configs; `"all"` for every config.
        splits: Names of splits; None takes all.
        masked_col: Column that every config must have.
        split_col: Column with the split; added where the data has none.
        trust_remote_code: Let the data set run its own loading script.

    Raises:
        ValueError: A class or split is unknown, or a column is missing.
        FileNotFoundError: There is no such data set.
        ConnectionError: The hub cannot be reached.
        ImportError: `datasets` is not installed.
    """
    require_ordered("classes", classes)
    require_ordered("splits", splits)
    if isinstance(splits, str):
        splits = [splits]
    if classes == "all":
        names = hub_config_names(dataset_name, trust_remote_code=trust_remote_code)
    else:
        names = [classes] if isinstance(classes, str) else list(classes)
    tables = {}
    for name in names:
        frame = load_hub_table(
            dataset_name, name, splits=splits, split_col=split_col, trust_remote_code=trust_remote_code
        )
        require_columns(frame, [masked_col], f" of class {name!r} in {dataset_name!r}")
        tables[name] = frame
    return tables
