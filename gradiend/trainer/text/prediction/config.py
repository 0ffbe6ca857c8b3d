"""The configuration of a text feature: the place of its data and the names of the columns."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from gradiend.data.core._splits import SplitRatios
from gradiend.data.unified._contrast import ClassMerge
from gradiend.data.unified._schema import ColumnNames, class_name, parse_pair
from gradiend.data.unified._source import DataSource
from gradiend.data.unified._word_splits import HELD_OUT, Division
from gradiend.trainer.core.arguments import TrainingArguments
from gradiend.util import PLACEHOLDER, _checks
from gradiend.util._argument_fields import ShowsChanges, fields_in_docstring
from gradiend.util._keywords import nearest, normalize_split_name, one_of, strict_keywords

LABEL = "label"
"""The value of `decoder_eval_targets` that scores row by row."""


@dataclass(repr=False)
class TrainerConfig(ShowsChanges):
    """What every kind of trainer needs beside its training arguments."""

    img_format: str = "png"
    """File format of saved plots."""
    img_dpi: int | None = None
    """Resolution of saved plots. Default: that of matplotlib."""
    run_id: str | None = None
    """Name of the run; a subdirectory of the experiment directory."""
    target_classes: Sequence[str] | None = None
    """The two classes; the first is encoded as +1. Default: the classes in the data, if there are two."""
    n_features: int = 1
    """Number of latent features."""


@fields_in_docstring
@strict_keywords
@dataclass(repr=False)
class TextPredictionConfig(TrainerConfig):
    """Data of a `TextPredictionTrainer`.

    Raises:
        TypeError: An unknown argument (the message names the nearest), a set where the order matters, or words of a
            class that are no list of strings.
        ValueError: target_classes that are not two distinct names, a class in two merged classes, or a target class
            that is merged into another or missing from all_classes.
    """

    data: Any = None
    """The data: a DataFrame, a dict class → DataFrame, the path of a CSV, JSON Lines or Parquet file, a `Dataset` or
    `DatasetDict`, or the hub id or folder of a data set with a config for each class."""
    hf_dataset: Any = None
    """A data set (hub id, folder, or a `Dataset` or `DatasetDict`) with one table for all classes; it replaces
    `data`."""
    hf_subset: str | Sequence[str] | None = None
    """Config of the data set, or several; if the data set has a config for each class, the classes to load."""
    hf_splits: Sequence[str] | None = None
    """Splits of the data set to load. Default: all splits."""
    dataset_trust_remote_code: bool = False
    """Whether a data set of the hub may run its own loading script."""
    all_classes: Sequence[str] | None = None
    """The classes that are looked at, target classes included. Default: all classes in the data."""
    masked_col: str = "masked"
    """Column with the text and its `[MASK]`."""
    mask_placeholder: str = PLACEHOLDER
    """Text that stands in the data in place of the feature word; results write `[MASK]`."""
    label_col: str = "label"
    """Column with the factual word, which stood at the `[MASK]`."""
    label_class_col: str = "label_class"
    """Column with the class of the factual word."""
    split_col: str | None = "split"
    """Column with the split: train, validation or test. "heldout" divides whole words, so that no word of a test row
    occurs in training; None divides texts. Both draw by the seed of the data, at the ratios below."""
    split_ratios: Sequence[float] | Mapping[str, float] | None = None
    """Shares of the splits train, validation and test in one: three numbers, or name → share (a split left out has
    none). Default: the three fields below."""
    split_train_ratio: float = 0.8
    """Share of the words (or texts) of each class that go to the split train, where split_col names no column."""
    split_val_ratio: float = 0.1
    """Share of the split validation."""
    split_test_ratio: float = 0.1
    """Share of the split test."""
    split_group_col: str | None = None
    """With split_col="heldout", the column whose values are held out in place of words, such as lemmas or topics."""
    split_group_key: Callable[[str], Hashable] | None = None
    """With split_col="heldout", word (or value of split_group_col) → the group that is held out as a whole."""
    document_col: str = "document"
    """Column with the document that the text is from, if the data has one; only the data report reads it."""
    alternative_col: str = "alternative"
    """Column with the alternative word of the other class, if the data has one."""
    alternative_class_col: str = "alternative_class"
    """Column with the class of the alternative word."""
    use_class_names_as_columns: bool = True
    """Whether, in a dict of frames, a column with the name of a class holds the words of this class."""
    max_counterfactuals_per_sentence: int = 1
    """Number of distinct alternatives that are sampled for each text, if the data has no alternatives."""
    random_state: int | None = None
    """Seed of the data: sampled alternatives, composition of batches, masked neutral words. None is 0."""
    class_merge_map: Mapping[str, Sequence[str]] | None = None
    """Merged class → classes of the data that count as one, such as {"singular": ["1SG", "3SG"]}. Classes that are not
    merged are dropped, unless they are target classes. With two merged classes, target_classes may be left out."""
    class_merge_transition_groups: Sequence[Sequence[str]] | None = None
    """Sets of classes of the data within which words are compared before classes are merged, such as
    [["1SG", "1PL"], ["3SG", "3PL"]]. Default: words are compared with all classes of the other merged class."""
    decoder_eval_targets: Mapping[str, Sequence[str]] | Literal["label"] | None = None
    """Class → words whose probabilities make that of the class. "label" scores row by row: P(the word of the row)
    against P(its alternative). Default: the words of each class in the data; row by row if the two classes share
    words."""
    decoder_eval_export_row_wise_csv: bool = False
    """Whether a decoder evaluation row by row writes the scores of every row, before and after the chosen rewrites, to
    `decoder_row_wise_scores.csv`."""
    decoder_eval_restrict_to_target_classes: bool = True
    """Whether the decoder evaluation measures the texts and words of the target classes only."""
    decoder_eval_prob_on_other_class: bool = True
    """Whether strengthening a class is measured on texts of the other class; otherwise on texts of the same class."""
    decoder_eval_lms_max_samples: int | None = None
    """Cap on the texts of the language-modelling score."""
    decoder_eval_ignore_tokens: Sequence[str] | None = None
    """Words that the language-modelling score leaves out besides the class words."""
    balance_texts: Any = None
    """Texts with a `[MASK]` that fit every target class, such as "The nurse said that [MASK] was tired.", for the goal
    "balance" of `evaluate_decoder`: a list, a DataFrame with the column masked or text, or the path of such a file;
    "target_rows" takes the test rows of the target classes. Default: none, so that "balance" asks for them."""
    eval_neutral_data: Any = None
    """Neutral texts (column `text`): a DataFrame, the path of a CSV, JSON Lines or Parquet file, or the hub id or
    folder of a data set (its split train). Default: the test split with its words filled in."""
    eval_neutral_max_rows: int | None = None
    """Number of first rows of the neutral texts that are used. Default: all rows."""
    eval_neutral_additional_excluded_words: Sequence[str] | None = None
    """Neutral texts with one of these words, in any case, are left out. Default: none are."""

    def __post_init__(self) -> None:
        if self.target_classes is not None:
            self.target_classes = list(parse_pair(self.target_classes))
        for name in ("all_classes", "hf_subset", "hf_splits", "decoder_eval_ignore_tokens"):
            _checks.require_ordered(name, getattr(self, name))
        if isinstance(self.all_classes, str):
            raise TypeError(f"all_classes must be a list of class names; got {self.all_classes!r} (str).")
        if self.all_classes is not None:
            self.all_classes = list(map(class_name, self.all_classes))
        if self.decoder_eval_ignore_tokens is not None:
            name = "decoder_eval_ignore_tokens"
            self.decoder_eval_ignore_tokens = list(_checks.require_texts(name, self.decoder_eval_ignore_tokens))
        _checks.require_whole("random_state", self.random_state, 0, none_means="for 0")
        _checks.require_text("mask_placeholder", self.mask_placeholder)
        if self.eval_neutral_additional_excluded_words is not None:
            name = "eval_neutral_additional_excluded_words"
            self.eval_neutral_additional_excluded_words = list(_checks.require_texts(name, getattr(self, name)))
        self.division()
        self._check_eval_targets()
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

    def _check_eval_targets(self) -> None:
        given = self.decoder_eval_targets
        _checks.require_flag("decoder_eval_export_row_wise_csv", self.decoder_eval_export_row_wise_csv)
        if isinstance(given, str):
            one_of("decoder_eval_targets", given, [LABEL])
            if not self.decoder_eval_restrict_to_target_classes:
                raise ValueError(
                    f"decoder_eval_targets={LABEL!r} compares the two words of a row, which are of the target classes: "
                    "leave decoder_eval_restrict_to_target_classes as it is (True)."
                )
            return
        if given is None:
            return
        _checks.require_mapping("decoder_eval_targets", given)
        if any(isinstance(words, Iterator) for words in given.values()):
            # A check of an iterator would use it up.
            given = {name: list(words) if isinstance(words, Iterator) else words for name, words in given.items()}
            self.decoder_eval_targets = given
        for name, words in given.items():
            _checks.require_class_words(f"decoder_eval_targets[{name!r}]", words)
        if self.decoder_eval_export_row_wise_csv:
            raise ValueError(
                "decoder_eval_export_row_wise_csv is about scores row by row, and decoder_eval_targets gives words of "
                f"classes: set decoder_eval_targets={LABEL!r}."
            )

    def pair(self) -> tuple[str, str] | None:
        """The target classes that the configuration says: the given classes, or the two merged ones; None without."""
        names = self.target_classes
        if names is None and self.class_merge_map is not None and len(self.class_merge_map) == 2:
            names = list(map(class_name, self.class_merge_map))
        return None if names is None else (names[0], names[1])

    def class_merge(self) -> ClassMerge | None:
        """The merging of classes, or None."""
        if self.class_merge_map is None:
            return None
        return ClassMerge.parse(self.class_merge_map, self.class_merge_transition_groups)

    def bases_of(self, classes: Sequence[str]) -> list[str]:
        """The classes of the data that `classes`, which may be merged, stand for."""
        merge = self.class_merge()
        bases_of = {} if merge is None else merge.bases_of
        return [base for name in classes for base in bases_of.get(name, (name,))]

    def eval_targets(self, classes: Sequence[str]) -> dict[str, list[str]] | None:
        """The words given in `decoder_eval_targets`, for each of the `classes` at least; None if it gives none.

        Raises ValueError if one of the `classes` has no words there, or all have the same.
        """
        if self.decoder_eval_targets is None or isinstance(self.decoder_eval_targets, str):
            return None
        targets = {class_name(name): list(words) for name, words in self.decoder_eval_targets.items()}
        for name in classes:
            if name not in targets:
                raise ValueError(
                    f"decoder_eval_targets has no words for the target class {name!r}; it has: "
                    f"{', '.join(map(repr, targets)) or 'none'}.{nearest(name, targets)}"
                )
        if len(classes) > 1 and len({frozenset(targets[name]) for name in classes}) == 1:
            raise ValueError(
                f"decoder_eval_targets has the same words for {' and '.join(map(repr, classes))}, so P of one would be "
                'P of the other: give each class its own words, or "label" to score the words of each row.'
            )
        return targets

    def with_arguments(self, args: TrainingArguments) -> TextPredictionConfig:
        """The configuration with what training arguments say about the data."""
        changes: dict[str, Any] = {}
        if args.dataset_trust_remote_code is not None:
            changes["dataset_trust_remote_code"] = args.dataset_trust_remote_code
        if args.mask_placeholder != PLACEHOLDER:
            if self.mask_placeholder not in (PLACEHOLDER, args.mask_placeholder):
                raise ValueError(
                    f"mask_placeholder is {self.mask_placeholder!r} in the configuration and {args.mask_placeholder!r} "
                    "in the arguments: give it once."
                )
            changes["mask_placeholder"] = args.mask_placeholder
        return replace(self, **changes) if changes else self

    def division(self) -> Division | None:
        """How rows are divided into splits; None where a column says so."""
        single = {"train": self.split_train_ratio, "validation": self.split_val_ratio, "test": self.split_test_ratio}
        groups = {"split_group_col": self.split_group_col, "split_group_key": self.split_group_key}
        given = [name for name, value in groups.items() if value is not None]
        if self.split_group_key is not None and not callable(self.split_group_key):
            raise TypeError(f"split_group_key must be a function of a word; got {self.split_group_key!r:.60}.")
        if given and self.split_col != HELD_OUT:
            raise ValueError(f"{' and '.join(given)} says what is held out: it needs split_col={HELD_OUT!r}.")
        if self.split_col not in (None, HELD_OUT):
            if self.split_ratios is not None or tuple(single.values()) != _RATIOS:
                raise ValueError(
                    f"The column {self.split_col!r} says the splits, so ratios have no effect: use split_col="
                    f"{HELD_OUT!r}, which divides words, or split_col=None, which divides texts."
                )
            return None
        if self.split_ratios is not None:
            if tuple(single.values()) != _RATIOS:
                raise ValueError("Give either split_ratios or split_train_ratio, split_val_ratio and split_test_ratio.")
            single = _shares(self.split_ratios)
        return Division(
            SplitRatios(single["train"], single["validation"], single["test"]), self.split_col == HELD_OUT,
            self.split_group_col, self.split_group_key, self.random_state or 0,
        )  # fmt: skip

    def source(self) -> DataSource:
        """The place of the data, in the form that the data layer takes."""
        return DataSource(self.data, self.hf_dataset, self.hf_subset, self.hf_splits, self.dataset_trust_remote_code)

    def columns(self) -> ColumnNames:
        """The names of the columns, in the form that the data layer takes."""
        return ColumnNames(
            masked=self.masked_col, label=self.label_col, label_class=self.label_class_col,
            split=self.split_col if self.split_col and self.split_col != HELD_OUT else ColumnNames.split,
            alternative=self.alternative_col, alternative_class=self.alternative_class_col, document=self.document_col,
            use_class_names_as_columns=self.use_class_names_as_columns,
        )  # fmt: skip


_RATIOS = (0.8, 0.1, 0.1)


def _shares(ratios: Sequence[float] | Mapping[str, float]) -> dict[str, float]:
    """Return split → share of the argument `split_ratios`."""
    names = ("train", "validation", "test")
    if isinstance(ratios, Mapping):
        shares = dict.fromkeys(names, 0.0)
        for given, share in ratios.items():
            shares[one_of("split_ratios", normalize_split_name(given), names)] = share
        return shares
    if isinstance(ratios, str) or not isinstance(ratios, Sequence):
        raise TypeError(
            f"split_ratios must be three numbers, such as (0.8, 0.1, 0.1), or name → share; got {ratios!r:.60}."
        )
    if len(ratios) != len(names):
        raise ValueError(f"split_ratios has a share for each of train, validation and test; got {ratios!r:.60}.")
    return dict(zip(names, ratios, strict=True))
