"""The named parts of a GRADIEND, as an importance, as an update vector, or both."""

from __future__ import annotations

from typing import Literal

from gradiend.util.keywords import one_of

WeightPart = Literal["encoder-weight", "decoder-weight", "decoder-bias", "decoder-sum"]
RewritePart = Literal["decoder", "encoder-weight", "decoder-weight", "decoder-bias", "decoder-sum"]

WEIGHT_PARTS: tuple[str, ...] = ("encoder-weight", "decoder-weight", "decoder-bias", "decoder-sum")
REWRITE_PARTS: tuple[str, ...] = ("decoder", *WEIGHT_PARTS)


def parse_weight_part(part: str) -> str:
    """Raises ValueError unless `part` is one of `WEIGHT_PARTS`."""
    return one_of("part", part, WEIGHT_PARTS)


def parse_rewrite_part(part: str) -> str:
    """Raises ValueError unless `part` is one of `REWRITE_PARTS`."""
    return one_of("part", part, REWRITE_PARTS)
