"""Splits in which some word forms are never trained on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from gradiend.data.unified.validate import require_values
from gradiend.util._checks import require_number, require_texts, require_whole
from gradiend.util._keywords import known_keywords, nearest


@known_keywords("hold_out_words")
def hold_out_words(
    rows: pd.DataFrame,
    words: Sequence[str] | None = None,
    *,
    share: float = 0.2,
    seed: int = 0,
    word_col: str = "label",
    class_col: str = "label_class",
    alternative_col: str = "alternative",
    split_col: str = "split",
) -> pd.DataFrame:
    """Move every row with one of some words to the test split, so that training never sees these words.

    A high correlation may only say which word was asked for; on words that were held out it cannot.
    `evaluate_encoder` reports it under held_out_words.

    Args:
        rows: One row per text, of any number of classes. Stays as it is.
        words: What to hold out, in any case. Default: some of each class, drawn by `seed`.
        share: Of each class's distinct words, rounded, at least one where a class has several; one is always left.
        seed: Of the choice.
        word_col: Column of the word that stood in the text.
        class_col: Column of its class.
        alternative_col: Column of the word of the other class; only read where there is one.
        split_col: Column of the split.

    Returns:
        A copy with another `split_col`.

    Raises:
        TypeError: An argument of another type, or an unknown one.
        ValueError: A missing column or value, a word that does not occur, or a class that would keep no word to train
            on.
    """
    if not isinstance(rows, pd.DataFrame):
        raise TypeError(f"rows must be a DataFrame; got {type(rows).__name__}.")
    missing = [name for name in (word_col, class_col, split_col) if name not in rows.columns]
    if missing:
        raise ValueError(
            f"The rows have no column {', '.join(missing)}; they have {', '.join(map(str, rows.columns))}."
        )
    require_number("share", share)
    if not 0 < share < 1:
        raise ValueError(f"share must lie between 0 and 1; got {share!r}.")
    require_whole("seed", seed, 0)
    forms = require_values(rows[word_col], f"word in {word_col!r}").str.lower()
    classes = require_values(rows[class_col], f"class in {class_col!r}")
    by_class = {str(name): sorted(set(group)) for name, group in forms.groupby(classes)}
    chosen = (
        _drawn(by_class, share, seed) if words is None else {word.lower() for word in require_texts("words", words)}
    )
    for word in sorted(chosen - set(forms)):
        raise ValueError(f"No row has the word {word!r}.{nearest(word, sorted(set(forms)))}")
    for name, known in by_class.items():
        if not set(known) - chosen:
            raise ValueError(f"Holding out {', '.join(sorted(chosen))} leaves class {name!r} no word to train on.")
    held = forms.isin(chosen)
    if alternative_col in rows.columns:
        held |= rows[alternative_col].str.lower().isin(chosen)
    return rows.assign(**{split_col: rows[split_col].mask(held, "test")})


def _drawn(by_class: dict[str, list[str]], share: float, seed: int) -> set[str]:
    generator = np.random.default_rng(seed)
    chosen: set[str] = set()
    for words in by_class.values():
        if len(words) > 1:
            number = min(len(words) - 1, max(1, round(share * len(words))))
            chosen.update(generator.choice(words, number, replace=False).tolist())
    if not chosen:
        raise ValueError("No class has several words, so none can be held out: each would have nothing to train on.")
    return chosen
