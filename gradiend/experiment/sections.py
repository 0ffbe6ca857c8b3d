"""What an experiment is: the sections of its file, as dataclasses that a script can fill as well."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

from gradiend.data import SpacyTagSpec, TextFilterConfig, TextPreprocessConfig
from gradiend.trainer import TrainingArguments
from gradiend.trainer.text import TextPredictionConfig
from gradiend.util import BALANCE, PLACEHOLDER
from gradiend.util._argument_fields import ShowsChanges, fields_in_docstring
from gradiend.util._checks import require_mapping, require_path
from gradiend.util._keywords import one_of, strict_keywords

if TYPE_CHECKING:
    from gradiend.data.core.base_loader import BaseData
else:
    # What a file can hold; pydantic reads it.
    BaseData = str | Sequence[str]

T = TypeVar("T", bound=type)


def section(cls: T) -> T:
    """Decorate a section: it refuses unknown arguments, and errors of other calls do not name it as their owner.

    Its fields are arguments of the calls that it stands for, and a script should be led to these.
    """
    return strict_keywords(cls, suggest=False)


def _listed(names: Sequence[str]) -> Sequence[str]:
    """Put a single name or text into a list, since a string is a sequence of letters."""
    return [names] if isinstance(names, str) else names


def _require_section(name: str, value: object, kind: type, *, optional: bool) -> None:
    """Raise a TypeError for a section that is not of its type; None is allowed where the section is optional."""
    if not (isinstance(value, kind) or (optional and value is None)):
        raise TypeError(
            f"{name} must be of the type {kind.__name__}{' or None' if optional else ''}; "
            f"got {value!r:.60} ({type(value).__name__})."
        )


@section
@dataclass(repr=False)
class FeatureClass(ShowsChanges):
    """A class by its words, where a plain list of words is not enough; see `TextFilterConfig`."""

    targets: Sequence[str]
    """The words of the class."""
    spacy_tags: SpacyTagSpec | None = None
    """Tags that spaCy must find on a word, such as {"pos": "PRON"}; they need `spacy_model`."""
    use_lemma: bool = False
    """Whether the words are lemmas, which stand for all their forms; they need `spacy_model`."""
    weight: float = 1.0
    """Rows of this class relative to the others, where classes are balanced."""

    def __post_init__(self) -> None:
        self.targets = _listed(self.targets)

    def config(self, name: str) -> TextFilterConfig:
        """The class in the form that the data creator takes."""
        return TextFilterConfig(id=name, **vars(self))


@fields_in_docstring
@section
@dataclass(repr=False)
class Corpus(ShowsChanges):
    """Raw text, in which the rows of the classes are found; see `TextPredictionDataCreator`.

    Raises:
        ValueError: There are fewer than two classes.
        TypeError: `feature_targets` is no dict.
    """

    base_data: BaseData
    """The text: a CSV, Parquet, JSON Lines or text file, the folder or hub id of a data set, or a list of texts; in
    Python also a frame or a data set with the texts in `text_column`."""
    feature_targets: Mapping[str, Sequence[str] | FeatureClass]
    """Class → its words; or → targets, spacy_tags, use_lemma and weight."""
    text_column: str = "text"
    """Column with the texts."""
    document_column: str | None = None
    """Column that names the document of a text; rows are then split by document."""
    base_max_size: int | None = None
    """Use at most so many texts."""
    split: str = "train"
    """Split of a data set."""
    hf_config: str | None = None
    """Config of a data set that has several."""
    trust_remote_code: bool = False
    """Whether a data set of the hub may run its own code."""
    preprocess: TextPreprocessConfig | None = None
    """How texts are cut into sentences and filtered. Default: texts are used as they are."""
    spacy_model: str | None = None
    """Name or folder of the spaCy pipeline that reads tags and lemmas."""
    max_size_per_class: int | None = None
    """How many rows a class has at most."""
    neutral_max_size: int | None = None
    """How many neutral texts, without a word of any class, there are at most; 0 makes none."""
    additional_excluded_words: Sequence[str] | None = None
    """Further words that must not occur in neutral texts."""
    balance: bool = True
    """Whether every class is capped at the size of the smallest."""
    split_by_document: bool | None = None
    """Whether all rows of a document are in one split. Default: true with a document_column."""
    keep_several_classes: bool = True
    """Whether sentences with words of several classes are kept."""
    min_left_context_words: int = 0
    """Words that must stand before the first word of a class in a text; a causal model predicts a word from these."""
    split_by_target: bool = False
    """Whether all rows of a word are in one split, so that the test split has words that training has not."""
    min_rows_per_class_for_split: int = 10
    """Rows that each class must have; 0 switches the check off."""
    seed: int = 42
    """Seed of the order, the splits and the alternatives."""

    def __post_init__(self) -> None:
        require_mapping("feature_targets", self.feature_targets)
        self.feature_targets = {
            name: given if isinstance(given, FeatureClass) else _listed(given)
            for name, given in self.feature_targets.items()
        }
        if len(self.feature_targets) < 2:
            raise ValueError(
                f"feature_targets contrasts at least two classes; it has {', '.join(self.feature_targets) or 'none'}."
            )


@section
@dataclass(repr=False)
class AuxiliaryHead(ShowsChanges):
    """An auxiliary head of a causal model that sees words to the right; see `train_decoder_only_mlm_head`."""

    epochs: int = 5
    """Passes over the rows."""
    batch_size: int = 4
    """Rows per step."""
    lr: float = 1e-4
    """Step size of the optimizer."""
    pooling_length: int = 3
    """Number of positions to the right that the head reads."""
    max_length: int = 128
    """Tokens that are read of a text."""
    max_size: int | None = None
    """Cap on rows."""


@section
@dataclass(repr=False)
class EncoderEvaluation(ShowsChanges):
    """How well the encoder tells the classes apart; see `Trainer.evaluate_encoder`."""

    split: str = "test"
    """Split whose rows are encoded."""
    source: str | None = None
    """The gradient that is encoded: factual, alternative or diff. Default: that of the training."""
    max_size: int | None = None
    """Cap on rows per transition or kind of neutral text."""
    exclude_params: str | Sequence[str] | None = None
    """Parameters, by name or wildcard, whose gradients the encoder must not read."""
    plot: bool = True
    """Whether figures are written beside the numbers."""


@section
@dataclass(repr=False)
class DecoderEvaluation(ShowsChanges):
    """How far the model can be moved; see `Trainer.evaluate_decoder`."""

    lrs: Literal["auto"] | Sequence[float] = "auto"
    """Steps to measure; "auto" finds the largest that keeps the likelihood."""
    feature_factors: Sequence[float] | None = None
    """Latents to decode. Default: one that moves towards the class."""
    strengthen: Sequence[str] | None = None
    """Classes to strengthen; "balance" makes the model prefer none. Default: both target classes, and "balance" where
    data.balance_texts are given."""
    weaken: Sequence[str] = ()
    """Classes to weaken."""
    max_size_training_like: int | None = None
    """Cap on the rows on which the probability of a class is measured."""
    max_size_neutral: int | None = None
    """Cap on neutral texts."""
    plot: bool = True
    """Whether figures are written beside the numbers."""

    def __post_init__(self) -> None:
        self.strengthen = None if self.strengthen is None else _listed(self.strengthen)
        self.weaken = _listed(self.weaken)


@section
@dataclass(repr=False)
class SideEffects(ShowsChanges):
    """What else a rewrite changes; see `TextPredictionTrainer.evaluate_side_effects`."""

    other_classes: Mapping[str, Sequence[str]] | None = None
    """Further classes to measure: name → words."""
    top_k: int = 10
    """How many tokens that gained, and how many that lost probability, are reported."""
    max_size_neutral: int | None = None
    """Cap on neutral texts."""


@section
@dataclass(repr=False)
class Evaluation(ShowsChanges):
    """What is measured of the trained GRADIEND; null leaves a part out."""

    encoder: EncoderEvaluation | None = field(default_factory=EncoderEvaluation)
    """The encoder: do the encodings tell the classes apart?"""
    decoder: DecoderEvaluation | None = field(default_factory=DecoderEvaluation)
    """The decoder: how far can the model be moved, and at what cost?"""
    side_effects: SideEffects | None = field(default_factory=SideEffects)
    """What else the chosen rewrites change; needs the decoder."""

    def __post_init__(self) -> None:
        _require_section("encoder", self.encoder, EncoderEvaluation, optional=True)
        _require_section("decoder", self.decoder, DecoderEvaluation, optional=True)
        _require_section("side_effects", self.side_effects, SideEffects, optional=True)


@section
@dataclass(repr=False)
class Rewrite(ShowsChanges):
    """Rewritten models to save, one folder each; see `Trainer.rewrite_base_model`."""

    strengthen: Sequence[str] | None = None
    """Classes, or "balance". Default: all that evaluate.decoder strengthens and found a step for."""
    weaken: Sequence[str] | None = None
    """Classes. Default: all that evaluate.decoder weakens and found a step for."""
    output_dir: str | None = None
    """Folder of the models. Default: `<experiment_dir>/rewritten`."""

    def __post_init__(self) -> None:
        self.strengthen = None if self.strengthen is None else _listed(self.strengthen)
        self.weaken = None if self.weaken is None else _listed(self.weaken)


@section
@dataclass(repr=False)
class Delta(Rewrite):
    """Small files with the changed entries alone; see `Trainer.export_delta`."""

    output_dir: str | None = None
    """Folder of the files. Default: `<experiment_dir>/deltas`."""


@section
@dataclass(repr=False)
class Report(ShowsChanges):
    """The page `report.html`."""

    title: str | None = None
    """Title of the page. Default: the feature and the model."""
    sentences: Sequence[str] = ()
    """Texts with a `[MASK]` whose most likely words are shown before and after each rewrite."""

    def __post_init__(self) -> None:
        self.sentences = _listed(self.sentences)
        for text in self.sentences:
            if PLACEHOLDER not in text:
                raise ValueError(f"sentences need the place to predict, {PLACEHOLDER}; got {text!r:.80}.")


@fields_in_docstring
@section
@dataclass(repr=False)
class Experiment(ShowsChanges):
    """A whole experiment: data, training, evaluations, rewritten models, report.

        experiment = Experiment(model="bert-base-cased", experiment_dir="runs/gender", data=…)
        run_experiment(experiment)

    Raises:
        TypeError: An unknown argument (the message names the nearest), or a section of another type.
        ValueError: Sections that contradict each other.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid", "arbitrary_types_allowed": True}
    """How a file is read: an unknown key is an error in every section."""

    model: str
    """Name or path of the base model, or of a GRADIEND to go on with."""
    experiment_dir: str
    """Folder of everything that the experiment writes."""
    corpus: Corpus | None = None
    """Raw text, from which rows are made; leave it out where the rows are there already (`data.data`)."""
    data: TextPredictionConfig = field(default_factory=TextPredictionConfig)
    """The rows, the classes, and how they are read."""
    head: AuxiliaryHead | None = None
    """An auxiliary head for causal models, trained before the GRADIEND."""
    train: TrainingArguments = field(default_factory=lambda: TrainingArguments(use_cache=True))
    """How the GRADIEND is trained."""
    evaluate: Evaluation = field(default_factory=Evaluation)
    """What is measured."""
    rewrite: Rewrite | None = None
    """Rewritten models to save; `rewrite: {}` saves one for each measured goal."""
    delta: Delta | None = None
    """Deltas to save; `delta: {}` saves one for each measured goal."""
    report: Report | None = field(default_factory=Report)
    """The page with all results; null writes none."""

    def __post_init__(self) -> None:
        _require_section("corpus", self.corpus, Corpus, optional=True)
        _require_section("data", self.data, TextPredictionConfig, optional=False)
        _require_section("head", self.head, AuxiliaryHead, optional=True)
        _require_section("train", self.train, TrainingArguments, optional=False)
        _require_section("evaluate", self.evaluate, Evaluation, optional=False)
        _require_section("rewrite", self.rewrite, Rewrite, optional=True)
        _require_section("delta", self.delta, Delta, optional=True)
        _require_section("report", self.report, Report, optional=True)
        require_path("experiment_dir", self.experiment_dir)
        self.experiment_dir = str(self.experiment_dir)
        if self.train.experiment_dir not in (None, self.experiment_dir):
            raise ValueError(
                f"experiment_dir is given twice: {self.experiment_dir!r}, and {self.train.experiment_dir!r} in train. "
                "Keep the first."
            )
        rows = self.data.data is not None or self.data.hf_dataset is not None
        if self.corpus is None and not rows:
            raise ValueError("data is missing: give rows (data.data), or text to make them from (corpus).")
        if self.corpus is not None and rows:
            raise ValueError("data.data and corpus are both given: rows come either from a table or from raw text.")
        if self.evaluate.decoder is None and (self.rewrite is not None or self.delta is not None):
            raise ValueError("rewrite and delta need evaluate.decoder, which finds the step: it is null.")
        # Where the file does not say the classes, the rows do.
        named = list(self.corpus.feature_targets) if self.corpus is not None else []
        if classes := self.data.target_classes or (named if len(named) == 2 else ()):
            self.require_goals(classes)
        self.train = self.train.replace(experiment_dir=self.experiment_dir)

    def strengthened(self, classes: Sequence[str]) -> list[str]:
        """Name the goals that `evaluate.decoder` strengthens.

        Args:
            classes: The target classes.
        """
        asked = self.evaluate.decoder
        if asked is None:
            return []
        if asked.strengthen is not None:
            return list(asked.strengthen)
        return [*classes, *([] if self.data.balance_texts is None else [BALANCE])]

    def require_goals(self, classes: Sequence[str]) -> None:
        """Raise a ValueError for a goal that is no class, or for which no step is looked for.

        Args:
            classes: The target classes.
        """
        if self.evaluate.decoder is None:
            return
        strengthened, weakened = self.strengthened(classes), self.evaluate.decoder.weaken
        wanted = [
            ("evaluate.decoder.strengthen", strengthened, [*classes, BALANCE]),
            ("evaluate.decoder.weaken", weakened, classes),
        ]
        for name, asked in (("rewrite", self.rewrite), ("delta", self.delta)):
            if asked is not None:
                wanted.append((f"{name}.strengthen", asked.strengthen or (), strengthened))
                wanted.append((f"{name}.weaken", asked.weaken or (), weakened))
        for name, given, known in wanted:
            for goal in given:
                if not known:
                    raise ValueError(
                        f"{name} has {goal!r}, for which no step is looked for: "
                        f"evaluate.decoder.{name.rpartition('.')[2]} is empty."
                    )
                one_of(name, goal, known)

    def replace(self, **sections: Any) -> Experiment:
        """A validated copy with other sections."""
        return dataclasses.replace(self, **sections)
