"""Suites: one GRADIEND for each pair of classes, trained from the same model, data and arguments."""

from __future__ import annotations

import dataclasses
import itertools
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from typing_extensions import Self

from gradiend.comparison import ClosedForm, ComparisonResult, closed_form
from gradiend.data.unified._schema import class_name
from gradiend.trainer._pairs import (
    PositiveFeatureDefinition,
    SuitePairDefinition,
    definition,
    pair_id,
    pair_label,
    safe,
)
from gradiend.trainer._preparation import Preparation, TrainingPlan
from gradiend.trainer._shared_work import SharedWork
from gradiend.trainer.collection import CHILD_ERRORS, TrainerCollection, noted
from gradiend.trainer.core.arguments import TrainingArguments
from gradiend.trainer.text.prediction._text_data import TextData
from gradiend.trainer.trainer import Trainer
from gradiend.util._checks import AS_IN_ARGUMENTS, require_ordered, require_whole
from gradiend.util._keywords import one_of, resolve_keywords
from gradiend.util._progress import Progress
from gradiend.util.logging import get_logger
from gradiend.util.paths import safe_path

logger = get_logger(__name__)

ONE_FOLDER = ("output_dir", "seed_runs_dir")
"""Arguments that name one folder, which the trainers of a suite cannot share."""
NEGATED = ("non_", "non-")
"""Beginnings of the names of classes that stand for the absence of a feature."""
Pairs = Sequence[Sequence[str]] | None
Definitions = Sequence[SuitePairDefinition] | None


