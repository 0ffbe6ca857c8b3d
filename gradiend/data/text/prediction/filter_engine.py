"""Sentences that have a word of a class, and the same sentences with it masked."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, MutableMapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, TypeAlias

from tqdm.auto import tqdm

from gradiend.data.text.filter_config import TextFilterConfig
from gradiend.data.text.prediction.surface_matcher import Hit, SurfaceMatcher
from gradiend.data.text.prediction.tag_resolver import TagResolver, lemma_targets, resolve_doc
from gradiend.data.text.tags import token_matches_tags

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.tokens import Doc

__all__ = [
    "Span",
    "filter_sentences",
    "filter_sentences_multi",
    "mask_sentence",
    "match_sentence_one_config",
    "token_matches_tags",
]

Span: TypeAlias = tuple[int, int, str]
"""Start, end and text of a word: `sentence[start:end] == text`, in the casing of the sentence."""


def filter_sentences(
    sentences: Iterable[str],
    filter_config: TextFilterConfig,
    spacy_model: str | os.PathLike[str] | None = None,
    download_if_missing: bool = False,
    desc: str | None = None,
    max_matches: int | None = None,
    total_target_overall: int | None = None,
    total_so_far_initial: int = 0,
    stats: MutableMapping[str, int] | None = None,
) -> list[tuple[str, list[Span]]]:
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
        total_target_overall: Matches wanted in this and further calls together; shown by the progress bar.
        total_so_far_initial: Matches of earlier calls, counted in by the progress bar.
        stats: Receives `sentences_processed` and `sentences_matched`.

    Returns:
        Matching sentences in their order, each with its spans from left to right.

    Raises:
        ValueError: `max_matches` is below 1, there are tags or lemmas but no `spacy_model`, or its pipeline never
            gives such a tag.
        ImportError: spaCy is needed and not installed.
        OSError: The pipeline is not installed, see `load_spacy_model`.
    """
    matches = filter_sentences_multi(
        sentences,
        [filter_config],
        spacy_model,
        download_if_missing,
        desc=desc,
        max_matches=max_matches,
        total_target_overall=total_target_overall,
        total_so_far_initial=total_so_far_initial,
        stats=stats,
    )
    return matches[filter_config.id]


def filter_sentences_multi(
    sentences: Iterable[str],
    filter_configs: Sequence[TextFilterConfig],
    spacy_model: str | os.PathLike[str] | None = None,
    download_if_missing: bool = False,
    *,
    desc: str | None = None,
    max_matches: int | None = None,
    total_target_overall: int | None = None,
    total_so_far_initial: int = 0,
    stats: MutableMapping[str, int] | None = None,
) -> dict[str, list[tuple[str, list[Span]]]]:
    """Do what `filter_sentences` does for several classes in one pass over the sentences.

    A sentence with words of two classes is listed for both. Where a target of one class is the beginning of
    a target of another (`he`, `he himself`), a place that fits both counts for the longer one alone.

    Args:
        sentences: Any sentences.
        filter_configs: The classes, with different ids.
        spacy_model: Name or folder of the pipeline that reads tags and lemmas.
        download_if_missing: Download a pipeline that is not installed.
        desc: Label of the progress bar.
        max_matches: Keep at most so many sentences a class, and stop when every class has them.
        total_target_overall: Matches wanted in this and further calls together; shown by the progress bar.
        total_so_far_initial: Matches of earlier calls, counted in by the progress bar.
        stats: Receives `sentences_processed` and `sentences_matched` (for several classes once a class).

    Returns:
        Class id to matches.

    Raises:
        ValueError: Two classes have the same id, `max_matches` is below 1, or there are tags or lemmas but no
            `spacy_model`.
        ImportError: spaCy is needed and not installed.
        OSError: The pipeline is not installed.
    """
    if max_matches is not None and max_matches < 1:
        raise ValueError(f"max_matches must be at least 1, or None for all; got {max_matches}.")
    require_distinct_ids(filter_configs)
    matcher = SurfaceMatcher(filter_configs)
    resolver = TagResolver(filter_configs, spacy_model, download_if_missing)
    resolver.load()
    matches: dict[str, list[tuple[str, list[Span]]]] = {config.id: [] for config in filter_configs}
    n_sentences, n_matches = 0, 0
    with tqdm(sentences, desc=desc or "Filtering sentences", unit="sentence", delay=1.0) as bar:
        for sentence, hits in resolver.resolve((sentence, matcher.find(sentence)) for sentence in bar):
            n_sentences += 1
            for index, spans in _spans_by_class(hits):
                rows = matches[filter_configs[index].id]
                if max_matches is None or len(rows) < max_matches:
                    rows.append((sentence, spans))
                    n_matches += 1
                    wanted = "" if total_target_overall is None else f"/{total_target_overall}"
                    bar.set_postfix_str(f"found {total_so_far_initial + n_matches}{wanted}", refresh=False)
            if max_matches is not None and all(len(rows) >= max_matches for rows in matches.values()):
                break
    if stats is not None:
        stats.update(sentences_processed=n_sentences, sentences_matched=n_matches)
    return matches


def match_sentence_one_config(
    sentence: str, filter_config: TextFilterConfig, doc: Doc | None = None, nlp: Language | None = None
) -> list[Span]:
    """Return the places of the words of a class in one sentence, from left to right.

    Args:
        sentence: The sentence.
        filter_config: The class.
        doc: The sentence as a spaCy pipeline has parsed it; read where the class has tags or lemmas.
        nlp: A pipeline to parse the sentence with, where there is no `doc`.

    Returns:
        The spans; empty if there is none.

    Raises:
        ValueError: The class has tags or lemmas, but there is neither `doc` nor `nlp`; or `doc` has another text.
    """
    hits = SurfaceMatcher([filter_config]).find(sentence)
    if any(flat.tags or flat.is_lemma for flat in filter_config.flatten()):
        parsed = nlp(sentence) if doc is None and nlp is not None else doc
        if parsed is None:
            raise ValueError(
                f"The class {filter_config.id!r} has spacy_tags or use_lemma: give doc=, the parsed sentence, or nlp=, "
                "a pipeline."
            )
        if parsed.text != sentence:
            raise ValueError(f"The doc has the text {parsed.text!r:.60}, the sentence is {sentence!r:.60}.")
        hits = resolve_doc(parsed, hits, lemma_targets([filter_config]))
    return [_span(hit) for hit in hits if hit.targets]


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
    return replace_places(sentence, [(span[0], span[1]) for span in ordered], mask)


def replace_places(sentence: str, places: Iterable[tuple[int, int]], text: str) -> str:
    """Do what `mask_sentence` does at places that are known to be good: in their order, apart, in the sentence."""
    kept, position = [], 0
    for start, end in places:
        kept.append(sentence[position:start])
        position = end
    kept.append(sentence[position:])
    return text.join(kept)


def require_distinct_ids(configs: Sequence[TextFilterConfig]) -> None:
    """Raise a ValueError if two classes have the same id."""
    ids = [config.id for config in configs]
    repeated = sorted({name for name in ids if ids.count(name) > 1})
    if repeated:
        raise ValueError(f"Several classes are called {', '.join(repeated)}; give each its own id=.")


def _spans_by_class(hits: Sequence[Hit]) -> Iterator[tuple[int, list[Span]]]:
    spans: dict[int, list[Span]] = {}
    for hit in hits:
        for index in sorted({target.class_index for target in hit.targets}):
            spans.setdefault(index, []).append(_span(hit))
    yield from spans.items()


def _span(hit: Hit) -> Span:
    return hit.start, hit.end, hit.text
