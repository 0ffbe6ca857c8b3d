"""Raw text → sentences → masked examples."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradiend.util.lazy import lazy_names

if TYPE_CHECKING:
    from gradiend.data.core._spacy_tags import SpacyTagSpec
    from gradiend.data.core.base_loader import resolve_base_data
    from gradiend.data.text._preprocess import TextPreprocessConfig, iter_sentences_from_texts, preprocess_texts
    from gradiend.data.text.filter_config import TextFilterConfig
    from gradiend.data.text.prediction.creator import TextPredictionDataCreator
    from gradiend.data.text.prediction.filter_engine import filter_sentences, mask_sentence

__all__ = [
    "SpacyTagSpec",
    "TextFilterConfig",
    "TextPredictionDataCreator",
    "TextPreprocessConfig",
    "filter_sentences",
    "iter_sentences_from_texts",
    "mask_sentence",
    "preprocess_texts",
    "resolve_base_data",
]

__getattr__ = lazy_names(
    __name__,
    {
        "gradiend.data.core.base_loader": ["resolve_base_data"],
        "gradiend.data.text.filter_config": ["TextFilterConfig"],
        "gradiend.data.text.prediction.creator": ["TextPredictionDataCreator"],
        "gradiend.data.text.prediction.filter_engine": ["filter_sentences", "mask_sentence"],
        "gradiend.data.text._preprocess": ["TextPreprocessConfig", "iter_sentences_from_texts", "preprocess_texts"],
        "gradiend.data.core._spacy_tags": ["SpacyTagSpec"],
    },
)
