"""A demo language model that ships with the package, and text in its language.

The model is a `BertForMaskedLM` of 0.7 M parameters, pre-trained on the English-like sentences of
`gradiend.demo._grammar`. The model knows only that grammar, in which a subject pronoun (he, she, it; they) agrees with
its antecedent, so that examples and tests can find, measure and move this feature within seconds, without a download.
"""

from __future__ import annotations

from pathlib import Path

from gradiend.demo._grammar import sentences

__all__ = ["model_path", "sentences"]


def model_path() -> Path:
    """Return the folder of the demo model, for `from_pretrained` of a transformers model or tokenizer."""
    return Path(__file__).parent / "model"
