"""The words of all classes in one pass over each sentence, and where a word begins and ends in any script."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

import numpy as np

from gradiend.data.core._spacy_tags import Tags, parse_tags
from gradiend.data.text.filter_config import TextFilterConfig
from gradiend.data.text.prediction._word_lookup import Places, WordLookup, can_look_up


@dataclass(frozen=True, slots=True)
class Target:
    """A word of a class, spelled as the user spelled it."""

    word: str
    class_index: int
    tags: Tags | None = None
    """Tags that the word must have in the sentence; None asks for none."""
    is_lemma: bool = False
    """Whether the word stands for all its forms; such a target is never found by its surface."""


class Hit(NamedTuple):
    """A whole word of a sentence that belongs to at least one class: `sentence[start:end] == text`."""

    start: int
    end: int
    text: str
    targets: tuple[Target, ...]


def class_targets(configs: Sequence[TextFilterConfig]) -> list[Target]:
    """Return the words of all classes; words of nested configs have the tags that they inherit."""
    return [
        Target(flat.word, index, None if flat.tags is None else parse_tags(flat.tags), flat.is_lemma)
        for index, config in enumerate(configs)
        for flat in config.flatten()
    ]


class SurfaceMatcher:
    """Finds the words of several classes in a sentence, in one pass whatever the number of classes.

    A match is a whole word: where the target begins or ends with a letter, digit or combining mark, no such
    character may stand next to it. Scripts without spaces between words (Chinese, Japanese, Thai) have no such edges:
    a target is found anywhere, also within a longer word (`他` in `其他`) that is no target itself. Apostrophes and
    hyphens separate: `they` is found in `they're` and `he` in `he-man`. Case is ignored without a change of the
    sentence, so that spans index the sentence as it is (`lower()` would change the length of `İ`). Composed and
    decomposed accents are the same, and so are straight and curly apostrophes. Where several targets begin at one
    place, the longest is found; found words do not overlap. `TagResolver` reads tags and finds lemmas.

    A regular expression defines all this. A lookup of words runs first, which is faster and costs the same for any
    number of targets; the expression runs on sentences with a part of a target that is more than a word, or with
    characters that the lookup does not know. A hit names the classes by their position.
    """

    def __init__(self, configs: Sequence[TextFilterConfig]) -> None:
        targets = [target for target in class_targets(configs) if not target.is_lemma]
        targets.sort(key=lambda target: len(target.word), reverse=True)
        self._targets: dict[str, list[tuple[re.Pattern[str], Target]]] = {}
        for target in targets:
            pattern = re.compile(_spellings(target.word), re.IGNORECASE)
            self._targets.setdefault(letters_of(target.word), []).append((pattern, target))
        self._pattern = _compile(list(dict.fromkeys(target.word for target in targets)))
        self._targets_by_text: dict[str, tuple[Target, ...]] = {}
        forms = dict.fromkeys(form for target in targets for form in _forms(target.word))
        self._lookup = WordLookup(forms) if can_look_up(forms) else None

    def find(self, sentence: str) -> list[Hit]:
        """Return all hits of a sentence from left to right."""
        return self.find_in([sentence])[0]

    def find_in(self, sentences: Sequence[str]) -> list[list[Hit]]:
        """Return the hits of each sentence, at less cost than `find`."""
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
            # the patterns decide, so that there is one notion of "the same but for case"
            near = self._targets.get(letters_of(text), ())
            found = tuple(target for pattern, target in near if pattern.fullmatch(text))
            self._targets_by_text[text] = found
        return found


def _compile(words: Sequence[str]) -> re.Pattern[str]:
    """Compile words, the longest first, since a regular expression takes the first alternative that fits."""
    if not words:
        return re.compile(r"(?!)")  # never matches
    if all(is_word_character(word[0]) and is_word_character(word[-1]) for word in words):
        initials = "|".join(sorted({re.escape(form[0]) for word in words for form in _forms(word)}))
        body = "|".join(_spellings(word) for word in words)
        # most words differ in their first letter already, and then no alternative is tried
        return re.compile(rf"(?<!{WORD_CHARACTER})(?={initials})(?:{body})(?!{WORD_CHARACTER})", re.IGNORECASE)
    before, after = rf"(?<!{WORD_CHARACTER})", rf"(?!{WORD_CHARACTER})"
    with_own_edges = (
        (before if is_word_character(word[0]) else "")
        + _spellings(word)
        + (after if is_word_character(word[-1]) else "")
        for word in words
    )
    return re.compile("|".join(with_own_edges), re.IGNORECASE)


def _spellings(word: str) -> str:
    forms = [r"\s+".join(map(re.escape, form.split())) for form in _forms(word)]
    return forms[0] if len(forms) == 1 else f"(?:{'|'.join(forms)})"


def letters_of(text: str) -> str:
    """Return a key that is equal for all texts that one pattern fits, so that few patterns must be tried."""
    folded = unicodedata.normalize("NFD", text.casefold()).replace("ı", "i")
    return "".join(filter(str.isalnum, folded))


def _forms(word: str) -> list[str]:
    # The straight and the curly apostrophe are the same: don't, don’t. So are a symbol and its picture: ❤, ❤️.
    written = [word, word.replace("’", "'"), word.replace("'", "’")]
    plain = word.removesuffix(_AS_PICTURE)
    if plain and unicodedata.category(plain[-1]) == "So":
        written = [plain + _AS_PICTURE, plain, *written]  # the longer one first, as in `_compile`
    composed = ((one, unicodedata.normalize("NFC", one), unicodedata.normalize("NFD", one)) for one in written)
    return list(dict.fromkeys(chain.from_iterable(composed)))


def _is_whole(sentence: str, match: re.Match[str]) -> bool:
    start, end = match.span()
    beside = sentence[start - 1 : start] + sentence[end : end + 1]
    if beside.isascii():
        return True  # the regular expression has checked ASCII neighbours
    before = is_word_character(sentence[start]) and is_joined_before(sentence, start)
    after = is_word_character(sentence[end - 1]) and is_joined_after(sentence, end)
    return not (before or after or _is_part_of_picture(sentence, start, end))


def _is_part_of_picture(sentence: str, start: int, end: int) -> bool:
    """Tell whether a symbol is only a part of an emoji: `👩` of `👩🏽` and of `👩‍⚕️`, and `❤` of `❤️`."""
    after, before = sentence[end : end + 1], sentence[start - 1 : start]
    is_changed = after == _JOINER or after in _SKINS or (bool(after) and _is_mark(after))
    return (_is_symbol(sentence[end - 1]) and bool(after) and is_changed) or (
        _is_symbol(sentence[start]) and before == _JOINER
    )


_JOINER, _AS_PICTURE, _SKINS = "\u200d", "\ufe0f", "\U0001f3fb\U0001f3fc\U0001f3fd\U0001f3fe\U0001f3ff"


def _is_symbol(character: str) -> bool:
    return unicodedata.category(character) in ("So", "Sk") or character == _AS_PICTURE


_UNSPACED = (
    "\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0ecd\u1000-\u109f\u1780-\u17d3"  # Thai, Lao, Burmese, Khmer
    "\u2e80-\u2fdf\u3005-\u3007\u3021-\u303b\u3040-\u30ff\u3100-\u312f\u31a0-\u31ff"  # kana, bopomofo
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9d\U00020000-\U0003ffff"  # Chinese
)
WORD_CHARACTER = rf"[^\W_{_UNSPACED}]"
"""A letter or digit within a word, in scripts with spaces between words. The underscore is none of these: plain-text
corpora write `_emphasis_` with it."""

_IS_UNSPACED = re.compile(f"[{_UNSPACED}]")

_LAST_SIMPLE = "\u00ac"
"""No character up to this character is a combining or a format character."""


def is_word_character(character: str) -> bool:
    """Tell whether a character is a letter, a digit or a mark on one (an accent), in a script with spaces."""
    return _joins(character) or (_is_mark(character) and not is_unspaced(character))


def is_unspaced(character: str) -> bool:
    """Tell whether a character is of a script that puts no spaces between words, such as Chinese, Japanese or Thai."""
    return _IS_UNSPACED.match(character) is not None


def is_joined_before(text: str, start: int) -> bool:
    """Tell whether the word at `start` continues to the left, behind marks and format characters.

    A regular expression sees only the next character, and `\\w` knows neither marks nor joiners: in a decomposed
    `"éhe"` the `he` follows an accent, in `"un\\u00adhe"` a soft hyphen.
    """
    position = start - 1
    while position >= 0 and text[position] > _LAST_SIMPLE and _is_transparent(text[position]):
        position -= 1
    return position >= 0 and _joins(text[position])


def is_joined_after(text: str, end: int) -> bool:
    """Tell whether the word that stops at `end` continues, with a mark on its last letter or a joiner."""
    position = end
    while position < len(text) and text[position] > _LAST_SIMPLE:
        if _is_mark(text[position]):
            return True
        if not _is_transparent(text[position]):
            break
        position += 1
    return position < len(text) and _joins(text[position])


def _joins(character: str) -> bool:
    return character.isalnum() and not is_unspaced(character)


def _is_mark(character: str) -> bool:
    return unicodedata.category(character).startswith("M")


def _is_transparent(character: str) -> bool:
    """Tell whether a character separates no words: it is a mark or format character, but not the zero width space."""
    return character != "\u200b" and (_is_mark(character) or unicodedata.category(character) == "Cf")


def mask_places(text: str, starts: Sequence[int], ends: Sequence[int], mask: str) -> str:
    """Put the mask at places in the text; the places are in their order and do not overlap."""
    if len(starts) == 1:
        return f"{text[: starts[0]]}{mask}{text[ends[0] :]}"
    return mask.join([text[end:start] for end, start in zip((0, *ends), (*starts, None), strict=True)])
