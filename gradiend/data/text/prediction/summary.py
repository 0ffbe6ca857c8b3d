"""One line that says what a data creation did, and the errors where it found too little."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from gradiend.data.summary import beside_others
from gradiend.data.text.filter_config import TextFilterConfig
from gradiend.data.text.prediction.collector import Collected
from gradiend.data.text.prediction.frames import SplitClass
from gradiend.data.text.prediction.masking import AMBIGUOUS, SEVERAL_CLASSES
from gradiend.data.text.prediction.splits import SplitRatios
from gradiend.data.text.preprocess import LONG_CHARACTERS


def describe_training(
    classes: Sequence[SplitClass], collected: Collected, n_beside_others: int, path: Path | None
) -> str:
    """Say how many rows each class and split got, what was dropped and why, and where the table is."""
    sizes = []
    for item in classes:
        parts = ", ".join(f"{split} {size}" for split, size in item.sizes.items())
        sizes.append(f"{item.config.id} {len(item.examples)} ({parts})")
    n_rows = sum(len(item.examples) for item in classes)
    note = f" {beside_others(n_beside_others, n_rows)}" if n_beside_others else ""
    return (
        f"Training data: {'; '.join(sizes)}; from {collected.n_segments} segments of {collected.n_texts} texts. "
        f"Dropped: {_dropped(collected.dropped)}.{note}{_where(path)}"
    )


def describe_neutral(n_rows: int, dropped: Mapping[str, int], path: Path | None) -> str:
    """Say how many neutral rows there are, what was dropped and why, and where the table is."""
    return f"Neutral data: {n_rows} rows. Dropped: {_dropped(dropped)}.{_where(path)}"


def require_found(
    configs: Sequence[TextFilterConfig],
    collected: Collected,
    source: str,
    near_misses: Callable[[Sequence[TextFilterConfig]], str],
) -> None:
    """Raise a ValueError that names the classes without rows, their targets, and what comes near to each."""
    empty = [config for config, examples in zip(configs, collected.examples, strict=True) if not examples]
    if empty:
        names = "; ".join(f"{config.id!r} (targets: {', '.join(config.words)})" for config in empty)
        if not collected.n_texts:
            raise ValueError(f"No usable sentence for class {names}: there is no text in the base data ({source}).")
        raise ValueError(
            f"No usable sentence for class {names} in {collected.n_segments} segments; "
            f"dropped: {_dropped(collected.dropped)}.{_hint(collected)}{near_misses(empty)}"
        )


def require_minimum(
    configs: Sequence[TextFilterConfig], collected: Collected, sizes: Sequence[int], min_rows: int
) -> None:
    """Raise a ValueError that names the classes whose size is below `min_rows`."""
    few = [f"{config.id!r} has {size}" for config, size in zip(configs, sizes, strict=True) if size < min_rows]
    if few:
        raise ValueError(
            f"Too few rows to split: {', '.join(few)}, but min_rows_per_class_for_split={min_rows}; "
            f"dropped: {_dropped(collected.dropped)}. Use more base data, or lower the minimum (0 switches it off)."
            f"{_hint(collected)}"
        )


def describe_long_rows(collected: Collected, cuts_sentences: bool) -> str | None:
    """Say that rows are paragraphs rather than sentences, and how to cut them; None where they are not."""
    texts = [text for examples in collected.examples for text in examples.masked if len(text) > LONG_CHARACTERS]
    n_rows = sum(map(len, collected.examples))
    if not texts:
        return None
    longest = max(texts, key=len)
    how = (
        "their lines have no ends of sentences that the rules know; cut or drop them (max_chars=…)"
        if cuts_sentences
        else "cut them by preprocess=TextPreprocessConfig(split_to_sentences=True)"
    )
    return (
        f"{len(texts)} of {n_rows} rows are longer than {LONG_CHARACTERS} characters; the longest has "
        f"{len(longest.split())} words. All words of the class in a row are masked, and a model reads only a window "
        f"around the first: {how}."
    )


def describe_empty_splits(classes: Sequence[SplitClass], ratios: SplitRatios, by_document: bool) -> str | None:
    """Say which classes have no row in a split that should have some; None where none is empty."""
    wanted = [split for split, share in zip(ratios.names, ratios.shares, strict=True) if share > 0]
    empty = [f"{split} of {item.config.id!r}" for item in classes for split in wanted if not item.sizes[split]]
    if not empty:
        return None
    why = "there are too few documents, or a few hold most rows" if by_document else "there are too few rows"
    return f"Splits without any row: {', '.join(empty)}; {why}."


def _hint(collected: Collected) -> str:
    if collected.dropped[SEVERAL_CLASSES] or collected.dropped[AMBIGUOUS]:
        return (
            " Sentences with words of several classes are left out; long texts have fewer of them when cut by "
            "preprocess=TextPreprocessConfig(split_to_sentences=True), and keep_several_classes=True keeps them."
        )
    return ""


def _dropped(dropped: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in dropped.items() if count) or "nothing"


def _where(path: Path | None) -> str:
    return f" Written to {path}." if path is not None else ""
