"""Data sets as tables: one for all their splits, or one for each config (class)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from gradiend.data.core.hub import hub_config_names, load_hub_dataset
from gradiend.data.core.saved_datasets import is_data_set, split_of, to_frame
from gradiend.data.unified.validate import require_columns
from gradiend.util._checks import require_ordered


def load_hub_table(
    name: Any,
    config: str | None = None,
    *,
    split: str | None = None,
    splits: Sequence[str] | None = None,
    split_col: str = "split",
    trust_remote_code: bool = False,
) -> pd.DataFrame:
    """Load a data set as one table.

    Args:
        name: Hub id, the path of a folder, or a `Dataset` or `DatasetDict`.
        config: Which of several configs.
        split: One split, whose rows are taken as they are.
        splits: Several, or None for all: a column with their names is added where the data has none.
        split_col: Its name.
        trust_remote_code: See `load_hub_dataset`.

    Raises:
        See `load_hub_dataset`.
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
        by_split = dict(loaded.items()) if isinstance(loaded, dict) else {"train": loaded}
    else:
        by_split = {one: load(one) for one in splits}
    frames = []
    for one, rows in by_split.items():
        frame = to_frame(rows)
        frames.append(frame if split_col in frame.columns else frame.assign(**{split_col: str(one).partition("[")[0]}))
    return pd.concat(frames, ignore_index=True)


def load_hf_per_class(
    dataset_name: str,
    classes: str | Sequence[str] = "all",
    splits: Sequence[str] | None = None,
    masked_col: str = "masked",
    split_col: str = "split",
    *,
    trust_remote_code: bool = False,
) -> dict[str, pd.DataFrame]:
    """Load a data set that has a config for each class.

    Args:
        dataset_name: Hub id, or the path of a folder in the layout of a hub repository or of `save_to_disk`.
        classes: Names of configs; `"all"` for every one.
        splits: Which splits; None takes all.
        masked_col: Column that every config must have.
        split_col: Column with the split; added where the data has none.
        trust_remote_code: Let the data set run its own loading script.

    Returns:
        Class → table.

    Raises:
        ValueError: An unknown class or split, or a missing column.
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
