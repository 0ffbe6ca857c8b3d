"""Names of data splits."""

from __future__ import annotations

_SECOND_SPELLINGS = {"val": "validation"}


def normalize_split_name(name: str) -> str:
    """Give a split its canonical name.

    Args:
        name: A split as it is written in data or in a call, such as `"Val"`.

    Returns:
        The name in lower case without surrounding spaces; `"val"` becomes `"validation"`.
    """
    lowered = name.strip().lower()
    return _SECOND_SPELLINGS.get(lowered, lowered)
