"""Find one feature of a language model in its gradients, look at it, and rewrite the model with it."""

import os
from importlib import import_module
from typing import TYPE_CHECKING

from gradiend._version import __version__ as __version__
from gradiend.util._imports import LATER, lazy_names, warn_of_namesake

if TYPE_CHECKING:
    from gradiend.data import DataCreator as DataCreator
    from gradiend.data import PairedTextFilterConfig as PairedTextFilterConfig
    from gradiend.data import SpacyTagSpec as SpacyTagSpec
    from gradiend.data import TextFilterConfig as TextFilterConfig
    from gradiend.data import TextPredictionDataCreator as TextPredictionDataCreator
    from gradiend.data import TextPreprocessConfig as TextPreprocessConfig
    from gradiend.data import preprocess_texts as preprocess_texts
    from gradiend.data import resolve_base_data as resolve_base_data
    from gradiend.data.unified.transitions import TransitionSpec as TransitionSpec
    from gradiend.data.unified.transitions import identity as identity
    from gradiend.data.unified.transitions import pair as pair
    from gradiend.model import GradiendModel as GradiendModel
    from gradiend.model import ModelWithGradiend as ModelWithGradiend
    from gradiend.model import ParamMappedGradiendModel as ParamMappedGradiendModel
    from gradiend.model import apply_delta as apply_delta
    from gradiend.model import export_delta as export_delta
    from gradiend.model import read_delta as read_delta
    from gradiend.model import read_rewrite_record as read_rewrite_record
    from gradiend.trainer import GradientTrainingDataset as GradientTrainingDataset
    from gradiend.trainer import LRSearchConfig as LRSearchConfig
    from gradiend.trainer import NoConvergentLearningRate as NoConvergentLearningRate
    from gradiend.trainer import PositiveFeatureDefinition as PositiveFeatureDefinition
    from gradiend.trainer import PositiveTrainerSuite as PositiveTrainerSuite
    from gradiend.trainer import PostPruneConfig as PostPruneConfig
    from gradiend.trainer import PrePruneConfig as PrePruneConfig
    from gradiend.trainer import SuitePairDefinition as SuitePairDefinition
    from gradiend.trainer import SymmetricTrainerSuite as SymmetricTrainerSuite
    from gradiend.trainer import TextGradientTrainingDataset as TextGradientTrainingDataset
    from gradiend.trainer import TrainerCollection as TrainerCollection
    from gradiend.trainer import TrainerConfig as TrainerConfig
    from gradiend.trainer import TrainerSuite as TrainerSuite
    from gradiend.trainer import TrainingArguments as TrainingArguments
    from gradiend.trainer import create_model_with_gradiend as create_model_with_gradiend
    from gradiend.trainer import load_training_stats as load_training_stats
    from gradiend.trainer import set_seed as set_seed
    from gradiend.trainer.text import TextPredictionConfig as TextPredictionConfig
    from gradiend.trainer.text import TextPredictionTrainer as TextPredictionTrainer
    from gradiend.util._lock import ExperimentLocked as ExperimentLocked
    from gradiend.util._stopping import Interrupted as Interrupted
    from gradiend.util.logging import get_logger as get_logger
    from gradiend.util.logging import setup_logging as setup_logging
    from gradiend.visualizer import plot_topk_overlap_heatmap as plot_topk_overlap_heatmap
    from gradiend.visualizer import plot_topk_overlap_venn as plot_topk_overlap_venn

# PyTorch reads this at its first allocation: on Linux, large tensors then come in huge pages. Gradients and activations
# are made and freed by the hundred, and clearing their memory page by page is a good part of a training step.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

warn_of_namesake(__path__[0])

# On first use: `import gradiend` stays fast, and needs no optional package.
__all__, __dir__, __getattr__ = lazy_names(__name__)

LATER["default model class"] = lambda: import_module("gradiend.trainer.text").TextPredictionModelWithGradiend
LATER["is_decoder_only_model"] = lambda: import_module("gradiend.objectives").is_decoder_only_model
