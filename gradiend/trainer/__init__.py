"""Arguments, callbacks, the loop, seeds; `gradiend.trainer.text` is what is specific to text."""

from gradiend.trainer.core.arguments import TrainingArguments
from gradiend.trainer.core.callbacks import (
    CheckpointCallback,
    EvaluationCallback,
    LoggingCallback,
    NormalizationCallback,
    TrainingCallback,
    get_default_callbacks,
)
from gradiend.trainer.core.pruning import PostPruneConfig, PrePruneConfig, post_prune, pre_prune
from gradiend.trainer.core.seeding import set_seed
from gradiend.trainer.core.stats import load_training_stats
from gradiend.trainer.core.training import train as train_core
from gradiend.trainer.text.common.dataset import TextGradientTrainingDataset
from gradiend.trainer.text.prediction.config import TrainerConfig
from gradiend.trainer.trainer import Trainer

__all__ = [
    "CheckpointCallback",
    "EvaluationCallback",
    "LoggingCallback",
    "NormalizationCallback",
    "PostPruneConfig",
    "PrePruneConfig",
    "TextGradientTrainingDataset",
    "Trainer",
    "TrainerConfig",
    "TrainingArguments",
    "TrainingCallback",
    "get_default_callbacks",
    "load_training_stats",
    "post_prune",
    "pre_prune",
    "set_seed",
    "train_core",
]
