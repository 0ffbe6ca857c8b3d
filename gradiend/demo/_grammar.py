"""A seeded generator of English-like sentences in which pronouns agree with their antecedent.

The grammar is data: a text is the expansion of a slot such as ``{neutral}``. A slot is looked up first in the bindings
of the text at hand (its scene and the antecedent of its pronoun), then in `RULES`; one of the options is drawn, earlier
ones somewhat more often, and its own slots are expanded in turn. ``{thing.s}`` is a plural.

A text has at most one pronoun, always the subject of a clause: he, she or it (3SG) or they (3PL). Other forms
(him, their, its, …) do not occur, so that a text with its pronoun masked shows the number only through the
antecedent and, in some texts, through the verb after the pronoun.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

PRONOUNS_3SG: Final = ("he", "she", "it")
PRONOUNS_3PL: Final = ("they",)

PRONOUN_SHARE: Final = 0.44
GENERIC_SHARE: Final = 0.06
"""Share of the pronouns without any antecedent."""
NOISE_SHARE: Final = 0.05
"""Share of the pronouns with an antecedent of the other number."""

Options = tuple[str, ...]


@dataclass(frozen=True)
class Scene:
    """Words that occur together: what makes a masked content word partly predictable."""

    person: Options
    did: Options
    thing: Options
    place: Options
    look: Options


def _words(text: str) -> Options:
    return tuple(text.split())


def _scene(person: str, did: str, thing: str, place: str, look: str) -> Scene:
    return Scene(*map(_words, (person, did, thing, place, look)))


SCENES: Final = (
    _scene("baker cook miller", "sold cut wrapped tasted", "loaf cake pie biscuit roll",
           "bakery kitchen mill", "fresh warm sweet"),
    _scene("farmer shepherd herder", "loaded filled moved weighed", "sack barrel bucket cart plough",
           "farm barn field", "heavy full muddy"),
    _scene("sailor captain fisher", "mended pulled tied lost", "net rope sail boat anchor",
           "harbour beach pier", "wet torn salty"),
    _scene("teacher pupil student", "read opened copied studied", "book map poem lesson page",
           "school classroom library", "difficult short clear"),
    _scene("doctor nurse chemist", "prepared checked ordered labelled", "bandage bottle pill cup syringe",
           "hospital clinic ward", "clean safe sterile"),
    _scene("carpenter joiner builder", "built painted repaired polished", "table chair shelf cupboard door",
           "workshop yard attic", "wooden solid rough"),
    _scene("gardener florist botanist", "watered planted picked trimmed", "rose tulip bush hedge flower",
           "garden park greenhouse", "yellow pink fragrant"),
    _scene("musician singer dancer", "played tuned practised heard", "violin flute drum song guitar",
           "theatre stage studio", "loud gentle lovely"),
    _scene("judge lawyer clerk", "signed wrote stamped filed", "letter contract report document form",
           "court office archive", "legal secret official"),
    _scene("driver conductor passenger", "missed boarded watched left", "train tram bus coach wagon",
           "station platform tunnel", "crowded late fast"),
    _scene("hunter ranger woodcutter", "found marked climbed felled", "tree oak branch trunk pine",
           "forest hill valley", "tall green ancient"),
    _scene("painter artist sculptor", "drew framed bought showed", "portrait picture statue sketch vase",
           "museum gallery palace", "famous precious colourful"),
    _scene("tailor weaver shopkeeper", "sewed ironed folded washed", "coat shirt dress scarf hat",
           "shop market cellar", "woollen soft elegant"),
    _scene("soldier knight guard", "sharpened cleaned carried dropped", "sword shield spear helmet banner",
           "castle tower gate", "golden rusty sharp"),
    _scene("engineer mechanic inventor", "tested designed fixed started", "engine machine pump motor clock",
           "factory garage laboratory", "modern noisy powerful"),
    _scene("scientist astronomer pilot", "observed measured described photographed",
           "star planet comet cloud mountain", "observatory island desert", "bright distant strange"),
)  # fmt: skip

IRREGULAR_PLURALS: Final[Mapping[str, str]] = {
    "loaf": "loaves", "shelf": "shelves", "scarf": "scarves", "wolf": "wolves", "mouse": "mice",
    "man": "men", "woman": "women",
}  # fmt: skip

MALE_NAMES: Final = _words("Tom Peter John Martin Paul George Henry Oscar Hugo Felix Leo Simon")
FEMALE_NAMES: Final = _words("Anna Mary Clara Emma Julia Sarah Laura Ida Alice Nora Ruth Helen")
OPEN_NAMES: Final = _words("Robin Alex Sam Kim Charlie")
MALE_KIN: Final = _words("man boy brother father uncle king son")
FEMALE_KIN: Final = _words("woman girl sister mother aunt queen daughter")
ANIMALS: Final = _words("dog cat horse cow goat donkey fox wolf rabbit duck hen pigeon mouse bear pony")

RULES: Final[Mapping[str, Options]] = {
    # Vocabulary that belongs to no scene.
    "animal": ANIMALS,
    "kin": MALE_KIN + FEMALE_KIN,
    "name": MALE_NAMES + FEMALE_NAMES + OPEN_NAMES,
    "size": _words("old small big new large little narrow broken"),
    "trait": _words("young old clever quiet friendly careful honest brave poor rich"),
    "coat": _words("black white brown grey wild tame"),
    "colour": _words("red blue white black green brown grey"),
    "number": _words("two three four five six seven eight nine ten twelve twenty"),
    "many": ("{number}", "many", "several", "some", "a few"),
    "spot": ("river", "bridge", "church", "square", "road", "lake", "well", "wall", "fountain"),
    "side": ("near", "behind", "beside", "opposite"),
    "day": _words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday"),
    "month": _words("January March April May June August October December"),
    "season": ("winter", "summer", "spring", "autumn"),
    "part_of_day": ("morning", "evening", "afternoon", "night"),
    "town": ("London", "Paris", "Rome", "Vienna", "Oslo", "Dublin", "Athens"),
    "adverb": ("again", "once more", "for a while", "every day", "at last", "without a word"),
    "when": ("yesterday", "in the {part_of_day}", "on {day}", "last {season}", "before noon", "at {number}"),
    "maybe_when": ("", "", "{when}"),
    "maybe_adverb": ("", "", "{adverb}"),
    "material": ("wood", "iron", "stone", "glass", "silver", "paper", "clay"),
    "food": ("bread", "soup", "cheese", "honey", "rice"),
    "drink": ("water", "milk", "tea"),

    # Antecedents. What may follow depends on their kind: person, animal or thing.
    "one_person": ("the {person}", "the {person}", "the {trait} {person}", "a {trait} {person}"),
    "two_persons": ("the {person.s}", "the {trait} {person.s}", "{many} {person.s}",
                    "the {number} {person.s}", "the {kin.s}", "{name} and {name}",
                    "the {person} and the {person}"),
    "one_animal": ("the {animal}", "the {coat} {animal}", "a {coat} {animal}"),
    "two_animals": ("the {animal.s}", "the {coat} {animal.s}", "{many} {animal.s}"),
    "one_thing": ("the {thing}", "the {look} {thing}", "a {look} {thing}", "the {size} {thing}"),
    "two_things": ("the {thing.s}", "the {look} {thing.s}", "{many} {thing.s}", "the {number} {thing.s}"),
    "person_link": ("", "", "from {town}", "from the {place}", "who lived {side} the {spot}",
                    "who knew {name}", "with the {colour} umbrella", "who helped the {person}",
                    "who helped the {person.s}"),
    "animal_link": ("", "", "from the {place}", "that lived {side} the {spot}", "with the {colour} ears"),
    "thing_link": ("", "", "from {town}", "in the {place}", "that stood {side} the {spot}",
                   "that belonged to the {person}", "that belonged to the {person.s}"),

    # Predicates in a past tense that does not show number.
    "person_acted": ("{did} the {thing}", "{did} the {thing.s}", "{did} the {look} {thing}",
                     "{did} {many} {thing.s}", "went to the {place}", "came home", "waited {side} the {spot}",
                     "worked in the {place}", "talked to the {person}", "ate some {food}",
                     "walked to the {spot}"),
    "animal_acted": ("slept {side} the {spot}", "ran across the {place}", "drank some {drink}",
                     "hid in the {place}", "followed the {person}", "followed the {kin.s}",
                     "stayed in the {place}"),
    "thing_acted": ("fell on the floor", "stood {side} the {spot}", "stayed in the {place}",
                    "cost {number} coins", "came from {town}", "looked {look}", "became {look}",
                    "disappeared"),
    "any_acted": ("stayed in the {place}", "came from {town}", "stood {side} the {spot}",
                  "went to the {place}", "disappeared", "slept {side} the {spot}", "came home"),
    "person_state": ("tired", "hungry", "happy", "late", "ready", "ill", "busy", "alone", "from {town}"),
    "animal_state": ("hungry", "thirsty", "tired", "afraid", "{coat}", "in the {place}"),
    "thing_state": ("{look}", "{look}", "{size}", "expensive", "made of {material}", "{colour}"),

    "person_tail": ("{when}", "{adverb}", "with the {kin.s}"),
    "animal_tail": ("{when}", "for a while", "every {part_of_day}"),
    "thing_tail": ("{when}", "after the storm"),
    "person_had": ("{number} {thing.s}", "a {look} {thing}"),
    "animal_had": ("a new home", "many friends"),
    "thing_had": ("a new place in the {place}", "many cracks"),

    # Texts with a pronoun.
    "link": ("{{kind}_link}",),
    "only_acted": ("{{kind}_acted}",),
    "acted": ("{{kind}_acted}", "{{kind}_acted} {{kind}_tail}"),
    "state": ("{{kind}_state}",),
    "had": ("{{kind}_had}",),
    "then": ("and then", ", then", "before", "and later", "after", ", but", "and", "while", "because",
             "until"),
    "opener": ("then", "later", "soon", "{when}", "after that", "at last"),
    "pronoun_text": (
        "{who} {link} {acted} {then} {pronoun} {acted}.",
        "{who} {link} {acted} {then} {pronoun} {acted}.",
        "{who} {link} {acted}. {pronoun} {acted}.",
        "{who} {acted}. {opener} {pronoun} {only_acted}.",
        "{when} {who} {link} {only_acted} , and {pronoun} {acted}.",
        "after {pronoun} {acted} , {who} {acted}.",
        "{who} {link} {acted} because {pronoun} {be} {state}.",
        "{who} {acted}. {pronoun} {be} {state}.",
        "{who} {link} {acted} , and now {pronoun} {have} {had}.",
    ),
    "generic_text": (
        "when the {part_of_day} came , {pronoun} {any_acted}.",
        "in the {part_of_day} {pronoun} {any_acted}.",
        "on {day} {pronoun} {any_acted} {maybe_adverb}.",
        "{pronoun} {any_acted} in {month}.",
        "after the storm {pronoun} {any_acted}.",
    ),

    # Texts without a pronoun.
    "neutral": ("{description}", "{work}", "{pair}", "{count}", "{passive}", "{weather}",
                "{geography}", "{calendar}", "{list}"),
    "description": (
        "the {look} {thing} in the {place} was {size} and {colour}.",
        "the {thing.s} in the {place} were {look} and {colour} {maybe_when}.",
        "the {look} {thing} {thing_link} stood {side} the {spot}.",
        "the {look} {thing.s} {thing_link} came from {town}.",
        "a {size} {thing} made of {material} stood in the {place} {maybe_when}.",
        "the {trait} {person} {person_link} was {person_state} {maybe_when}.",
        "the {coat} {animal.s} {animal_link} were {animal_state} {maybe_when}.",
        "the {thing} of the {trait} {person} is {look} , but the {thing.s} are {size}.",
        "the {coat} {animal} {animal_link} {animal_acted}.",
    ),
    "count": (
        "there was a {look} {thing} in the {place} {side} the {spot}.",
        "there were {number} {thing.s} and {number} {thing.s} in the {place}.",
        "the {place} {side} the {spot} had {number} doors and {number} windows.",
        "{number} {thing.s} in the {place} were {look} , and {number} were {size}.",
        "the {look} {thing} from {town} cost {number} coins in {month}.",
        "{number} {person.s} and {number} {kin.s} lived {side} the {spot}.",
    ),
    "weather": (
        "the {part_of_day} was {weather_state} , and the wind blew over the {place} {side} the {spot}.",
        "rain fell on the {place} and the {spot} all {part_of_day}.",
        "in {season} the days in {town} are {weather_state} and the nights are long.",
        "the snow covered the {place} {side} the {spot} in {month}.",
        "the sun shone on the {look} {thing.s} in the {place} {maybe_when}.",
        "dark clouds hung over the {place} in {town} , and the air was {weather_state}.",
    ),
    "weather_state": ("cold", "warm", "wet", "dry", "mild", "windy", "foggy"),
    "geography": (
        "the {place} in {town} lies between the {spot} and the {spot}.",
        "the road from the {place} to the {spot} is {way_state} in {season}.",
        "the {place} {side} the {spot} in {town} is {size}.",
        "the {way_state} way to the {place} leads over the {spot}.",
        "{town} is a {size} town with {many} bridges and a {look} {place}.",
    ),
    "way_state": ("long", "short", "narrow", "safe", "closed"),
    "work": (
        "{name} {did} the {look} {thing} in the {place} {maybe_when}.",
        "the {person} {person_link} {did} the {look} {thing} {maybe_when}.",
        "the {person.s} {person_link} {did} {many} {thing.s} {maybe_when}.",
        "{when} the {person} {person_link} {did} the {thing.s} in the {place}.",
        "{name} gave the {look} {thing} to the {person} {side} the {spot}.",
        "the {trait} {person} showed {name} the {place} and the {thing.s}.",
        "the {kin} of the {trait} {person} {person_acted} {maybe_when}.",
    ),
    "pair": (
        "the {person} {did} the {thing} while the {person.s} {did} the {thing.s}.",
        "{name} {person_acted} , and {name} {person_acted}.",
        "the {thing} in the {place} was {look} , but the {thing.s} were {size}.",
        "the {coat} {animal} {animal_acted} when the {person} came home.",
    ),
    "calendar": (
        "the {place} in {town} opens at {number} in the {part_of_day}.",
        "on {day} and {day} the {place} {side} the {spot} is closed.",
        "the {person.s} of {town} meet in {month} and in {month}.",
        "from {month} to {month} the {place} {side} the {spot} is {weather_state}.",
    ),
    "list": (
        "the {place} in {town} sells {thing.s} , {thing.s} and {thing.s}.",
        "{food} , {drink} and {food} were on the {size} table in the {place}.",
        "the {trait} {person} needs a {thing} , a {thing} and a {look} {thing}.",
    ),
    "passive": (
        "the {look} {thing} was {did_passive} by the {person} {maybe_when}.",
        "the {look} {thing.s} were sent from the {place} to {town} {maybe_when}.",
        "the {look} {thing.s} were given to {name} by the {person.s}.",
    ),
    "did_passive": ("made", "brought", "sold", "found", "carried"),
}  # fmt: skip

_SLOT: Final = re.compile(r"\{(\w+)(\.s)?\}")
_SKEW: Final = 1.3
"""Exponent that makes earlier options more frequent: the first of ten is drawn with probability 0.17."""
_MAX_TRIES: Final = 20


def plural(noun: str) -> str:
    """Return the plural of a noun of this grammar, e.g. ``plural("loaf") == "loaves"``."""
    if noun in IRREGULAR_PLURALS:
        return IRREGULAR_PLURALS[noun]
    if re.search(r"[^aeiou]y$", noun):
        return noun[:-1] + "ies"
    return noun + ("es" if re.search(r"(s|x|ch|sh)$", noun) else "s")


def sentences(n: int = 6000, seed: int = 2025) -> list[str]:
    """Generate texts in the language of the demo model, about 56 % of them without a pronoun.

    Args:
        n: Number of texts.
        seed: Seed of the generator, whose texts are the same on every platform. The model was trained on seed 1 and
            measured on seed 2.

    Returns:
        ``n`` texts of one or two sentences, with natural casing and punctuation. They are distinct unless twenty draws
        in a row give a text that is already there.

    Raises:
        ValueError: ``n`` is negative.
    """
    if n < 0:
        raise ValueError(f"n is the number of sentences and must be 0 or more, got {n}.")
    rng = random.Random(seed)
    texts: list[str] = []
    seen: set[str] = set()
    for _ in range(n):
        # This is drawn once, not at each try: short texts repeat more often, which would shift the share.
        with_pronoun = rng.random() < PRONOUN_SHARE
        for _ in range(_MAX_TRIES):
            text = _text(rng, with_pronoun=with_pronoun)
            if text not in seen:
                break
        seen.add(text)
        texts.append(text)
    return texts


def _text(rng: random.Random, *, with_pronoun: bool) -> str:
    scene = SCENES[rng.randrange(len(SCENES))]
    bindings: dict[str, Options] = dict(vars(scene))
    if not with_pronoun:
        return _polish(_expand("{neutral}", bindings, rng))
    plural_pronoun = rng.random() < 0.5
    if rng.random() < GENERIC_SHARE:
        pronoun = "they" if plural_pronoun else rng.choice(PRONOUNS_3SG)
        return _polish(_expand("{generic_text}", {**bindings, "pronoun": (pronoun,)}, rng))
    plural_antecedent = plural_pronoun != (rng.random() < NOISE_SHARE)
    who, kind, singular_pronouns = _antecedent(plural_antecedent, rng)
    bindings |= {
        "who": (who,), "kind": (kind,), "pronoun": PRONOUNS_3PL if plural_pronoun else (rng.choice(singular_pronouns),),
        "be": ("were",) if plural_pronoun else ("was",), "have": ("have",) if plural_pronoun else ("has",),
    }  # fmt: skip
    return _polish(_expand("{pronoun_text}", bindings, rng))


def _antecedent(is_plural: bool, rng: random.Random) -> tuple[str, str, Options]:
    """Draw the slot of an antecedent, its kind, and the singular pronouns that may refer to that kind."""
    kind = rng.choices(("person", "animal", "thing"), weights=(6, 2, 2))[0]
    either = ("he", "she")
    if is_plural:
        return "{two_" + kind + "s}", kind, either if kind == "person" else ("it",)
    if kind != "person":
        return "{one_" + kind + "}", kind, ("it",)
    name_or_kin = (
        (rng.choice(MALE_NAMES), kind, ("he",)), (rng.choice(FEMALE_NAMES), kind, ("she",)),
        (rng.choice(OPEN_NAMES), kind, either),
        ("the " + rng.choice(MALE_KIN), kind, ("he",)), ("the " + rng.choice(FEMALE_KIN), kind, ("she",)),
    )  # fmt: skip
    return rng.choice((("{one_person}", kind, either), ("{one_person}", kind, either), *name_or_kin))


def _expand(text: str, bindings: Mapping[str, Options], rng: random.Random) -> str:
    """Replace slots, the leftmost first; a word is drawn again only if no other option is left."""
    used: set[str] = set()
    while slot := _SLOT.search(text):
        name, suffix = slot.groups()
        options = bindings[name] if name in bindings else RULES[name]
        fresh = tuple(option for option in options if option not in used) or options
        drawn = fresh[int(len(fresh) * rng.random() ** _SKEW)]
        if drawn and "{" not in drawn:
            used.add(drawn)
        text = text[: slot.start()] + (plural(drawn) if suffix else drawn) + text[slot.end() :]
    return text


def _polish(text: str) -> str:
    """Write single spaces, none before punctuation, "an" before a vowel, and a capital at each sentence start."""
    text = re.sub(r"\s+", " ", text).strip()
    text = re.sub(r" (?=[,.])", "", text)
    text = re.sub(r"\ba(?= [aeio])", "an", text)
    return re.sub(r"(^|\. )([a-z])", lambda match: match[1] + match[2].upper(), text)
