"""What a trainer says that has no trained model."""

from __future__ import annotations

from pathlib import Path

from gradiend.model.checkpoint import is_checkpoint
from gradiend.util.paths import MODEL_DIR


def untrained_message(experiment_dir: str | None) -> str:
    """That a GRADIEND is not trained, and where a trained one lies, if there is one."""
    message = "This trainer's GRADIEND is not trained: its weights are random. Call train() first"
    earlier = Path(experiment_dir or "") / MODEL_DIR
    if experiment_dir is not None and is_checkpoint(earlier):
        message += f", or use the one trained before: get_model(load_directory={str(earlier)!r})"
    return f"{message}."
