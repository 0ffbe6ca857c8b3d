"""factual, alternative and diff: which gradient a GRADIEND reads and which it reproduces."""

from __future__ import annotations

from enum import Enum

from gradiend.util.keywords import one_of


class Side(str, Enum):
    """A gradient of one example: g_f of the factual word, g_a of the alternative, or g_f − g_a."""

    FACTUAL = "factual"
    ALTERNATIVE = "alternative"
    DIFF = "diff"

    @classmethod
    def parse(cls, name: str, value: str | Side) -> Side:
        """The side called `value`, in a message called `name`; "counterfactual" means alternative.

        Raises:
            TypeError: Not a string.
            ValueError: Another string.
        """
        if isinstance(value, Side):
            return value
        return cls(one_of(name, "alternative" if value == "counterfactual" else value, [side.value for side in cls]))

    def __str__(self) -> str:
        return self.value
