"""Training on text."""

from gradiend.trainer.text.common.loading import AutoModelForLM, AutoTokenizerForLM
from gradiend.trainer.text.common.model_base import TextModelWithGradiend
from gradiend.trainer.text.prediction.config import TextPredictionConfig
from gradiend.trainer.text.prediction.dataset import TextTrainingDataset
from gradiend.trainer.text.prediction.decoder_only_mlm import DecoderModelWithMLMHead, train_mlm_head
from gradiend.trainer.text.prediction.model_with_gradiend import TextPredictionModelWithGradiend
from gradiend.trainer.text.prediction.trainer import TextPredictionTrainer

__all__ = [
    "AutoModelForLM",
    "AutoTokenizerForLM",
    "DecoderModelWithMLMHead",
    "TextModelWithGradiend",
    "TextPredictionConfig",
    "TextPredictionModelWithGradiend",
    "TextPredictionTrainer",
    "TextTrainingDataset",
    "train_mlm_head",
]
