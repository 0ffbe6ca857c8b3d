"""Where a trainer's data comes from: a data set of the hub, a dict of tables, a file, or a frame."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from gradiend.data.core.hub import hub_config_names
from gradiend.data.core.saved_datasets import DEFAULT_CONFIG, describe_missing_config, is_data_set, names_classes
from gradiend.data.core.table_files import is_table_path, read_table
from gradiend.data.unified.columns import ColumnNames
from gradiend.data.unified.hub_tables import load_hf_per_class, load_hub_table

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DataSource:
    """What the user named as data; nothing is read before `load`."""

    data: Any = None
    """A DataFrame, a dict class → DataFrame, the path of a table, a `Dataset` or `DatasetDict`, or the name of a data
    set with a config per class."""
    hf_dataset: Any = None
    """A data set (its name, or a `Dataset` or `DatasetDict`) with one table for all classes; wins over `data`."""
    hf_subset: str | Sequence[str] | None = None
    """Config of the data set, or several; of a data set with a config per class, the classes."""
    hf_splits: Sequence[str] | None = None
    """Splits to load. Default: all."""
    trust_remote_code: bool = False
    """Let a data set of the hub run its own loading script."""

    def load(self, columns: ColumnNames) -> pd.DataFrame | Mapping[str, pd.DataFrame]:
        """Read the data: the data set, or what `data` is.

        Args:
            columns: How the columns are called.

        Returns:
            A merged table, or a table per class.

        Raises:
            ValueError: No data, or such that cannot be read.
            TypeError: Another kind of data.
            FileNotFoundError: There is no such file, folder or data set.
            ConnectionError: The hub cannot be reached.
            ImportError: A package that reads this kind of data is not installed.
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
                "The trainer has no data: pass data=… (a DataFrame, a dict of DataFrames, a file, or a data set), or "
                "hf_dataset=…."
            )
        raise TypeError(
            "Expected data as a DataFrame, a dict class → DataFrame, a Dataset, the path of a table or the name of a "
            f"data set, got {type(data).__name__}."
        )

    def _in_memory(self, data: Any, columns: ColumnNames) -> pd.DataFrame | dict[str, pd.DataFrame]:
        """A data set in memory: one table, or where the keys of a dictionary name no split, one for each class."""
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
        trust: dict[str, Any] = {"trust_remote_code": True} if self.trust_remote_code else {}
        if self.hf_subset is None and hub_config_names(name, **trust) == [DEFAULT_CONFIG]:
            # One config without a name is no class: the table says the classes itself.
            return load_hub_table(name, **self._options(columns))
        classes = "all" if self.hf_subset is None else self.hf_subset
        return load_hf_per_class(name, classes, self.hf_splits, columns.masked, columns.split, **trust)

    def _options(self, columns: ColumnNames) -> dict[str, Any]:
        trust = {"trust_remote_code": True} if self.trust_remote_code else {}
        splits = [self.hf_splits] if isinstance(self.hf_splits, str) else self.hf_splits
        return {"splits": splits, "split_col": columns.split, **trust}
