"""The text model whose gradients come from predicting a word at a placeholder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from gradiend.gradients.encoding import encode_words
from gradiend.gradients.engine import GradientEngine
from gradiend.gradients.words import TokenizedWord, inputs_of, words_of
from gradiend.model.sides import Side
from gradiend.trainer.text.common.model_base import TextModelWithGradiend


class TextPredictionModelWithGradiend(TextModelWithGradiend):
    """Gradients of −log p(word) at the first `[MASK]` of a text, and their encodings."""

    _engine: GradientEngine | None = None

    @property
    def engine(self) -> GradientEngine:
        """The gradient engine of the current base model and map."""
        engine = self._engine
        if engine is None or engine.model is not self.base_model or engine.mapping is not self.gradiend.mapping:
            engine = self._engine = GradientEngine(
                self.base_model,
                self.gradiend.mapping,
                causal=self.is_decoder_only_model,
                pad_token_id=self.pad_token_id,
            )
        return engine

    def create_inputs(self, masked_text: str, label: str) -> dict[str, Tensor]:
        """Model inputs for predicting `label` at the placeholder: 1-D input_ids, attention_mask, labels.

        Raises:
            ValueError: No placeholder in the text.
        """
        return inputs_of(self.words([masked_text], [label])[0], causal=self.is_decoder_only_model)

    def create_gradients(self, text: str, label: str, return_dict: bool = False) -> Any:
        """The gradient of −log p(label) at the placeholder of `text`.

        Args:
            text: With `[MASK]`.
            label: The word.
            return_dict: Full-shape tensors by parameter name instead of one vector.

        Returns:
            (input_dim,) float32, or the dict.

        Raises:
            ValueError: No placeholder in the text.
        """
        return self._gradients(self.words([text], [label]), return_dict)

    def forward(self, inputs: Mapping[str, Tensor], return_dict: bool = False) -> Any:
        """The gradient of the mean loss of `inputs` (see `create_inputs`; a batch may be padded on either side).

        Args:
            inputs: input_ids, attention_mask, labels, each (L,) or (B, L).
            return_dict: See `create_gradients`.

        Returns:
            (input_dim,) float32, or the dict.
        """
        return self._gradients(words_of(inputs, causal=self.is_decoder_only_model), return_dict)

    def _gradients(self, words: Sequence[TokenizedWord], return_dict: bool) -> Any:
        flat = self.engine.gradients(words, words, [Side.FACTUAL])[0]
        return self.gradiend.mapping.unflatten(flat) if return_dict else flat

    def encode_words(
        self,
        factual: Sequence[TokenizedWord],
        alternative: Sequence[TokenizedWord],
        *,
        source: str | None = None,
        batch_size: int = 32,
        progress: str | None = None,
    ) -> Tensor:
        """Latents of many examples at once, each as if encoded alone; see `gradiend.gradients.encoding.encode_words`.

        Args:
            factual: The factual words, tokenized by `self.words`.
            alternative: The alternatives.
            source: The gradient that is encoded. Default: this model's source.
            batch_size: Distinct inputs per pass.
            progress: Label of a progress bar.

        Returns:
            (N, latent_dim) float32 on the CPU.
        """
        side = Side.parse("source", source or self.source)
        return encode_words(
            self.engine, self.gradiend, factual, alternative, side, batch_size=batch_size, progress=progress
        )

    @torch.no_grad()
    def encode_texts(
        self,
        masked_texts: Sequence[str],
        factual: Sequence[str],
        alternative: Sequence[str],
        *,
        source: str | None = None,
        batch_size: int = 32,
        progress: str | None = None,
    ) -> Tensor:
        """Latents of many texts at once; see `encode_words`.

        Args:
            masked_texts: N texts with `[MASK]`.
            factual: The word that stood there.
            alternative: The word of the other class.
            source: The gradient that is encoded. Default: this model's source.
            batch_size: Distinct inputs per pass.
            progress: Label of a progress bar.

        Returns:
            (N, latent_dim) float32 on the CPU.
        """
        words = self.words(masked_texts, factual), self.words(masked_texts, alternative)
        return self.encode_words(*words, source=source, batch_size=batch_size, progress=progress)
