"""A model and data → metrics; a grid of rewritten models → the selected one."""

from gradiend.evaluator.decoder import DecoderEvaluator
from gradiend.evaluator.encoder import EncoderEvaluator
from gradiend.evaluator.encoder_metrics import get_correlation, get_encoder_metrics_from_dataframe
from gradiend.evaluator.encoding_files import get_model_metrics
from gradiend.evaluator.evaluator import Evaluator
from gradiend.evaluator.selection import LMSThresholdPolicy, LMSTimesMetricPolicy
from gradiend.evaluator.stats_files import read_decoder_stats_file

__all__ = [
    "DecoderEvaluator",
    "EncoderEvaluator",
    "Evaluator",
    "LMSThresholdPolicy",
    "LMSTimesMetricPolicy",
    "get_correlation",
    "get_encoder_metrics_from_dataframe",
    "get_model_metrics",
    "read_decoder_stats_file",
]
