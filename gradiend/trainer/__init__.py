"""Arguments, callbacks, the training loop and seeds; `gradiend.trainer.text` has what only texts need."""

from gradiend.data.unified.transitions import expand_transition_selection as expand_transition_selection
from gradiend.model.seed_group import SeedModelGroup as SeedModelGroup
from gradiend.trainer._pairs import PositiveFeatureDefinition as PositiveFeatureDefinition
from gradiend.trainer._pairs import SuitePairDefinition as SuitePairDefinition
from gradiend.trainer.collection import TrainerCollection as TrainerCollection
from gradiend.trainer.core._layouts import Layout as Layout
from gradiend.trainer.core._memory import MemoryEstimate as MemoryEstimate
from gradiend.trainer.core._modality import Modality as Modality
from gradiend.trainer.core._rate_config import LRSearchConfig as LRSearchConfig
from gradiend.trainer.core._rate_result import LRSearchResult as LRSearchResult
from gradiend.trainer.core._rate_result import NoConvergentLearningRate as NoConvergentLearningRate
from gradiend.trainer.core._seeds import set_seed as set_seed
from gradiend.trainer.core.arguments import TrainingArguments as TrainingArguments
from gradiend.trainer.core.callbacks import CheckpointCallback as CheckpointCallback
from gradiend.trainer.core.callbacks import EarlyStoppingCallback as EarlyStoppingCallback
from gradiend.trainer.core.callbacks import EvaluationCallback as EvaluationCallback
from gradiend.trainer.core.callbacks import LoggingCallback as LoggingCallback
from gradiend.trainer.core.callbacks import NormalizationCallback as NormalizationCallback
from gradiend.trainer.core.callbacks import TensorBoardCallback as TensorBoardCallback
from gradiend.trainer.core.callbacks import TrainingCallback as TrainingCallback
from gradiend.trainer.core.callbacks import WandbCallback as WandbCallback
from gradiend.trainer.core.callbacks import get_default_callbacks as get_default_callbacks
from gradiend.trainer.core.dataset import GradientTrainingDataset as GradientTrainingDataset
from gradiend.trainer.core.pruning import PostPruneConfig as PostPruneConfig
from gradiend.trainer.core.pruning import PrePruneConfig as PrePruneConfig
from gradiend.trainer.core.pruning import post_prune as post_prune
from gradiend.trainer.core.pruning import pre_prune as pre_prune
from gradiend.trainer.core.stats import load_training_stats as load_training_stats
from gradiend.trainer.core.training import train
from gradiend.trainer.factory import create_model_with_gradiend as create_model_with_gradiend
from gradiend.trainer.multi_seed import MultiSeedTrainerView as MultiSeedTrainerView
from gradiend.trainer.multi_seed import is_multi_seed_view as is_multi_seed_view
from gradiend.trainer.suite import PositiveTrainerSuite as PositiveTrainerSuite
from gradiend.trainer.suite import SymmetricTrainerSuite as SymmetricTrainerSuite
from gradiend.trainer.suite import TrainerSuite as TrainerSuite
from gradiend.trainer.text.common.dataset import TextGradientTrainingDataset as TextGradientTrainingDataset
from gradiend.trainer.text.prediction.config import TrainerConfig as TrainerConfig
from gradiend.trainer.trainer import Trainer as Trainer
from gradiend.util._imports import public_names

train_core = train

__all__ = list(public_names(__name__))
