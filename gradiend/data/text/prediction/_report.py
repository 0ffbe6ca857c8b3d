"""What the data creator reports: its log lines, and its errors where it found too little."""

from __future__ import annotations

import difflib
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from gradiend.data._summary import beside_others
from gradiend.data.core._output_tables import Output
from gradiend.data.core._splits import SplitRatios
from gradiend.data.core.spacy_util import SpacyReader
from gradiend.data.text._neutral_masking import WORD
from gradiend.data.text._preprocess import LONG_CHARACTERS
from gradiend.data.text.filter_config import TextFilterConfig
from gradiend.data.text.prediction._collector import Collected
from gradiend.data.text.prediction._masking import AMBIGUOUS, SEVERAL_CLASSES
from gradiend.data.text.prediction._matcher import Hit, SurfaceMatcher, class_targets
from gradiend.data.text.prediction._tag_resolver import tokens_of

if TYPE_CHECKING:
    from spacy.tokens import Doc


logger = logging.getLogger(__name__)

INCOMPLETE = "_incomplete_classes"
"""What the name of the file ends with that lists classes without enough rows."""


@dataclass(frozen=True)
class Tally:
    """What the creation of a table counted."""

    dropped: Mapping[str, int]
    """Reason → how many sentences were left out."""
    n_beside_others: int = 0
    """How many rows have a sentence that also holds a word of another class, which no tag tells apart."""


def describe_training(
    classes: Mapping[str, pd.DataFrame], ratios: SplitRatios, collected: Collected, tally: Tally, path: Path | None
) -> str:
    """Say how many rows each class and split got, what was dropped and why, and where the table is."""
    sizes = []
    for name, rows in classes.items():
        splits = ", ".join(f"{split} {size}" for split, size in _sizes(rows, ratios).items())
        sizes.append(f"{name} {len(rows)} ({splits})")
    n_rows, n_beside_others = sum(map(len, classes.values())), tally.n_beside_others
    note = f" {beside_others(n_beside_others, n_rows)}" if n_beside_others else ""
    return (
        f"Training data: {'; '.join(sizes)}; from {collected.n_segments} segments of {collected.n_texts} texts. "
        f"Dropped: {_dropped(collected.dropped)}.{note}{_where(path)}"
    )


def describe_neutral(n_rows: int, dropped: Mapping[str, int], path: Path | None) -> str:
    """Say how many neutral rows there are, what was dropped and why, and where the table is."""
    return f"Neutral data: {n_rows} rows. Dropped: {_dropped(dropped)}.{_where(path)}"


def require_found(
    configs: Sequence[TextFilterConfig], collected: Collected, source: str,
    near_misses: Callable[[Sequence[TextFilterConfig]], str],
) -> None:  # fmt: skip
    """Raise a ValueError that names the classes without rows, their targets, and near words of the corpus."""
    empty = [config for config, examples in zip(configs, collected.examples, strict=True) if examples.empty]
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


def without_incomplete(rows_of: Mapping[str, pd.DataFrame], min_rows: int, target: Output) -> dict[str, pd.DataFrame]:
    """Leave out classes with too few rows, and list them beside the table; a ValueError if fewer than two are left."""
    least = max(1, min_rows)
    kept = {name: rows for name, rows in rows_of.items() if len(rows) >= least}
    left_out = {name: len(rows) for name, rows in rows_of.items() if name not in kept}
    said = ", ".join(f"{name!r} has {size}" for name, size in left_out.items())
    if len(kept) < 2:
        raise ValueError(f"Fewer than two classes have {least} rows: {said}. Use more base data, or lower the minimum.")
    columns = {"label_class": list(left_out), "rows": [str(size) for size in left_out.values()]}
    file = target.write_beside(INCOMPLETE, pd.DataFrame(columns) if left_out else None)
    if left_out:
        logger.warning("Classes with fewer than %d rows are left out: %s.%s", least, said, _where(file))
    return kept


def describe_long_rows(collected: Collected, cuts_sentences: bool) -> str | None:
    """Say that rows are paragraphs rather than sentences, and how to cut them; None where they are not."""
    texts = [text for examples in collected.examples for text in examples["masked"] if len(text) > LONG_CHARACTERS]
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


