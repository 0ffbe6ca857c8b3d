"""Which tags a pipeline can give, asked before the work: a value it never gives would find nothing."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from gradiend.data.core.spacy_pipes import is_known_factory, written_by
from gradiend.data.text.tags import TagTest, TokenProperty

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.pipeline import AttributeRuler

logger = logging.getLogger(__name__)

_BY_LABELS = {
    "tagger": TokenProperty.TAG,
    "parser": TokenProperty.DEP,
    "ner": TokenProperty.ENTITY,
    "entity_ruler": TokenProperty.ENTITY,
    "span_ruler": TokenProperty.ENTITY,
}
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
    """Whether all components are known, so that nothing else can come."""

    def add(self, key: str, value: str) -> None:
        """Note a value of a key."""
        self.values.setdefault(key, set()).add(value)

    def add_morphology(self, text: str) -> None:
        """Note what stands in a text such as `Case=Nom|PronType=Dem,Rel`; `POS` among it is the part of speech."""
        for part in text.split("|"):
            key, _, values = part.partition("=")
            for value in values.split(",") if values else ():
                self.add("pos" if key == "POS" else key, value)
                if key != "POS":
                    self.features.add(key)


def tag_values(nlp: Language) -> TagValues:
    """Ask the components of a pipeline what they can write."""
    known = TagValues()
    for name in nlp.pipe_names:
        factory = nlp.get_pipe_meta(name).factory
        known.is_complete &= is_known_factory(factory)
        if factory == "morphologizer":
            for label in nlp.pipe_labels[name]:
                known.add_morphology(label)
        elif factory == "attribute_ruler":
            rules: list[dict[str, Any]] = cast("AttributeRuler", nlp.get_pipe(name)).patterns
            for rule in rules:
                _add_rule(known, nlp, rule["attrs"])
            continue  # it writes what its rules say, which may be little
        elif factory in _BY_LABELS:
            for label in nlp.pipe_labels[name]:
                known.add(_BY_LABELS[factory].value, label)
        known.written |= written_by(factory)
    return known


def check_tags(nlp: Language, model: str, tests: Iterable[TagTest]) -> None:
    """Refuse tags that a pipeline never gives.

    Args:
        nlp: The pipeline.
        model: Its name, for the message.
        tests: What is asked of its tokens.

    Raises:
        ValueError: No component writes the key, or never with that value. Where a component is not spaCy's own, nobody
            knows what else it writes: then a value beyond the known ones is a warning in the log.
    """
    known = tag_values(nlp)
    for test in tests:
        problem = _problem(known, model, test)
        if problem is None:
            continue
        if known.is_complete:
            raise ValueError(problem)
        logger.warning("%s A component of its own may give it all the same.", problem)


def _problem(known: TagValues, model: str, test: TagTest) -> str | None:
    is_feature = test.property is TokenProperty.MORPHOLOGY
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
        return None  # the values are open, as those of lemmas are
    for value in test.value.split(",") if is_feature else (test.value,):
        if value not in values:
            near = near_value(value, values)
            return (
                f"The spaCy pipeline {model!r} never gives {test.key}={value!r}.{near} "
                f"{_listed(f'Its values of {test.key} are', sorted(values))}"
            )
    return None


def near_value(given: str, known: Collection[str]) -> str:
    """` Did you mean 'Nom'?` for `Nominative`, `nom` or `Nmo`; an empty string where nothing is near."""
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
    names = {"POS": TokenProperty.POS, "TAG": TokenProperty.TAG, "LEMMA": TokenProperty.LEMMA, "DEP": TokenProperty.DEP}
    for attribute, value in attributes.items():
        name = str(attribute).upper()
        text = nlp.vocab.strings[value] if isinstance(value, int) else value
        if name == "MORPH":
            known.written.add(TokenProperty.MORPHOLOGY)
            known.add_morphology(text if isinstance(text, str) else "|".join(f"{k}={v}" for k, v in text.items()))
        elif name in names:
            known.written.add(names[name])
            if name != "LEMMA":
                known.add(names[name].value, text)
