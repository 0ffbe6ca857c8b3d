"""Masked examples: a feature class is a set of words, an example is a sentence with its words masked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradiend.util._imports import lazy_names

if TYPE_CHECKING:
    from gradiend.data.text.prediction.creator import TextPredictionDataCreator
    from gradiend.data.text.prediction.filter_engine import (
        filter_sentences,
        filter_sentences_multi,
        mask_sentence,
        match_sentence_one_config,
        token_matches_tags,
    )

__all__ = [
    "TextPredictionDataCreator",
    "filter_sentences",
    "filter_sentences_multi",
    "mask_sentence",
    "match_sentence_one_config",
    "token_matches_tags",
]

__getattr__ = lazy_names(
    __name__,
    {
        "gradiend.data.text.prediction.creator": ["TextPredictionDataCreator"],
        "gradiend.data.text.prediction.filter_engine": [
            "filter_sentences",
            "filter_sentences_multi",
            "mask_sentence",
            "match_sentence_one_config",
            "token_matches_tags",
        ],
    },
)
