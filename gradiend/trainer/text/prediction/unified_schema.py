"""Columns of the unified frame; see `gradiend.data.unified._schema`."""

from gradiend.data.unified._schema import (
    UNIFIED_ALTERNATIVE,
    UNIFIED_ALTERNATIVE_CLASS,
    UNIFIED_FACTUAL,
    UNIFIED_FACTUAL_CLASS,
    UNIFIED_MASKED,
    UNIFIED_SPLIT,
    UNIFIED_TRANSITION,
    transition_id,
)

__all__ = [
    "UNIFIED_ALTERNATIVE",
    "UNIFIED_ALTERNATIVE_CLASS",
    "UNIFIED_FACTUAL",
    "UNIFIED_FACTUAL_CLASS",
    "UNIFIED_MASKED",
    "UNIFIED_SPLIT",
    "UNIFIED_TRANSITION",
    "transition_id",
]
