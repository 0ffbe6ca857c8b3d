"""The text model whose gradients come from predicting a word at a placeholder."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from typing_extensions import Self

from gradiend.gradients.encoding import encode_words
from gradiend.gradients.engine import GradientEngine
from gradiend.gradients.words import TokenizedWord, WordTokenizer, inputs_of, words_of
from gradiend.model.param_mapped import ParamMappedGradiendModel
from gradiend.model.sides import Side
from gradiend.trainer.core._kept_gradients import words_key
from gradiend.trainer.text.common.model_base import TextModelWithGradiend, word_tokenizer
from gradiend.trainer.text.prediction.dataset import tokenize_known
from gradiend.trainer.text.prediction.decoder_with_head import DecoderModelWithMLMHead, base_of
from gradiend.trainer.text.prediction.mlm_head import is_mlm_head
from gradiend.trainer.text.prediction.random_masks import mask_at_random, parse_ignored
from gradiend.trainer.text.prediction.stand_in import StandInTokenizer
from gradiend.util.checks import require_ordered, require_texts
from gradiend.util.keywords import known_keywords
from gradiend.util.logging import get_logger
from gradiend.util.paths import MLM_HEAD

logger = get_logger(__name__)


class TextPredictionModelWithGradiend(TextModelWithGradiend):
    """Gradients of −log p(word) at the first `[MASK]` of a text, and their encodings.

    With a `DecoderModelWithMLMHead` as base model, gradients and encodings are those of the auxiliary head's loss, on
    the causal model's parameters; `rewrite_base_model` rewrites the causal model, and a checkpoint keeps the head.
    """

    _engine: GradientEngine | None = None
    gradient_checkpointing: bool = False
    """Whether the base model's layers run again in backward passes, instead of keeping what they computed."""

    def __init__(
        self, base_model: Any, gradiend: ParamMappedGradiendModel, tokenizer: Any, *args: Any, **kwargs: Any
    ) -> None:
        super().__init__(base_model, gradiend, tokenizer, *args, **kwargs)
        self.words = words_for(base_model, tokenizer)

    def without_head(self) -> Self:
        """A copy around the causal model itself, with the same GRADIEND; this model if it has no auxiliary head."""
        if not isinstance(self.base_model, DecoderModelWithMLMHead):
            return self
        return self._sharing(self.base_model.to_original_model(), self.gradiend)

    def _sharing(self, base_model: Any, gradiend: ParamMappedGradiendModel) -> Self:
        model = super()._sharing(base_model, gradiend)
        if base_model is not self.base_model:
            model.words = words_for(base_model, self.tokenizer)
        return model

    def _for_rewriting(self) -> Self:
        return self.without_head()

    # Checkpoints

    def _save_model(self, save_directory: str, **kwargs: Any) -> None:
        head = Path(save_directory) / MLM_HEAD
        # The head of an earlier training in the same place is not this model's.
        shutil.rmtree(head, ignore_errors=True)
        if isinstance(self.base_model, DecoderModelWithMLMHead):
            self.base_model.head.save(head)
        super(TextPredictionModelWithGradiend, self.without_head())._save_model(save_directory, **kwargs)

    @classmethod
    def _from_checkpoint(
        cls, directory: Path, base_model: Any, shape: Mapping[str, Any], load_arguments: Mapping[str, Any]
    ) -> Self:
        head = directory / MLM_HEAD
        if is_mlm_head(head):
            load_arguments = {**load_arguments, "mlm_head": head}
        return super()._from_checkpoint(directory, base_model, shape, load_arguments)

    @classmethod
    def _load_model(
        cls,
        load_directory: Any,
        base_model_id: str | None = None,
        gradiend_kwargs: Mapping[str, Any] | None = None,
        tokenizer: Any = None,
        trust_remote_code: bool = False,
        mlm_head: str | Path | None = None,
        **kwargs: Any,
    ) -> tuple[Any, ...]:
        """See `TextModelWithGradiend._load_model`; also takes the directory of a head, or one to put on the model."""
        if isinstance(load_directory, (str, Path)) and is_mlm_head(load_directory):
            load_directory, mlm_head = base_of(load_directory), load_directory
        model, *extra = super()._load_model(
            load_directory, base_model_id, gradiend_kwargs, tokenizer, trust_remote_code, **kwargs
        )
        if mlm_head is not None:
            original = model.to_original_model() if isinstance(model, DecoderModelWithMLMHead) else model
            model = DecoderModelWithMLMHead.from_pretrained(mlm_head, base_model=original)
        return model, *extra

    @classmethod
    def _create_gradiend(
        cls, base_model: Any, load_directory: str, tokenizer: Any = None, **kwargs: Any
    ) -> ParamMappedGradiendModel:
        if isinstance(base_model, DecoderModelWithMLMHead):
            # The map and the name are those of the causal model, which is what gets rewritten.
            base_model = base_model.to_original_model()
            load_directory = str(base_model.name_or_path)
        return super()._create_gradiend(base_model, load_directory, tokenizer, **kwargs)

    # Gradients and encodings

    @property
    def engine(self) -> GradientEngine:
        """The gradient engine of the current base model and map."""
        engine = self._engine
        if engine is None or engine.model is not self.base_model or engine.mapping is not self.gradiend.mapping:
            engine = self._engine = GradientEngine(
                self.base_model,
                self.gradiend.mapping,
                causal=self.words.causal,
                pad_token_id=self.pad_token_id,
            )
        engine.checkpoints_layers = self.gradient_checkpointing
        return engine

    def create_inputs(self, masked_text: str, label: str) -> dict[str, Tensor]:
        """Model inputs for predicting `label` at the placeholder: 1-D input_ids, attention_mask, labels.

        Raises:
            ValueError: No placeholder in the text.
        """
        return inputs_of(self._word(masked_text, label), causal=self.words.causal)

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
        return self._gradients(words_of(inputs, causal=self.words.causal), return_dict)

    def _word(self, text: str, label: str) -> TokenizedWord:
        if not isinstance(text, str) or not isinstance(label, str):
            kinds = f"{type(text).__name__} and {type(label).__name__}"
            raise TypeError(f"Expected one text with [MASK] and one word, both strings; got {kinds}.")
        return tokenize_known(self.words, [text], [label])[0]

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
            [word for item in items for word in words_of(item[side.value], causal=self.words.causal)]
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
        masks = mask_at_random(text, model.words, excluded=parse_ignored(ignore_tokens), single=single_mask)
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
        words = [tokenize_known(self.words, masked_texts, side) for side in (factual, alternative)]
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


def words_for(base_model: Any, tokenizer: Any) -> WordTokenizer:
    """How texts are tokenized for a language model, or for its auxiliary head."""
    words = word_tokenizer(base_model, tokenizer)
    if not isinstance(base_model, DecoderModelWithMLMHead):
        return words
    return StandInTokenizer(
        tokenizer,
        base_model.stand_in,
        base_model.labels,
        pooling_length=base_model.pooling_length,
        max_length=words.max_length,
    )
