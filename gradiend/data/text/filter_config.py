"""A feature class: its words, and the tags that spaCy must find on them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from gradiend.data.core._spacy_tags import SpacyTagSpec, parse_tags
from gradiend.util._checks import require_flag, require_number, require_text, require_whole
from gradiend.util._keywords import strict_keywords

__all__ = ["FlatTarget", "PairedTextFilterConfig", "SpacyTagSpec", "TextFilterConfig"]

GivenTarget: TypeAlias = "str | TextFilterConfig"


class FlatTarget(NamedTuple):
    """A word of a class with the tags that it must have."""

    word: str
    tags: SpacyTagSpec | None
    """The tags of the word's config and of the configs around it; None if there are none."""
    is_lemma: bool
    """Whether the word is a lemma, which stands for all its forms."""


@strict_keywords
@dataclass(init=False)
class TextFilterConfig:
    """A feature class by its words, and where needed by the tags that spaCy finds on them.

    A sentence belongs to the class if it has one of the words as a whole word, in any case, with all tags.

    Args:
        targets: The words; a single string is one word. A target may be several words (`"at least"`); tags must then
            hold of one of these. A nested config adds its words; its tags add to those of this config and win over
            them, and its id, mask and weight have no effect.
        target: One word, in place of `targets`.
        spacy_tags: Tags that the word must have, see `SpacyTagSpec`; these need a `spacy_model`.
        use_lemma: The words are lemmas: `be` finds `is` and `were`, also in nested configs. Lemmas need a
            `spacy_model`, and every sentence is parsed, since the forms of a lemma are not known beforehand.
        id: Name of the class. Default: the first word.
        mask: Text that stands in a masked text in place of the word; training expects `[MASK]` for every tokenizer.
        weight: Rows of the class relative to the other classes, where classes are balanced: 2.0 gives twice as many.
        min_left_context_words: Words that must stand before the first word of the class in a text; None takes the
            number of the data creator. In nested configs, it has no effect.

    Raises:
        ValueError: Both or none of `targets` and `target` are given; a word, tag, id or mask is empty; a lemma has
            several words; or the weight is not a positive number.
        TypeError: An argument is of another type, or unknown; the message names the nearest.
    """

    targets: list[GivenTarget]
    spacy_tags: SpacyTagSpec | None
    use_lemma: bool
    id: str
    mask: str
    weight: float
    min_left_context_words: int | None

    def __init__(
        self, targets: Sequence[GivenTarget] | GivenTarget | None = None, target: str | None = None,
        spacy_tags: SpacyTagSpec | None = None, use_lemma: bool = False, id: str | None = None, mask: str = "[MASK]",
        weight: float = 1.0, min_left_context_words: int | None = None,
    ) -> None:  # fmt: skip
        if targets is not None and target is not None:
            raise ValueError("Give either targets=[...] or target='...', not both.")
        self.targets = _parse_targets(targets if target is None else target)
        if spacy_tags is not None and spacy_tags != {}:
            parse_tags(spacy_tags)
        self.spacy_tags = dict(spacy_tags) if spacy_tags else None
        require_flag("use_lemma", use_lemma)
        self.use_lemma = use_lemma
        self.id = self.words[0] if id is None else id
        require_text("The id of a class (if left out, its first target)", self.id)
        require_text("mask", mask)
        self.mask = mask
        require_number("weight", weight)
        self.weight = weight
        if not (math.isfinite(weight) and weight > 0):
            raise ValueError(f"The weight of class {self.id!r} must be a positive number, got {weight}.")
        require_whole("min_left_context_words", min_left_context_words, 0, none_means="for that of the data creator")
        self.min_left_context_words = min_left_context_words
        for flat in self.flatten():
            if flat.is_lemma and len(flat.word.split()) > 1:
                raise ValueError(f"A lemma is one word, got {flat.word!r}; leave use_lemma out for {self.id!r}.")

    @property
    def words(self) -> list[str]:
        """The words of this config and of nested configs, in their order, none twice."""
        return list(dict.fromkeys(flat.word for flat in self.flatten()))

    @property
    def partners(self) -> dict[str, str]:
        """Word → the word that it is paired with, of this config and of nested ones; see `PairedTextFilterConfig`."""
        found: dict[str, str] = {}
        for target in self.targets:
            if isinstance(target, TextFilterConfig):
                found |= target.partners
        return found

    def get_effective_tags(self, parent_tags: SpacyTagSpec | None = None) -> SpacyTagSpec | None:
        """Return the tags of the config around this config, overridden by its own tags; None if there are none."""
        return {**(parent_tags or {}), **(self.spacy_tags or {})} or None

    def flatten_targets_with_tags(
        self, parent_tags: SpacyTagSpec | None = None
    ) -> list[tuple[str, SpacyTagSpec | None]]:
        """Return each word with its tags.

        Args:
            parent_tags: Tags of the config around this config.

        Returns:
            `(word, tags)` in the order of the targets, words of nested configs in their place; tags are None for a word
            without tags. A word that nested configs give with several tags is there several times.
        """
        return [(flat.word, flat.tags) for flat in self.flatten(parent_tags)]

    def flatten(self, parent_tags: SpacyTagSpec | None = None, as_lemmas: bool = False) -> Iterator[FlatTarget]:
        """Yield what `flatten_targets_with_tags` returns, with whether each word is a lemma.

        `as_lemmas` tells whether the config around this config takes its words as lemmas.
        """
        tags = self.get_effective_tags(parent_tags)
        is_lemma = as_lemmas or self.use_lemma
        for target in self.targets:
            if isinstance(target, str):
                yield FlatTarget(target, tags, is_lemma)
            else:
                yield from target.flatten(tags, is_lemma)


