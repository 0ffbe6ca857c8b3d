"""Metrics of encodings: computed from a frame, or from a file of encodings with the metrics kept beside it."""

from gradiend.evaluator.encoding_files import get_model_metrics
from gradiend.evaluator.frame_metrics import get_correlation, get_encoder_metrics_from_dataframe
from gradiend.util.paths import invalidate_encoder_metrics_cache

__all__ = [
    "get_correlation",
    "get_encoder_metrics_from_dataframe",
    "get_model_metrics",
    "invalidate_encoder_metrics_cache",
]
