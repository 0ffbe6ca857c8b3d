"""The words of all classes in one pass over each sentence."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from gradiend.data.text.filter_config import TextFilterConfig
from gradiend.data.text.prediction.word_edges import (
    WORD_CHARACTER,
    is_joined_after,
    is_joined_before,
    is_word_character,
)
from gradiend.data.text.prediction.word_lookup import Places, WordLookup, can_look_up
from gradiend.data.text.tags import Tags, parse_tags


@dataclass(frozen=True, slots=True)
class Target:
    """A word of a class, spelled as the user spelled it."""

    word: str
    class_index: int
    tags: Tags | None = None
    """What must hold of the word in the sentence; the surface alone does not tell."""
    is_lemma: bool = False
    """Whether the word stands for all its forms; such a target is never found by its surface."""


class Hit(NamedTuple):
    """A whole word of a sentence that belongs to at least one class: `sentence[start:end] == text`."""

    start: int
    end: int
    text: str
    targets: tuple[Target, ...]


def class_targets(configs: Sequence[TextFilterConfig]) -> list[Target]:
    """Return the words of all classes, those of nested configs with the tags that they inherit."""
    return [
        Target(flat.word, index, None if flat.tags is None else parse_tags(flat.tags), flat.is_lemma)
        for index, config in enumerate(configs)
        for flat in config.flatten()
    ]


class SurfaceMatcher:
    """Finds the words of several classes in a sentence, in one pass whatever the number of classes.

    A match is a whole word: where the target begins or ends with a letter, digit or combining mark, no such
    character may stand next to it. Scripts without spaces between words (Chinese, Japanese, Thai) have no such edges:
    a target is found anywhere, also within a longer word (`他` in `其他`), unless that is a target too. Apostrophes and
    hyphens separate: `they` is found in `they're` and `he` in `he-man`. Case is ignored by the regular expression on
    the sentence itself, so spans index the sentence as it is (`lower()` would change the length of `İ`). Composed and
    decomposed accents are the same, and so are straight and curly apostrophes. Of several targets that begin at one
    place the longest is found; found words do not overlap.
    Tags are not looked at, and lemmas not searched: `TagResolver` does that.

    This is what the regular expression finds. Words are looked up first, which is faster and costs the same for
    any number of targets; the expression runs where a sentence has a word of a target that is more than a word,
    or characters that the lookup does not know.

    Args:
        configs: The classes; a hit names them by their position.
    """

    def __init__(self, configs: Sequence[TextFilterConfig]) -> None:
        targets = [target for target in class_targets(configs) if not target.is_lemma]
        targets.sort(key=lambda target: len(target.word), reverse=True)
        self._targets: dict[str, list[tuple[re.Pattern[str], Target]]] = {}
        for target in targets:
            pattern = re.compile(_spellings(target.word), re.IGNORECASE)
            self._targets.setdefault(_letters(target.word), []).append((pattern, target))
        self._pattern = _compile(list(dict.fromkeys(target.word for target in targets)))
        self._targets_by_text: dict[str, tuple[Target, ...]] = {}
        forms = dict.fromkeys(form for target in targets for form in _forms(target.word))
        self._lookup = WordLookup(forms) if can_look_up(forms) else None

    def find(self, sentence: str) -> list[Hit]:
        """Return all hits of a sentence from left to right."""
        return self.find_in([sentence])[0]

    def find_in(self, sentences: Sequence[str]) -> list[list[Hit]]:
        """Return the hits of each sentence, at less cost than `find` has."""
        return self.hits_at(sentences, self.places(sentences))

    def places(self, sentences: Sequence[str]) -> Places:
        """Return the places of the hits of all sentences."""
        if self._lookup is None:
            return self._search(sentences, range(len(sentences)))
        found, unclear = self._lookup.find(sentences)
        if not unclear:
            return found
        is_clear = ~np.isin(found.number, list(unclear))
        both = np.concatenate([np.stack(found)[:, is_clear], self._search(sentences, sorted(unclear))], axis=1)
        return Places(*both[:, np.argsort(both[0], kind="stable")])

    def _search(self, sentences: Sequence[str], numbers: Iterable[int]) -> Places:
        """Find the places in some of the sentences by the regular expression."""
        found = [
            (number, *match.span())
            for number in numbers
            for match in self._pattern.finditer(sentences[number])
            if _is_whole(sentences[number], match)
        ]
        return Places(*np.array(found, np.int64).reshape(-1, 3).T)

    def hits_at(self, sentences: Sequence[str], places: Places) -> list[list[Hit]]:
        """Return the hits of each sentence at places that were found before."""
        hits: list[list[Hit]] = [[] for _ in sentences]
        for number, start, end in zip(*(column.tolist() for column in places), strict=True):
            text = sentences[number][start:end]
            hits[number].append(Hit(start, end, text, self.targets_of(text)))
        return hits

    def targets_of(self, text: str) -> tuple[Target, ...]:
        """Return the targets that a found text spells; several where classes share a word."""
        found = self._targets_by_text.get(text)
        if found is None:
            # asking the patterns themselves keeps one notion of "the same but for case"
            near = self._targets.get(_letters(text), ())
            found = tuple(target for pattern, target in near if pattern.fullmatch(text))
            self._targets_by_text[text] = found
        return found


def _compile(words: Sequence[str]) -> re.Pattern[str]:
    """Compile longest-first words; the regular expression takes the first alternative that fits."""
    if not words:
        return re.compile(r"(?!)")  # never matches
    if all(is_word_character(word[0]) and is_word_character(word[-1]) for word in words):
        initials = "|".join(sorted({re.escape(form[0]) for word in words for form in _forms(word)}))
        body = "|".join(_spellings(word) for word in words)
        # the look at the first letter spares most words the walk through the alternatives
        return re.compile(rf"(?<!{WORD_CHARACTER})(?={initials})(?:{body})(?!{WORD_CHARACTER})", re.IGNORECASE)
    return re.compile("|".join(_with_own_edges(word) for word in words), re.IGNORECASE)


def _with_own_edges(word: str) -> str:
    before = rf"(?<!{WORD_CHARACTER})" if is_word_character(word[0]) else ""
    after = rf"(?!{WORD_CHARACTER})" if is_word_character(word[-1]) else ""
    return f"{before}{_spellings(word)}{after}"


def _spellings(word: str) -> str:
    forms = [r"\s+".join(map(re.escape, form.split())) for form in _forms(word)]
    return forms[0] if len(forms) == 1 else f"(?:{'|'.join(forms)})"


def _letters(text: str) -> str:
    """What is the same for all texts that one pattern fits, so that few patterns have to be asked."""
    folded = unicodedata.normalize("NFD", text.casefold()).replace("ı", "i")
    return "".join(filter(str.isalnum, folded))


def _forms(word: str) -> list[str]:
    # The apostrophe of a typewriter and that of a printer are one: don't, don’t.
    written = (word, word.replace("’", "'"), word.replace("'", "’"))
    return list(dict.fromkeys(form for one in written for form in (one, *_normalized(one))))


def _normalized(word: str) -> tuple[str, str]:
    return unicodedata.normalize("NFC", word), unicodedata.normalize("NFD", word)


def _is_whole(sentence: str, match: re.Match[str]) -> bool:
    start, end = match.span()
    beside = sentence[start - 1 : start] + sentence[end : end + 1]
    if beside.isascii():
        return True  # the regular expression has seen all there is to see
    before = is_word_character(sentence[start]) and is_joined_before(sentence, start)
    after = is_word_character(sentence[end - 1]) and is_joined_after(sentence, end)
    return not (before or after)