class TrainerSuite(TrainerCollection):
    """Trainers of several pairs of classes. Its subclasses make the pairs.

    Every method of the trainers can be called on the suite and returns a dict id → result. The trainings share the
    base model, the gradients by which they are pruned, and the gradients of their batches: a text's gradient is
    computed once for each word that any of the pairs puts into the text.

    Args:
        trainer_cls: The class of the trainers.
        *trainer_args: Arguments of every trainer.
        target_classes: The classes. Default: those of the configuration, else those in the data.
        target_pairs: The pairs to train. Default: all pairs of the classes.
        pair_definitions: The pairs as definitions, which can also give an id, a label and merged classes.
        run_id: Name of the suite, a subdirectory of `args.experiment_dir`; each trainer has a subdirectory there.
        pair_filter: Function of (first, second) that says whether a pair is trained.
        pair_id_fn: Function of (first, second) that gives the id of a trainer.
        pair_label_fn: Function of (first, second) that gives the name of a pair in figures.
        retain_models_in_memory: Whether trained models stay in memory after a call.
        model_device: cpu or cuda. Accepted for compatibility: models stay where their trainers have them.
        **trainer_kwargs: Keywords of every trainer.

    Raises:
        ValueError: Fewer than two classes, a class or an id twice, an unknown class, or no pair.
        TypeError: A class that is no trainer, or an argument of another kind.
    """

    def __init__(
        self, trainer_cls: type[Trainer], *trainer_args: Any, target_classes: Sequence[str] | None = None,
        target_pairs: Sequence[Sequence[str]] | None = None,
        pair_definitions: Sequence[SuitePairDefinition | Mapping[str, Any]] | None = None, run_id: str | None = None,
        pair_filter: Callable[[str, str], bool] | None = None, pair_id_fn: Callable[[str, str], str] | None = None,
        pair_label_fn: Callable[[str, str], str] | None = None, retain_models_in_memory: bool = True,
        model_device: Literal["cpu", "cuda"] = "cpu", **trainer_kwargs: Any,
    ) -> None:  # fmt: skip
        if not (isinstance(trainer_cls, type) and issubclass(trainer_cls, Trainer)):
            raise TypeError(f"trainer_cls must be a class of trainers; got {trainer_cls!r:.60}.")
        if run_id is not None and not isinstance(run_id, str):
            raise TypeError(f"run_id must be a text; got {run_id!r:.60}.")
        super().__init__(retain_models_in_memory=retain_models_in_memory)
        self.run_id = run_id
        one_of("model_device", model_device, ("cpu", "cuda"))
        self._trainer_cls, self._trainer_args, self._trainer_kwargs = trainer_cls, trainer_args, dict(trainer_kwargs)
        self._id_of, self._label_of = pair_id_fn or pair_id, pair_label_fn or pair_label
        named: Pairs = None if target_pairs is None else list(target_pairs)
        defined: Definitions = None
        if pair_definitions is not None:
            defined = [definition(SuitePairDefinition, one, "pair_definitions") for one in pair_definitions]
        self.target_classes = self._classes(target_classes, named, defined)
        """The classes of the suite."""
        pairs = self._pairs(self.target_classes, named, defined)
        kept = [pair for pair in pairs if pair_filter is None or pair_filter(*pair.target_classes)]
        if not kept:
            raise ValueError(f"The suite has no pair: pair_filter leaves out all {len(pairs)}.")
        self._definitions: dict[str, SuitePairDefinition] = {}
        self.shared = SharedWork(len({name for pair in kept for name in pair.target_classes}))
        """What the trainings share."""
        for pair in kept:
            self._add_child(pair)

    @abstractmethod
    def _pairs(self, classes: Sequence[str], pairs: Pairs, definitions: Definitions) -> list[SuitePairDefinition]:
        """The pairs of the suite."""

    def _classes(self, classes: Any, pairs: Pairs, definitions: Definitions) -> list[str]:
        """The classes, from the first of the places that names them."""
        require_ordered("target_classes", classes)
        named = list(classes or ())
        config = self._trainer_kwargs.get("config")
        if not named and pairs is not None:
            named = list(dict.fromkeys(name for pair in pairs for name in pair))
        if not named and definitions is not None:
            named = list(dict.fromkeys(name for one in definitions for name in one.target_classes))
        if not named:
            named = list(self._trainer_kwargs.get("all_classes") or getattr(config, "all_classes", None) or ())
        if not named:
            named = self._trainer_cls(*self._trainer_args, **self._trainer_kwargs).all_classes or []
        if len(named) < 2:
            raise ValueError(f"A suite needs at least two classes: name them with target_classes=[…]; got {named}.")
        if len(set(named)) != len(named):
            raise ValueError(f"target_classes must be distinct; got {named}.")
        return [class_name(name) for name in named]

    def _add_child(self, pair: SuitePairDefinition) -> None:
        name = pair.child_id or self._id_of(*pair.target_classes)
        merged = {key: getattr(pair, key) for key in ("class_merge_map", "class_merge_transition_groups")}
        child = self._trainer(pair.target_classes, name, {k: v for k, v in merged.items() if v is not None})
        first = next(iter(self._trainers.values()), None)
        if first is not None and isinstance(first.modality, TextData) and isinstance(child.modality, TextData):
            child.modality.reader = first.modality
        self._add(name, child)
        self._definitions[name] = dataclasses.replace(
            pair, child_id=name, label=pair.label or self._label_of(*pair.target_classes)
        )

    def _trainer(self, classes: Sequence[str], run_id: str | None, fields: Mapping[str, Any]) -> Trainer:
        """A trainer of two classes with these fields of the configuration."""
        kwargs = dict(self._trainer_kwargs)
        config = kwargs.get("config")
        if config is None:
            kwargs |= fields
        else:
            kwargs["config"] = dataclasses.replace(config, target_classes=list(classes), run_id=run_id, **fields)
        key = "training_args" if "training_args" in kwargs else "args"
        kwargs[key] = self._child_arguments(kwargs.get(key) or TrainingArguments())
        made = self._trainer_cls(*self._trainer_args, **{**kwargs, "target_classes": list(classes), "run_id": run_id})
        made.current.shared = self.shared
        return made

    def _child_arguments(self, args: TrainingArguments) -> TrainingArguments:
        if any(args.get(name) is not None for name in ONE_FOLDER):
            raise ValueError(
                f"{' and '.join(ONE_FOLDER)} name one folder, and the trainers of a suite need one each: give "
                "experiment_dir instead."
            )
        if self.run_id is None or args.experiment_dir is None:
            return args
        return args.replace(experiment_dir=str(Path(args.experiment_dir) / safe_path(self.run_id)))

    # The pairs

    def get_pair_definition(self, name: str) -> SuitePairDefinition:
        """The pair of the trainer with this id. Raises KeyError for an unknown id."""
        self[name]
        return self._definitions[name]

    @property
    def labels(self) -> dict[str, str]:
        """Id → name of the pair in figures."""
        return {name: str(pair.label) for name, pair in self._definitions.items()}

    @property
    def experiment_dir(self) -> str | None:
        """Directory of the suite; None if nothing is written."""
        one = next(iter(self._trainers.values()))
        return one.placed_args.experiment_dir

    # Training

    def train(self, **overrides: Any) -> Self:
        """Train a GRADIEND for each pair; finished trainings of the same are used if the arguments say so.

        First, all models are prepared and pruned; then the gradients of all their batches are computed together; then
        one after the other is trained. A pair that cannot be trained, or fails, is in `failures`, and the others go on.

        Args:
            **overrides: Arguments of `Trainer.train`, but those that name one output.

        Returns:
            self.

        Raises:
            TypeError: An unknown argument.
            RuntimeError: No pair could be trained; the first error is its cause.
        """
        fields = [*next(iter(self._trainers.values())).training_args.names(), "num_epochs"]
        taken = [name for name in (*fields, "model", "callbacks", "model_with_gradiend_cls") if name not in ONE_FOLDER]
        given = resolve_keywords("TrainerSuite.train", overrides, taken)
        # A model or callbacks of the call are not prepared together: each training makes its own gradients.
        refused = self._prepare(given) if set(given) <= set(fields) else {}
        try:
            self._train(given, refused)
        finally:
            self.shared.drop()
        done = [name for name in self if name not in self.failures and self[name].reused]
        logger.info(
            "%d of %d trainings were done before, %d are new, %d failed.",
            len(done), len(self), len(self) - len(done) - len(self.failures), len(self.failures),
        )  # fmt: skip
        return self

    def annotate_data(self, **options: Any) -> pd.DataFrame:
        """What the base model knows of the rows of all classes, see `TextPredictionTrainer.annotate_data`.

        The rows are annotated once for all pairs: with the words of all classes, and each with its own word as the
        alternative, but for those of the first pair.
        """
        first = next(iter(self._definitions.values()))
        every = self._trainer(first.target_classes, None, {"decoder_eval_restrict_to_target_classes": False})
        annotated: pd.DataFrame = every.annotate_data(**options)  # type: ignore[attr-defined]
        return annotated

    def closed_form(
        self, split: str = "train", max_size: int | None = None, batch_size: int | None = None
    ) -> ClosedForm:
        """The closed-form directions of all pairs, from one mean gradient of each class's texts.

        Args:
            split: The split of the texts.
            max_size: Cap on texts per class, the first ones. Default: all texts.
            batch_size: Texts of one pass. Default: `eval_batch_size`.

        Returns:
            The class means, of which `direction(a, b)` makes the direction of a pair, and `similarity()` the cosines
            between the directions of all pairs.

        Raises:
            ValueError: The trainers are not of texts, or a class has no texts in the split.
        """
        require_whole("max_size", max_size, 1, none_means="for all")
        require_whole("batch_size", batch_size, 1, none_means=AS_IN_ARGUMENTS)
        first = next(iter(self._trainers.values()))
        if not isinstance(first.modality, TextData):
            raise ValueError("The closed form of all pairs needs trainers of texts (TextPredictionTrainer).")
        args = first.training_args
        model: Any = Preparation(first, TrainingPlan(args, "", first.current.given), shared=self.shared).start
        words: dict[str, list[Any]] = {}
        refused: BaseException | None = None
        for trainer in self._trainers.values():
            modality = trainer.modality
            assert isinstance(modality, TextData)
            try:
                rows = modality.labelled_rows(split)
            except CHILD_ERRORS as error:
                # A pair that cannot be compared may share its classes with pairs that can.
                refused = refused or error
                continue
            for one in trainer.target_classes or ():
                if one not in words:
                    own = rows[rows["source_id"] == one].drop_duplicates(["masked", "factual"])
                    own = own.head(max_size or len(own))
                    words[one] = model.objective.tokenize_known(own["masked"].tolist(), own["factual"].tolist())
        if refused is not None and any(name not in words for one in self.values() for name in one.target_classes or ()):
            raise refused
        return closed_form(model, words, batch_size or args.eval_batch_size)

    def _prepare(self, overrides: Mapping[str, Any]) -> dict[str, BaseException]:
        """Prepare all trainings and compute their gradients. Returns id → error of those that cannot be trained."""
        refused: dict[str, BaseException] = {}
        with Progress("prepared", len(self), "training") as bar:
            for name, trainer in bar.over(list(self.items())):
                try:
                    self.shared.prepare(trainer, overrides)
                except CHILD_ERRORS as error:
                    refused[name] = noted(error)
                    logger.warning("%s cannot be trained: %s", name, error)
        passes = self.shared.compute_gradients()
        if passes:
            logger.info("The gradients of all trainings took %d backward passes.", passes)
        return refused


