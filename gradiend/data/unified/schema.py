"""The unified frame: one row is one text with one factual and one alternative word.

Whatever a user hands in (a merged table, a frame per class, a file) becomes a frame with exactly these
columns; nothing after this folder knows another layout.
"""

from __future__ import annotations

UNIFIED_MASKED = "masked"
UNIFIED_SPLIT = "split"
UNIFIED_FACTUAL_CLASS = "factual_class"
UNIFIED_ALTERNATIVE_CLASS = "alternative_class"
UNIFIED_FACTUAL = "factual"
UNIFIED_ALTERNATIVE = "alternative"
UNIFIED_TRANSITION = "transition"

UNIFIED_COLUMNS = (
    UNIFIED_MASKED,
    UNIFIED_SPLIT,
    UNIFIED_FACTUAL_CLASS,
    UNIFIED_ALTERNATIVE_CLASS,
    UNIFIED_FACTUAL,
    UNIFIED_ALTERNATIVE,
    UNIFIED_TRANSITION,
)


def transition_id(factual_class: str, alternative_class: str) -> str:
    """Name the direction of a row.

    Args:
        factual_class: Class of the word that stood in the text.
        alternative_class: Class of the word it is compared with.

    Returns:
        ``"<factual_class>→<alternative_class>"`` (U+2192, no spaces).
    """
    return f"{factual_class}→{alternative_class}"
