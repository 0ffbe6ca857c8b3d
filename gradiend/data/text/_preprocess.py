"""From texts to the segments that are searched: splitting into sentences, filters of length and characters."""

from __future__ import annotations

import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from numbers import Integral
from os import PathLike
from typing import TYPE_CHECKING, Literal

from gradiend.data.core._spacy_tags import TokenProperty
from gradiend.data.core.spacy_util import SpacyReader
from gradiend.util._argument_fields import ShowsChanges
from gradiend.util._checks import require_texts, require_whole
from gradiend.util._keywords import known_keywords, strict_keywords

if TYPE_CHECKING:
    from spacy.tokens import Doc

logger = logging.getLogger(__name__)

LONG_CHARACTERS = 1_500
"""The length of a paragraph of some 250 words: more than the 256 tokens that a model reads of a row."""


@strict_keywords
@dataclass(frozen=True, repr=False)
class TextPreprocessConfig(ShowsChanges):
    """How texts are cut and which segments are kept.

    Raises:
        ValueError: The way to split is unknown, a length is below 0, or `min_chars` is above `max_chars`.
        TypeError: An argument of another type, or an unknown one; the message names the nearest.
    """

    split_to_sentences: bool | int | Literal["spacy"] = False
    """Split texts at new lines, then after `. ! ?`; a number n joins each n sentences of a text in turn; `"spacy"`
    splits lines by a spaCy pipeline, which is far slower."""
    min_chars: int | None = None
    """Drop segments with fewer characters."""
    max_chars: int | None = None
    """Drop segments with more characters."""
    exclude_chars: str | Sequence[str] | None = None
    """Drop segments with any of these characters."""
    custom_filter: Callable[[str], bool] | None = None
    """Keep only segments for which this returns True."""

    def __post_init__(self) -> None:
        is_number = isinstance(self.split_to_sentences, Integral)
        if not (is_number or self.split_to_sentences == "spacy"):
            raise ValueError(
                "split_to_sentences must be True, False or 'spacy', or a number of sentences that make a segment, got "
                f"{self.split_to_sentences!r}."
            )
        if is_number and not isinstance(self.split_to_sentences, bool):
            require_whole("split_to_sentences", self.split_to_sentences, 1)
        for name, bound in (("min_chars", self.min_chars), ("max_chars", self.max_chars)):
            require_whole(name, bound, 0, none_means="for no bound")
        if self.min_chars is not None and self.max_chars is not None and self.min_chars > self.max_chars:
            raise ValueError(f"min_chars={self.min_chars} is above max_chars={self.max_chars}: nothing could be kept.")
        excluded = () if self.exclude_chars is None else self.exclude_chars
        if isinstance(excluded, Iterable) and not isinstance(excluded, Sequence):
            # The order of a set differs from run to run, and an iterator can be read once only.
            excluded = sorted(excluded, key=str)
            object.__setattr__(self, "exclude_chars", excluded)
        if not (isinstance(excluded, Iterable) and all(isinstance(one, str) and one for one in excluded)):
            raise TypeError(f"exclude_chars is a string of characters, or a list of them; got {excluded!r:.60}.")
        if self.custom_filter is not None and not callable(self.custom_filter):
            raise TypeError(f"custom_filter is a function of a text; got {self.custom_filter!r:.60}.")


@known_keywords("preprocess_texts")
def preprocess_texts(
    texts: Iterable[str], config: TextPreprocessConfig | None = None, spacy_model: str | PathLike[str] | None = None,
    download_if_missing: bool = True,
) -> list[str]:  # fmt: skip
    """Cut and filter texts.

    Args:
        texts: The texts.
        config: How texts are cut and filtered; None leaves them as they are.
        spacy_model: Name or folder of a spaCy pipeline that finds the sentences, where sentences are asked for. If the
            pipeline has no component that finds sentences, the rules split them.
        download_if_missing: Download a pipeline that is not installed.

    Returns the kept segments in their order.

    Raises:
        TypeError: `texts` is no list of strings, or `config` is of another type.
        ValueError: `split_to_sentences="spacy"` without a pipeline, or with a pipeline that finds no sentences.
        ImportError: spaCy is needed and not installed.
        OSError: The spaCy pipeline is needed and not installed.
    """
    given = require_texts("texts", texts)
    return list(given) if config is None else list(_iter_kept(given, config, spacy_model, download_if_missing))


