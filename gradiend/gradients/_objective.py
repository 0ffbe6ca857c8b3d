"""The protocol of an objective: what the engine, the data and the evaluations ask of a kind of model.

`gradiend.objectives` has one file for each kind and finds the objective of a model.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar
from unicodedata import normalize

import torch
from torch import Tensor, nn
from typing_extensions import Self

from gradiend.gradients._tokens import Span, TokenizedWord, locate, tokenize
from gradiend.util import PLACEHOLDER
from gradiend.util._isolation import exclusive

IGNORED = -100
"""Label of a token that is not scored (the convention of transformers)."""

TOKENIZATION_CHUNK = 4096
"""Texts per tokenizer call: large enough for its threads, small enough that offsets do not pile up."""

KEPT_WORDS = 1 << 16
"""Words whose tokens an objective remembers: a run asks for the tokens of its rows in every check and evaluation."""


class Objective(ABC):
    """A kind of model, with a tokenizer: texts → tokens, which tokens are scored, tokens → logits, and the LMS.

    The engine adds log-softmax, gradients and batches, which are the same for every kind. A kind whose word stands in
    the input at its own position needs only `_word`, and `names` or `fits`.

    Args:
        tokenizer: A fast tokenizer, which gives character offsets.
        max_length: Longest model input in tokens, special tokens included.
        vocabulary_size: Number of tokens that the model has embeddings for. None: as many as the tokenizer needs.

    Raises TypeError for a slow tokenizer.
    """

    name: ClassVar[str]
    """The name by which the objective can be asked for, and which messages use."""
    task: ClassVar[str | None] = None
    """The task of models of this kind, as the hub names it, for cards; None if no name is known."""
    auto_class: ClassVar[Any] = None
    """The class of transformers that loads models of this kind by name; None if there is no such class."""
    arguments: ClassVar[Mapping[str, Any]] = {}
    """Further arguments of the model's forward pass."""
    folder: ClassVar[str | None] = None
    """The folder of a checkpoint where `save` puts what the GRADIEND does not hold; None if nothing else is saved."""
    min_prefix: ClassVar[int] = 0
    """Characters that must stand before a word that is scored."""
    lms_is_accuracy: ClassVar[bool] = False
    """Whether the language-modelling score is an accuracy; otherwise it is 1 / (1 + mean negative log-likelihood)."""
    unscorable: ClassVar[str] = "A word cannot be scored"
    """Why `_word` gave None, as the beginning of a message."""

    def __init__(self, tokenizer: Any, *, max_length: int, vocabulary_size: int | None = None) -> None:
        if not hasattr(tokenizer, "is_fast"):
            raise TypeError(f"Expected a tokenizer of transformers, or a model with one; got {tokenizer!r:.60}.")
        if not tokenizer.is_fast:
            raise TypeError(
                f"{type(tokenizer).__name__} is a slow tokenizer and gives no character offsets. "
                "Load it with AutoTokenizer.from_pretrained(…, use_fast=True)."
            )
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.vocabulary_size = vocabulary_size
        self._known: OrderedDict[tuple[str, str], TokenizedWord | None] = OrderedDict()
        self._known_size = len(tokenizer)

    # Which models are of this kind

    @classmethod
    def fits(cls, model: Any) -> bool:
        """Whether a model or tokenizer is of this kind, judged by its class or attributes and not by a name."""
        del model
        return False

    @classmethod
    def names(cls, architecture: str, config: Any) -> bool:
        """Whether models of the class `architecture` with this config are of this kind; asked where no kind `fits`."""
        del architecture, config
        return False

    @classmethod
    def of_model(cls, model: Any, tokenizer: Any, *, max_length: int, vocabulary_size: int | None) -> Self:
        """The objective of one model of this kind."""
        del model
        return cls(tokenizer, max_length=max_length, vocabulary_size=vocabulary_size)

    @classmethod
    def loader(cls, config: Any) -> Any:
        """The class of transformers that loads models of this kind with this config; None if there is no such class."""
        del config

    # What is saved and loaded beside the GRADIEND

    def save(self, model: Any, directory: Path) -> None:
        """Write what `put_on` needs into a directory, which is `folder` in a checkpoint."""
        del model, directory

    @classmethod
    def is_saved(cls, directory: str | Path) -> bool:
        """Whether `directory` holds what `save` wrote."""
        del directory
        return False

    @classmethod
    def base_of(cls, directory: str | Path) -> str:
        """Name or path of the plain base model that belongs to what `save` wrote."""
        raise NotImplementedError

    @classmethod
    def put_on(cls, base_model: Any, directory: str | Path) -> Any:
        """The base model as this objective trains on it, from what `save` wrote."""
        raise NotImplementedError

    # Texts → tokens

    @property
    def pad_token_id(self) -> int:
        """The token for padding on the right; padded positions are masked out, so any token gives the same numbers."""
        return self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else 0

    @property
    def unknown_id(self) -> int | None:
        """The token of words that the tokenizer does not know; None if words become other numbers than tokens."""
        return self.tokenizer.unk_token_id

    def encode(self, texts: Sequence[str], **arguments: Any) -> Any:
        """The tokenizer's result for texts, with offsets and a mask of special tokens; the tokenizer does not change.

        Args:
            texts: At least one text.
            **arguments: Arguments of the tokenizer.

        Raises ValueError for a token that the model has no embedding for.
        """
        encoded = tokenize(
            self.tokenizer, list(texts), return_offsets_mapping=True, return_special_tokens_mask=True,
            return_attention_mask=False, return_token_type_ids=False, verbose=False, **arguments,
        )  # fmt: skip
        size = self.vocabulary_size
        for ids in encoded["input_ids"] if size is not None else ():
            if ids and max(ids) >= size:
                token = self.tokenizer.convert_ids_to_tokens(max(ids))
                raise ValueError(
                    f"The tokenizer makes {token!r} token number {max(ids)}, and the model has embeddings for "
                    f"{size}: model.resize_token_embeddings(len(tokenizer)) makes room for added tokens."
                )
        return encoded

    def encode_cut(self, texts: Sequence[str]) -> Any:
        """`encode`, with every text cut to the longest input of the model."""
        return self.encode(texts, truncation=True, max_length=self.max_length)

    def __call__(self, masked_texts: Sequence[str], words: Sequence[str]) -> list[TokenizedWord]:
        """See `tokenize`; `model.words(texts, words)` calls the objective so."""
        return self.tokenize(masked_texts, words)

    def tokenize(self, masked_texts: Sequence[str], words: Sequence[str]) -> list[TokenizedWord]:
        """Tokenize each word at the first placeholder of its text; the latest results are remembered.

        Args:
            masked_texts: Texts with at least one `[MASK]` each.
            words: One word per text.

        Returns:
            One `TokenizedWord` per pair.

        Raises:
            ValueError: A text without placeholder, a word that is no token of its filled text, or a word that cannot be
                scored (see `scorable`).
        """
        result = []
        for word in self._remembered(masked_texts, words):
            if word is None:
                raise ValueError(f"{self.unscorable}: drop the texts that Objective.scorable rejects.")
            result.append(word)
        return result

    def scorable(self, masked_texts: Sequence[str], words: Sequence[str]) -> list[bool]:
        """Which pairs can be scored: all, unless a kind says otherwise. See `tokenize` for the arguments."""
        del words
        return [True] * len(masked_texts)

    def tokenize_known(self, masked_texts: Sequence[str], words: Sequence[str]) -> list[TokenizedWord]:
        """Like `tokenize`; words that become unknown tokens are a ValueError, which lists them."""
        words = list(words)
        tokenized = self.tokenize(list(masked_texts), words)
        mask = getattr(self.tokenizer, "mask_token_id", None)
        if mask is not None and any(mask in item.tokens for item in tokenized):
            word = next(word for word, item in zip(words, tokenized, strict=True) if mask in item.tokens)
            raise ValueError(f"{word!r} is or contains the mask token: give the word that stands in its place.")
        unknown = self.unknown_id
        strange = sorted({word for word, item in zip(words, tokenized, strict=True) if unknown in item.tokens})
        if unknown is not None and strange:
            shown, mark = ", ".join(f"{word!r:.60}" for word in strange[:10]), self.tokenizer.unk_token
            apart = [word for word in strange if len(normalize("NFC", word)) < len(word)]
            hint = (
                f" {apart[0]!r} has letters and their marks apart, as some systems write them: give words and texts in "
                "the usual form, unicodedata.normalize('NFC', …)."
                if apart
                else ""
            )
            raise ValueError(
                f"The tokenizer does not know {shown}: {mark!r} stands for it, whose gradient says nothing about the "
                f"word. Remove these rows, or use a model that has the words.{hint}"
            )
        return tokenized

    def require_known(self, words: Sequence[str]) -> None:
        """Raise a ValueError for class words that the tokenizer does not know, where this can be told without texts."""
        del words

    @abstractmethod
    def _word(self, span: Span, word: str) -> TokenizedWord | None:
        """The tokens that are read and scored, given a text's tokens and the word's place; None: not scorable."""

    def _written(self, word: str) -> str:
        """The text that stands at the placeholder while a text is tokenized."""
        return word

    def _right_of(self, after: str) -> str:
        """The text that is kept behind the placeholder: a later placeholder ends the text, unless a kind can use it."""
        return after.split(PLACEHOLDER, maxsplit=1)[0]

    def _remembered(self, masked_texts: Sequence[str], words: Sequence[str]) -> list[TokenizedWord | None]:
        pairs = list(zip(masked_texts, words, strict=True))
        with exclusive(self.tokenizer):
            if len(self.tokenizer) != self._known_size:
                # The tokenizer has more tokens than before, so texts may have other tokens now.
                self._known.clear()
                self._known_size = len(self.tokenizer)
            found = {pair: self._known[pair] for pair in pairs if pair in self._known}
            new = [pair for pair in dict.fromkeys(pairs) if pair not in found]
            for start in range(0, len(new), TOKENIZATION_CHUNK):
                chunk = new[start : start + TOKENIZATION_CHUNK]
                made = zip(chunk, self._located(chunk), strict=True)
                found.update({pair: self._word(span, pair[1]) for pair, span in made})
            self._known.update({pair: found[pair] for pair in new})
            while len(self._known) > KEPT_WORDS:
                self._known.popitem(last=False)
        return [found[pair] for pair in pairs]

    def _located(self, pairs: Sequence[tuple[str, str]]) -> list[Span]:
        """The tokens of each (text, word), with the word at the first placeholder, and which tokens are the word's.

        The tokens of a word are those that overlap the word's characters in the filled text. A leading space, capitals
        and the start of a sentence therefore follow from the text, and not from a tokenizer call on the bare word.
        """
        texts, places = [], []
        for masked, word in pairs:
            before, placeholder, after = masked.partition(PLACEHOLDER)
            if not placeholder:
                raise ValueError(f"No {PLACEHOLDER} in the text {masked[:80]!r}.")
            written = self._written(word)
            texts.append(before + written + self._right_of(after))
            places.append((len(before), len(before) + len(written)))
        encoded = self.encode(texts)
        rows = zip(encoded["input_ids"], encoded["offset_mapping"], encoded["special_tokens_mask"], strict=True)
        return [locate(*row, *place, text=text) for row, place, text in zip(rows, places, texts, strict=True)]

    # Tokens ↔ model inputs with labels

    def inputs_of(self, word: TokenizedWord) -> dict[str, Tensor]:
        """The word as model inputs: 1-D input_ids, attention_mask and labels (−100 where nothing is scored).

        Labels follow the convention of transformers, which is the scored position itself unless a kind says otherwise.
        """
        return labelled_inputs(word.input_ids, word.positions, word.tokens)

    def words_of(self, inputs: Mapping[str, Tensor]) -> list[TokenizedWord]:
        """The inverse of `inputs_of`, for 1-D inputs or a batch that is padded on either side.

        Raises TypeError for inputs that are no tensors of these names, and ValueError for an input without label.
        """
        names = ("input_ids", "attention_mask", "labels")
        if not isinstance(inputs, Mapping) or not all(isinstance(inputs.get(name), Tensor) for name in names):
            raise TypeError(f"Model inputs must be a dict with tensors {', '.join(names)}; got {inputs!r:.60}.")
        words = []
        rows = (torch.atleast_2d(inputs[name]).tolist() for name in names)
        for ids, mask, labels in zip(*rows, strict=True):
            kept = [(token, label) for token, attended, label in zip(ids, mask, labels, strict=True) if attended]
            scored = [(i, label) for i, (_, label) in enumerate(kept) if label != IGNORED]
            if not scored:
                raise ValueError(
                    "The inputs have no label: every entry of labels is -100, so there is no word to score."
                )
            positions, tokens = zip(*scored, strict=True)
            words.append(TokenizedWord(tuple(token for token, _ in kept), positions, tokens))
        return words

    # Tokens → logits

    def logits(
        self, model: nn.Module, input_ids: Tensor, attention_mask: Tensor, parameters: Mapping[str, Tensor] | None
    ) -> Tensor:
        """Logits at every position, (B, L, V); a word's tokens are numbers below V.

        Args:
            model: The model.
            input_ids: The tokens, (B, L).
            attention_mask: 1 where a token is attended to, (B, L).
            parameters: Name → values to use instead of the model's own parameter.
        """
        arguments = {"input_ids": input_ids, "attention_mask": attention_mask, **self.arguments}
        if parameters is None:
            output = model(**arguments)
        else:
            output = torch.func.functional_call(model, dict(parameters), kwargs=arguments)
        # A model whose config says return_dict=False gives a tuple; without labels, logits come first.
        return output[0] if isinstance(output, tuple) else output.logits

    def check(self, model: nn.Module, ids: Tensor, logits: Tensor, logits_of: Callable[[Tensor], Tensor]) -> None:
        """Raise a ValueError for a model that its first input shows to be of another kind.

        Args:
            model: The model.
            ids: At least two tokens, (L,).
            logits: The logits of `ids`, (L, V).
            logits_of: Gives the logits of other tokens of the same length.
        """
        del model, ids, logits, logits_of

    # Whole texts

    def together(self, words: Sequence[TokenizedWord]) -> list[TokenizedWord]:
        """Words of one text that were tokenized one by one, as one question for all of these words."""
        raise NotImplementedError(self._only_for_training())

    def neutral_words(
        self, tokenized: Sequence[tuple[list[int], list[int]]], *, every: bool = False
    ) -> list[tuple[int, TokenizedWord]]:
        """The words that the language-modelling score asks for.

        Args:
            tokenized: (tokens, positions that may be scored) of every text.
            every: Whether every token is asked for once, in as many passes as this needs. Otherwise a kind may ask for
                some tokens only.

        Returns:
            (number of a text, words that are asked for in one pass over this text), pass by pass.
        """
        raise NotImplementedError(self._only_for_training())

    def _only_for_training(self) -> str:
        return f"The objective {self.name!r} is for training only: measure the plain model."


def equal_logits(found: Tensor, expected: Tensor) -> bool:
    """Whether logits differ by no more than rounding."""
    tolerance = 1e-4 if expected.dtype.itemsize >= 4 else 5e-2
    return bool((found - expected).float().norm() <= tolerance * expected.float().norm())


def labelled_inputs(ids: Sequence[int], places: Sequence[int], tokens: Sequence[int]) -> dict[str, Tensor]:
    """1-D input_ids, attention_mask and labels, with `tokens` as the labels at `places` and −100 elsewhere."""
    labels = torch.full((len(ids),), IGNORED)
    labels[torch.tensor(places)] = torch.tensor(tokens)
    return {"input_ids": torch.tensor(ids), "attention_mask": torch.ones(len(ids), dtype=torch.long), "labels": labels}
