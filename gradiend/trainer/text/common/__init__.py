"""What every text trainer shares."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradiend.util.lazy import lazy_names

if TYPE_CHECKING:
    from gradiend.objectives.loading import AutoModelForLM, AutoTokenizerForLM
    from gradiend.trainer.text.common._instruct import InstructTokenizerWrapper
    from gradiend.trainer.text.common.dataset import TextBatchedDatasetBase
    from gradiend.trainer.text.common.model_base import TextModelWithGradiend

__all__ = [
    "AutoModelForLM",
    "AutoTokenizerForLM",
    "InstructTokenizerWrapper",
    "TextBatchedDatasetBase",
    "TextModelWithGradiend",
]

__getattr__ = lazy_names(
    __name__,
    {
        "gradiend.trainer.text.common.dataset": ["TextBatchedDatasetBase"],
        "gradiend.trainer.text.common._instruct": ["InstructTokenizerWrapper"],
        "gradiend.objectives.loading": ["AutoModelForLM", "AutoTokenizerForLM"],
        "gradiend.trainer.text.common.model_base": ["TextModelWithGradiend"],
    },
)
