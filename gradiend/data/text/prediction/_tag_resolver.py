"""What spaCy finds in sentences: tags that must hold of found words, and tokens that must not occur."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, TypeAlias

from gradiend.data.core._spacy_tags import SpacyTagSpec, Tags, TagTest, TokenProperty, check_tags, parse_tags
from gradiend.data.core.spacy_util import SpacyReader
from gradiend.data.text.filter_config import TextFilterConfig
from gradiend.data.text.prediction._matcher import Hit, Target, class_targets

if TYPE_CHECKING:
    from spacy.tokens import Doc, Token

Segment: TypeAlias = tuple[str, list[Hit]]
"""A sentence with the words found in it."""

LemmaTargets: TypeAlias = dict[str, list[Target]]


class TagResolver:
    """Decides by tags which classes the found words belong to, and finds lemmas.

    spaCy parses only sentences with a word found by its surface that has a target with tags. A lemma can have any form,
    so with a lemma among the targets every sentence is parsed. Tags or lemmas without a `spacy_model` are a ValueError.
    """

    def __init__(
        self, configs: Sequence[TextFilterConfig], spacy_model: str | os.PathLike[str] | None = None,
        download_if_missing: bool = False,
    ) -> None:  # fmt: skip
        self._lemmas = lemma_targets(configs)
        lemma = [TagTest(TokenProperty.LEMMA, "lemma", word) for word in self._lemmas]
        tagged = [test for target in class_targets(configs) if target.tags for test in target.tags.tests]
        self._tests = list(dict.fromkeys([*lemma, *tagged]))
        needed = {test.property for test in self._tests}
        if needed and spacy_model is None:
            asking = next(config for config in configs for flat in config.flatten() if flat.tags or flat.is_lemma)
            raise ValueError(
                f"The class {asking.id!r} has spacy_tags or use_lemma, which a spaCy pipeline must read: give "
                "spacy_model=, a name such as 'de_core_news_sm' or the folder of a pipeline."
            )
        self.reader: SpacyReader | None = None
        if needed and spacy_model is not None:
            self.reader = SpacyReader(spacy_model, needed, download_if_missing)

    def load(self) -> None:
        """Load the pipeline, if a class needs it, so that its errors come before the work."""
        if self.reader is not None:
            check_tags(self.reader.nlp, self.reader.model, self._tests)

    @property
    def needs_every_sentence(self) -> bool:
        """Whether sentences without a surface hit must be parsed too, since they may have a lemma."""
        return bool(self._lemmas)

    def resolve_batch(self, batch: Sequence[Segment]) -> list[list[Hit]]:
        """Return for each sentence the hits that remain, see `resolve_doc`."""
        resolved = [hits for _, hits in batch]
        if self.reader is None:
            return resolved
        todo = [
            position
            for position, (_, hits) in enumerate(batch)
            if self.needs_every_sentence or any(target.tags is not None for hit in hits for target in hit.targets)
        ]

        def use(position: int, doc: Doc) -> list[Hit]:
            return resolve_doc(doc, batch[todo[position]][1], self._lemmas)

        remaining = self.reader.read([batch[position][0] for position in todo], use) if todo else []
        for position, hits in zip(todo, remaining, strict=True):
            resolved[position] = hits
        return resolved


def lemma_targets(configs: Sequence[TextFilterConfig]) -> LemmaTargets:
    """Return the targets that are lemmas, by the lemma in folded case."""
    lemmas: dict[str, list[Target]] = {}
    for target in class_targets(configs):
        if target.is_lemma:
            lemmas.setdefault(target.word.casefold(), []).append(target)
    return lemmas


def resolve_doc(doc: Doc, hits: Iterable[Hit], lemmas: LemmaTargets) -> list[Hit]:
    """Return the hits of one parsed sentence with the targets whose tags hold, and its lemmas, from left to right.

    Where a word found by its surface and a lemma overlap, the hit that begins first counts, and the longer of two that
    begin together. Where no hit remains, the hits are returned without targets, so that the reason can be reported.
    """
    remaining = [hit._replace(targets=_fitting(hit.targets, tokens_of(doc, hit))) for hit in hits]
    for token in doc if lemmas else ():
        if targets := lemmas.get(token.lemma_.casefold()):
            remaining.append(Hit(token.idx, token.idx + len(token), token.text, _fitting(targets, [token])))
    return _without_overlaps(hit for hit in remaining if hit.targets) or remaining


def tokens_of(doc: Doc, hit: Hit) -> Iterable[Token]:
    """Return the tokens that share a character with the hit, since spaCy may cut words in another way."""
    return doc.char_span(hit.start, hit.end, alignment_mode="expand") or ()


def _fitting(targets: Iterable[Target], tokens: Iterable[Token]) -> tuple[Target, ...]:
    return tuple(target for target in targets if target.tags is None or any(target.tags.fit(token) for token in tokens))


def _without_overlaps(hits: Iterable[Hit]) -> list[Hit]:
    kept: list[Hit] = []
    for hit in sorted(hits, key=lambda hit: (hit.start, -hit.end)):
        if not kept or hit.start >= kept[-1].end:
            kept.append(hit)
        elif (hit.start, hit.end) == (kept[-1].start, kept[-1].end):
            both = dict.fromkeys((*kept[-1].targets, *hit.targets))
            kept[-1] = hit._replace(targets=tuple(both))
    return kept


_BATCH = 256


class TokenExclusion:
    """Tells which sentences have an excluded token: one with all tags of a dict, or a given lemma in any case."""

    def __init__(
        self, excluded_tags: SpacyTagSpec | Sequence[SpacyTagSpec] | None, excluded_lemmas: Collection[str],
        spacy_model: str | os.PathLike[str] | None, download_if_missing: bool = False,
    ) -> None:  # fmt: skip
        self._tags = _parse(excluded_tags)
        self._lemmas = {lemma.casefold() for lemma in excluded_lemmas}
        self._reader: SpacyReader | None = None
        if not (self._tags or self._lemmas):
            return
        if spacy_model is None:
            raise ValueError(
                "excluded_spacy_tags and lemmas are read by a spaCy pipeline: give the creator spacy_model=, a name "
                "such as 'de_core_news_sm' or the folder of a pipeline."
            )
        tests = [test for tags in self._tags for test in tags.tests]
        needed = {test.property for test in tests} | ({TokenProperty.LEMMA} if self._lemmas else set())
        self._reader = SpacyReader(spacy_model, needed, download_if_missing)
        check_tags(self._reader.nlp, self._reader.model, tests)

    def split(self, sentences: Iterable[str]) -> Iterator[tuple[str, bool]]:
        """Yield each sentence, in its order, with whether it has an excluded token."""
        if self._reader is None:
            yield from ((sentence, False) for sentence in sentences)
            return
        source = iter(sentences)
        while batch := list(islice(source, _BATCH)):
            yield from zip(batch, self._reader.read(batch, self._has_excluded), strict=True)

    def _has_excluded(self, _: int, doc: Doc) -> bool:
        return any(
            (self._lemmas and token.lemma_.casefold() in self._lemmas) or any(tags.fit(token) for tags in self._tags)
            for token in doc
        )


def _parse(excluded: SpacyTagSpec | Sequence[SpacyTagSpec] | None) -> list[Tags]:
    if excluded is None:
        return []
    if isinstance(excluded, Mapping):
        return [parse_tags(excluded)]
    if isinstance(excluded, str) or not isinstance(excluded, Iterable):
        raise TypeError(f"excluded_spacy_tags is a dict or a list of dicts, got {excluded!r:.60}.")
    return [parse_tags(spec) for spec in excluded]
