"""Find one feature of a language model in its gradients, look at it, and rewrite the model with it."""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING

from gradiend._version import __version__
from gradiend.util.lazy import lazy_names
from gradiend.util.optional import warn_of_namesake
from gradiend.util.registry import register_default_loader

# PyTorch reads this at its first allocation: on Linux, large tensors then come in huge pages. Gradients and activations
# are made and freed by the hundred, and clearing their memory page by page is a good part of a training step.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

if TYPE_CHECKING:
    from gradiend.data import (
        SpacyTagSpec,
        TextFilterConfig,
        TextPredictionDataCreator,
        TextPreprocessConfig,
        preprocess_texts,
        resolve_base_data,
    )
    from gradiend.model import (
        GradiendModel,
        ModelWithGradiend,
        ParamMappedGradiendModel,
        apply_delta,
        export_delta,
        read_delta,
        read_rewrite_record,
    )
    from gradiend.trainer import (
        GradientTrainingDataset,
        PostPruneConfig,
        PrePruneConfig,
        TextGradientTrainingDataset,
        TrainerConfig,
        TrainingArguments,
        create_model_with_gradiend,
        load_training_stats,
        set_seed,
    )
    from gradiend.trainer.text import TextPredictionConfig, TextPredictionTrainer
    from gradiend.util.logging import get_logger, setup_logging
    from gradiend.visualizer import plot_topk_overlap_heatmap, plot_topk_overlap_venn

# Where each public name comes from. Resolved on first use: `import gradiend` stays fast, and needs no optional package.
_HOMES = {
    "gradiend.model": (
        "GradiendModel",
        "ModelWithGradiend",
        "ParamMappedGradiendModel",
        "apply_delta",
        "export_delta",
        "read_delta",
        "read_rewrite_record",
    ),
    "gradiend.data": (
        "SpacyTagSpec",
        "TextFilterConfig",
        "TextPredictionDataCreator",
        "TextPreprocessConfig",
        "preprocess_texts",
        "resolve_base_data",
    ),
    "gradiend.trainer": (
        "PostPruneConfig",
        "PrePruneConfig",
        "GradientTrainingDataset",
        "TextGradientTrainingDataset",
        "TrainerConfig",
        "TrainingArguments",
        "create_model_with_gradiend",
        "load_training_stats",
        "set_seed",
    ),
    "gradiend.trainer.text": ("TextPredictionConfig", "TextPredictionTrainer"),
    "gradiend.visualizer": ("plot_topk_overlap_heatmap", "plot_topk_overlap_venn"),
    "gradiend.util.logging": ("get_logger", "setup_logging"),
}

__all__ = [
    "GradiendModel",
    "GradientTrainingDataset",
    "ModelWithGradiend",
    "ParamMappedGradiendModel",
    "PostPruneConfig",
    "PrePruneConfig",
    "SpacyTagSpec",
    "TextFilterConfig",
    "TextGradientTrainingDataset",
    "TextPredictionConfig",
    "TextPredictionDataCreator",
    "TextPredictionTrainer",
    "TextPreprocessConfig",
    "TrainerConfig",
    "TrainingArguments",
    "__version__",
    "apply_delta",
    "create_model_with_gradiend",
    "export_delta",
    "get_logger",
    "load_training_stats",
    "plot_topk_overlap_heatmap",
    "plot_topk_overlap_venn",
    "preprocess_texts",
    "read_delta",
    "read_rewrite_record",
    "resolve_base_data",
    "set_seed",
    "setup_logging",
]


warn_of_namesake(__path__[0])

__getattr__ = lazy_names(__name__, _HOMES)


def __dir__() -> list[str]:
    return __all__


register_default_loader(
    lambda: import_module("gradiend.trainer.text.prediction.model_with_gradiend").TextPredictionModelWithGradiend
)
