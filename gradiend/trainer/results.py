"""What a trainer writes, and what it says about what was written before."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from gradiend.model.checkpoint import is_checkpoint
from gradiend.trainer.core.feature_definition import result_path
from gradiend.trainer.core.stats import plain
from gradiend.util.files import replacing, write_json

MODEL_DIR = "model"
"""Subdirectory of an experiment with the trained model."""


def write_encodings(experiment_dir: str | None, frame: pd.DataFrame, metrics: Mapping[str, Any], **key: Any) -> None:
    """Write `encoded_values_<key>.csv`, and the metrics beside it as JSON; nothing without a directory."""
    path = result_path(experiment_dir, "encoded_values", key, ".csv")
    if path is not None:
        with replacing(path) as temporary:
            frame.to_csv(temporary, index=False)
        write_json(path.with_suffix(".json"), plain(metrics))


def untrained_message(experiment_dir: str | None) -> str:
    """That a GRADIEND is not trained, and where a trained one lies, if there is one."""
    message = "This trainer's GRADIEND is not trained: its weights are random. Call train() first"
    earlier = Path(experiment_dir or "") / MODEL_DIR
    if experiment_dir is not None and is_checkpoint(earlier):
        message += f", or use the one trained before: get_model(load_directory={str(earlier)!r})"
    return f"{message}."
