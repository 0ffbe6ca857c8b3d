"""From texts to the segments that are searched: sentence splitting, length and character filters."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Literal

from gradiend.data.text.sentences import split_sentences
from gradiend.data.text.spacy_sentences import SpacySentences
from gradiend.util._checks import require_texts, require_whole
from gradiend.util._keywords import known_keywords, strict_keywords

logger = logging.getLogger(__name__)

LONG_CHARACTERS = 1_500
"""Some 250 words, a paragraph: more than the 256 tokens that are read of a row."""


@strict_keywords
@dataclass(frozen=True)
class TextPreprocessConfig:
    """How texts are cut and which segments are kept.

    Raises:
        ValueError: An unknown way to split, a length below 0, or `min_chars` above `max_chars`.
        TypeError: An argument of another type, or an unknown one; the message names the nearest.
    """

    split_to_sentences: bool | Literal["spacy"] = False
    """Split at new lines, then after `. ! ?`; with `"spacy"` where a spaCy pipeline says, which is slower by far."""
    min_chars: int | None = None
    """Drop segments with fewer characters."""
    max_chars: int | None = None
    """Drop segments with more characters."""
    exclude_chars: str | Sequence[str] | None = None
    """Drop segments with any of these characters."""
    custom_filter: Callable[[str], bool] | None = None
    """Keep only segments for which this returns True."""

    def __post_init__(self) -> None:
        if not (isinstance(self.split_to_sentences, bool) or self.split_to_sentences == "spacy"):
            raise ValueError(f"split_to_sentences must be True, False or 'spacy', got {self.split_to_sentences!r}.")
        for name, bound in (("min_chars", self.min_chars), ("max_chars", self.max_chars)):
            require_whole(name, bound, 0, none_means="for no bound")
        if self.min_chars is not None and self.max_chars is not None and self.min_chars > self.max_chars:
            raise ValueError(f"min_chars={self.min_chars} is above max_chars={self.max_chars}: nothing could be kept.")
        excluded = () if self.exclude_chars is None else self.exclude_chars
        if not (isinstance(excluded, Iterable) and all(isinstance(one, str) and one for one in excluded)):
            raise TypeError(f"exclude_chars is a string of characters, or a list of them; got {excluded!r:.60}.")
        if self.custom_filter is not None and not callable(self.custom_filter):
            raise TypeError(f"custom_filter is a function of a text; got {self.custom_filter!r:.60}.")


@known_keywords("preprocess_texts")
def preprocess_texts(
    texts: Iterable[str],
    config: TextPreprocessConfig | None = None,
    spacy_model: str | PathLike[str] | None = None,
    download_if_missing: bool = True,
) -> list[str]:
    """Cut and filter texts.

    Args:
        texts: Any texts.
        config: What to do; None leaves the texts as they are.
        spacy_model: Name or folder of a spaCy pipeline that finds the sentences, where they are asked for. One
            without parser or other component for it leaves the splitting to the rules.
        download_if_missing: Download a pipeline that is not installed.

    Returns:
        The kept segments in their order.

    Raises:
        ValueError: `split_to_sentences="spacy"` without a pipeline, or with one that finds no sentences.
        ImportError: spaCy is needed and not installed.
        OSError: The pipeline is needed and not installed.
    """
    given = require_texts("texts", texts)
    return list(given) if config is None else list(_iter_kept(given, config, spacy_model, download_if_missing))


def iter_sentences_from_texts(
    texts: Iterable[str],
    config: TextPreprocessConfig | None = None,
    spacy_model: str | PathLike[str] | None = None,
    download_if_missing: bool = True,
) -> Iterator[str]:
    """Yield the segments of texts one by one.

    Args:
        texts: Any texts.
        config: As in `preprocess_texts`; None splits at new lines, strips, and drops what is empty.
        spacy_model: As in `preprocess_texts`.
        download_if_missing: Download a pipeline that is not installed.

    Yields:
        The segments in their order.
    """
    if config is not None:
        yield from _iter_kept(texts, config, spacy_model, download_if_missing)
        return
    for text in texts:
        for line in text.splitlines():
            if stripped := line.strip():
                yield stripped


def iter_segments(
    texts: Iterable[str],
    config: TextPreprocessConfig | None,
    dropped: Counter[str] | None = None,
    splitter: SpacySentences | None = None,
) -> Iterator[str]:
    """Yield what `preprocess_texts` returns, and count what it drops.

    Args:
        texts: Any texts.
        config: What to do; None yields the texts as they are.
        dropped: Receives the number of dropped segments by reason.
        splitter: Splits into sentences in place of the rules; see `sentence_splitter`.

    Yields:
        The kept segments.
    """
    for segments in segments_by_text(texts, config, dropped, splitter):
        yield from segments


def segments_by_text(
    texts: Iterable[str],
    config: TextPreprocessConfig | None,
    dropped: Counter[str] | None = None,
    splitter: SpacySentences | None = None,
) -> Iterator[Iterable[str]]:
    """Yield the segments of each text; arguments are those of `iter_segments`."""
    if config is None:
        yield from ((text,) for text in texts)
        return
    for segments in _split(texts, config, splitter):
        yield _kept(segments, config, dropped)


def sentence_splitter(
    config: TextPreprocessConfig | None, spacy_model: str | PathLike[str] | None, download_if_missing: bool
) -> SpacySentences | None:
    """Return what splits into sentences by spaCy where `config` asks for it by name; None where the rules do.

    Raises:
        ValueError: There is no pipeline, or it finds no sentences.
        ImportError: spaCy is not installed.
        OSError: The pipeline is not installed.
    """
    if config is None or config.split_to_sentences != "spacy":
        return None
    if spacy_model is None:
        raise ValueError("split_to_sentences='spacy' needs spacy_model=; True splits by rules, without spaCy.")
    splitter = SpacySentences(spacy_model, download_if_missing)
    if not splitter.finds_sentences:
        raise ValueError(
            f"The spaCy pipeline {str(spacy_model)!r} finds no sentences: it has no parser, senter or sentencizer. "
            "Use another one, or split_to_sentences=True to split by rules."
        )
    return splitter


def _iter_kept(
    texts: Iterable[str], config: TextPreprocessConfig, spacy_model: str | PathLike[str] | None, download: bool
) -> Iterator[str]:
    require_preprocess("config", config)
    splitter = sentence_splitter(config, spacy_model, download)
    if config.split_to_sentences is True and spacy_model is not None:
        offered = SpacySentences(spacy_model, download)
        if offered.finds_sentences:
            splitter = offered
        else:
            logger.info("The spaCy pipeline %s does not find sentences; they are split by rules.", spacy_model)
    yield from iter_segments(texts, config, splitter=splitter)


def require_preprocess(name: str, config: object) -> None:
    """Raise a TypeError if an argument is neither None nor a `TextPreprocessConfig`."""
    if not (config is None or isinstance(config, TextPreprocessConfig)):
        raise TypeError(f"{name} is a TextPreprocessConfig or None; got {config!r:.60}.")


def _split(
    texts: Iterable[str], config: TextPreprocessConfig, splitter: SpacySentences | None
) -> Iterable[Iterable[str]]:
    if splitter is not None:
        return splitter.split(texts)
    return map(split_sentences, texts) if config.split_to_sentences else ((text,) for text in texts)


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