@strict_keywords
@dataclass(init=False)
class PairedTextFilterConfig(TextFilterConfig):
    """A feature class whose words have fixed partners in another class: the alternative of each row is the partner.

        masculine = PairedTextFilterConfig([("actor", "actress"), ("waiter", "waitress")], id="masculine")
        creator = TextPredictionDataCreator(texts, feature_targets=[masculine, masculine.reversed(id="feminine")])

    Args:
        pairs: `(word, partner)` for each word, or word → partner.
        spacy_tags, id, mask, weight, min_left_context_words: See `TextFilterConfig`.

    Raises:
        ValueError: There is no pair, a word is empty or its own partner, or a word has two partners.
        TypeError: `pairs` is neither pairs of words nor a mapping, or an argument is of another type or unknown.
    """

    pairs: dict[str, str]
    """Word of this class → its partner, a word of another class."""

    def __init__(
        self, pairs: Sequence[tuple[str, str]] | Mapping[str, str], spacy_tags: SpacyTagSpec | None = None,
        id: str | None = None, mask: str = "[MASK]", weight: float = 1.0, min_left_context_words: int | None = None,
    ) -> None:  # fmt: skip
        self.pairs = _parse_pairs(pairs)
        super().__init__(
            list(self.pairs), spacy_tags=spacy_tags, id=id, mask=mask, weight=weight,
            min_left_context_words=min_left_context_words,
        )  # fmt: skip

    @property
    def partners(self) -> dict[str, str]:
        """Word → the word that it is paired with."""
        return dict(self.pairs)

    def reversed(self, id: str | None = None) -> PairedTextFilterConfig:
        """Return the class of the partners, with this config's other options.

        Args:
            id: Name of that class. Default: its first word.

        Raises ValueError if two words have one partner, so that its own partner is not clear.
        """
        turned = [(partner, word) for word, partner in self.pairs.items()]
        return PairedTextFilterConfig(turned, self.spacy_tags, id, self.mask, self.weight, self.min_left_context_words)


def _parse_pairs(pairs: Sequence[tuple[str, str]] | Mapping[str, str]) -> dict[str, str]:
    given = list(pairs.items()) if isinstance(pairs, Mapping) else pairs
    wanted = 'pairs is a list such as [("actor", "actress"), …], or a dict word → partner'
    if isinstance(given, str | Set) or not isinstance(given, Iterable):
        raise TypeError(f"{wanted}; got {pairs!r:.60}.")
    parsed: dict[str, str] = {}
    for pair in given:
        if isinstance(pair, str) or not isinstance(pair, Sequence) or len(pair) != 2:
            raise TypeError(f"{wanted}; got {pair!r:.60}.")
        for word in pair:
            require_text("A word of pairs", word)
        word, partner = (word.strip() for word in pair)
        if word.lower() == partner.lower():
            raise ValueError(f"pairs has {word!r} as its own partner.")
        if parsed.setdefault(word, partner) != partner:
            raise ValueError(f"pairs has two partners of {word!r}: {parsed[word]!r} and {partner!r}.")
    if not parsed:
        raise ValueError(f"{wanted}; got none.")
    return parsed


def _parse_targets(targets: Sequence[GivenTarget] | GivenTarget | None) -> list[GivenTarget]:
    if targets is None:
        raise ValueError("A class needs words: give targets=['he', 'she'] or target='they'.")
    if isinstance(targets, Mapping | Set | bytes) or not isinstance(targets, Iterable | TextFilterConfig):
        raise TypeError(
            f"targets is a list of words, or of words and TextFilterConfig; got {targets!r:.60} "
            f"({type(targets).__name__})."
        )
    given = [targets] if isinstance(targets, str | TextFilterConfig) else list(targets)
    if not given:
        raise ValueError("A class needs at least one target, got an empty list.")
    return [_parse_target(target, given) for target in given]


def _parse_target(target: GivenTarget, given: Sequence[GivenTarget]) -> GivenTarget:
    if isinstance(target, TextFilterConfig):
        return target
    if not isinstance(target, str):
        raise TypeError(f"Targets are words or nested TextFilterConfig, but {target!r} is {type(target).__name__}.")
    if not target.strip():
        raise ValueError(f"A target must not be empty, got {given}.")
    return target.strip()
