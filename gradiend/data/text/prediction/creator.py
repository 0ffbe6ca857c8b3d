"""Training and neutral data out of raw text.

`generate_training_data` is long since its docstring describes every option.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from os import PathLike
from pathlib import Path
from typing import Any

import pandas as pd

from gradiend.data._summary import DataSummary, summarise
from gradiend.data.core._output_tables import (
    FOLDER,
    Output,
    output_name,
    parse_folder,
    parse_output_format,
    prepare_output,
    refuse_to_replace,
)
from gradiend.data.core._splits import Balance, SplitRatios, parse_balance
from gradiend.data.core._text_source import Columns, TextBlock, TextSource, stream_texts
from gradiend.data.core.base_loader import BaseData, open_source
from gradiend.data.text._preprocess import Segmenter, TextPreprocessConfig, require_preprocess
from gradiend.data.text.filter_config import SpacyTagSpec, TextFilterConfig
from gradiend.data.text.prediction import _frames as frames
from gradiend.data.text.prediction import _report as report
from gradiend.data.text.prediction._collector import BALANCING, collect_examples, collect_neutral
from gradiend.data.text.prediction._creation_arguments import (
    TrainingRequest,
    parse_classes,
    parse_format,
    partners_of,
    require_folder_names,
)
from gradiend.data.text.prediction._masking import Masker, MaskingRules
from gradiend.data.text.prediction._tag_resolver import TagResolver, TokenExclusion
from gradiend.data.unified._schema import UNIFIED_FACTUAL, UNIFIED_FACTUAL_CLASS
from gradiend.util import PLACEHOLDER
from gradiend.util._checks import require_flag, require_path, require_text, require_texts, require_whole
from gradiend.util._display import Shown, Table, facts
from gradiend.util._keywords import known_keywords, strict_keywords

logger = logging.getLogger(__name__)


@strict_keywords
class TextPredictionDataCreator(Shown):
    """Builds masked examples of feature classes, and texts without the feature, from raw text.

    The same arguments give the same rows.

    Args:
        base_data: Texts: a list; a DataFrame; the path of a CSV, Parquet, JSON Lines or text file; the folder of
            a data set; or a hub id (see `resolve_base_data`). Files and data sets are streamed in an order
            that `seed` decides (see `stream_texts`), anew for each call; they are never in memory as a whole.
        text_column, split, hf_config, trust_remote_code: See `resolve_base_data`.
        base_max_size: Use at most so many texts of `base_data`.
        preprocess: How texts are cut into sentences and filtered; None uses them as they are.
        spacy_model: Name of an installed spaCy pipeline, or the folder of a pipeline, that reads tags and lemmas; it is
            needed if a class has tags or lemmas, and loaded before the texts.
        feature_targets: The classes; configs with one id are one class with the words of all. Training data needs at
            least two classes, neutral data at least one class or excluded words.
        seed: Seed of the order, the splits and the alternatives.
        download_if_missing: Download a spaCy pipeline that is not installed.
        output_dir: Folder for `<training_basename>.<output_format>` and
            `<neutral_basename>.<output_format>`; None writes no files.
        training_basename: File name of the training table.
        neutral_basename: File name of the neutral table.
        output_format: `"csv"` or `"parquet"`: a file with the unified table. `"hf"`: a folder
            `<training_basename>` as written by `save_to_disk`, a data set for each class.
        use_cache: Answer from the file of an earlier call if that file was made from the same data with the same
            arguments; otherwise the log says what differs, and the file is made anew. A file `*.made_from.json`
            beside the table keeps the record.
        document_column: Column that names the document of each text; training data is then split by document, and by
            sentence where the column says nothing.
        n_processes: This argument is accepted and has no effect: texts are searched in this process.
        min_left_context_words: Words (in scripts without spaces: characters) that must stand before the first word of a
            class in a segment. A causal model predicts a word from these alone. A class may ask for another number.

    Raises:
        ValueError: Classes have one id but several masks or weights; tags or lemmas have no `spacy_model` or are
            unknown to it; the output format is unknown; a file lacks the column, or a data set the split or config.
        TypeError: An argument is of another type, or unknown; the message names the nearest.
        FileNotFoundError: The file, folder or data set does not exist.
        ImportError: spaCy is needed and not installed.
        OSError: The spaCy pipeline is needed and not installed.
    """

    def __init__(
        self, base_data: BaseData, text_column: str = "text", base_max_size: int | None = None, split: str = "train",
        hf_config: str | None = None, trust_remote_code: bool = False, preprocess: TextPreprocessConfig | None = None,
        spacy_model: str | PathLike[str] | None = None, feature_targets: Sequence[TextFilterConfig] | None = None,
        seed: int = 42, download_if_missing: bool = True, output_dir: str | PathLike[str] | None = None,
        training_basename: str = "training", neutral_basename: str = "neutral", output_format: str = "csv",
        use_cache: bool = False, *, document_column: str | None = None, n_processes: int | None = None,
        min_left_context_words: int = 0,
    ) -> None:  # fmt: skip
        require_whole("base_max_size", base_max_size, 1, none_means="for all")
        require_whole("seed", seed, None, none_means="for another order each time")
        require_whole("n_processes", n_processes, 1, none_means="for the number that is used")
        require_whole("min_left_context_words", min_left_context_words, 0)
        require_flag("use_cache", use_cache)
        if spacy_model is not None:
            require_path("spacy_model", spacy_model)
        for name, basename in (("training_basename", training_basename), ("neutral_basename", neutral_basename)):
            require_text(name, basename)
        if training_basename == neutral_basename:
            raise ValueError(
                f"training_basename and neutral_basename are both {training_basename!r}: one would overwrite the other."
            )
        require_preprocess("preprocess", preprocess)
        self.text_column, self.document_column, self.base_max_size = text_column, document_column, base_max_size
        self.split, self.hf_config, self.trust_remote_code = split, hf_config, trust_remote_code
        self.preprocess, self.spacy_model, self.download_if_missing = preprocess, spacy_model, download_if_missing
        self.seed, self.use_cache, self.n_processes = seed if seed is None else int(seed), use_cache, n_processes
        self.training_basename, self.neutral_basename = training_basename, neutral_basename
        self.min_left_context_words = min_left_context_words
        self.classes = parse_classes(feature_targets)
        self._resolver = TagResolver(self.classes, spacy_model, download_if_missing)
        self._resolver.load()
        self._segmenter = Segmenter.of(preprocess, spacy_model, download_if_missing)
        self.output_dir = None if output_dir is None else parse_folder("output_dir", output_dir)
        self.output_format = parse_output_format(output_format)
        if self.output_format == FOLDER:
            require_folder_names([config.id for config in self.classes])
        self.stopped = False
        """Whether Ctrl-C ended the last pass over the texts, so that only a part of them was read."""
        if n_processes is not None and n_processes > 1:
            logger.warning(
                "n_processes=%d has no effect: texts (and a custom_filter) stay in this process.", n_processes
            )
        self._source = self._open(base_data, document_column)
        self._created: tuple[Callable[[], pd.DataFrame], report.Tally] | None = None

    def _tables(self) -> tuple[str, list[Table]]:
        known = {
            "texts": self._source.name,
            "at most": None if self.base_max_size is None else f"{self.base_max_size:,} texts",
            "cut": self.preprocess and repr(self.preprocess),
            "spaCy": self.spacy_model and str(self.spacy_model),
            "output": self.output_dir and f"{self.output_dir} ({self.output_format})",
            "seed": self.seed,
        }
        rows = [[config.id, ", ".join(config.words)] for config in self.classes]
        classes = Table("", ["class", "words"], rows, "" if rows else "no classes.", wraps=True)
        return type(self).__name__, [facts("", known), classes]

    @known_keywords("generate_training_data")
    def generate_training_data(
        self, max_size_per_class: int | None = None, format: str = "per_class", split_name: str = "train",
        balance: Balance = "try", output: str | PathLike[str] | None = None, train_ratio: float = 0.8,
        val_ratio: float = 0.1, test_ratio: float = 0.1, min_rows_per_class_for_split: int = 10, *,
        split_by_document: bool | None = None, keep_several_classes: bool = True, split_by_target: bool = False,
        min_rows_per_target_for_balance: int = 1, raise_on_incomplete_classes: bool = True,
    ) -> dict[str, pd.DataFrame] | pd.DataFrame:  # fmt: skip
        """Find sentences with words of a class, mask these words and divide the rows into splits.

        All words of the class are masked; the label is the first word, cased as in the text. A sentence with words of
        several classes gives a row for each class, with the words of that class masked and the other words left.
        Repetitions of a masked text within a class are dropped. All rows of a sentence are in one split, and so is a
        masked text that two classes share. After Ctrl-C, what was found until then makes the table (`stopped`), and
        no later call takes it for the whole.

        Args:
            max_size_per_class: How many rows a class has at most; the corpus is read until every class has so many.
            format: `"per_class"`: class id → frame with masked, label, split, and the label again in a column named
                like the class. `"minimal"`: one frame with masked, label, label_class, split. `"unified"`: one frame
                with masked, split, label_class, label, feature_class_id, alternative, alternative_class, transition,
                and where rows are split by document, document; one row for each other class, whose word is drawn by
                frequency, with a capital where the label has one by its place; the partner, where it has one (see
                `PairedTextFilterConfig`), which in `"per_class"` is in a column named like the other class.
            split_name: Name of the split for training in the column split.
            balance: `"try"` (or True) caps every class at the size of the smallest, in proportion to the
                classes' weights; `"strict"` also caps every word of a class at the rows of its rarest; False or None
                keeps all rows.
            output: File for the table (`.csv` or `.parquet`, with output format `"hf"` also a folder), in
                place of the one in `output_dir`. The table is the unified one, whatever the format.
            train_ratio: Share of the split for training.
            val_ratio: Share of the split `validation`.
            test_ratio: Share of the split `test`.
            min_rows_per_class_for_split: Rows that each class must have; 0 switches the check off.
            split_by_document: Keep all rows of a document in one split: of one value of `document_column`, or
                of one text before it is cut into sentences. The ratios are then met as well as the
                documents allow. None means True where there is a `document_column`.
            keep_several_classes: Keep sentences with words of several classes, in which the words that are left may
                tell the class. False keeps such sentences only where tags decide the class of every found word.
            split_by_target: Keep all rows of a word, and of its partner, in one split, so that the test split has words
                that training has not; the ratios are then of the words of each class, and alternatives are words of the
                same split. A sentence with words of two splits is in both.
            min_rows_per_target_for_balance: With balance `"strict"`, words with fewer rows are left out, and do not
                decide how many rows the others have.
            raise_on_incomplete_classes: Raise an error for a class without rows, or with fewer than the minimum. False
                leaves such classes out, with a warning, and lists them beside the table, in a file whose name ends with
                `_incomplete_classes`.

        Returns a dict of frames or one frame, see `format`.

        Raises:
            ValueError: There are fewer than two classes, the format or balance is unknown, the ratios do not sum to 1,
                a class has no rows or fewer than the minimum, or fewer words than there are splits to divide them into.
            Interrupted: Ctrl-C came before every class had a row.
            OSError: The output folder cannot be written to; this error comes before the work.
            ImportError: pyarrow (for Parquet) or datasets (for a data set folder) is needed and not installed.
        """
        by_document = self.document_column is not None if split_by_document is None else split_by_document
        ratios = SplitRatios(train_ratio, val_ratio, test_ratio, split_name)
        request = TrainingRequest(
            parse_format(format), parse_balance(balance), ratios, max_size_per_class,
            min_rows_per_class_for_split, by_document, keep_several_classes, split_by_target,
            min_rows_per_target_for_balance, raise_on_incomplete_classes,
        )  # fmt: skip
        if len(self.classes) < 2:
            raise ValueError(
                f"Training data contrasts two classes or more, and feature_targets has {len(self.classes)}: add others."
            )
        target = self._output(output, self.training_basename, self._source, **request.inputs())
        with target.locked():
            if (kept := target.read()) is not None:
                table, counts = kept
                self._created = lambda: frames.reported_from_unified(table), report.Tally(**counts)
                return frames.from_unified(table, request.format, self._wording())
            return self._create_training_data(request, target)

    @known_keywords("generate_neutral_data")
    def generate_neutral_data(
        self, base_data: BaseData | None = None, additional_excluded_words: Sequence[str] | None = None,
        excluded_spacy_tags: SpacyTagSpec | Sequence[SpacyTagSpec] | None = None, max_size: int | None = None,
        format: str = "minimal", output: str | PathLike[str] | None = None,
    ) -> pd.DataFrame:  # fmt: skip
        """Find texts without any word of any class, whatever the tags of the word.

        A lemma of a class excludes all its forms, for which every text that has none of the words is parsed.

        Args:
            base_data: Texts in place of the creator's own, which are read, cut and filtered in the same way.
            additional_excluded_words: Further words that must not occur, in any case.
            excluded_spacy_tags: A token with all these tags must not occur; a list of dicts excludes tokens with all
                tags of any dict. Tags need the creator's `spacy_model`.
            max_size: How many rows there are at most.
            format: One of the formats of `generate_training_data`; neutral data looks the same in all.
            output: File for the table (`.csv` or `.parquet`), in place of the one in `output_dir`.

        Returns:
            A frame with the column text; empty, with a warning in the log, if nothing is left.

        Raises:
            ValueError: There is nothing to exclude, the format is unknown, `max_size` is below 1, or tags have no
                `spacy_model` or are unknown to it.
            OSError: The output folder cannot be written to; this error comes before the work.
            ImportError: pyarrow (for Parquet) or datasets (for a data set folder) is needed and not installed.
        """
        parse_format(format)
        require_whole("max_size", max_size, 1, none_means="for all")
        lemmas = [flat.word for config in self.classes for flat in config.flatten() if flat.is_lemma]
        exclusion = TokenExclusion(excluded_spacy_tags, lemmas, self.spacy_model, self.download_if_missing)
        excluded = self._excluded(additional_excluded_words, excluded_spacy_tags is not None)
        source = self._source if base_data is None else self._open(base_data)
        target = self._output(
            output, self.neutral_basename, source, excluded=[config.words for config in excluded],
            excluded_spacy_tags=excluded_spacy_tags, max_size=max_size,
        )  # fmt: skip
        with target.locked():
            if (kept := target.read()) is not None:
                return kept[0]

            neutral, dropped, self.stopped = collect_neutral(
                self._stream(source), excluded, self._segmenter, exclusion, masks=self._masks(), limit=max_size
            )
            frame = pd.DataFrame({"text": pd.Series(neutral, dtype=str)})
            self._whole(target).write(frame, asdict(report.Tally(dict(dropped))))
            logger.log(
                logging.INFO if neutral else logging.WARNING, report.describe_neutral(len(frame), dropped, target.path)
            )
            return frame

    def summary(self, tokenizer: Any = None) -> DataSummary:
        """Describe the training data that was generated last.

        Args:
            tokenizer: A tokenizer, or its name or path, whose tokens of the words are shown; None shows no tokens.

        Returns a report to print, to show in a notebook, or to take as a dict (`to_dict`).

        Raises:
            ValueError: No training data has been generated yet.
            OSError: There is no tokenizer of that name.
        """
        if self._created is None:
            raise ValueError("There is nothing to sum up yet: call generate_training_data() first.")
        frame, tally = self._created[0](), self._created[1]
        masks = {config.id: config.mask for config in self.classes}
        rows = zip(frame["masked"], frame["label_class"], strict=True)
        texts = [text.replace(masks[name], PLACEHOLDER) for text, name in rows]
        columns = {"label_class": UNIFIED_FACTUAL_CLASS, "label": UNIFIED_FACTUAL}
        return summarise(
            frame.assign(masked=texts).rename(columns=columns),
            classes=[config.id for config in self.classes if (frame["label_class"] == config.id).any()],
            dropped=tally.dropped,
            n_beside_others=tally.n_beside_others, tokenizer=tokenizer,
        )  # fmt: skip

    def _open(self, base_data: BaseData, document_column: str | None = None) -> TextSource:
        return open_source(
            base_data, Columns(self.text_column, document_column), split=self.split, hf_config=self.hf_config,
            trust_remote_code=self.trust_remote_code,
        )  # fmt: skip

    def _stream(self, source: TextSource) -> Iterator[TextBlock]:
        return stream_texts(source, self.seed, self.base_max_size if source is self._source else None)

    def _create_training_data(self, request: TrainingRequest, target: Output) -> dict[str, pd.DataFrame] | pd.DataFrame:
        has_documents = request.split_by_document or self.document_column is not None
        least, own = self.min_left_context_words, [config.min_left_context_words for config in self.classes]
        rules = MaskingRules(
            self._masks(), request.max_size_per_class, request.keep_several_classes, has_documents,
            [least if number is None else number for number in own],
        )  # fmt: skip
        collected = collect_examples(
            self._stream(self._source), self._segmenter, Masker(self.classes, self._resolver, rules)
        )
        self.stopped = collected.stopped
        target = self._whole(target)
        cuts_sentences = self.preprocess is not None and bool(self.preprocess.split_to_sentences)
        if (long := report.describe_long_rows(collected, cuts_sentences)) is not None:
            logger.warning(long)
        rows_of = dict(zip((config.id for config in self.classes), collected.examples, strict=True))
        if request.raise_on_incomplete_classes:
            report.require_found(self.classes, collected, self._source.name, self._near_misses)
        else:
            rows_of = report.without_incomplete(rows_of, request.min_rows_per_class_for_split, target)
        classes = frames.balanced(rows_of, [config.weight for config in self.classes if config.id in rows_of], request)
        collected.dropped[BALANCING] += sum(map(len, rows_of.values())) - sum(map(len, classes.values()))
        if request.raise_on_incomplete_classes:
            sizes = [len(rows) for rows in classes.values()]
            report.require_minimum(self.classes, collected, sizes, request.min_rows_per_class_for_split)
        classes = frames.with_splits(classes, partners_of(self.classes), request, self._rng("splits"))
        tally = report.Tally(dict(collected.dropped), sum(int(rows["has_contrast"].sum()) for rows in classes.values()))
        self._created = lambda: frames.minimal_frame(classes, with_documents=has_documents), tally
        wording = self._wording()
        if target.path is None and request.format != "unified":
            result = (
                frames.per_class_frames(classes, wording)
                if request.format == "per_class"
                else frames.minimal_frame(classes)
            )
        else:
            unified = frames.unified_frame(
                classes, wording, self._rng("alternatives"), by_split=request.split_by_target,
                with_documents=has_documents,
            )  # fmt: skip
            target.write(unified, asdict(tally), frames.per_class_frames(classes, wording))
            result = frames.from_unified(unified, request.format, wording)
        logger.info(report.describe_training(classes, request.ratios, collected, tally, target.path))
        if (empty := report.describe_empty_splits(classes, request.ratios, request.split_by_document)) is not None:
            logger.warning(empty)
        return result

    def _whole(self, target: Output) -> Output:
        """Return the place of a table, without a record if only a part of the texts was read."""
        return replace(target, made_from=None) if self.stopped else target

    def _wording(self) -> frames.Wording:
        return frames.Wording({config.id: config.mask for config in self.classes}, partners_of(self.classes))

    def _output(
        self, output: str | PathLike[str] | None, basename: str, source: TextSource, **arguments: Any
    ) -> Output:
        """Find out where a table goes, that the place can be written to, and what the table depends on."""
        path = None
        if output is not None:
            require_path("output", output)
            path = prepare_output(Path(output), self.output_format)
        elif self.output_dir is not None:
            name = output_name(basename, self.output_format)
            path = prepare_output(self.output_dir / name, self.output_format)
        if path is not None:
            refuse_to_replace(path, [*self._source.files(), *source.files()])
        if not self.use_cache:
            return Output(path, None)
        if path is None:
            logger.warning("use_cache=True has nowhere to keep a table; give output_dir= or output=.")
            return Output(path, None)
        if self.preprocess is not None and self.preprocess.custom_filter is not None:
            logger.warning("use_cache=True cannot tell whether custom_filter has changed; %s is made anew.", path)
            return Output(path, None)
        made_from = {
            "base_data": source.identity(), "text_column": self.text_column, "base_max_size": self.base_max_size,
            "split": self.split, "hf_config": self.hf_config, "document_column": self.document_column,
            "min_left_context_words": self.min_left_context_words,
            "preprocess": None if self.preprocess is None else asdict(self.preprocess),
            "classes": [asdict(config) for config in self.classes],
            "spacy_model": None if self.spacy_model is None else str(self.spacy_model), "seed": self.seed, **arguments,
        }  # fmt: skip
        return Output(path, made_from)

    def _near_misses(self, configs: Sequence[TextFilterConfig]) -> str:
        texts = (text for block in self._stream(self._source) for text in block.texts)
        return report.near_misses(self._segmenter.segments(texts), configs, self._resolver.reader)

    def _excluded(self, additional: Sequence[str] | None, has_tags: bool) -> list[TextFilterConfig]:
        given = [additional] if isinstance(additional, str) else additional
        more = [] if given is None else list(require_texts("additional_excluded_words", given))
        words = [word for config in self.classes for word in config.words] + more
        if not (words or has_tags):
            raise ValueError(
                "There is no word to exclude: give feature_targets, additional_excluded_words or excluded_spacy_tags."
            )
        return [TextFilterConfig(targets=words, id="excluded")] if words else []

    def _masks(self) -> set[str]:
        return {PLACEHOLDER, *(config.mask for config in self.classes)}

    def _rng(self, purpose: str) -> random.Random:
        """Make the generator of a purpose: each has its own, so that one more draw of one purpose changes no other."""
        return random.Random(f"{self.seed}/{purpose}")


DataCreator = TextPredictionDataCreator
"""A second name of `TextPredictionDataCreator`."""
