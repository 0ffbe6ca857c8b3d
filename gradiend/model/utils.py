"""Helpers that users of the documented API import from here."""

from __future__ import annotations

from typing import Any

from torch import nn

from gradiend.model.activations import get_activation
from gradiend.model.context import read_gradiend_context, write_gradiend_context

__all__ = ["get_activation", "is_decoder_only_model", "read_gradiend_context", "write_gradiend_context"]

MASKED_LM_MARKS = ("MaskedLM", "MLM")


def is_decoder_only_model(x: Any) -> bool:
    """Whether a model or tokenizer is that of a causal, decoder-only language model.

    A tokenizer is, iff it has no mask token. A model is judged by the architecture in its config, then by its class
    name: decoder-only unless the name says MaskedLM or MLM.
    """
    if not isinstance(x, nn.Module) and hasattr(x, "mask_token"):
        return x.mask_token is None
    # Configs without architectures (built in code) and modules without a config are both legitimate.
    architectures = getattr(getattr(x, "config", None), "architectures", None)
    name = architectures[0] if architectures else type(x).__name__
    return not any(mark in name for mark in MASKED_LM_MARKS)
