"""Language models and tokenizers by name or path."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoTokenizer,
    PreTrainedModel,
)

CAUSAL_MARKS = ("CausalLM", "LMHeadModel")
MASKED_MARKS = ("MaskedLM", "ForPreTraining")


class AutoModelForLM:
    """A masked or causal language model, whichever the checkpoint is."""

    @staticmethod
    def from_pretrained(
        name_or_path: str,
        *,
        torch_dtype: torch.dtype = torch.float32,
        trust_remote_code: bool = False,
        **kwargs: Any,
    ) -> PreTrainedModel:
        """Load a model with its language-modelling head.

        Args:
            name_or_path: Hub id or directory.
            torch_dtype: Of the weights; float32 whatever the checkpoint was saved in, unless asked otherwise.
            trust_remote_code: Whether code from the hub may run.
            **kwargs: For transformers.

        Raises:
            ValueError: Neither a masked nor a causal language model.
        """
        config = AutoConfig.from_pretrained(name_or_path, trust_remote_code=trust_remote_code)
        architecture = (config.architectures or [""])[0]
        if config.is_encoder_decoder:
            raise ValueError(
                f"{name_or_path} is an encoder–decoder model ({architecture}); these are not supported yet."
            )
        masked = any(mark in architecture for mark in MASKED_MARKS)
        causal = any(mark in architecture for mark in CAUSAL_MARKS)
        if not masked and not causal:
            masked = type(config) in MODEL_FOR_MASKED_LM_MAPPING
            causal = type(config) in MODEL_FOR_CAUSAL_LM_MAPPING
        if not masked and not causal:
            kind = architecture or type(config).__name__
            raise ValueError(f"{name_or_path} ({kind}) is neither a masked nor a causal language model.")
        loader = AutoModelForMaskedLM if masked else AutoModelForCausalLM
        return loader.from_pretrained(name_or_path, dtype=torch_dtype, trust_remote_code=trust_remote_code, **kwargs)


class AutoTokenizerForLM:
    """The tokenizer of a language model."""

    @staticmethod
    def from_pretrained(name_or_path: str | Path, **kwargs: Any) -> Any:
        """Load a fast tokenizer. Extra arguments go to transformers."""
        return AutoTokenizer.from_pretrained(name_or_path, use_fast=True, **kwargs)
