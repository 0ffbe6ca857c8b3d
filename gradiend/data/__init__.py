"""Raw text → masked examples; any input format → one unified frame."""

from typing import TYPE_CHECKING

from gradiend.util._imports import lazy_names

if TYPE_CHECKING:
    from gradiend.data.core._spacy_tags import SpacyTagSpec as SpacyTagSpec
    from gradiend.data.core.base_loader import resolve_base_data as resolve_base_data
    from gradiend.data.text._preprocess import TextPreprocessConfig as TextPreprocessConfig
    from gradiend.data.text._preprocess import preprocess_texts as preprocess_texts
    from gradiend.data.text.filter_config import PairedTextFilterConfig as PairedTextFilterConfig
    from gradiend.data.text.filter_config import TextFilterConfig as TextFilterConfig
    from gradiend.data.text.prediction.creator import DataCreator as DataCreator
    from gradiend.data.text.prediction.creator import TextPredictionDataCreator as TextPredictionDataCreator
    from gradiend.data.unified._functions import hold_out_words as hold_out_words

__all__, __dir__, __getattr__ = lazy_names(__name__)
