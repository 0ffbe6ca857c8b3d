"""Which transitions, from a factual to an alternative class, an evaluation looks at."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from gradiend.data.unified._schema import listed
from gradiend.util._checks import require_flag, require_text
from gradiend.util._keywords import known_keywords, nearest, strict_keywords


@strict_keywords
@dataclass(frozen=True)
class TransitionSpec:
    """Rows of one class that are compared with words of a class.

    Raises TypeError for a class that is no text, or a `symmetric` that is no flag.
    """

    factual_class: str
    """The class of the words in the texts."""
    alternative_class: str
    """The class of the words to compare with; the factual class itself for rows whose alternative is their own word."""
    symmetric: bool = False
    """Whether the opposite direction is meant too."""

    def __post_init__(self) -> None:
        require_text("factual_class", self.factual_class)
        require_text("alternative_class", self.alternative_class)
        require_flag("symmetric", self.symmetric)

    def directed(self) -> list[tuple[str, str]]:
        """The directions as (factual class, alternative class)."""
        one = (self.factual_class, self.alternative_class)
        return list(dict.fromkeys([one, one[::-1]] if self.symmetric else [one]))


@known_keywords("pair")
def pair(a: str, b: str, symmetric: bool = True) -> TransitionSpec:
    """The transition from class `a` to class `b` and, unless it is not `symmetric`, the transition back.

        trainer.evaluate_encoder(transition_selection=[pair("3SG", "3PL"), identity("1SG")])

    Args:
        a: The class of the words in the texts.
        b: The class of the words to compare with.
        symmetric: Whether the texts of `b`, compared with the words of `a`, belong to the selection too.

    Raises:
        TypeError: A class that is no text, or a `symmetric` that is no flag.
        ValueError: One class twice: `identity` is the transition from a class to itself.
    """
    if a == b:
        raise ValueError(f"pair({a!r}, {b!r}) has one class twice: identity({a!r}) compares words with themselves.")
    return TransitionSpec(a, b, symmetric)


@known_keywords("identity")
def identity(c: str) -> TransitionSpec:
    """The rows of class `c`, each with its own word as the alternative.

    Args:
        c: The class.

    Raises TypeError for a class that is no text.
    """
    return TransitionSpec(c, c)


@known_keywords("expand_transition_selection")
def expand_transition_selection(
    selection: Iterable[TransitionSpec | Sequence[str]], classes: Collection[str] | None = None
) -> list[tuple[str, str]]:
    """The directions of a selection as (factual class, alternative class), each once, in the order of the selection.

    Args:
        selection: What `pair`, `identity` and `TransitionSpec` give; (factual class, alternative class) is one
            direction.
        classes: The classes there are. Default: every name is taken.

    Raises:
        TypeError: A selection, or an entry, of another kind.
        ValueError: An empty selection, or an unknown class; the message names the nearest.
    """
    if isinstance(selection, (str, TransitionSpec)) or not isinstance(selection, Iterable):
        raise TypeError(
            f"transition_selection must be a list such as [pair('A', 'B'), identity('C')]; got {selection!r:.60}."
        )
    found = [direction for entry in selection for direction in _parsed(entry).directed()]
    if not found:
        raise ValueError("transition_selection=[] selects nothing: leave it out for the target classes.")
    for name in dict.fromkeys(name for direction in found for name in direction):
        if classes is not None and name not in classes:
            known = f"there are: {listed(classes)}.{nearest(name, classes)}"
            raise ValueError(f"transition_selection has the class {name!r}; {known}")
    return list(dict.fromkeys(found))


def _parsed(entry: object) -> TransitionSpec:
    if isinstance(entry, TransitionSpec):
        return entry
    if isinstance(entry, (tuple, list)) and len(entry) == 2:
        return TransitionSpec(*entry)
    raise TypeError(
        "An entry of transition_selection must be pair('A', 'B'), identity('C'), or "
        f"TransitionSpec(factual_class, alternative_class); got {entry!r:.60}."
    )
