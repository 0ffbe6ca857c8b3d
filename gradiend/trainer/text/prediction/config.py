"""Where a text feature's data is and how its columns are called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gradiend.data.unified.columns import ColumnNames
from gradiend.data.unified.validate import parse_pair
from gradiend.util.keywords import strict_keywords


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


@strict_keywords
@dataclass
class TextPredictionConfig(TrainerConfig):
    """Data of a `TextPredictionTrainer`.

    Raises:
        TypeError: An unknown argument; the message names the nearest.
        ValueError: target_classes that are not two distinct names.
    """

    data: Any = None
    """A DataFrame, a dict class → DataFrame, or the path of a CSV or Parquet file."""
    masked_col: str = "masked"
    """Column with the text and its `[MASK]`."""
    label_col: str = "label"
    """Column with the word that stood there."""
    label_class_col: str = "label_class"
    """Column with the class of that word."""
    split_col: str = "split"
    """Column with train, validation or test."""
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
    decoder_eval_targets: Mapping[str, Sequence[str]] | None = None
    """Class → words whose probability is the class's. Default: the class's words in the data."""
    decoder_eval_ignore_tokens: Sequence[str] | None = None
    """More words that the language-modelling score leaves out, besides the class words."""
    eval_neutral_data: Any = None
    """Neutral texts (column `text`): a DataFrame, or the path of a CSV or Parquet file. Default: the test split with
    its words filled in."""
    eval_neutral_max_rows: int | None = None
    """Use only the first rows of it."""

    def __post_init__(self) -> None:
        if self.target_classes is not None:
            self.target_classes = list(parse_pair(self.target_classes))

    def columns(self) -> ColumnNames:
        """The column names as the data layer takes them."""
        return ColumnNames(
            masked=self.masked_col,
            label=self.label_col,
            label_class=self.label_class_col,
            split=self.split_col,
            alternative=self.alternative_col,
            alternative_class=self.alternative_class_col,
            use_class_names_as_columns=self.use_class_names_as_columns,
        )