def describe_empty_splits(classes: Mapping[str, pd.DataFrame], ratios: SplitRatios, by_document: bool) -> str | None:
    """Say which classes have no row in a split that should have some; None where none is empty."""
    wanted = [split for split, share in zip(ratios.names, ratios.shares, strict=True) if share > 0]
    sizes = {name: _sizes(rows, ratios) for name, rows in classes.items()}
    empty = [f"{split} of {name!r}" for name, own in sizes.items() for split in wanted if not own[split]]
    if not empty:
        return None
    why = "there are too few documents, or a few hold most rows" if by_document else "there are too few rows"
    return f"Splits without any row: {', '.join(empty)}; {why}."


def _sizes(rows: pd.DataFrame, ratios: SplitRatios) -> dict[str, int]:
    counts = rows["split"].value_counts()
    return {split: int(counts.get(split, 0)) for split in ratios.names}


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


_SEGMENTS = 20_000
_PARSED = 500
_SHOWN = 5


def near_misses(segments: Iterable[str], configs: Sequence[TextFilterConfig], reader: SpacyReader | None) -> str:
    """Say which words or tags at the beginning of a corpus come near to classes without rows: a sentence for each."""
    looked_at = list(islice(segments, _SEGMENTS))
    return "".join(_near_to(config, looked_at, reader) for config in configs)


def _near_to(config: TextFilterConfig, looked_at: Sequence[str], reader: SpacyReader | None) -> str:
    if any(flat.is_lemma for flat in config.flatten()):
        return "" if reader is None else _near_words(config, _lemmas(looked_at, reader), "lemmas")
    matcher = SurfaceMatcher([config])
    all_hits = matcher.find_in(looked_at)
    found = list(islice(((text, hits) for text, hits in zip(looked_at, all_hits, strict=True) if hits), _PARSED))
    if not found:
        return _near_words(config, Counter(word for text in looked_at for word in WORD.findall(text)), "words")
    if reader is None or all(flat.tags is None for flat in config.flatten()):
        return ""
    return _other_tags(found, config, reader)


def _other_tags(found: list[tuple[str, list[Hit]]], config: TextFilterConfig, reader: SpacyReader) -> str:
    tests = dict.fromkeys(test for target in class_targets([config]) if target.tags for test in target.tags.tests)
    one_a_key = list({(test.property, test.key): test for test in tests}.values())
    counts: dict[str, Counter[str]] = {test.key: Counter() for test in one_a_key}

    def count(position: int, doc: Doc) -> None:
        for hit in found[position][1]:
            for token in tokens_of(doc, hit):
                for test in one_a_key:
                    counts[test.key][test.read(token) or "none"] += 1

    reader.read([text for text, _ in found], count)
    by_key = "; ".join(
        f"{key}: {', '.join(f'{value} {number}' for value, number in values.most_common(8))}"
        for key, values in counts.items()
    )
    return (
        f" The words of {config.id!r} stand in {len(found)} of the sentences looked at, but with other tags ({by_key})."
    )


def _lemmas(segments: Sequence[str], reader: SpacyReader) -> Counter[str]:
    counts: Counter[str] = Counter()
    reader.read(segments[:_PARSED], lambda _, doc: counts.update(token.lemma_ for token in doc))
    return counts


def _near_words(config: TextFilterConfig, counts: Counter[str], kind: str) -> str:
    spellings: dict[str, Counter[str]] = {}
    for word, number in counts.items():
        spellings.setdefault(word.casefold(), Counter())[word] += number
    matches = (difflib.get_close_matches(word.casefold(), list(spellings), n=3, cutoff=0.7) for word in config.words)
    near = list(dict.fromkeys(match for found in matches for match in found))[:_SHOWN]
    if not near:
        return ""
    shown = ", ".join(f"{spellings[word].most_common(1)[0][0]!r} ({spellings[word].total()})" for word in near)
    return f" The corpus has {kind} like those of {config.id!r}: {shown}."
