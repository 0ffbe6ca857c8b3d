"""Training on text."""

from gradiend.objectives.loading import AutoModelForLM, AutoTokenizerForLM
from gradiend.trainer.text.common._instruct import InstructTokenizerWrapper
from gradiend.trainer.text.common.dataset import TextBatchedDatasetBase
from gradiend.trainer.text.common.model_base import TextModelWithGradiend
from gradiend.trainer.text.prediction.config import TextPredictionConfig
from gradiend.trainer.text.prediction.dataset import (
    TextBatchedDataset,
    TextTrainingDataset,
    create_masked_pair_from_text,
)
from gradiend.trainer.text.prediction.decoder_only_mlm import DecoderModelWithMLMHead, train_mlm_head
from gradiend.trainer.text.prediction.model_with_gradiend import TextPredictionModelWithGradiend
from gradiend.trainer.text.prediction.trainer import TextPredictionTrainer

__all__ = [
    "AutoModelForLM",
    "AutoTokenizerForLM",
    "DecoderModelWithMLMHead",
    "InstructTokenizerWrapper",
    "TextBatchedDataset",
    "TextBatchedDatasetBase",
    "TextModelWithGradiend",
    "TextPredictionConfig",
    "TextPredictionModelWithGradiend",
    "TextPredictionTrainer",
    "TextTrainingDataset",
    "create_masked_pair_from_text",
    "train_mlm_head",
]
