"""Training and neutral data out of raw text."""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import pandas as pd

from gradiend.data.core.base_loader import BaseData, resolve_base_data
from gradiend.data.core.table_files import parse_table_format, prepare_table_file, write_table
from gradiend.data.summary import DataSummary
from gradiend.data.text.filter_config import SpacyTagSpec, TextFilterConfig
from gradiend.data.text.prediction.balance import Balance, balanced_counts, parse_balance
from gradiend.data.text.prediction.class_checks import parse_classes
from gradiend.data.text.prediction.collector import BALANCING, Collected, collect_examples, collect_neutral
from gradiend.data.text.prediction.creation_report import Creation
from gradiend.data.text.prediction.frames import (
    SplitClass,
    minimal_frame,
    parse_format,
    per_class_frames,
    unified_frame,
)
from gradiend.data.text.prediction.near_misses import near_misses
from gradiend.data.text.prediction.splits import SplitRatios, assign_splits
from gradiend.data.text.prediction.summary import (
    describe_neutral,
    describe_training,
    require_found,
    require_limit_allows_split,
    require_minimum,
)
from gradiend.data.text.prediction.tag_resolver import TagResolver
from gradiend.data.text.prediction.token_exclusion import TokenExclusion
from gradiend.data.text.preprocess import TextPreprocessConfig, iter_segments, sentence_splitter
from gradiend.util.placeholder import PLACEHOLDER

logger = logging.getLogger(__name__)


