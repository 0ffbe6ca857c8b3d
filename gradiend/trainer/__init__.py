"""Arguments, callbacks, the loop, seeds; `gradiend.trainer.text` is what is specific to text."""

from gradiend.trainer.core._seeds import set_seed
from gradiend.trainer.core.arguments import TrainingArguments
from gradiend.trainer.core.callbacks import (
    CheckpointCallback,
    EarlyStoppingCallback,
    EvaluationCallback,
    LoggingCallback,
    NormalizationCallback,
    TensorBoardCallback,
    TrainingCallback,
    WandbCallback,
    get_default_callbacks,
)
from gradiend.trainer.core.dataset import GradientTrainingDataset
from gradiend.trainer.core.pruning import PostPruneConfig, PrePruneConfig, post_prune, pre_prune
from gradiend.trainer.core.stats import load_training_stats
from gradiend.trainer.core.training import train as train_core
from gradiend.trainer.factory import create_model_with_gradiend
from gradiend.trainer.text.common.dataset import TextGradientTrainingDataset
from gradiend.trainer.text.prediction.config import TrainerConfig
from gradiend.trainer.trainer import Trainer

__all__ = [
    "CheckpointCallback",
    "EarlyStoppingCallback",
    "EvaluationCallback",
    "GradientTrainingDataset",
    "LoggingCallback",
    "NormalizationCallback",
    "PostPruneConfig",
    "PrePruneConfig",
    "TensorBoardCallback",
    "TextGradientTrainingDataset",
    "Trainer",
    "TrainerConfig",
    "TrainingArguments",
    "TrainingCallback",
    "WandbCallback",
    "create_model_with_gradiend",
    "get_default_callbacks",
    "load_training_stats",
    "post_prune",
    "pre_prune",
    "set_seed",
    "train_core",
]
