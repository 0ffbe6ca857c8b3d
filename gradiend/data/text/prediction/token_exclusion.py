"""Sentences without tokens that have certain tags or lemmas."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from gradiend.data.core.spacy_reader import SpacyReader
from gradiend.data.core.tag_values import check_tags
from gradiend.data.text.tags import SpacyTagSpec, Tags, TokenProperty, parse_tags

if TYPE_CHECKING:
    from spacy.tokens import Doc

_BATCH = 256


class TokenExclusion:
    """Tells which sentences have none of the excluded tokens.

    Args:
        excluded_tags: A token with all tags of one of the dicts excludes its sentence; None excludes none.
        excluded_lemmas: So does a token with one of these lemmas, in any case.
        spacy_model: Name or folder of the pipeline.
        download_if_missing: Download a pipeline that is not installed.

    Raises:
        ValueError: There are tags or lemmas but no `spacy_model`, or the pipeline never gives such a tag.
        TypeError: The tags are neither a dict nor a list of dicts.
        ImportError: spaCy is needed and not installed.
        OSError: The pipeline is needed and not installed.
    """

    def __init__(
        self,
        excluded_tags: SpacyTagSpec | Sequence[SpacyTagSpec] | None,
        excluded_lemmas: Collection[str],
        spacy_model: str | os.PathLike[str] | None,
        download_if_missing: bool = False,
    ) -> None:
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
