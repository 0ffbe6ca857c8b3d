"""From texts to the segments that are searched: sentence splitting, length and character filters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from gradiend.data.text.sentences import split_sentences


@dataclass(frozen=True)
class TextPreprocessConfig:
    """How texts are cut and which segments are kept.

    Raises:
        ValueError: A length below 0, or `min_chars` above `max_chars`.
    """

    split_to_sentences: bool = False
    """Split at new lines, then after `. ! ?`."""
    min_chars: int | None = None
    """Drop segments with fewer characters."""
    max_chars: int | None = None
    """Drop segments with more characters."""
    exclude_chars: str | Sequence[str] | None = None
    """Drop segments with any of these characters."""
    custom_filter: Callable[[str], bool] | None = None
    """Keep only segments for which this returns True."""

    def __post_init__(self) -> None:
        for name, bound in (("min_chars", self.min_chars), ("max_chars", self.max_chars)):
            if bound is not None and bound < 0:
                raise ValueError(f"{name} must not be negative, got {bound}.")
        if self.min_chars is not None and self.max_chars is not None and self.min_chars > self.max_chars:
            raise ValueError(f"min_chars={self.min_chars} is above max_chars={self.max_chars}: nothing could be kept.")


def preprocess_texts(texts: Iterable[str], config: TextPreprocessConfig | None = None) -> list[str]:
    """Cut and filter texts.

    Args:
        texts: Any texts.
        config: What to do; None leaves the texts as they are.

    Returns:
        The kept segments in their order.
    """
    return list(texts) if config is None else list(iter_segments(texts, config))


def iter_sentences_from_texts(texts: Iterable[str], config: TextPreprocessConfig | None = None) -> Iterator[str]:
    """Yield the segments of texts one by one.

    Args:
        texts: Any texts.
        config: As in `preprocess_texts`; None splits at new lines, strips, and drops what is empty.

    Yields:
        The segments in their order.
    """
    if config is not None:
        yield from iter_segments(texts, config)
        return
    for text in texts:
        for line in text.splitlines():
            if stripped := line.strip():
                yield stripped


def iter_segments(
    texts: Iterable[str], config: TextPreprocessConfig | None, dropped: Counter[str] | None = None
) -> Iterator[str]:
    """Yield what `preprocess_texts` returns, and count what it drops.

    Args:
        texts: Any texts.
        config: What to do; None yields the texts as they are.
        dropped: Receives the number of dropped segments by reason.

    Yields:
        The kept segments.
    """
    if config is None:
        yield from texts
        return
    for text in texts:
        for segment in split_sentences(text) if config.split_to_sentences else (text,):
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
