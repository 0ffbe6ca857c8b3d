"""Masked examples: a feature class is a set of words, an example is a sentence with its words masked."""

from typing import TYPE_CHECKING

from gradiend.util._imports import lazy_names

if TYPE_CHECKING:
    from gradiend.data.text.prediction.creator import TextPredictionDataCreator as TextPredictionDataCreator
    from gradiend.data.text.prediction.filter_engine import filter_sentences as filter_sentences
    from gradiend.data.text.prediction.filter_engine import filter_sentences_multi as filter_sentences_multi
    from gradiend.data.text.prediction.filter_engine import mask_sentence as mask_sentence
    from gradiend.data.text.prediction.filter_engine import match_sentence_one_config as match_sentence_one_config
    from gradiend.data.text.prediction.filter_engine import token_matches_tags as token_matches_tags

__all__, __dir__, __getattr__ = lazy_names(__name__)
