"""The parts that every text trainer needs."""

from typing import TYPE_CHECKING

from gradiend.util._imports import lazy_names

if TYPE_CHECKING:
    from gradiend.objectives.loading import AutoModelForLM as AutoModelForLM
    from gradiend.objectives.loading import AutoTokenizerForLM as AutoTokenizerForLM
    from gradiend.trainer.text.common._instruct import InstructTokenizerWrapper as InstructTokenizerWrapper
    from gradiend.trainer.text.common.dataset import TextBatchedDatasetBase as TextBatchedDatasetBase
    from gradiend.trainer.text.common.model_base import TextModelWithGradiend as TextModelWithGradiend

__all__, __dir__, __getattr__ = lazy_names(__name__)
