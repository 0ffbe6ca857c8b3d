"""Tags of spaCy: what a class asks of a word, which components of a pipeline write it, and what they can write."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeAlias, cast

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.pipeline import AttributeRuler
    from spacy.tokens import Token

SpacyTagSpec: TypeAlias = dict[str, str]
"""Conditions that must all hold of a token: `pos`, `tag`, `lemma`, `dep`, `ent_type` or a morphological feature
(`Case`, `Gender`, …) → its value, e.g. `{"pos": "DET", "Case": "Nom"}`."""


class TokenProperty(Enum):
    """What a component of a pipeline writes on tokens."""

    POS = "pos"
    TAG = "tag"
    LEMMA = "lemma"
    DEP = "dep"
    ENTITY = "ent_type"
    MORPHOLOGY = "morphology"
    SENTENCE_START = "sentence start"


_POS, _TAG, _LEMMA = TokenProperty.POS, TokenProperty.TAG, TokenProperty.LEMMA
_DEP, _ENTITY = TokenProperty.DEP, TokenProperty.ENTITY
_MORPH, _SENTENCE = TokenProperty.MORPHOLOGY, TokenProperty.SENTENCE_START
_READ: dict[TokenProperty, Callable[[Token], str]] = {
    _POS: lambda token: token.pos_, _TAG: lambda token: token.tag_, _LEMMA: lambda token: token.lemma_,
    _DEP: lambda token: token.dep_, _ENTITY: lambda token: token.ent_type_,
}  # fmt: skip
_NAMES = {read.value: read for read in _READ} | {"upos": _POS, "xpos": _TAG}


@dataclass(frozen=True, slots=True)
class TagTest:
    """One condition on a token."""

    property: TokenProperty
    key: str
    """Name of the morphological feature, or of the property."""
    value: str
    """The value that the token must have; several values of one feature (`PronType=Dem,Rel`) are joined by commas."""

    def holds(self, token: Token) -> bool:
        """Tell whether the token has the value."""
        if self.property is _MORPH:
            return set(self.value.split(",")) <= set(token.morph.get(self.key, []))
        return self.read(token) == self.value

    def read(self, token: Token) -> str:
        """Return the value of the token (several joined by commas), or an empty string where the token has none."""
        if self.property is _MORPH:
            return ",".join(token.morph.get(self.key, []))
        return _READ[self.property](token)


@dataclass(frozen=True, slots=True)
class Tags:
    """A parsed `SpacyTagSpec`."""

    tests: tuple[TagTest, ...]

    def fit(self, token: Token) -> bool:
        """Tell whether the token has all the values."""
        return all(test.holds(token) for test in self.tests)

    def exclude(self, other: Tags) -> bool:
        """Tell whether no token can fit both, since the two ask for different values of one key."""
        values = {(test.property, test.key): test.value for test in self.tests}
        return any(values.get((test.property, test.key), test.value) != test.value for test in other.tests)

    def __str__(self) -> str:
        return ", ".join(f"{test.key}={test.value}" for test in self.tests)


def parse_tags(spec: Mapping[str, str]) -> Tags:
    """Turn a tag dict into conditions; it must not be empty, nor name a property twice.

    `pos`, `POS` and `pos_` are one property, and so on for the other properties of tokens; every other key is the name
    of a morphological feature.
    """
    if not isinstance(spec, Mapping):
        raise TypeError(f"Tags are a dict such as {{'pos': 'DET', 'Case': 'Nom'}}, got {type(spec).__name__}.")
    if not spec:
        raise ValueError("The tags are empty; leave spacy_tags out, or write e.g. {'pos': 'DET', 'Case': 'Nom'}.")
    tests = tuple(_parse_test(key, value) for key, value in spec.items())
    if len({(test.property, test.key) for test in tests}) < len(tests):
        raise ValueError(f"The tags {dict(spec)} name one property twice; keep one of them.")
    return Tags(tests)


def token_matches_tags(token: Token, tags: SpacyTagSpec) -> bool:
    """Tell whether a spaCy token has all the tags; it has where there are no tags."""
    return not tags or parse_tags(tags).fit(token)


def _parse_test(key: str, value: str) -> TagTest:
    if not (isinstance(key, str) and isinstance(value, str)):
        raise TypeError(
            f"A tag is a string and has one string as value, got {key!r}: {value!r}. For one of several values, "
            "write a nested TextFilterConfig for each."
        )
    if not key.strip() or not value.strip():
        raise ValueError(f"A tag and its value must not be empty, got {key!r}: {value!r}.")
    known = _NAMES.get(key.strip().lower().rstrip("_"))
    if known is not None:
        return TagTest(known, known.value, value.strip())
    return TagTest(_MORPH, key.strip(), value.strip())


_SHARED = {"tok2vec", "transformer", "curated_transformer"}
"""Components whose results other components read."""

_WRITES: dict[str, set[TokenProperty]] = {
    "tagger": {_TAG},
    "morphologizer": {_POS, _MORPH},
    "attribute_ruler": {_TAG, _POS, _MORPH, _LEMMA, _DEP},
    "lemmatizer": {_LEMMA},
    "trainable_lemmatizer": {_LEMMA},
    "parser": {_DEP, _SENTENCE},
    "ner": {_ENTITY},
    "entity_ruler": {_ENTITY},
    "span_ruler": {_ENTITY},
    "senter": {_SENTENCE},
    "sentencizer": {_SENTENCE},
    **{factory: set() for factory in (*_SHARED, "textcat", "textcat_multilabel", "spancat", "entity_linker")},
}
"""Factory → what its component writes. A component of any other factory may write anything."""

_ANY_PATTERN = {"entity_ruler", "span_ruler"}
"""Components whose patterns may ask for anything that other components write."""

_PATTERN_KEYS = {
    "TAG": _TAG, "POS": _POS, "MORPH": _MORPH, "LEMMA": _LEMMA, "DEP": _DEP, "ENT_TYPE": _ENTITY, "ENT_IOB": _ENTITY,
    "ENT_ID": _ENTITY, "ENT_KB_ID": _ENTITY, "SENT_START": _SENTENCE, "IS_SENT_START": _SENTENCE,
}  # fmt: skip
"""Key in the patterns of an attribute ruler → the property that other components write."""


def unneeded_pipes(nlp: Language, needed: Collection[TokenProperty]) -> list[str]:
    """Name the components that can be left out where only some properties are read.

    Components that are not spaCy's own stay, and so do all before them: what such a component reads is not known.
    """
    wanted = set(needed)
    unneeded = []
    for name in reversed(nlp.pipe_names):
        factory = nlp.get_pipe_meta(name).factory
        if factory not in _WRITES:
            break
        if _WRITES[factory] & wanted:
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


logger = logging.getLogger(__name__)

_BY_LABELS = {"tagger": _TAG, "parser": _DEP, "ner": _ENTITY, "entity_ruler": _ENTITY, "span_ruler": _ENTITY}
"""Components whose labels are the values of one property."""


@dataclass
class TagValues:
    """What the components of a pipeline can write."""

    values: dict[str, set[str]] = field(default_factory=dict)
    """`pos`, `tag`, `dep`, `ent_type` and each morphological feature → its values."""
    features: set[str] = field(default_factory=set)
    """The morphological features among the keys."""
    written: set[TokenProperty] = field(default_factory=set)
    """The properties that some component writes."""
    is_complete: bool = True
    """Whether all components are known, so that no other value can occur."""

    def add(self, key: str, value: str) -> None:
        """Note a value of a key."""
        self.values.setdefault(key, set()).add(value)

    def add_morphology(self, text: str) -> None:
        """Note the features of a text such as `Case=Nom|PronType=Dem,Rel`; the key `POS` is the part of speech."""
        for part in text.split("|"):
            key, _, values = part.partition("=")
            for value in values.split(",") if values else ():
                self.add("pos" if key == "POS" else key, value)
                if key != "POS":
                    self.features.add(key)


def tag_values(nlp: Language) -> TagValues:
    """Collect what the components of a pipeline can write."""
    known = TagValues()
    for name in nlp.pipe_names:
        factory = nlp.get_pipe_meta(name).factory
        known.is_complete &= factory in _WRITES
        if factory == "morphologizer":
            for label in nlp.pipe_labels[name]:
                known.add_morphology(label)
        elif factory == "attribute_ruler":
            rules: list[dict[str, Any]] = cast("AttributeRuler", nlp.get_pipe(name)).patterns
            for rule in rules:
                _add_rule(known, nlp, rule["attrs"])
            continue  # an attribute ruler writes only what its rules say
        elif factory in _BY_LABELS:
            for label in nlp.pipe_labels[name]:
                known.add(_BY_LABELS[factory].value, label)
        known.written |= _WRITES.get(factory, set())
    return known


def check_tags(nlp: Language, model: str, tests: Iterable[TagTest]) -> None:
    """Raise a ValueError for a tag that a pipeline never gives; warn where a component of another maker may give it."""
    known = tag_values(nlp)
    for test in tests:
        problem = _problem(known, model, test)
        if problem is None:
            continue
        if known.is_complete:
            raise ValueError(problem)
        logger.warning("%s A component that is not spaCy's may give it all the same.", problem)


def _problem(known: TagValues, model: str, test: TagTest) -> str | None:
    is_feature = test.property is _MORPH
    if test.property not in known.written or (is_feature and not known.features):
        return (
            f"The tag {test.key!r} cannot be read: no component of the spaCy pipeline {model!r} writes "
            f"{'morphological features' if is_feature else test.property.value}. Use another pipeline."
        )
    if is_feature and test.key not in known.features:
        keys = ["pos", "tag", "lemma", "dep", "ent_type", *sorted(known.features)]
        near = near_value(test.key, keys)
        return f"The spaCy pipeline {model!r} knows no tag {test.key!r}.{near} {_listed('It knows', keys)}"
    values = known.values.get(test.key, set())
    if not values:
        return None  # any value is possible, as for lemmas
    for value in test.value.split(",") if is_feature else (test.value,):
        if value not in values:
            near = near_value(value, values)
            return (
                f"The spaCy pipeline {model!r} never gives {test.key}={value!r}.{near} "
                f"{_listed(f'Its values of {test.key} are', sorted(values))}"
            )
    return None


def near_value(given: str, known: Collection[str]) -> str:
    """Return ` Did you mean 'Nom'?` for `Nominative`, `nom` or `Nmo`; an empty string where no value is near."""
    lowered = given.casefold()
    starts = [value for value in known if lowered.startswith(value.casefold()) or value.casefold().startswith(lowered)]
    by_fold = {value.casefold(): value for value in known}
    near = difflib.get_close_matches(lowered, list(by_fold), n=1)
    found = by_fold.get(lowered) or (max(starts, key=len) if starts else by_fold[near[0]] if near else None)
    return f" Did you mean {found!r}?" if found else ""


def _listed(what: str, values: Collection[str]) -> str:
    shown = list(values)[:40]
    more = f" and {len(values) - len(shown)} more" if len(values) > len(shown) else ""
    return f"{what} {', '.join(shown)}{more}."


def _add_rule(known: TagValues, nlp: Language, attributes: dict[Any, Any]) -> None:
    names = {"POS": _POS, "TAG": _TAG, "LEMMA": _LEMMA, "DEP": _DEP}
    for attribute, value in attributes.items():
        name = str(attribute).upper()
        text = nlp.vocab.strings[value] if isinstance(value, int) else value
        if name == "MORPH":
            known.written.add(_MORPH)
            known.add_morphology(text if isinstance(text, str) else "|".join(f"{k}={v}" for k, v in text.items()))
        elif name in names:
            known.written.add(names[name])
            if name != "LEMMA":
                known.add(names[name].value, text)
