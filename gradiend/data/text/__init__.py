"""Raw text → sentences → masked examples."""

from __future__ import annotations

from gradiend.data.text.filter_config import SpacyTagSpec, TextFilterConfig
from gradiend.data.text.prediction import TextPredictionDataCreator, filter_sentences, mask_sentence
from gradiend.data.text.preprocess import TextPreprocessConfig, iter_sentences_from_texts, preprocess_texts

__all__ = [
    "SpacyTagSpec",
    "TextFilterConfig",
    "TextPredictionDataCreator",
    "TextPreprocessConfig",
    "filter_sentences",
    "iter_sentences_from_texts",
    "mask_sentence",
    "preprocess_texts",
]
