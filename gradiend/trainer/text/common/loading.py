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

from gradiend.model.kinds import kind_of, refuse_adapter_folder, refuse_quantized_config, refuse_unsupported
from gradiend.util.paths import CONFIG_FILE


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
            ValueError: Neither a masked nor a causal language model, one that was saved without its head or quantized,
                or a folder with a PEFT adapter.
        """
        refuse_adapter_folder(name_or_path)
        require_model(name_or_path)
        config = AutoConfig.from_pretrained(name_or_path, trust_remote_code=trust_remote_code)
        architecture = (config.architectures or [""])[0]
        refuse_unsupported(config, name_or_path, architecture)
        refuse_quantized_config(config, name_or_path)
        causal = kind_of(architecture, config)
        if causal is None:
            kinds = {False: MODEL_FOR_MASKED_LM_MAPPING, True: MODEL_FOR_CAUSAL_LM_MAPPING}
            causal = next((kind for kind, mapping in kinds.items() if type(config) in mapping), None)
        if causal is None:
            kind = architecture or type(config).__name__
            raise ValueError(f"{name_or_path} ({kind}) is neither a masked nor a causal language model.")
        loader = (
            AutoModelForCausalLM if causal and type(config) in MODEL_FOR_CAUSAL_LM_MAPPING else AutoModelForMaskedLM
        )
        loaded: Any = loader.from_pretrained(
            name_or_path, dtype=torch_dtype, trust_remote_code=trust_remote_code, output_loading_info=True, **kwargs
        )
        model, report = loaded
        if report["missing_keys"]:
            raise ValueError(
                f"{name_or_path} ({architecture}) has no weights for {', '.join(sorted(report['missing_keys'])[:3])}: "
                "its predictions would be random. Give a checkpoint that was saved with its language-modelling head."
            )
        return model


def save_base_model(model: PreTrainedModel, directory: str | Path, **kwargs: Any) -> None:
    """Save a model, and leave its config as it was: transformers notes class and dtype in it."""
    before = dict(vars(model.config))
    try:
        model.save_pretrained(directory, **kwargs)
    finally:
        vars(model.config).clear()
        vars(model.config).update(before)


def require_model(name_or_path: str | Path) -> None:
    """Raise FileNotFoundError for what is clearly a path but no model's: hub ids have one slash at most."""
    path = Path(name_or_path)
    if path.is_dir():
        if not (path / CONFIG_FILE).is_file():
            inside = sorted(
                (entry.parent.name for entry in path.glob(f"*/{CONFIG_FILE}")), key=lambda name: name != "model"
            )
            hint = f" Did you mean {path / inside[0]}?" if inside else ""
            raise FileNotFoundError(f"The folder {path} holds no model: it has no config.json.{hint}")
    elif path.is_absolute() or len(path.parts) > 2 or str(name_or_path).startswith((".", "~")):
        raise FileNotFoundError(f"There is no folder {name_or_path}.")


class AutoTokenizerForLM:
    """The tokenizer of a language model."""

    @staticmethod
    def from_pretrained(name_or_path: str | Path, **kwargs: Any) -> Any:
        """Load a fast tokenizer. Extra arguments go to transformers.

        Raises:
            OSError: There is none of this name.
            ValueError: A folder that transformers can make no tokenizer from, or one without a word in it.
        """
        tokenizer = AutoTokenizer.from_pretrained(name_or_path, use_fast=True, **kwargs)
        # Of a folder with a model alone, transformers makes a tokenizer with nothing but special tokens.
        if len(tokenizer) <= len(tokenizer.added_tokens_decoder):
            raise ValueError(f"The folder {name_or_path} has no tokenizer's files (tokenizer.json): save it there too.")
        return tokenizer
