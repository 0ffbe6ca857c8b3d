"""Which classes are compared: two target classes, each of which is one class of the data or several merged ones."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from gradiend.data.unified._schema import class_name, listed, parse_pair
from gradiend.util._checks import require_ordered
from gradiend.util._keywords import nearest


@dataclass(frozen=True)
class Contrast:
    """Two target classes, and the classes of the data (base classes) that belong to each."""

    pair: tuple[str, str]
    """The target classes."""
    target_of: Mapping[str, str]
    """Base class → its target class."""
    groups: tuple[frozenset[str], ...] | None = None
    """Base classes are compared within these groups only; None compares all."""

    @classmethod
    def of_pair(cls, pair: Sequence[str]) -> Contrast:
        """Contrast two classes as they are in the data; the errors are those of `parse_pair`."""
        first, second = parse_pair(pair)
        return cls((first, second), {first: first, second: second})

    @property
    def merges(self) -> bool:
        """Whether a target class has another name, or more classes, than the data."""
        return any(base != target for base, target in self.target_of.items())

    def other(self, target: str) -> str:
        """Return the other target class."""
        return self.pair[1] if target == self.pair[0] else self.pair[0]

    def includes(self, base: str) -> bool:
        """Tell whether the words of a base class are compared with those of any other class."""
        return base in self.target_of and (self.groups is None or any(base in group for group in self.groups))

    def allows(self, factual: str, alternative: str) -> bool:
        """Tell whether a word of one base class may be compared with a word of another."""
        if not (factual in self.target_of and alternative in self.target_of):
            return False
        if self.target_of[factual] == self.target_of[alternative]:
            return False
        return self.groups is None or any({factual, alternative} <= group for group in self.groups)

    def partners(self, base: str) -> list[str]:
        """List the base classes whose words are alternatives for a word of `base`."""
        return [name for name in self.target_of if self.allows(base, name)]

    def require_bases(self, available: Collection[str]) -> None:
        """Raise a ValueError if the data lacks a class that is merged, or named in a transition group."""
        for base, target in self.target_of.items():
            if base != target and base not in available:
                raise ValueError(
                    f"class_merge_map puts {base!r} into {target!r}, but the data has no rows of it; "
                    f"it has: {listed(available)}.{nearest(base, available)}"
                )
        for name in sorted({name for group in self.groups or () for name in group} - set(available)):
            raise ValueError(
                f"class_merge_transition_groups names {name!r}, but the data has no rows of it; it has: "
                f"{listed(available)}.{nearest(name, available)}"
            )


@dataclass(frozen=True)
class ClassMerge:
    """Classes of the data that count as one."""

    bases_of: Mapping[str, tuple[str, ...]]
    """Merged class → its base classes."""
    groups: tuple[frozenset[str], ...] | None = None
    """Base classes are compared within these groups only; None compares all."""

    @classmethod
    def parse(
        cls, class_merge_map: Mapping[str, Sequence[str]], transition_groups: Iterable[Collection[str]] | None = None
    ) -> ClassMerge:
        """Check the arguments of a user: merged class → base classes, and groups of base classes, which may overlap.

        Raises TypeError unless they are a mapping to lists of names and a list of lists of names; ValueError for no
        classes, an empty group, or a base class in two merged classes.
        """
        if not isinstance(class_merge_map, Mapping):
            raise TypeError(
                "class_merge_map must map each merged class to its classes, such as "
                f"{{'singular': ['1SG', '3SG'], 'plural': ['1PL', '3PL']}}; got {class_merge_map!r}."
            )
        bases_of = {
            class_name(name): _names(bases, f"class_merge_map[{name!r}]") for name, bases in class_merge_map.items()
        }
        if not bases_of:
            raise ValueError("class_merge_map is empty: give it merged classes, or leave it out.")
        seen: dict[str, str] = {}
        for merged, bases in bases_of.items():
            for base in bases:
                if base in seen:
                    raise ValueError(
                        f"class_merge_map has {base!r} twice, in {seen[base]!r} and in {merged!r}: a class belongs to "
                        "one merged class only."
                    )
                seen[base] = merged
        return cls(bases_of, None if transition_groups is None else _parse_groups(transition_groups))

    def name_of(self, base: str) -> str | None:
        """Return the merged class of a base class, or None."""
        return next((merged for merged, bases in self.bases_of.items() if base in bases), None)

    def contrast(self, pair: Sequence[str]) -> Contrast:
        """Contrast two of the merged classes; a class that is not merged stands for itself."""
        first, second = parse_pair(pair)
        for name in (first, second):
            merged = self.name_of(name)
            if name not in self.bases_of and merged is not None:
                raise ValueError(
                    f"The target class {name!r} is merged into {merged!r}: name {merged!r}, or take {name!r} out of "
                    "class_merge_map."
                )
        target_of = {base: name for name in (first, second) for base in self.bases_of.get(name, (name,))}
        contrast = Contrast((first, second), target_of, self.groups)
        if not any(contrast.partners(base) for base in target_of):
            raise ValueError(
                f"No transition group has a class of {first!r} and one of {second!r}, so nothing would be compared: "
                "class_merge_transition_groups lists classes of the data that are compared with each other."
            )
        return contrast


def _parse_groups(groups: Iterable[Collection[str]]) -> tuple[frozenset[str], ...]:
    if isinstance(groups, str | Mapping):
        raise TypeError(
            "class_merge_transition_groups must be a list of lists of classes, such as "
            f"[['1SG', '1PL'], ['3SG', '3PL']]; got {groups!r}."
        )
    return tuple(
        frozenset(_names(group, "a group of class_merge_transition_groups", ordered=False)) for group in groups
    )


def _names(names: object, what: str, *, ordered: bool = True) -> tuple[str, ...]:
    if isinstance(names, str) or not isinstance(names, Collection):
        raise TypeError(f"{what} must be a list of class names; got {names!r}.")
    if ordered:
        require_ordered(what, names)
    if not names:
        raise ValueError(f"{what} is empty: list its classes.")
    return tuple(map(class_name, names))
