"""Arguments, callbacks, batches, optimizer and loop: independent of the modality."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradiend.util._imports import lazy_names

if TYPE_CHECKING:
    from gradiend.trainer.core.callbacks import (
        CheckpointCallback,
        EvaluationCallback,
        LoggingCallback,
        NormalizationCallback,
        TrainingCallback,
        get_default_callbacks,
    )
    from gradiend.trainer.core.training import train

__all__ = [
    "CheckpointCallback",
    "EvaluationCallback",
    "LoggingCallback",
    "NormalizationCallback",
    "TrainingCallback",
    "get_default_callbacks",
    "train",
]

__getattr__ = lazy_names(
    __name__,
    {
        "gradiend.trainer.core.callbacks": [name for name in __all__ if name != "train"],
        "gradiend.trainer.core.training": ["train"],
    },
)
