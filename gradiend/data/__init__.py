"""Raw text → masked examples; any input format → one unified frame."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradiend.util.lazy import lazy_names

if TYPE_CHECKING:
    from gradiend.data.core._spacy_tags import SpacyTagSpec
    from gradiend.data.core.base_loader import resolve_base_data
    from gradiend.data.text._preprocess import TextPreprocessConfig, preprocess_texts
    from gradiend.data.text.filter_config import TextFilterConfig
    from gradiend.data.text.prediction.creator import TextPredictionDataCreator
    from gradiend.data.unified._functions import hold_out_words

__all__ = [
    "SpacyTagSpec",
    "TextFilterConfig",
    "TextPredictionDataCreator",
    "TextPreprocessConfig",
    "hold_out_words",
    "preprocess_texts",
    "resolve_base_data",
]

__getattr__ = lazy_names(
    __name__,
    {
        "gradiend.data.core.base_loader": ["resolve_base_data"],
        "gradiend.data.unified._functions": ["hold_out_words"],
        "gradiend.data.text.filter_config": ["TextFilterConfig"],
        "gradiend.data.text.prediction.creator": ["TextPredictionDataCreator"],
        "gradiend.data.text._preprocess": ["TextPreprocessConfig", "preprocess_texts"],
        "gradiend.data.core._spacy_tags": ["SpacyTagSpec"],
    },
)
