"""Masked sentences of a class, column by column."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Examples:
    """Sentences with the words of a class masked; no masked text twice.

    Columns: with a record for each sentence, Python's garbage collector took a quarter of the time of a pass.
    """

    masked: list[str] = field(default_factory=list)
    """The sentences."""
    label: list[str] = field(default_factory=list)
    """The first masked word, in the casing of the sentence."""
    word: list[str] = field(default_factory=list)
    """The target that the label spells, in the user's spelling; the label again where a lemma was sought."""
    frame: list[str] = field(default_factory=list)
    """The sentence with the words of all classes masked: the same for all examples of a sentence, and for all with one
    masked text. It must not be in two splits."""
    document: list[object] = field(default_factory=list)
    """The document that the sentence comes from."""

    def __len__(self) -> int:
        return len(self.masked)

    def first(self, n: int) -> Examples:
        """The first `n`."""
        return Examples(self.masked[:n], self.label[:n], self.word[:n], self.frame[:n], self.document[:n])