def iter_sentences_from_texts(
    texts: Iterable[str], config: TextPreprocessConfig | None = None, spacy_model: str | PathLike[str] | None = None,
    download_if_missing: bool = True,
) -> Iterator[str]:  # fmt: skip
    """Yield the segments of texts one by one, in their order; the arguments are those of `preprocess_texts`.

    Without a `config`, texts are split at new lines, stripped, and dropped where they are empty.
    """
    given = require_texts("texts", texts)
    if config is not None:
        yield from _iter_kept(given, config, spacy_model, download_if_missing)
        return
    for text in given:
        yield from filter(None, map(str.strip, text.splitlines()))


def _iter_kept(
    texts: Iterable[str], config: TextPreprocessConfig, spacy_model: str | PathLike[str] | None, download: bool
) -> Iterator[str]:
    require_preprocess("config", config)
    segmenter = Segmenter.of(config, spacy_model, download)
    if config.split_to_sentences is True and spacy_model is not None:
        offered = SpacySentences(spacy_model, download)
        if offered.finds_sentences:
            segmenter = Segmenter(config, offered)
        else:
            logger.info("The spaCy pipeline %s does not find sentences; they are split by rules.", spacy_model)
    yield from segmenter.segments(texts)


def require_preprocess(name: str, config: object) -> None:
    """Raise a TypeError if an argument is neither None nor a `TextPreprocessConfig`."""
    if not (config is None or isinstance(config, TextPreprocessConfig)):
        raise TypeError(f"{name} is a TextPreprocessConfig or None; got {config!r:.60}.")


@dataclass(frozen=True)
class Segmenter:
    """Cuts texts into segments and drops those that are not wanted."""

    config: TextPreprocessConfig | None
    """How texts are cut and filtered; None takes the texts as they are."""
    splitter: SpacySentences | None = None
    """Splits texts into sentences in place of the rules; None leaves that to the rules."""

    @classmethod
    def of(
        cls, config: TextPreprocessConfig | None, spacy_model: str | PathLike[str] | None, download: bool
    ) -> Segmenter:
        """Load the spaCy pipeline that the config asks for; the errors are those of `preprocess_texts`."""
        if config is None or config.split_to_sentences != "spacy":
            return cls(config)
        if spacy_model is None:
            raise ValueError("split_to_sentences='spacy' needs spacy_model=; True splits by rules, without spaCy.")
        splitter = SpacySentences(spacy_model, download)
        if not splitter.finds_sentences:
            raise ValueError(
                f"The spaCy pipeline {str(spacy_model)!r} finds no sentences: it has no parser, senter or "
                "sentencizer. Use another one, or split_to_sentences=True to split by rules."
            )
        return cls(config, splitter)

    def segments(self, texts: Iterable[str]) -> Iterator[str]:
        """Yield the kept segments of texts."""
        return chain.from_iterable(self.by_text(texts))

    def by_text(self, texts: Iterable[str], dropped: Counter[str] | None = None) -> Iterator[Iterable[str]]:
        """Yield the kept segments of each text; `dropped` counts the other segments by reason."""
        config = self.config
        if config is None:
            yield from ((text,) for text in texts)
            return
        pieces: Iterable[Iterable[str]] = ((text,) for text in texts)
        if self.splitter is not None:
            pieces = self.splitter.split(texts)
        elif config.split_to_sentences:
            pieces = map(split_sentences, texts)
            if (number := int(config.split_to_sentences)) > 1:
                pieces = (_windows(sentences, number) for sentences in pieces)
        for segments in pieces:
            yield _kept(segments, config, dropped)


def _kept(segments: Iterable[str], config: TextPreprocessConfig, dropped: Counter[str] | None) -> Iterator[str]:
    for segment in segments:
        reason = _reason_to_drop(segment, config)
        if reason is None:
            yield segment
        elif dropped is not None:
            dropped[reason] += 1


