"""The text model whose gradients come from predicting a word at a placeholder."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from gradiend.gradients import GradientEngine, TokenizedWord, encode_words
from gradiend.model._context import Side
from gradiend.trainer.core._kept_gradients import words_key
from gradiend.trainer.text.common.model_base import TextModelWithGradiend
from gradiend.trainer.text.prediction._random_masks import mask_at_random, parse_ignored
from gradiend.util._checks import require_ordered, require_texts
from gradiend.util._keywords import known_keywords
from gradiend.util.logging import get_logger

logger = get_logger(__name__)


class TextPredictionModelWithGradiend(TextModelWithGradiend):
    """Gradients of −log p(word) at the first `[MASK]` of a text, and their encodings.

    With a `DecoderModelWithMLMHead` as base model, gradients and encodings are those of the auxiliary head's loss, on
    the causal model's parameters; `rewrite_base_model` rewrites the causal model, and a checkpoint keeps the head.
    """

    _engine: GradientEngine | None = None
    gradient_checkpointing: bool = False
    """Whether the base model's layers run again in backward passes, instead of keeping what they computed."""

    @property
    def engine(self) -> GradientEngine:
        """The gradient engine of the current base model and map."""
        engine = self._engine
        if engine is None or engine.model is not self.base_model or engine.mapping is not self.gradiend.mapping:
            engine = self._engine = GradientEngine(
                self.base_model,
                self.gradiend.mapping,
                self.objective,
            )
        engine.checkpoints_layers = self.gradient_checkpointing
        return engine

    def create_inputs(self, masked_text: str, label: str) -> dict[str, Tensor]:
        """Model inputs for predicting `label` at the placeholder: 1-D input_ids, attention_mask, labels.

        Raises:
            ValueError: No placeholder in the text.
        """
        return self.objective.inputs_of(self._word(masked_text, label))

    def create_gradients(self, text: str, label: str, return_dict: bool = False, verbose: bool = False) -> Any:
        """The gradient of −log p(label) at the placeholder of `text`.

        Args:
            text: With `[MASK]`.
            label: The word.
            return_dict: Full-shape tensors by parameter name instead of one vector.
            verbose: Log the tokens that the model reads and those that it predicts.

        Returns:
            (input_dim,) float32, or the dict.

        Raises:
            ValueError: No placeholder in the text.
        """
        word = self._word(text, label)
        if verbose:
            read, predicted = (self.tokenizer.convert_ids_to_tokens(list(ids)) for ids in (word.input_ids, word.tokens))
            logger.info("Gradient of predicting %s in %s.", predicted, read)
        return self._gradients([word], return_dict)

    def forward(self, inputs: Mapping[str, Tensor], return_dict: bool = False) -> Any:
        """The gradient of the mean loss of `inputs` (see `create_inputs`; a batch may be padded on either side).

        Args:
            inputs: input_ids, attention_mask, labels, each (L,) or (B, L).
            return_dict: See `create_gradients`.

        Returns:
            (input_dim,) float32, or the dict.
        """
        return self._gradients(self.objective.words_of(inputs), return_dict)

    def _word(self, text: str, label: str) -> TokenizedWord:
        if not isinstance(text, str) or not isinstance(label, str):
            kinds = f"{type(text).__name__} and {type(label).__name__}"
            raise TypeError(f"Expected one text with [MASK] and one word, both strings; got {kinds}.")
        return self.objective.tokenize_known([text], [label])[0]

    def _gradients(self, words: Sequence[TokenizedWord], return_dict: bool) -> Any:
        flat = self.engine.gradients(words, words, [Side.FACTUAL])[0]
        return self.gradiend.mapping.unflatten(flat) if return_dict else flat

    def streams(self, items: Sequence[Mapping[str, Any]]) -> bool:
        """Whether `stream_gradient` takes such items: model inputs, and gradients that are this model's own."""
        sides = (item[side.value] for item in items for side in (Side.FACTUAL, Side.ALTERNATIVE))
        return self.gradient_creator is self and all(isinstance(inputs, Mapping) for inputs in sides)

    def stream_gradient(
        self, items: Sequence[Mapping[str, Any]], side: Side, receive: Callable[[slice, Tensor], None]
    ) -> None:
        """The gradient of the items' mean loss, parameter by parameter; see `GradientEngine.stream`.

        Args:
            items: Each with `factual` and `alternative`, model inputs as of `create_inputs`.
            side: Which gradient.
            receive: Gets ranges of the input space and their entries.
        """
        factual, alternative = self._words_of_items(items)
        self.engine.stream(factual, alternative, [side], lambda _, place, gradient: receive(place, gradient))

    def gradient_key(self, items: Sequence[Mapping[str, Any]], side: Side) -> str:
        """What `stream_gradient` depends on, besides the model: the key by which training keeps the same gradient."""
        factual, alternative = self._words_of_items(items)
        return words_key(side, factual, alternative, bf16=False)

    def _words_of_items(self, items: Sequence[Mapping[str, Any]]) -> list[list[TokenizedWord]]:
        return [
            [word for item in items for word in self.objective.words_of(item[side.value])]
            for side in (Side.FACTUAL, Side.ALTERNATIVE)
        ]

    @torch.no_grad()
    @known_keywords("encode")
    def encode(
        self,
        input: Any,
        label: Any = None,
        return_float: bool = False,
        *,
        factual: str | Sequence[str] | None = None,
        alternative: str | Sequence[str] | None = None,
    ) -> Any:
        """The latent of a gradient, or of one text or several, read as this GRADIEND reads its examples.

            model.encode("The nurse said that [MASK] was late.", factual="she", alternative="he", return_float=True)

        Args:
            input: With `factual` or `alternative`: a text with `[MASK]`, or a list of N texts. Otherwise see
                `ModelWithGradiend.encode`.
            label: The word whose gradient is encoded, whatever the source; not with `factual` and `alternative`.
            return_float: Python floats instead of a tensor (latent_dim 1).
            factual: The word that stood at the placeholder, one for all texts or one each. Source factual needs
                it, source diff needs both.
            alternative: The word of the other class; source alternative needs it.

        Returns:
            (latent_dim,) or a float for one text, (N, latent_dim) or a list of floats for several.

        Raises:
            AssertionError: A raw input without any word.
            TypeError: A word that the source needs is missing, or a label beside it.
            ValueError: Not as many words as texts; see also `ModelWithGradiend.encode`.
        """
        if factual is None and alternative is None:
            return super().encode(input, label, return_float)
        if return_float and self.gradiend.latent_dim != 1:
            raise ValueError(f"return_float needs one latent; this GRADIEND has {self.gradiend.latent_dim}.")
        if label is not None:
            raise TypeError("label and factual or alternative are two ways to say the words: give one of them.")
        given = {Side.FACTUAL.value: factual, Side.ALTERNATIVE.value: alternative}
        missing = [name for name, word in given.items() if word is None and self.source in (name, Side.DIFF.value)]
        if missing:
            raise TypeError(
                f"This GRADIEND reads source={self.source!r}: encode needs {' and '.join(f'{n}=…' for n in missing)}."
            )
        texts = [input] if isinstance(input, str) else list(input)
        # Where the source reads one word only, that one stands for the other too.
        known = [word for word in given.values() if word is not None]
        words = [_one_each(name, known[0] if word is None else word, texts) for name, word in given.items()]
        latents = self.encode_texts(texts, *words)
        found = latents.squeeze(1).tolist() if return_float else latents
        return found[0] if isinstance(input, str) else found

    def encode_words(
        self,
        factual: Sequence[TokenizedWord],
        alternative: Sequence[TokenizedWord],
        *,
        source: str | None = None,
        batch_size: int = 32,
        progress: str | None = None,
    ) -> Tensor:
        """Latents of many examples at once, each as if encoded alone; see `gradiend.gradients.encode_words`.

        Args:
            factual: The factual words, tokenized by `self.objective`.
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

    def mask_and_encode(
        self,
        text: str,
        ignore_tokens: Collection[str | int] | Literal[False] | None = False,
        return_masked_text: bool = False,
        single_mask: bool = True,
        topk: int | float | None = None,
        topk_part: str | None = None,
    ) -> float | tuple[float, str, list[str]]:
        """Mask random words of a text and encode the gradient of predicting them, as for a neutral text.

        The words are drawn by torch's generator, so `torch.manual_seed` before a call repeats it. A model with an
        auxiliary head, which knows the class words only, encodes with the causal model itself.

        Args:
            text: Without `[MASK]`.
            ignore_tokens: Words that are never masked, in any case, or ids of tokens that no masked word has.
            return_masked_text: Also return the text with a `[MASK]` for each word, and the words.
            single_mask: Mask one word. False: 15 % of the words, at least one, and encode the gradient of their mean
                loss; a masked model reads the text with all of them masked, a causal one predicts each from the
                words before it.
            topk: Encode only the `topk` most important entries of the gradient (int: a count; float: a share); the
                others count as zero.
            topk_part: The weights that say what is important, see `GradiendModel.get_weight_importance`. Default:
                encoder-weight.

        Returns:
            The encoding, or (encoding, masked text, masked words). With one word, the encoding is that of
            `encode(masked text, label=word)`.

        Raises:
            ValueError: A text with `[MASK]`, no word that may be masked, a GRADIEND with several latents, or a bad
                topk or part.
            TypeError: No string, or another kind of `ignore_tokens`.
        """
        model = self.without_head()
        masks = mask_at_random(text, model.objective, excluded=parse_ignored(ignore_tokens), single=single_mask)
        kept = None if topk is None else self.get_enhancer_mask(topk, topk_part or "encoder-weight")
        gradient = model._gradients(masks.tokenized, return_dict=False)
        if kept is not None:
            gradient = gradient * kept.to(gradient.device)
        encoding = float(model.encode(gradient, return_float=True))
        return (encoding, masks.text, masks.words) if return_masked_text else encoding

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
        words = [self.objective.tokenize_known(masked_texts, side) for side in (factual, alternative)]
        return self.encode_words(*words, source=source, batch_size=batch_size, progress=progress)


def _one_each(name: str, words: str | Sequence[str], texts: Sequence[str]) -> list[str]:
    """A word for every text: the one word, or those given.

    Raises:
        TypeError: Neither a word nor a list of words.
        ValueError: Another number of words.
    """
    if not isinstance(words, str):
        require_ordered(name, words)
        words = list(require_texts(name, words))
    each = [words] * len(texts) if isinstance(words, str) else words
    if len(each) != len(texts):
        raise ValueError(f"{name} has {len(each)} words for {len(texts)} texts: give one word, or one for each text.")
    return each
