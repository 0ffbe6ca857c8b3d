"""Training on texts: the language model, its data and its trainer."""

from gradiend.objectives.loading import AutoModelForLM as AutoModelForLM
from gradiend.objectives.loading import AutoTokenizerForLM as AutoTokenizerForLM
from gradiend.trainer.text.common._instruct import InstructTokenizerWrapper as InstructTokenizerWrapper
from gradiend.trainer.text.common.dataset import TextBatchedDatasetBase as TextBatchedDatasetBase
from gradiend.trainer.text.common.model_base import TextModelWithGradiend as TextModelWithGradiend
from gradiend.trainer.text.prediction._memory_probe import estimate_from_config as estimate_from_config
from gradiend.trainer.text.prediction.config import TextPredictionConfig as TextPredictionConfig
from gradiend.trainer.text.prediction.dataset import TextBatchedDataset as TextBatchedDataset
from gradiend.trainer.text.prediction.dataset import TextTrainingDataset as TextTrainingDataset
from gradiend.trainer.text.prediction.dataset import create_masked_pair_from_text as create_masked_pair_from_text
from gradiend.trainer.text.prediction.decoder_only_mlm import DecoderModelWithMLMHead as DecoderModelWithMLMHead
from gradiend.trainer.text.prediction.decoder_only_mlm import train_mlm_head as train_mlm_head
from gradiend.trainer.text.prediction.model_with_gradiend import (
    TextPredictionModelWithGradiend as TextPredictionModelWithGradiend,
)
from gradiend.trainer.text.prediction.trainer import TextPredictionTrainer as TextPredictionTrainer
from gradiend.util._imports import public_names

__all__ = list(public_names(__name__))