def _reason_to_drop(segment: str, config: TextPreprocessConfig) -> str | None:
    if config.min_chars is not None and len(segment) < config.min_chars:
        return "shorter than min_chars"
    if config.max_chars is not None and len(segment) > config.max_chars:
        return "longer than max_chars"
    if config.exclude_chars is not None and any(character in segment for character in config.exclude_chars):
        return "with one of exclude_chars"
    if config.custom_filter is not None and not config.custom_filter(segment):
        return "refused by custom_filter"
    return None


_END = re.compile(r"(?<![.!?])([.!?]+)([\"'”’»)\]]*)\s+|[。！？]+[\"'”’»)\]」』）]*\s*")
"""The end of a sentence. A run of stops matches at its beginning only: tried at each character, a long run would take
quadratic time. In scripts without spaces, no space follows the end of a sentence."""
_OPENING = "\"'“‘«»([„‚"
_NO_END = re.compile(
    r"mr|mrs|ms|dr|prof|rev|hon|capt|col|gen|lt|sgt|messrs|mme|mlle|st|vs|cf|e\.g|i\.e"
    r"|hr|fr|nr|bzw|ca|z\.b|d\.h",
    re.IGNORECASE,
)
"""Abbreviations, without their full stop, that do not end a sentence."""


def split_sentences(text: str) -> Iterator[str]:
    """Split a text at new lines, and each line after `. ! ?` or `。 ！ ？` and closing quotes or brackets.

    A sentence goes on after a title or abbreviation (`Mrs.`) or an initial (`J.`), and where a small letter follows
    dots (`Well... he`) or a closed quotation (`"Yes?" he said`). Sentences are stripped, and none is empty.
    """
    for line in text.splitlines():
        begin = 0
        for end in _END.finditer(line):
            if _goes_on(line, begin, end):
                continue
            if sentence := line[begin : end.end()].strip():
                yield sentence
            begin = end.end()
        if rest := line[begin:].strip():
            yield rest


def _goes_on(line: str, begin: int, end: re.Match[str]) -> bool:
    terminator, closing = end.groups()
    if terminator is None:
        return False
    if (closing or terminator.startswith("..")) and line[end.end() : end.end() + 1].islower():
        return True
    if terminator != "." or closing:
        return False
    # searched from `begin` only: the sentence may have continued after thousands of earlier stops
    word = line[line.rfind(" ", begin, end.start()) + 1 or begin : end.start()].lstrip(_OPENING)
    initial = len(word) == 1 and word.isupper() and word != "I"
    return initial or _NO_END.fullmatch(word) is not None


def _windows(sentences: Iterable[str], number: int) -> Iterator[str]:
    """Join each `number` successive sentences; the last ones of a text may be fewer."""
    rest = iter(sentences)
    while window := list(islice(rest, number)):
        yield " ".join(window)


_BATCH = 128


class SpacySentences:
    """Splits texts at new lines, and each line by a spaCy pipeline; the errors are those of `load_spacy_model`."""

    def __init__(self, model: str | os.PathLike[str], download_if_missing: bool = False) -> None:
        self._reader = SpacyReader(model, {TokenProperty.SENTENCE_START}, download_if_missing)
        (found,) = self._reader.read(["One. Two."], lambda _, doc: doc.has_annotation("SENT_START"))
        self.finds_sentences: bool = found
        """Whether a component of the pipeline finds the beginnings of sentences; a tagger alone does not."""

    def split(self, texts: Iterable[str]) -> Iterator[list[str]]:
        """Yield the sentences of each text, stripped, none empty; texts are read ahead by up to one batch."""
        source = iter(texts)
        while batch := list(islice(source, _BATCH)):
            lines = [(number, line) for number, text in enumerate(batch) for line in text.splitlines() if line.strip()]
            sentences: list[list[str]] = [[] for _ in batch]
            for (number, _), found in zip(
                lines, self._reader.read([line for _, line in lines], _sentences), strict=True
            ):
                sentences[number] += found
            yield from sentences


def _sentences(_: int, doc: Doc) -> list[str]:
    return [stripped for sentence in doc.sents if (stripped := sentence.text.strip())]