class TextPredictionDataCreator:
    """Builds masked examples of feature classes, and texts without the feature, from raw text.

    The same arguments give the same rows.

    Args:
        base_data: Texts: a list, a DataFrame, or the path of a CSV, Parquet or text file (see
            `resolve_base_data`). Loaded at once, in an order that
            `seed` decides.
        text_column: Column with the texts.
        base_max_size: Use at most so many texts of `base_data`.
        preprocess: How texts are cut into sentences and filtered; None uses them as they are.
        spacy_model: Name of an installed spaCy pipeline, or the folder of one, that reads tags and lemmas;
            needed if a class has any. Loaded at once, before the texts.
        feature_targets: The classes. Training data needs two at least, neutral data one at least or excluded
            words.
        seed: Decides order, splits and alternatives.
        download_if_missing: Download a spaCy pipeline that is not installed.
        output_dir: Folder for `<training_basename>.<output_format>` and
            `<neutral_basename>.<output_format>`; None writes no files.
        training_basename: File name of the training table.
        neutral_basename: File name of the neutral table.
        output_format: `"csv"` or `"parquet"`.

    Raises:
        ValueError: Two classes with one id, one word in two classes that no tag tells apart, tags or lemmas
            without a `spacy_model` or unknown to it, an unknown output format, or a file without the column.
        TypeError: `base_data` or `feature_targets` is of another type.
        FileNotFoundError: The file does not exist.
        ImportError: spaCy is needed and not installed.
        OSError: The spaCy pipeline is needed and not installed.
    """

    def __init__(
        self,
        base_data: BaseData,
        text_column: str = "text",
        base_max_size: int | None = None,
        *,
        preprocess: TextPreprocessConfig | None = None,
        spacy_model: str | PathLike[str] | None = None,
        feature_targets: Sequence[TextFilterConfig] | None = None,
        seed: int = 42,
        download_if_missing: bool = True,
        output_dir: str | PathLike[str] | None = None,
        training_basename: str = "training",
        neutral_basename: str = "neutral",
        output_format: str = "csv",
    ) -> None:
        self.text_column = text_column
        self.preprocess = preprocess
        self.spacy_model = spacy_model
        self.download_if_missing = download_if_missing
        self.classes = parse_classes(feature_targets)
        self._resolver = TagResolver(self.classes, spacy_model, download_if_missing)
        self._resolver.load()
        self._splitter = sentence_splitter(preprocess, spacy_model, download_if_missing)
        self.seed = seed
        self.output_dir = None if output_dir is None else Path(output_dir)
        self.training_basename = training_basename
        self.neutral_basename = neutral_basename
        self.output_format = parse_table_format(output_format)
        self._created: Creation | None = None
        self._texts = resolve_base_data(base_data, text_column, base_max_size, seed=seed)

    def generate_training_data(
        self,
        max_size_per_class: int | None = None,
        format: str = "per_class",
        *,
        balance: Balance = "try",
        output: str | PathLike[str] | None = None,
        train_ratio: float = 0.8,
        val_ratio: float = 0.1,
        test_ratio: float = 0.1,
        min_rows_per_class_for_split: int = 10,
    ) -> dict[str, pd.DataFrame] | pd.DataFrame:
        """Find sentences with a word of exactly one class, mask its words and divide the rows into splits.

        All words of the class are masked; the label is the first one, cased as in the text. Sentences with
        words of two classes are dropped, and so are repetitions of a masked text within a class. Where tags decide
        the class of all found words of a sentence, it gives a row for each class, with the words of that class
        masked and the others left. All rows of a sentence are in one split, and so is a masked text that two
        classes share.

        Args:
            max_size_per_class: Rows a class at most; the corpus is read until every class has them.
            format: `"per_class"`: class id → frame with masked, label, split, and the label again in a
                column named like the class. `"minimal"`: one frame with masked, label, label_class, split.
                `"unified"`: one frame with masked, split, label_class, label, feature_class_id,
                alternative, alternative_class, transition; one row for each other class, whose word is drawn
                by frequency and cased like the label.
            balance: `"try"` (or True) caps every class at the size of the smallest, in proportion to the
                classes' weights; False or None keeps all rows.
            output: File for the table (`.csv` or `.parquet`), in place of the one in `output_dir`. The
                file holds the unified table, whatever the format.
            train_ratio: Share of the split `train`.
            val_ratio: Share of the split `validation`.
            test_ratio: Share of the split `test`.
            min_rows_per_class_for_split: Rows that each class must have; 0 switches the check off.

        Returns:
            A dict of frames or one frame, see `format`.

        Raises:
            ValueError: Fewer than two classes, an unknown format or balance, ratios that do not sum to 1, a
                class without rows (named with its targets) or with fewer than the minimum.
            OSError: The output folder cannot be written to; found out before the work.
            ImportError: Parquet without pyarrow.
        """
        kind = parse_format(format)
        is_balanced = parse_balance(balance)
        ratios = SplitRatios(train_ratio, val_ratio, test_ratio)
        require_limit_allows_split(max_size_per_class, min_rows_per_class_for_split)
        if len(self.classes) < 2:
            raise ValueError(
                f"Training data contrasts at least two classes, but feature_targets has {len(self.classes)}; "
                "add another TextFilterConfig."
            )
        path = self._output_file(output, self.training_basename)

        collected = collect_examples(
            self._texts,
            self.classes,
            preprocess=self.preprocess,
            masks=self._masks(),
            limit=max_size_per_class,
            resolver=self._resolver,
            splitter=self._splitter,
        )
        require_found(collected, self._near_misses)
        sizes = [len(found.by_text) for found in collected.classes]
        if is_balanced:
            sizes = balanced_counts(sizes, [config.weight for config in self.classes])
        require_minimum(collected, sizes, min_rows_per_class_for_split)
        classes = self._split(collected, sizes, ratios)
        self._created = Creation(minimal_frame(classes), [config.id for config in self.classes], collected.dropped)
        unified = unified_frame(classes, self._rng("alternatives"))
        if path is not None:
            write_table(unified, path)
        logger.info(describe_training(classes, collected, len(self._texts), path))
        if kind == "per_class":
            return per_class_frames(classes)
        return unified if kind == "unified" else minimal_frame(classes)

    def generate_neutral_data(
        self,
        base_data: BaseData | None = None,
        additional_excluded_words: Sequence[str] | None = None,
        excluded_spacy_tags: SpacyTagSpec | Sequence[SpacyTagSpec] | None = None,
        *,
        max_size: int | None = None,
        output: str | PathLike[str] | None = None,
    ) -> pd.DataFrame:
        """Find texts without any word of any class, whatever its tags.

        A lemma of a class excludes all its forms, which takes parsing every text that has none of the words.

        Args:
            base_data: Other texts than the creator's own; cut and filtered in the same way.
            additional_excluded_words: Further words that must not occur, in any case.
            excluded_spacy_tags: A token with all these tags must not occur; of a list of dicts, with all tags of
                any of them. Needs the creator's `spacy_model`.
            max_size: Rows at most.
            output: File for the table (`.csv` or `.parquet`), in place of the one in `output_dir`.

        Returns:
            A frame with the column text; empty, with a warning in the log, if nothing is left.

        Raises:
            ValueError: Nothing to exclude, `max_size` below 1, tags without a `spacy_model` or unknown to it.
            OSError: The output folder cannot be written to; found out before the work.
            ImportError: Parquet without pyarrow.
        """
        if max_size is not None and max_size < 1:
            raise ValueError(f"max_size must be at least 1, or None for all rows; got {max_size}.")
        exclusion = TokenExclusion(excluded_spacy_tags, self._lemmas(), self.spacy_model, self.download_if_missing)
        excluded = self._excluded(additional_excluded_words, excluded_spacy_tags is not None)
        path = self._output_file(output, self.neutral_basename)
        texts = self._texts if base_data is None else resolve_base_data(base_data, self.text_column, seed=self.seed)
        neutral, dropped = collect_neutral(
            texts,
            excluded,
            preprocess=self.preprocess,
            masks=self._masks(),
            limit=max_size,
            exclusion=exclusion,
            splitter=self._splitter,
        )
        frame = pd.DataFrame({"text": pd.Series(neutral, dtype=str)})
        if path is not None:
            write_table(frame, path)
        logger.log(logging.INFO if neutral else logging.WARNING, describe_neutral(len(frame), dropped, path))
        return frame

    def summary(self, tokenizer: Any = None) -> DataSummary:
        """What the training data that was generated last is made of.

        Args:
            tokenizer: Whose tokens the words are told in: a tokenizer, or its name or path; None tells none.

        Returns:
            A report to print, to show in a notebook, or to take as a dict (`to_dict`).

        Raises:
            ValueError: No training data has been generated yet.
        """
        if self._created is None:
            raise ValueError("There is nothing to sum up yet: call generate_training_data() first.")
        return self._created.summary(tokenizer)

    def _split(self, collected: Collected, sizes: Sequence[int], ratios: SplitRatios) -> list[SplitClass]:
        """Keep the first rows of each class, as many as `sizes` says, and give each its split."""
        kept = []
        for found, size in zip(collected.classes, sizes, strict=True):
            kept.append(found.examples[:size])
            collected.dropped[BALANCING] += len(found.by_text) - size
        texts = {
            config.id: [example.frame for example in rows] for config, rows in zip(self.classes, kept, strict=True)
        }
        splits = assign_splits(texts, ratios, self._rng("splits"))
        return [SplitClass(config, rows, splits[config.id]) for config, rows in zip(self.classes, kept, strict=True)]

    def _near_misses(self, config: TextFilterConfig) -> str:
        segments = iter_segments(self._texts, self.preprocess, splitter=self._splitter)
        return near_misses(segments, config, self._resolver.reader)

    def _lemmas(self) -> list[str]:
        return [flat.word for config in self.classes for flat in config.flatten() if flat.is_lemma]

    def _excluded(self, additional: Sequence[str] | None, has_tags: bool) -> list[TextFilterConfig]:
        more = [additional] if isinstance(additional, str) else list(additional or [])
        words = [word for config in self.classes for word in config.words] + more
        if not (words or has_tags):
            raise ValueError(
                "There is no word to exclude; give the creator feature_targets, or pass additional_excluded_words or "
                "excluded_spacy_tags."
            )
        return [TextFilterConfig(targets=words, id="excluded")] if words else []

    def _output_file(self, output: str | PathLike[str] | None, basename: str) -> Path | None:
        if output is not None:
            return prepare_table_file(Path(output))
        if self.output_dir is None:
            return None
        return prepare_table_file(self.output_dir / f"{basename}.{self.output_format}")

    def _masks(self) -> set[str]:
        return {PLACEHOLDER, *(config.mask for config in self.classes)}

    def _rng(self, purpose: str) -> random.Random:
        """Each choice has its own stream, so that one more draw in one of them changes no other."""
        return random.Random(f"{self.seed}/{purpose}")
