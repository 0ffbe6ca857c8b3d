"""A causal language model that predicts a word at a placeholder, with context on both sides of it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, pad
from transformers.modeling_outputs import MaskedLMOutput
from typing_extensions import Self

from gradiend.model._base_model import BaseDigest
from gradiend.model.core.backbone import get_backbone_module
from gradiend.trainer.text.common.loading import AutoModelForLM, save_base_model
from gradiend.trainer.text.prediction.mlm_head import MLMHead
from gradiend.util.paths import OWN_BASE_MODEL


class DecoderModelWithMLMHead(nn.Module):
    """A causal model with an auxiliary masked-LM head, whose gradients reach the causal model's own parameters.

    The head is linear on the mean of the last hidden states at the placeholder and the `pooling_length` − 1 positions
    after it: a causal state at the placeholder knows the left context only, those after it some of the right.

    Parameters are those of the causal model, under their own names and shared with it, so one parameter map fits both.
    The head's weights are buffers: they are no part of what is learned from or rewritten.

    Args:
        base_model: A causal language model of transformers.
        head: The head, for hidden states of its width.

    Raises:
        ValueError: A head for another width.
    """

    mlm_head_weight: Tensor
    mlm_head_bias: Tensor

    def __init__(self, base_model: Any, head: MLMHead) -> None:
        super().__init__()
        width = base_model.get_output_embeddings().weight.shape[1]
        if head.weight.shape[1] != width:
            raise ValueError(
                f"The auxiliary head reads hidden states of width {head.weight.shape[1]}, but "
                f"{base_model.name_or_path or type(base_model).__name__} has width {width}: it was trained for "
                f"{head.base_model or 'another model'}."
            )
        for name, child in base_model.named_children():
            self.add_module(name, child)
        # Not as a submodule: that would put its name before every parameter.
        object.__setattr__(self, "_original", base_model)
        self.labels = head.labels
        self.stand_in = head.stand_in
        self.pooling_length = head.pooling_length
        self.register_buffer("mlm_head_weight", head.weight)
        self.register_buffer("mlm_head_bias", head.bias)
        # Not train(…), which would also change the modes of the causal model's parts.
        self.training = base_model.training

    @property
    def config(self) -> Any:
        """The causal model's."""
        return self.to_original_model().config

    @property
    def name_or_path(self) -> str:
        """The causal model's."""
        return str(self.to_original_model().name_or_path)

    @property
    def device(self) -> torch.device:
        """Where inputs have to be."""
        return next(self.parameters()).device

    @property
    def head(self) -> MLMHead:
        """The head as it can be saved."""
        return MLMHead(
            self.name_or_path, self.labels, self.stand_in, self.pooling_length, self.mlm_head_weight,
            self.mlm_head_bias,
        )  # fmt: skip

    def extra_repr(self) -> str:
        """What the head computes, beside its weights."""
        return f"labels={self.labels}, stand_in={self.stand_in!r}, pooling_length={self.pooling_length}"

    def to_original_model(self) -> Any:
        """The causal model, which shares its parameters with this one."""
        return self.__dict__["_original"]

    def pooled(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """What the head reads at every position: (B, L, hidden_size), float32 or wider.

        Args:
            input_ids: (B, L).
            attention_mask: (B, L). Only attended positions are averaged.
        """
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        backbone = get_backbone_module(self.to_original_model())
        hidden = backbone(input_ids=input_ids, attention_mask=mask, use_cache=False).last_hidden_state
        return mean_of_following(hidden, mask, self.pooling_length)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> MaskedLMOutput:
        """Logits of the labels at every position, (B, L, n_labels)."""
        pooled = self.pooled(input_ids, attention_mask)
        return MaskedLMOutput(logits=linear(pooled, self.mlm_head_weight.to(pooled), self.mlm_head_bias.to(pooled)))

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> None:
        """Save the head, and the causal model by its name or path, or in a subdirectory where it has none.

        Args:
            save_directory: Created if missing.
            **kwargs: For transformers, where the causal model is saved.
        """
        if not self.name_or_path:
            save_base_model(self.to_original_model(), Path(save_directory) / OWN_BASE_MODEL, **kwargs)
        BaseDigest.of(self.to_original_model()).save(save_directory)
        self.head.save(save_directory)

    @classmethod
    def from_pretrained(cls, load_directory: str | Path, *, base_model: Any = None, **kwargs: Any) -> Self:
        """What `save_pretrained` wrote.

        Args:
            load_directory: With a head.
            base_model: The causal model. Default: loaded by the name or path in the head's config.
            **kwargs: For `AutoModelForLM.from_pretrained` (torch_dtype, trust_remote_code).

        Raises:
            FileNotFoundError: No head there.
            ValueError: A head that does not fit the model, or a model with other weights than the head was trained on.
        """
        head = MLMHead.load(load_directory)
        if base_model is None:
            base_model = AutoModelForLM.from_pretrained(base_of(load_directory), **kwargs)
        trained_on = BaseDigest.load(load_directory)
        if trained_on is not None and BaseDigest.of(base_model).differences(trained_on):
            raise ValueError(
                f"The auxiliary head in {load_directory} was trained on other weights than those of "
                f"{base_model.name_or_path or type(base_model).__name__}: give the model that it was trained on as "
                "base_model=, or train it again on this one."
            )
        return cls(base_model, dataclasses.replace(head, base_model=str(base_model.name_or_path)))


def base_of(head_directory: str | Path) -> str:
    """Name or path of the causal model that a saved head belongs to."""
    own = Path(head_directory) / OWN_BASE_MODEL
    return str(own) if own.is_dir() else MLMHead.load(head_directory).base_model


def mean_of_following(hidden: Tensor, mask: Tensor, length: int) -> Tensor:
    """Mean over the attended positions among i, …, i + length − 1, for every i.

    Args:
        hidden: (B, L, H).
        mask: (B, L), 1 where attended.
        length: Positions to average.

    Returns:
        (B, L, H), float32 or wider.
    """
    hidden = hidden.float() if hidden.dtype.itemsize < 4 else hidden
    weights = mask.to(hidden).unsqueeze(-1)
    n_positions = hidden.shape[1]
    ahead = (0, 0, 0, length - 1)
    states, counts = pad(hidden * weights, ahead), pad(weights, ahead)
    total = torch.stack([states[:, i : i + n_positions] for i in range(length)]).sum(0)
    number = torch.stack([counts[:, i : i + n_positions] for i in range(length)]).sum(0)
    return total / number.clamp(min=1)
