"""Sentences that have a word of a class, and the same sentences with it masked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import TypeAlias

from tqdm.auto import tqdm

from gradiend.data.text.filter_config import TextFilterConfig
from gradiend.data.text.prediction.surface_matcher import SurfaceMatcher

Span: TypeAlias = tuple[int, int, str]
"""Start, end and text of a word: `sentence[start:end] == text`, in the casing of the sentence."""


def filter_sentences(
    sentences: Iterable[str],
    filter_config: TextFilterConfig,
    *,
    desc: str | None = None,
    max_matches: int | None = None,
) -> list[tuple[str, list[Span]]]:
    """Keep the sentences that have a word of a class, with the places of all such words.

    Words are whole words in any case; see
    `SurfaceMatcher`.

    Args:
        sentences: Any sentences.
        filter_config: The class.
        desc: Label of the progress bar.
        max_matches: Stop after so many matching sentences.

    Returns:
        Matching sentences in their order, each with its spans from left to right.

    Raises:
        ValueError: `max_matches` is below 1.
    """
    matches = filter_sentences_multi(sentences, [filter_config], desc=desc, max_matches=max_matches)
    return matches[filter_config.id]


def filter_sentences_multi(
    sentences: Iterable[str],
    filter_configs: Sequence[TextFilterConfig],
    *,
    desc: str | None = None,
    max_matches: int | None = None,
) -> dict[str, list[tuple[str, list[Span]]]]:
    """Do what `filter_sentences` does for several classes in one pass over the sentences.

    A sentence with words of two classes is listed for both. Where a target of one class is the beginning of
    a target of another (`he`, `he himself`), a place that fits both counts for the longer one alone.

    Args:
        sentences: Any sentences.
        filter_configs: The classes, with different ids.
        desc: Label of the progress bar.
        max_matches: Keep at most so many sentences a class, and stop when every class has them.

    Returns:
        Class id to matches.

    Raises:
        ValueError: Two classes have the same id, or `max_matches` is below 1.
    """
    if max_matches is not None and max_matches < 1:
        raise ValueError(f"max_matches must be at least 1, or None for all; got {max_matches}.")
    require_distinct_ids(filter_configs)
    matcher = SurfaceMatcher(filter_configs)
    matches: dict[str, list[tuple[str, list[Span]]]] = {config.id: [] for config in filter_configs}
    for sentence in tqdm(sentences, desc=desc or "Filtering sentences", unit="sentence", delay=1.0):
        for index, spans in _spans_by_class(matcher, sentence):
            rows = matches[filter_configs[index].id]
            if max_matches is None or len(rows) < max_matches:
                rows.append((sentence, spans))
        if max_matches is not None and all(len(rows) >= max_matches for rows in matches.values()):
            break
    return matches


def match_sentence_one_config(sentence: str, filter_config: TextFilterConfig) -> list[Span]:
    """Return the places of the words of a class in one sentence, from left to right."""
    return [(hit.start, hit.end, hit.text) for hit in SurfaceMatcher([filter_config]).find(sentence)]


def mask_sentence(sentence: str, spans: Iterable[tuple[int, int] | Span], mask: str = "[MASK]") -> str:
    """Replace every span by the mask.

    Args:
        sentence: The sentence to which the spans belong.
        spans: `(start, end)` or `(start, end, text)`, in any order.
        mask: What stands in the place of each.

    Returns:
        The masked sentence.

    Raises:
        ValueError: Spans overlap, are empty, lie outside the sentence, or have another text than the
            sentence there.
    """
    ordered = sorted(spans, key=lambda span: span[0])
    for span in ordered:
        start, end = span[0], span[1]
        if not 0 <= start < end <= len(sentence):
            raise ValueError(f"The span {start}:{end} is not in the sentence of {len(sentence)} characters.")
        if len(span) == 3 and sentence[start:end] != span[2]:
            raise ValueError(
                f"At {start}:{end} the sentence has {sentence[start:end]!r}, not {span[2]!r}; "
                "the spans belong to another sentence."
            )
    for left, right in pairwise(ordered):
        if right[0] < left[1]:
            raise ValueError(f"The spans {left[:2]} and {right[:2]} overlap.")
    pieces, position = [], 0
    for span in ordered:
        pieces += [sentence[position : span[0]], mask]
        position = span[1]
    return "".join([*pieces, sentence[position:]])


def require_distinct_ids(configs: Sequence[TextFilterConfig]) -> None:
    """Raise a ValueError if two classes have the same id."""
    ids = [config.id for config in configs]
    repeated = sorted({name for name in ids if ids.count(name) > 1})
    if repeated:
        raise ValueError(f"Several classes are called {', '.join(repeated)}; give each its own id=.")


def _spans_by_class(matcher: SurfaceMatcher, sentence: str) -> Iterator[tuple[int, list[Span]]]:
    spans: dict[int, list[Span]] = {}
    for hit in matcher.find(sentence):
        for index in {target.class_index for target in hit.targets}:
            spans.setdefault(index, []).append((hit.start, hit.end, hit.text))
    yield from spans.items()
