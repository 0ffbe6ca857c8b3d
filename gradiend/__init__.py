"""Find one feature of a language model in its gradients, look at it, and rewrite the model with it."""

import os
from importlib import import_module
from typing import TYPE_CHECKING

from gradiend._version import __version__ as __version__
from gradiend.util._imports import LATER, lazy_names, warn_of_namesake

if TYPE_CHECKING:
    from gradiend.comparison import build_cross_task_encoder_summary as build_cross_task_encoder_summary
    from gradiend.comparison import compute_anchor_aligned_encoding_matrix as compute_anchor_aligned_encoding_matrix
    from gradiend.comparison import (
        compute_gradiend_feature_cross_encoding_matrix as compute_gradiend_feature_cross_encoding_matrix,
    )
    from gradiend.comparison import (
        compute_gradiend_transition_cross_encoding_matrix as compute_gradiend_transition_cross_encoding_matrix,
    )
    from gradiend.comparison import compute_grouped_similarity_matrices as compute_grouped_similarity_matrices
    from gradiend.comparison import compute_similarity_matrix as compute_similarity_matrix
    from gradiend.comparison import compute_trainer_pair_encoding_matrix as compute_trainer_pair_encoding_matrix
    from gradiend.comparison import plot_cross_encoding_heatmap as plot_cross_encoding_heatmap
    from gradiend.comparison import (
        plot_gradiend_feature_cross_encoding_heatmap as plot_gradiend_feature_cross_encoding_heatmap,
    )
    from gradiend.comparison import (
        plot_gradiend_transition_cross_encoding_heatmap as plot_gradiend_transition_cross_encoding_heatmap,
    )
    from gradiend.comparison import plot_similarity_heatmap as plot_similarity_heatmap
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
    from gradiend.hub import Published as Published
    from gradiend.hub import push_to_hub as push_to_hub
    from gradiend.model import GradiendModel as GradiendModel
    from gradiend.model import ModelWithGradiend as ModelWithGradiend
    from gradiend.model import ParamMappedGradiendModel as ParamMappedGradiendModel
    from gradiend.model import apply_delta as apply_delta
    from gradiend.model import export_delta as export_delta
    from gradiend.model import list_gradiends as list_gradiends
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
    from gradiend.util._interruption import Interrupted as Interrupted
    from gradiend.util._lock import ExperimentLocked as ExperimentLocked
    from gradiend.util.logging import get_logger as get_logger
    from gradiend.util.logging import setup_logging as setup_logging
    from gradiend.visualizer import plot_comparison_heatmap as plot_comparison_heatmap
    from gradiend.visualizer import plot_topk_overlap_heatmap as plot_topk_overlap_heatmap
    from gradiend.visualizer import plot_topk_overlap_venn as plot_topk_overlap_venn
    from gradiend.visualizer.plot_style import PlotStyleConfig as PlotStyleConfig
    from gradiend.visualizer.plot_style import PlotStyleStatus as PlotStyleStatus
    from gradiend.visualizer.plot_style import check_plot_environment as check_plot_environment
    from gradiend.visualizer.plot_style import configure_plot_style as configure_plot_style
    from gradiend.visualizer.plot_style import format_transition_label as format_transition_label
    from gradiend.visualizer.plot_style import transition_bidi_arrow as transition_bidi_arrow
    from gradiend.visualizer.plot_style import transition_directed_arrow as transition_directed_arrow

# PyTorch reads this at its first allocation: on Linux, large tensors then come in huge pages. Gradients and activations
# are made and freed by the hundred, and clearing their memory page by page is a good part of a training step.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

warn_of_namesake(__path__[0])

# On first use: `import gradiend` stays fast, and needs no optional package.
__all__, __dir__, __getattr__ = lazy_names(__name__)

LATER["default model class"] = lambda: import_module("gradiend.trainer.text").TextPredictionModelWithGradiend
LATER["card facts"] = lambda: import_module("gradiend.report._card_facts")
LATER["cards"] = lambda: import_module("gradiend.report._card")
LATER["is_decoder_only_model"] = lambda: import_module("gradiend.objectives").is_decoder_only_model
LATER["push_to_hub"] = lambda: import_module("gradiend.hub").push_to_hub
