"""The text model whose gradients come from predicting a word at a placeholder."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from gradiend.data.text._neutral_masking import ExcludedWords, mask_words
from gradiend.gradients import GradientEngine, Objective, TokenizedWord, encode_words, undefined_gradient
from gradiend.model._context import Side
from gradiend.model._refusals import is_finite
from gradiend.objectives.masked import MASKED_SHARE
from gradiend.trainer.core._kept_gradients import words_key
from gradiend.trainer.text.common.model_base import TextModelWithGradiend
from gradiend.util import PLACEHOLDER
from gradiend.util._checks import require_ordered, require_text, require_texts
from gradiend.util._isolation import plain_modes
from gradiend.util._keywords import known_keywords
from gradiend.util.logging import get_logger

logger = get_logger(__name__)


class TextPredictionModelWithGradiend(TextModelWithGradiend):
    """Gradients of −log p(word) at the first `[MASK]` of a text, and their encodings.

    With a `DecoderModelWithMLMHead` as base model, the loss of the auxiliary head gives gradients and encodings on the
    parameters of the causal model; `rewrite_base_model` rewrites the causal model, and a checkpoint keeps the head.
    """

    _engine: GradientEngine | None = None
    gradient_checkpointing: bool = False
    """Whether the base model's layers run again in backward passes instead of keeping their results."""

    @property
    def engine(self) -> GradientEngine:
        """The gradient engine of the current base model and map."""
        engine = self._engine
        if engine is None or engine.model is not self.base_model or engine.mapping is not self.gradiend.mapping:
            engine = self._engine = GradientEngine(self.base_model, self.gradiend.mapping, self.objective)
        engine.checkpoints_layers = self.gradient_checkpointing
        return engine

    def create_inputs(self, masked_text: str, label: str) -> dict[str, Tensor]:
        """Model inputs for predicting `label` at the placeholder: 1-D input_ids, attention_mask, labels.

        Raises:
            ValueError: The text has no placeholder.
        """
        return self.objective.inputs_of(self._word(masked_text, label))

    def create_gradients(self, text: str, label: str, return_dict: bool = False, verbose: bool = False) -> Any:
        """The gradient of −log p(label) at the placeholder of `text`.

        Args:
            text: A text with `[MASK]`.
            label: The word.
            return_dict: Whether the result is a dict of parameter names and full-shape tensors instead of one vector.
            verbose: Whether the tokens that the model reads and those that it predicts are logged.

        Returns:
            (input_dim,) float32, or the dict.

        Raises:
            ValueError: The text has no placeholder.
            FloatingPointError: The gradient is infinite or undefined.
        """
        word = self._word(text, label)
        if verbose:
            read, predicted = (self.tokenizer.convert_ids_to_tokens(list(ids)) for ids in (word.input_ids, word.tokens))
            logger.info("Gradient of predicting %s in %s.", predicted, read)
        return self._gradients([word], return_dict)

    def forward(self, inputs: Mapping[str, Tensor], return_dict: bool = False) -> Any:
        """The gradient of the mean loss of `inputs` (see `create_inputs`; a batch may be padded on either side).

        Args:
            inputs: A dict of input_ids, attention_mask and labels, each (L,) or (B, L).
            return_dict: See `create_gradients`.

        Returns:
            (input_dim,) float32, or the dict.
        """
        return self._gradients(self.objective.words_of(inputs), return_dict)

    def _word(self, text: str, label: str) -> TokenizedWord:
        if not isinstance(text, str) or not isinstance(label, str):
            kinds = f"{type(text).__name__} and {type(label).__name__}"
            raise TypeError(f"Expected one text with [MASK] and one word, both strings; got {kinds}.")
        require_text("text", text)
        require_text("label", label)
        return self.objective.tokenize_known([text], [label])[0]

    def _gradients(self, words: Sequence[TokenizedWord], return_dict: bool) -> Any:
        flat = self.engine.gradients(words, words, [Side.FACTUAL])[0]
        if not is_finite(flat):
            raise undefined_gradient(self.engine, words[0])
        return self.gradiend.mapping.unflatten(flat) if return_dict else flat

    def streams(self, items: Sequence[Mapping[str, Any]]) -> bool:
        """Whether `stream_gradient` takes such items: model inputs whose gradients this model makes itself."""
        sides = (item[side.value] for item in items for side in (Side.FACTUAL, Side.ALTERNATIVE))
        return self.gradient_creator is self and all(isinstance(inputs, Mapping) for inputs in sides)

    def stream_gradient(
        self, items: Sequence[Mapping[str, Any]], side: Side, receive: Callable[[slice, Tensor], None]
    ) -> None:
        """The gradient of the items' mean loss, parameter by parameter; see `GradientEngine.stream`.

        Items are dicts with `factual` and `alternative`, model inputs from `create_inputs`; `receive` gets ranges of
        the input space and their entries.
        """
        factual, alternative = self._words_of_items(items)
        self.engine.stream(factual, alternative, [side], lambda _, place, gradient: receive(place, gradient))

    def gradient_key(self, items: Sequence[Mapping[str, Any]], side: Side) -> str:
        """The key, without the model, by which training keeps the gradient that `stream_gradient` computes."""
        factual, alternative = self._words_of_items(items)
        return words_key(side, factual, alternative, bf16=False)

    def _words_of_items(self, items: Sequence[Mapping[str, Any]]) -> list[list[TokenizedWord]]:
        return [
            [word for item in items for word in self.objective.words_of(item[side.value])]
            for side in (Side.FACTUAL, Side.ALTERNATIVE)
        ]

    @plain_modes()
    @torch.no_grad()
    @known_keywords("encode")
    def encode(
        self, input: Any, label: Any = None, return_float: bool = False, *, factual: str | Sequence[str] | None = None,
        alternative: str | Sequence[str] | None = None,
    ) -> Any:  # fmt: skip
        """The latent of a gradient, or of one text or several, read as this GRADIEND reads its examples.

            model.encode("The nurse said that [MASK] was late.", factual="she", alternative="he", return_float=True)

        Args:
            input: A text with `[MASK]` or a list of N texts, together with `factual` or `alternative`. Without these
                words, see `ModelWithGradiend.encode`.
            label: The word whose gradient is encoded, whatever the source; not with `factual` or `alternative`.
            return_float: Whether the result is Python floats instead of a tensor (latent_dim 1).
            factual: The word that stood at the placeholder, one for all texts or one for each; needed by the sources
                factual and diff.
            alternative: The word of the other class, in the same form; needed by the sources alternative and diff.

        Returns:
            (latent_dim,) or a float for one text, (N, latent_dim) or a list of floats for several.

        Raises:
            AssertionError: A raw input without any word.
            TypeError: A word that the source needs is missing, or a label is given beside words.
            ValueError: The numbers of words and texts differ; see also `ModelWithGradiend.encode`.
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
        # If the source reads only one of the words, this word stands for the other word too.
        known = [word for word in given.values() if word is not None]
        words = [_one_each(name, known[0] if word is None else word, texts) for name, word in given.items()]
        latents = self.encode_texts(texts, *words)
        found = latents.squeeze(1).tolist() if return_float else latents
        return found[0] if isinstance(input, str) else found

    def encode_words(
        self, factual: Sequence[TokenizedWord], alternative: Sequence[TokenizedWord], *, source: str | None = None,
        batch_size: int = 32, progress: str | None = None,
    ) -> Tensor:  # fmt: skip
        """Latents of many examples at once, each as if encoded alone; see `gradiend.gradients.encode_words`.

        Args:
            factual, alternative: The words of each example, tokenized by `self.objective`.
            source: The gradient that is encoded. Default: this model's source.
            batch_size: Distinct inputs per pass.
            progress: Label of a progress bar; None shows none.

        Returns:
            (N, latent_dim) float32 on the CPU.
        """
        side = Side.parse("source", source or self.source)
        return encode_words(
            self.engine, self.gradiend, factual, alternative, side, batch_size=batch_size, progress=progress
        )

    @known_keywords("mask_and_encode", suggest=False)
    @plain_modes()
    def mask_and_encode(
        self, text: str, ignore_tokens: Collection[str | int] | Literal[False] | None = False,
        return_masked_text: bool = False, single_mask: bool = True, topk: int | float | None = None,
        topk_part: str | None = None,
    ) -> float | tuple[float, str, list[str]]:  # fmt: skip
        """Mask random words of a text and encode the gradient of predicting them, as for a neutral text.

        The generator of torch draws the words, so `torch.manual_seed` before a call repeats it. A model with an
        auxiliary head, which knows the class words only, encodes with the causal model itself.

        Args:
            text: A text without `[MASK]`.
            ignore_tokens: Words, in lower or upper case, that are never masked, or tokens that no masked word has.
            return_masked_text: Whether the text with a `[MASK]` for each word, and the words, are returned too.
            single_mask: Whether one word is masked. False masks 15 % of the words, at least one, and encodes the
                gradient of their mean loss; a masked model reads the text with all these words masked, a causal model
                predicts each word from the words before it.
            topk: Number (int) or share (float) of the most important entries of the gradient that are encoded; the
                other entries count as zero. Default: all entries.
            topk_part: The weights that give the importance, see `GradiendModel.get_weight_importance`. Default:
                encoder-weight.

        Returns:
            The encoding, or (encoding, masked text, masked words). With one word, the encoding is that of
            `encode(masked text, label=word)`.

        Raises:
            ValueError: A text with `[MASK]`, no word that may be masked, a GRADIEND with several latents, or an invalid
                topk or part.
            TypeError: A text that is no string, or `ignore_tokens` of another type.
        """
        model = self.without_head()
        masked, words, tokenized = mask_at_random(text, model.objective, _ignored(ignore_tokens), single=single_mask)
        kept = None if topk is None else self.get_enhancer_mask(topk, topk_part or "encoder-weight")
        gradient = model._gradients(tokenized, return_dict=False)
        if kept is not None:
            gradient = gradient * kept.to(gradient.device)
        encoding = float(model.encode(gradient, return_float=True))
        return (encoding, masked, words) if return_masked_text else encoding

    @torch.no_grad()
    def encode_texts(
        self, masked_texts: Sequence[str], factual: Sequence[str], alternative: Sequence[str], *,
        source: str | None = None, batch_size: int = 32, progress: str | None = None,
    ) -> Tensor:  # fmt: skip
        """Latents (N, latent_dim) of N texts with `[MASK]` and the words of both classes there; see `encode_words`."""
        words = [self.objective.tokenize_known(masked_texts, side) for side in (factual, alternative)]
        return self.encode_words(*words, source=source, batch_size=batch_size, progress=progress)


def _one_each(name: str, words: str | Sequence[str], texts: Sequence[str]) -> list[str]:
    """A word for every text: the given words, or the single given word for all texts."""
    if not isinstance(words, str):
        require_ordered(name, words)
        words = list(require_texts(name, words))
    each = [words] * len(texts) if isinstance(words, str) else words
    if len(each) != len(texts):
        raise ValueError(f"{name} has {len(each)} words for {len(texts)} texts: give one word, or one for each text.")
    return each


def mask_at_random(
    text: str, objective: Objective, excluded: Collection[str | int], *, single: bool
) -> tuple[str, list[str], list[TokenizedWord]]:
    """(the text with masked words, which torch's generator chose; these words; the words, tokenized together).

    See `mask_and_encode` for the arguments. If several words are masked, text beyond the longest input is cut off.
    """
    if not isinstance(text, str):
        raise TypeError(f"Expected one text, a string; got {type(text).__name__}. Call it once for each text.")
    if PLACEHOLDER in text:
        raise ValueError(
            f"The text already has {PLACEHOLDER}: encode(text, label=…) takes such a text with the word to predict."
        )
    if not single:
        encoded = objective.encode_cut([text])
        text = text[: max((end for _, end in encoded["offset_mapping"][0]), default=0)]
    never = ExcludedWords([word for word in excluded if isinstance(word, str)])
    places = never.maskable(text, min_prefix=objective.min_prefix)
    no_token = {objective.tokenizer.unk_token_id, *(token for token in excluded if isinstance(token, int))}
    size = 1 if single else max(1, round(MASKED_SHARE * len(places)))
    chosen: dict[int, TokenizedWord] = {}
    for number in torch.randperm(len(places)).tolist():
        if len(chosen) == size:
            break
        [word] = objective.tokenize([mask_words(text, [places[number]])], [places[number].group()])
        if no_token.isdisjoint(word.tokens):
            chosen[number] = word
    if not chosen:
        raise ValueError(f"No word of {text[:80]!r} may be masked: too short a text, or ignore_tokens names all words.")
    matches = [places[number] for number in sorted(chosen)]
    tokenized = objective.together([chosen[number] for number in sorted(chosen)])
    return mask_words(text, matches), [match.group() for match in matches], tokenized


def _ignored(ignore_tokens: Any) -> frozenset[str | int]:
    """`ignore_tokens` as a set; False and None give an empty set."""
    if ignore_tokens is None or ignore_tokens is False:
        return frozenset()
    if not isinstance(ignore_tokens, (list, tuple, set, frozenset)) or not all(
        isinstance(token, (str, int)) for token in ignore_tokens
    ):
        raise TypeError(
            "ignore_tokens must be a list of words or token ids that are never masked, or False; "
            f"got {ignore_tokens!r}."
        )
    return frozenset(ignore_tokens)
