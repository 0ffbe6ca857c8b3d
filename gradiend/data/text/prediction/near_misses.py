"""Why a class has no rows: its words with other tags, or other words like them. Only computed for an error."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from gradiend.data.core.spacy_reader import SpacyReader
from gradiend.data.text.filter_config import TextFilterConfig
from gradiend.data.text.neutral_masking import WORD
from gradiend.data.text.prediction.surface_matcher import Hit, SurfaceMatcher, class_targets
from gradiend.data.text.prediction.tag_resolver import tokens_of

if TYPE_CHECKING:
    from spacy.tokens import Doc

_SEGMENTS = 20_000
_PARSED = 500
_SHOWN = 5


def near_misses(segments: Iterable[str], configs: Sequence[TextFilterConfig], reader: SpacyReader | None) -> str:
    """Say what in a corpus comes near to classes of which nothing was found.

    Args:
        segments: The corpus; its beginning is looked at.
        configs: The classes.
        reader: Reads tags and lemmas, if one of the classes has any.

    Returns:
        A sentence a class, each with a space before it; none for a class that nothing is near to.
    """
    looked_at = list(islice(segments, _SEGMENTS))
    return "".join(_near_to(config, looked_at, reader) for config in configs)


def _near_to(config: TextFilterConfig, looked_at: Sequence[str], reader: SpacyReader | None) -> str:
    if any(flat.is_lemma for flat in config.flatten()):
        return "" if reader is None else _near_words(config, _lemmas(looked_at, reader), "lemmas")
    matcher = SurfaceMatcher([config])
    all_hits = matcher.find_in(looked_at)
    found = list(islice(((text, hits) for text, hits in zip(looked_at, all_hits, strict=True) if hits), _PARSED))
    if not found:
        return _near_words(config, Counter(word for text in looked_at for word in WORD.findall(text)), "words")
    if reader is None or all(flat.tags is None for flat in config.flatten()):
        return ""
    return _other_tags(found, config, reader)


def _other_tags(found: list[tuple[str, list[Hit]]], config: TextFilterConfig, reader: SpacyReader) -> str:
    tests = dict.fromkeys(test for target in class_targets([config]) if target.tags for test in target.tags.tests)
    one_a_key = list({(test.property, test.key): test for test in tests}.values())
    counts: dict[str, Counter[str]] = {test.key: Counter() for test in one_a_key}

    def count(position: int, doc: Doc) -> None:
        for hit in found[position][1]:
            for token in tokens_of(doc, hit):
                for test in one_a_key:
                    counts[test.key][test.read(token) or "none"] += 1

    reader.read([text for text, _ in found], count)
    by_key = "; ".join(
        f"{key}: {', '.join(f'{value} {number}' for value, number in values.most_common(8))}"
        for key, values in counts.items()
    )
    return (
        f" The words of {config.id!r} stand in {len(found)} of the sentences looked at, but with other tags ({by_key})."
    )


def _lemmas(segments: Sequence[str], reader: SpacyReader) -> Counter[str]:
    counts: Counter[str] = Counter()
    reader.read(segments[:_PARSED], lambda _, doc: counts.update(token.lemma_ for token in doc))
    return counts


def _near_words(config: TextFilterConfig, counts: Counter[str], kind: str) -> str:
    spellings: dict[str, Counter[str]] = {}
    for word, number in counts.items():
        spellings.setdefault(word.casefold(), Counter())[word] += number
    matches = (difflib.get_close_matches(word.casefold(), list(spellings), n=3, cutoff=0.7) for word in config.words)
    near = list(dict.fromkeys(match for found in matches for match in found))[:_SHOWN]
    if not near:
        return ""
    shown = ", ".join(f"{spellings[word].most_common(1)[0][0]!r} ({spellings[word].total()})" for word in near)
    return f" The corpus has {kind} like those of {config.id!r}: {shown}."
