"""A model and data → metrics; a grid of rewritten models → the selected one."""

from gradiend.evaluator._evaluator import Evaluator as Evaluator
from gradiend.evaluator._grid import read_decoder_stats_file as read_decoder_stats_file
from gradiend.evaluator._selection import LikelihoodPolicy as LikelihoodPolicy
from gradiend.evaluator._selection import LMSThresholdPolicy as LMSThresholdPolicy
from gradiend.evaluator._selection import LMSTimesMetricPolicy as LMSTimesMetricPolicy
from gradiend.evaluator._selection import SharePolicy as SharePolicy
from gradiend.evaluator.decoder import DecoderEvaluator as DecoderEvaluator
from gradiend.evaluator.encoder import EncoderEvaluator as EncoderEvaluator
from gradiend.evaluator.encoder_metrics import get_correlation as get_correlation
from gradiend.evaluator.encoder_metrics import get_encoder_metrics_from_dataframe as get_encoder_metrics_from_dataframe
from gradiend.evaluator.encoder_metrics import get_model_metrics as get_model_metrics
from gradiend.util._imports import public_names

__all__ = list(public_names(__name__))
