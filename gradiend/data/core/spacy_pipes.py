"""Which components of a spaCy pipeline write what on tokens, and what they can write."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any, cast

from gradiend.data.text.tags import TokenProperty

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.pipeline import AttributeRuler

_TAG, _POS, _MORPH = TokenProperty.TAG, TokenProperty.POS, TokenProperty.MORPHOLOGY
_LEMMA, _DEP, _ENTITY = TokenProperty.LEMMA, TokenProperty.DEP, TokenProperty.ENTITY
_SENTENCE = TokenProperty.SENTENCE_START

_WRITES: dict[str, frozenset[TokenProperty]] = {
    "tagger": frozenset({_TAG}),
    "morphologizer": frozenset({_POS, _MORPH}),
    "attribute_ruler": frozenset({_TAG, _POS, _MORPH, _LEMMA, _DEP}),
    "lemmatizer": frozenset({_LEMMA}),
    "trainable_lemmatizer": frozenset({_LEMMA}),
    "parser": frozenset({_DEP, _SENTENCE}),
    "ner": frozenset({_ENTITY}),
    "entity_ruler": frozenset({_ENTITY}),
    "senter": frozenset({_SENTENCE}),
    "sentencizer": frozenset({_SENTENCE}),
    "textcat": frozenset(),
    "textcat_multilabel": frozenset(),
    "spancat": frozenset(),
    "span_ruler": frozenset({_ENTITY}),
    "entity_linker": frozenset(),
    "tok2vec": frozenset(),
    "transformer": frozenset(),
    "curated_transformer": frozenset(),
}
"""Factory → what its component writes. Any other component may write anything."""

_SHARED = frozenset({"tok2vec", "transformer", "curated_transformer"})
"""Components that others listen to."""

_ANY_PATTERN = frozenset({"entity_ruler", "span_ruler"})
"""Components whose patterns may ask for anything that others write."""

_PATTERN_KEYS = {
    "TAG": _TAG,
    "POS": _POS,
    "MORPH": _MORPH,
    "LEMMA": _LEMMA,
    "DEP": _DEP,
    "ENT_TYPE": _ENTITY,
    "ENT_IOB": _ENTITY,
    "ENT_ID": _ENTITY,
    "ENT_KB_ID": _ENTITY,
    "SENT_START": _SENTENCE,
    "IS_SENT_START": _SENTENCE,
}
"""What the patterns of an attribute ruler may ask of a token, where that is written by others."""


def is_known_factory(factory: str) -> bool:
    """Whether a component is spaCy's own, so that it is known what it writes."""
    return factory in _WRITES


def written_by(factory: str) -> frozenset[TokenProperty]:
    """What a component of spaCy's own may write; nothing is known of others."""
    return _WRITES.get(factory, frozenset())


def unneeded_pipes(nlp: Language, needed: Collection[TokenProperty]) -> list[str]:
    """Return the components that can be left out where only some properties are read.

    Components that are not spaCy's own stay, and what stands before them too: nobody knows what they read or write.

    Args:
        nlp: The pipeline.
        needed: What is read.

    Returns:
        Names of enabled components.
    """
    wanted = set(needed)
    unneeded = []
    for name in reversed(nlp.pipe_names):
        factory = nlp.get_pipe_meta(name).factory
        if not is_known_factory(factory):
            break
        if written_by(factory) & wanted:
            wanted |= _reads(nlp, name, factory)
        elif factory not in _SHARED:
            unneeded.append(name)
    return unneeded


def _reads(nlp: Language, name: str, factory: str) -> set[TokenProperty]:
    if factory == "lemmatizer":
        return {_POS, _MORPH}
    if factory in _ANY_PATTERN:
        return set(TokenProperty)
    if factory != "attribute_ruler":
        return set()
    rules: list[dict[str, Any]] = cast("AttributeRuler", nlp.get_pipe(name)).patterns
    keys = {str(key).upper() for rule in rules for pattern in rule["patterns"] for token in pattern for key in token}
    return {_PATTERN_KEYS[key] for key in keys if key in _PATTERN_KEYS}
