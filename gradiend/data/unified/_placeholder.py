"""A placeholder of the author of texts, which becomes `[MASK]` where texts come in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from gradiend.util import PLACEHOLDER


def usual_placeholder(texts: pd.Series, own: str, where: str = "", *, usual_too: bool = False) -> pd.Series:
    """The texts with `[MASK]` in place of `own`, their author's placeholder; values that are no text stay as they are.

    An error says of the place of the texts what `where` does. With `usual_too`, a text may have `[MASK]` instead.
    Raises ValueError for a text without the placeholder, or with both.
    """
    if own == PLACEHOLDER:
        return texts
    is_text = texts.map(lambda text: isinstance(text, str)).astype(bool)
    given = texts[is_text]
    has_own, has_usual = (given.str.contains(one, regex=False).astype(bool) for one in (own, PLACEHOLDER))
    for wrong, what in (
        (has_own & has_usual, f"both {own} (mask_placeholder) and {PLACEHOLDER}: write one of them."),
        (~has_own & ~(has_usual & usual_too), f"no {own}, which mask_placeholder says stands for the word."),
    ):
        if wrong.any():
            first = given[wrong]
            raise ValueError(
                f"{len(first)} of {len(texts)} texts{where} have {what} First: row {first.index[0]!r}, "
                f"{first.iloc[0][:60]!r}."
            )
    return texts.where(~is_text, given.str.replace(own, PLACEHOLDER, regex=False).reindex(texts.index))


def usual_frame(
    frame: pd.DataFrame, column: str, own: str, where: str = "", *, usual_too: bool = False
) -> pd.DataFrame:
    """The frame with the texts of a column as `usual_placeholder` gives them; the given frame stays as it is."""
    if own == PLACEHOLDER or column not in frame:
        return frame
    return frame.assign(**{column: usual_placeholder(frame[column], own, where, usual_too=usual_too)})


def usual_data(
    data: pd.DataFrame | Mapping[str, pd.DataFrame], column: str, own: str
) -> pd.DataFrame | Mapping[str, pd.DataFrame]:
    """`usual_frame` of a table, or of the table of each class."""
    if isinstance(data, pd.DataFrame):
        return usual_frame(data, column, own)
    return {name: usual_frame(frame, column, own, f" of {name!r}") for name, frame in data.items()}


def usual_texts(texts: Sequence[Any], own: str, name: str) -> list[Any]:
    """The texts of the argument `name` of a call; they may have `[MASK]` too."""
    return usual_placeholder(pd.Series(list(texts), dtype=object), own, f" of {name}", usual_too=True).tolist()