class SymmetricTrainerSuite(TrainerSuite):
    """A GRADIEND for every pair of classes, or for chosen pairs.

        trio = SymmetricTrainerSuite(TextPredictionTrainer, model="my-bert", data=rows, run_id="trio", args=arguments)
        trio.train()
        trio.evaluate_encoder(split="test")["he__she"]["correlation"]

    `TrainerSuite` describes the arguments. Pairs of `target_pairs` are sorted by name; those of `pair_definitions` keep
    their order.
    """

    def _pairs(self, classes: Sequence[str], pairs: Pairs, definitions: Definitions) -> list[SuitePairDefinition]:
        if pairs is not None and definitions is not None:
            raise ValueError("target_pairs and pair_definitions are two ways to name the pairs: give one of them.")
        if definitions is not None:
            made = list(definitions)
        elif pairs is not None:
            made = [SuitePairDefinition(sorted(map(class_name, pair))) for pair in pairs]
        else:
            made = [SuitePairDefinition(pair) for pair in itertools.combinations(classes, 2)]
        for pair in made:
            pair.require_known(classes)
        return made


class PositiveTrainerSuite(TrainerSuite):
    """A GRADIEND for each feature that is present or absent; the texts of other features are trained on as neutral.

        suite = PositiveTrainerSuite(TextPredictionTrainer, model="my-bert", data=rows, run_id="tone", args=arguments)
        suite.train()

    The other arguments are those of `TrainerSuite`.

    Args:
        positive_feature_definitions: The features. Default: made from the classes: `negative_class_fn` gives the class
            without the feature, and of a given pair the one whose name begins with `non_` or `non-` is that class, else
            the second.
        negative_class_fn: Function that gives the name of the class without a feature. Default: `non_` + name.
        mode: "single" trains each feature; "all_but_one" trains, for each feature (or group of features), all other
            features together, as the classes `positive` and `negative`.

    Raises:
        ValueError: Some definitions with a group and some without, or fewer than two features for "all_but_one".
    """

    def __init__(
        self, trainer_cls: type[Trainer], *trainer_args: Any,
        positive_feature_definitions: Sequence[PositiveFeatureDefinition | Mapping[str, Any]] | None = None,
        negative_class_fn: Callable[[str], str] | None = None, mode: Literal["single", "all_but_one"] = "single",
        **kwargs: Any,
    ) -> None:  # fmt: skip
        self.mode = one_of("mode", mode, ("single", "all_but_one"))
        self._negative_of = negative_class_fn or (lambda name: f"{NEGATED[0]}{name}")
        self._features = [
            definition(PositiveFeatureDefinition, one, "positive_feature_definitions")
            for one in positive_feature_definitions or ()
        ]
        if self._features and kwargs.get("target_classes") is None:
            kwargs["target_classes"] = list(dict.fromkeys(name for one in self._features for name in one.pair))
        super().__init__(trainer_cls, *trainer_args, **kwargs)

    def _child_arguments(self, args: TrainingArguments) -> TrainingArguments:
        return super()._child_arguments(args).replace(add_identity_for_other_classes=True)

    def _pairs(self, classes: Sequence[str], pairs: Pairs, definitions: Definitions) -> list[SuitePairDefinition]:
        given = [one.target_classes for one in definitions or ()] or pairs
        features = self._features or list(self._inferred(classes, given))
        if not features:
            raise ValueError(
                f"None of {', '.join(classes)} has a class without its feature: give positive_feature_definitions=[…], "
                "or negative_class_fn."
            )
        if self.mode == "all_but_one":
            return list(self._all_but_one(features))
        made = [SuitePairDefinition(one.pair, positive_class=one.pair[0], label=one.label) for one in features]
        for pair in made:
            pair.require_known(classes)
        return made

    @property
    def _positive(self) -> dict[str, str]:
        """Id → the class with the feature, for trainers whose training has not failed."""
        found = {name: self.get_pair_definition(name).positive_class for name in self._able()}
        return {name: positive for name, positive in found.items() if positive is not None}

    def compute_trainer_pair_encoding_matrix(self, **options: Any) -> ComparisonResult:
        """What each GRADIEND says of all pairs, see `gradiend.compute_trainer_pair_encoding_matrix`."""
        return super().compute_trainer_pair_encoding_matrix(**{"positive_class": self._positive, **options})

    def plot_cross_encoding_heatmap(self, feature_classes: Sequence[str] | None = None, **options: Any) -> Any:
        """Plot what each GRADIEND says of all pairs, see `gradiend.plot_cross_encoding_heatmap`.

        Args:
            feature_classes: Classes of the anchor-aligned matrix, which is plotted if they are given.
            **options: See `gradiend.plot_cross_encoding_heatmap`; `metric` is positive_minus_negative by default.
        """
        if feature_classes is None:
            options = {"metric": "positive_minus_negative", "positive_class": self._positive, **options}
        return super().plot_cross_encoding_heatmap(feature_classes, **options)

    def _inferred(self, classes: Sequence[str], pairs: Pairs) -> Iterator[PositiveFeatureDefinition]:
        for first, second in pairs or ():
            turned = first.startswith(NEGATED) and not second.startswith(NEGATED)
            yield PositiveFeatureDefinition(*((second, first) if turned else (first, second)))
        if pairs is None:
            for name in classes:
                if self._negative_of(name) in classes:
                    yield PositiveFeatureDefinition(name, self._negative_of(name))

    def _all_but_one(self, features: Sequence[PositiveFeatureDefinition]) -> Iterator[SuitePairDefinition]:
        grouped = [one.feature_class_group is not None for one in features]
        if any(grouped) and not all(grouped):
            raise ValueError(
                "Some features have a feature_class_group and some have none: give all of them one, or none."
            )
        held_out: dict[str, list[PositiveFeatureDefinition]] = {}
        for one in features:
            name = f"holdout__{pair_id(*one.pair)}"
            if one.feature_class_group is not None:
                name = f"holdout_group__{safe(str(one.feature_class_group))}"
            held_out.setdefault(name, []).append(one)
        if len(held_out) < 2:
            raise ValueError('mode="all_but_one" needs at least two features, or groups of features.')
        for name, left_out in held_out.items():
            others = [one for one in features if one not in left_out]
            shown = left_out[0].feature_class_group or left_out[0].label or left_out[0].positive_feature_class
            yield SuitePairDefinition(
                ("positive", "negative"), positive_class="positive", child_id=name, label=f"All But {shown}",
                class_merge_map={
                    "positive": [one.positive_feature_class for one in others],
                    "negative": [one.negative_feature_class for one in others],
                },
                class_merge_transition_groups=[list(one.pair) for one in others],
            )  # fmt: skip
