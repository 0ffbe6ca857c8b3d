"""Where a text feature's data is and how its columns are called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gradiend.data.unified._contrast import ClassMerge
from gradiend.data.unified._schema import ColumnNames, parse_pair
from gradiend.data.unified._source import DataSource
from gradiend.util.checks import require_class_words, require_ordered
from gradiend.util.keywords import fields_in_docstring, nearest, strict_keywords
from gradiend.util.plain import short_repr


@dataclass
class TrainerConfig:
    """What every kind of trainer needs to know beside its arguments."""

    img_format: str = "png"
    """Format of saved plots."""
    img_dpi: int | None = None
    """Resolution of saved plots."""
    run_id: str | None = None
    """Name of the run; a subdirectory of the experiment directory."""
    target_classes: Sequence[str] | None = None
    """The two classes; the first is encoded as +1. Default: those in the data, if they are two."""
    n_features: int = 1
    """Number of latent features."""


@fields_in_docstring
@strict_keywords
@dataclass(repr=False)
class TextPredictionConfig(TrainerConfig):
    """Data of a `TextPredictionTrainer`.

    Raises:
        TypeError: An unknown argument; the message names the nearest. A set where the order matters, or words of a
            class that are no list of strings.
        ValueError: target_classes that are not two distinct names, a class in two merged classes, or a target class
            that is merged into another or missing from all_classes.
    """

    data: Any = None
    """A DataFrame, a dict class → DataFrame, the path of a CSV, JSON Lines or Parquet file, a `Dataset` or
    `DatasetDict`, or the hub id or folder of a data set with a config for each class."""
    hf_dataset: Any = None
    """A data set (hub id, folder, or a `Dataset` or `DatasetDict`) with one table for all classes; wins over `data`."""
    hf_subset: str | Sequence[str] | None = None
    """Its config, or several; of a data set with a config for each class, the classes to load."""
    hf_splits: Sequence[str] | None = None
    """Splits of the data set to load. Default: all."""
    dataset_trust_remote_code: bool = False
    """Whether a data set of the hub may run its own loading script."""
    all_classes: Sequence[str] | None = None
    """The classes that are looked at besides the target classes. Default: all in the data."""
    masked_col: str = "masked"
    """Column with the text and its `[MASK]`."""
    label_col: str = "label"
    """Column with the word that stood there."""
    label_class_col: str = "label_class"
    """Column with the class of that word."""
    split_col: str = "split"
    """Column with train, validation or test."""
    document_col: str = "document"
    """Column with the document that the text is from, if known; read by the data report."""
    alternative_col: str = "alternative"
    """Column with the word of the other class, if the data has one."""
    alternative_class_col: str = "alternative_class"
    """Column with the class of that word."""
    use_class_names_as_columns: bool = True
    """In a dict of frames: whether a column called like a class holds its words."""
    max_counterfactuals_per_sentence: int = 1
    """Distinct alternatives to sample per text, where the data has none."""
    random_state: int | None = None
    """Seed of the data: sampled alternatives, composition of batches, masked neutral words. None is 0."""
    class_merge_map: Mapping[str, Sequence[str]] | None = None
    """Merged class → classes of the data that count as one, such as {"singular": ["1SG", "3SG"]}. Classes that are not
    merged are dropped, unless they are target classes. With two merged classes, target_classes may be left out."""
    class_merge_transition_groups: Sequence[Sequence[str]] | None = None
    """Sets of classes of the data: before they are merged, words are compared within a set only, such as
    [["1SG", "1PL"], ["3SG", "3PL"]]. Default: with all classes of the other side."""
    decoder_eval_targets: Mapping[str, Sequence[str]] | None = None
    """Class → words whose probability is the class's. Default: the class's words in the data."""
    decoder_eval_restrict_to_target_classes: bool = True
    """Whether the decoder evaluation measures the texts and words of the target classes only."""
    decoder_eval_prob_on_other_class: bool = True
    """Whether strengthening a class is measured on the other class's texts; otherwise on its own."""
    decoder_eval_lms_max_samples: int | None = None
    """Cap on the texts of the language-modelling score."""
    decoder_eval_ignore_tokens: Sequence[str] | None = None
    """More words that the language-modelling score leaves out, besides the class words."""
    eval_neutral_data: Any = None
    """Neutral texts (column `text`): a DataFrame, the path of a CSV, JSON Lines or Parquet file, or the hub id or
    folder of a data set (its split train). Default: the test split with its words filled in."""
    eval_neutral_max_rows: int | None = None
    """Use only the first rows of it."""

    __repr__ = short_repr

    def __post_init__(self) -> None:
        if self.target_classes is not None:
            self.target_classes = list(parse_pair(self.target_classes))
        for name in ("all_classes", "hf_subset", "hf_splits", "decoder_eval_ignore_tokens"):
            require_ordered(name, getattr(self, name))
        for name, words in (self.decoder_eval_targets or {}).items():
            require_class_words(f"decoder_eval_targets[{name!r}]", words)
        if self.class_merge_map is None and self.class_merge_transition_groups is not None:
            raise ValueError(
                "class_merge_transition_groups says how merged classes are compared: it needs class_merge_map."
            )
        merge = self.class_merge()
        if merge is not None and self.pair() is not None:
            merge.contrast(self.pair() or ())
        for name in self.pair() or ():
            if self.all_classes is not None and name not in self.all_classes:
                raise ValueError(f"The target class {name!r} is not in all_classes: {', '.join(self.all_classes)}.")
        if self.max_counterfactuals_per_sentence < 1:
            raise ValueError(
                f"max_counterfactuals_per_sentence must be at least 1, got {self.max_counterfactuals_per_sentence}."
            )

    def pair(self) -> tuple[str, str] | None:
        """The target classes as far as the configuration says them: those given, or the two merged ones."""
        names = self.target_classes
        if names is None and self.class_merge_map is not None and len(self.class_merge_map) == 2:
            names = [str(name) for name in self.class_merge_map]
        return None if names is None else (names[0], names[1])

    def class_merge(self) -> ClassMerge | None:
        """What is merged, or None."""
        if self.class_merge_map is None:
            return None
        return ClassMerge.parse(self.class_merge_map, self.class_merge_transition_groups)

    def bases_of(self, classes: Sequence[str]) -> list[str]:
        """The classes of the data that classes stand for."""
        merged = self.class_merge_map or {}
        return [str(base) for name in classes for base in merged.get(name, (name,))]

    def eval_targets(self, classes: Sequence[str]) -> dict[str, list[str]] | None:
        """The words given in `decoder_eval_targets`, or None.

        Raises:
            ValueError: One of the `classes` has no words there.
        """
        if self.decoder_eval_targets is None:
            return None
        targets = {str(name): list(words) for name, words in self.decoder_eval_targets.items()}
        for name in classes:
            if name not in targets:
                raise ValueError(
                    f"decoder_eval_targets has no words for the target class {name!r}; it has: "
                    f"{', '.join(map(repr, targets)) or 'none'}.{nearest(name, targets)}"
                )
        return targets

    def source(self) -> DataSource:
        """Where the data is, as the data layer takes it."""
        return DataSource(self.data, self.hf_dataset, self.hf_subset, self.hf_splits, self.dataset_trust_remote_code)

    def columns(self) -> ColumnNames:
        """The column names as the data layer takes them."""
        return ColumnNames(
            masked=self.masked_col,
            label=self.label_col,
            label_class=self.label_class_col,
            split=self.split_col,
            alternative=self.alternative_col,
            alternative_class=self.alternative_class_col,
            document=self.document_col,
            use_class_names_as_columns=self.use_class_names_as_columns,
        )
