"""Sentences that have a word of a class, and the same sentences with it masked."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, MutableMapping, Sequence, Sized
from dataclasses import dataclass, field
from itertools import islice, pairwise
from numbers import Integral
from typing import TYPE_CHECKING, Any, TypeAlias

from gradiend.data.core._spacy_tags import token_matches_tags
from gradiend.data.text.filter_config import TextFilterConfig
from gradiend.data.text.prediction._matcher import Hit, SurfaceMatcher, mask_places
from gradiend.data.text.prediction._tag_resolver import Segment, TagResolver, lemma_targets, resolve_doc
from gradiend.util._checks import require_texts, require_whole
from gradiend.util._keywords import known_keywords
from gradiend.util._progress import Progress

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.tokens import Doc

__all__ = [
    "Span", "filter_sentences", "filter_sentences_multi", "mask_sentence", "match_sentence_one_config",
    "token_matches_tags",
]  # fmt: skip

_BLOCK = 512
"""Sentences that are searched at a time."""

Span: TypeAlias = tuple[int, int, str]
"""Start, end and text of a word: `sentence[start:end] == text`, in the casing of the sentence."""


@known_keywords("filter_sentences")
def filter_sentences(
    sentences: Iterable[str], filter_config: TextFilterConfig, spacy_model: str | os.PathLike[str] | None = None,
    download_if_missing: bool = False, desc: str | None = None, max_matches: int | None = None,
    total_target_overall: int | None = None, total_so_far_initial: int = 0,
    stats: MutableMapping[str, int] | None = None,
) -> list[tuple[str, list[Span]]]:  # fmt: skip
    """Keep the sentences that have a word of a class, with the places of all such words.

    Words are whole words in any case; see `SurfaceMatcher`. Tags and lemmas are read by spaCy, in batches; see
    `TagResolver` for which sentences.

    Args:
        sentences: Any sentences.
        filter_config: The class.
        spacy_model: Name or folder of the pipeline that reads tags and lemmas.
        download_if_missing: Download a pipeline that is not installed.
        desc: Label of the progress bar.
        max_matches: Stop after so many matching sentences.
        total_target_overall: Matches wanted in this and further calls together, for the progress bar.
        total_so_far_initial: Matches of earlier calls, for the progress bar.
        stats: Receives `sentences_processed` and `sentences_matched`.

    Returns:
        Matching sentences in their order, each with its spans from left to right.

    Raises:
        TypeError: An argument is of another type, or unknown.
        ValueError: `max_matches` is below 1, there are tags or lemmas but no `spacy_model`, or the pipeline never gives
            such a tag.
        ImportError: spaCy is needed and not installed.
        OSError: The pipeline is not installed, see `load_spacy_model`.
    """
    require_whole("max_matches", max_matches, 1, none_means="for all")
    _require_config(filter_config)
    filtered = _filter(
        sentences, [filter_config], TagResolver([filter_config], spacy_model, download_if_missing), limit=max_matches,
        desc=desc, total=total_target_overall, n_found=total_so_far_initial,
    )  # fmt: skip
    (matches,) = filtered.matches
    if stats is not None:
        stats.update(sentences_processed=filtered.n_sentences, sentences_matched=len(matches))
    return matches


@known_keywords("filter_sentences_multi")
def filter_sentences_multi(
    sentences: Iterable[str], configs_with_ids: Sequence[tuple[str, TextFilterConfig]],
    spacy_model: str | os.PathLike[str] | None = None, download_if_missing: bool = False,
    max_matches_per_class: int | None = None, total_target_overall: int | None = None,
    stats: MutableMapping[str, Any] | None = None,
) -> tuple[dict[str, list[tuple[str, list[Span]]]], dict[str, Any]]:  # fmt: skip
    """Do what `filter_sentences` does for several classes in one pass over the sentences.

    A sentence with words of two classes is listed for both. Where a target of one class is the beginning of
    a target of another (`he`, `he himself`), a place that fits both counts for the longer one alone.

    Args:
        sentences: Any sentences.
        configs_with_ids: `(id, class)` for each class; this id counts, and not the id of the class itself.
        spacy_model, download_if_missing: See `filter_sentences`.
        max_matches_per_class: Keep at most so many sentences a class, and stop when every class has so many.
        total_target_overall: Matches wanted in all; the progress bar shows the number.
        stats: Receives the counts too.

    Returns:
        (id → matches, counts): `sentences_processed`, and where a class has reached its maximum
        `sentences_when_cap_reached`, its id → how many sentences that took.

    Raises:
        ValueError: Two classes have the same id. The other errors are those of `filter_sentences`.
    """
    require_whole("max_matches_per_class", max_matches_per_class, 1, none_means="for all")
    classes = _parse_pairs(configs_with_ids)
    ids, configs = list(classes), list(classes.values())
    resolver = TagResolver(configs, spacy_model, download_if_missing)
    filtered = _filter(sentences, configs, resolver, limit=max_matches_per_class, total=total_target_overall)
    counts: dict[str, Any] = {"sentences_processed": filtered.n_sentences}
    if filtered.full_after:
        counts["sentences_when_cap_reached"] = {ids[index]: number for index, number in filtered.full_after.items()}
    if stats is not None:
        stats.update(counts)
    return dict(zip(ids, filtered.matches, strict=True)), counts


@dataclass
class _Filtered:
    """The result of a pass over the sentences."""

    matches: list[list[tuple[str, list[Span]]]]
    """The matches of each class."""
    n_sentences: int = 0
    """How many sentences were read."""
    full_after: dict[int, int] = field(default_factory=dict)
    """Class → how many sentences were read when the class had as many matches as are wanted."""


def _filter(
    sentences: Iterable[str], configs: Sequence[TextFilterConfig], resolver: TagResolver, *, limit: int | None,
    desc: str | None = None, total: int | None = None, n_found: int = 0,
) -> _Filtered:  # fmt: skip
    matcher = SurfaceMatcher(configs)
    resolver.load()
    filtered = _Filtered([[] for _ in configs])
    checked = require_texts("sentences", sentences)
    number = len(sentences) if isinstance(sentences, Sized) else None
    with Progress(desc or "sentences", number, "sentence", brief=True) as bar:
        for sentence, hits in _found(bar.over(checked), matcher, resolver):
            filtered.n_sentences += 1
            for index, spans in _spans_by_class(hits):
                if index in filtered.full_after:
                    continue
                filtered.matches[index].append((sentence, spans))
                n_found += 1
                bar.advance(0, f"found {n_found}" + ("" if total is None else f"/{total}"))
                if len(filtered.matches[index]) == limit:
                    filtered.full_after[index] = filtered.n_sentences
            if configs and len(filtered.full_after) == len(configs):
                break
    return filtered


def _found(sentences: Iterable[str], matcher: SurfaceMatcher, resolver: TagResolver) -> Iterator[Segment]:
    """Yield the sentences with their hits; they are searched, and parsed, in blocks, which takes less time."""
    remaining = iter(sentences)
    while block := list(islice(remaining, _BLOCK)):
        found = list(zip(block, matcher.find_in(block), strict=True))
        yield from zip(block, resolver.resolve_batch(found), strict=True)


def _parse_pairs(given: Sequence[tuple[str, TextFilterConfig]]) -> dict[str, TextFilterConfig]:
    expected = "configs_with_ids is a list of pairs (id, TextFilterConfig), where the id is a string"
    if not isinstance(given, Iterable):
        raise TypeError(f"{expected}; got {given!r:.60}.")
    classes: dict[str, TextFilterConfig] = {}
    for pair in given:
        match pair:
            case (str(name), TextFilterConfig() as config):
                if name in classes:
                    raise ValueError(
                        f"configs_with_ids has several classes called {name!r}; give each an id of its own."
                    )
                classes[name] = config
            case _:
                raise TypeError(f"{expected}; got {pair!r:.60} in it.")
    return classes


def _require_config(given: object) -> None:
    if not isinstance(given, TextFilterConfig):
        raise TypeError(f"filter_config is a TextFilterConfig, such as TextFilterConfig(['he']); got {given!r:.60}.")


def _require_sentence(given: object) -> None:
    if not isinstance(given, str):
        raise TypeError(f"sentence must be a string; got {given!r:.60} ({type(given).__name__}).")


def match_sentence_one_config(
    sentence: str, filter_config: TextFilterConfig, doc: Doc | None = None, nlp: Language | None = None
) -> list[Span] | None:
    """Return the places of the words of a class in one sentence, from left to right.

    Args:
        sentence: The sentence.
        filter_config: The class.
        doc: The sentence as a spaCy pipeline has parsed it, for a class with tags or lemmas.
        nlp: A pipeline that parses the sentence if there is no `doc`.

    Returns the spans; None if there is none.

    Raises:
        TypeError: The sentence is no string, or the class no `TextFilterConfig`.
        ValueError: The class has tags or lemmas, but there is neither `doc` nor `nlp`; or `doc` has another text.
    """
    _require_sentence(sentence)
    _require_config(filter_config)
    hits = SurfaceMatcher([filter_config]).find(sentence)
    if any(flat.tags or flat.is_lemma for flat in filter_config.flatten()):
        parsed = nlp(sentence) if doc is None and nlp is not None else doc
        if parsed is None:
            raise ValueError(
                f"The class {filter_config.id!r} has spacy_tags or use_lemma: give doc=, parsed, or nlp=, a pipeline."
            )
        if parsed.text != sentence:
            raise ValueError(f"The doc has the text {parsed.text!r:.60}, the sentence is {sentence!r:.60}.")
        hits = resolve_doc(parsed, hits, lemma_targets([filter_config]))
    return [_span(hit) for hit in hits if hit.targets] or None


@known_keywords("mask_sentence")
def mask_sentence(sentence: str, spans: Iterable[tuple[int, int] | Span] | None, mask: str = "[MASK]") -> str:
    """Replace every span by the mask.

    Args:
        sentence: The sentence to which the spans belong.
        spans: `(start, end)` or `(start, end, text)`, in any order; None for none.
        mask: The text in place of each span.

    Raises:
        TypeError: The sentence or the mask is no string, or a span has another form.
        ValueError: Spans overlap, are empty, lie outside the sentence, or have another text than the sentence has
            there.
    """
    _require_sentence(sentence)
    if not isinstance(mask, str):
        raise TypeError(f"mask must be a string; got {mask!r:.60} ({type(mask).__name__}).")
    given = [] if spans is None else list(spans)
    for span in given:
        is_span = isinstance(span, Sequence) and len(span) in (2, 3)
        if not (is_span and all(isinstance(place, Integral) for place in span[:2])):
            raise TypeError(f"A span is (start, end) or (start, end, text); got {span!r:.60}.")
    ordered = sorted(given, key=lambda span: span[0])
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
    return mask_places(sentence, [span[0] for span in ordered], [span[1] for span in ordered], mask)


def _spans_by_class(hits: Sequence[Hit]) -> Iterator[tuple[int, list[Span]]]:
    spans: dict[int, list[Span]] = {}
    for hit in hits:
        for index in sorted({target.class_index for target in hit.targets}):
            spans.setdefault(index, []).append(_span(hit))
    yield from spans.items()


def _span(hit: Hit) -> Span:
    return hit.start, hit.end, hit.text
