"""What spaCy must say about a word: part of speech, tag, lemma, morphology."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from spacy.tokens import Token

SpacyTagSpec: TypeAlias = dict[str, str]
"""What must hold of a token, all at once: `pos`, `tag`, `lemma`, `dep`, `ent_type` or a morphological feature
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


_READ: dict[TokenProperty, Callable[[Token], str]] = {
    TokenProperty.POS: lambda token: token.pos_,
    TokenProperty.TAG: lambda token: token.tag_,
    TokenProperty.LEMMA: lambda token: token.lemma_,
    TokenProperty.DEP: lambda token: token.dep_,
    TokenProperty.ENTITY: lambda token: token.ent_type_,
}
_NAMES = {read.value: read for read in _READ} | {"upos": TokenProperty.POS, "xpos": TokenProperty.TAG}


@dataclass(frozen=True, slots=True)
class TagTest:
    """One condition on a token."""

    property: TokenProperty
    key: str
    """Name of the feature for morphology, else that of the property."""
    value: str
    """Of a feature with several values (`PronType=Dem,Rel`), those that must be among them, joined by commas."""

    def holds(self, token: Token) -> bool:
        """Whether the token has the value."""
        if self.property is TokenProperty.MORPHOLOGY:
            return set(self.value.split(",")) <= set(token.morph.get(self.key, []))
        return self.read(token) == self.value

    def read(self, token: Token) -> str:
        """What the token has as value, several joined by commas; empty where it has none."""
        if self.property is TokenProperty.MORPHOLOGY:
            return ",".join(token.morph.get(self.key, []))
        return _READ[self.property](token)


@dataclass(frozen=True, slots=True)
class Tags:
    """A parsed `SpacyTagSpec`."""

    tests: tuple[TagTest, ...]

    def fit(self, token: Token) -> bool:
        """Whether the token has all the values."""
        return all(test.holds(token) for test in self.tests)

    def exclude(self, other: Tags) -> bool:
        """Whether no token fits both: some key has another value there."""
        values = {(test.property, test.key): test.value for test in self.tests}
        return any(values.get((test.property, test.key), test.value) != test.value for test in other.tests)

    def __str__(self) -> str:
        return ", ".join(f"{test.key}={test.value}" for test in self.tests)


def parse_tags(spec: Mapping[str, str]) -> Tags:
    """Turn a tag dict into conditions.

    Args:
        spec: Not empty. `pos`, `POS` and `pos_` are the same, and so for the other properties of tokens;
            every other key is the name of a morphological feature.

    Returns:
        The conditions.

    Raises:
        TypeError: `spec` is no dict, or a key or value no string.
        ValueError: `spec`, a key or a value is empty, or a property is given twice.
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
    """Whether a spaCy token has all the tags; true if there are none."""
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
    return TagTest(TokenProperty.MORPHOLOGY, key.strip(), value.strip())
