"""The features that are compared, each with its trainer and its models; all models share one base model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gradiend.evaluator._goals import require_trained
from gradiend.model._base_model import BaseDigest, differing
from gradiend.model._context import Side
from gradiend.model.model_with_gradiend import ModelWithGradiend
from gradiend.model.seed_group import SeedModelGroup
from gradiend.util._keywords import nearest

Trainers = Any
"""Id → trainer, a list of trainers with run ids, or a suite or collection with `items()`."""
Models = Mapping[str, Any]
"""Id → a model, a list of models of several seeds, or a `SeedModelGroup`."""

OFFERS = ("get_model", "create_eval_data", "target_classes", "run_id")
"""The attributes that a comparison needs of a trainer."""


@dataclass(frozen=True, eq=False)
class Feature:
    """A pair of classes with its GRADIEND, or its GRADIENDs of several seeds."""

    id: str
    trainer: Any
    """Gives the rows of the feature."""
    models: tuple[Any, ...]
    classes: tuple[str, str]
    """The class that should be encoded positive, then the other one."""

    @property
    def side(self) -> Side:
        """The gradient that the models read; the models of several seeds all read the same gradient."""
        return Side(self.models[0].source)

    @property
    def label(self) -> str:
        """The pair in words."""
        return " ↔ ".join(self.classes)


def features_of(trainers: Trainers, models: Models | None = None) -> list[Feature]:
    """The features of some trainers; their models, or the ones that `models` has instead, must share one base model.

    Raises:
        TypeError: Something that is no trainer.
        ValueError: No trainer; an id that is missing or used twice; a GRADIEND that is not trained; models of several
            base models, or seeds with several sources.
    """
    named = _named(trainers)
    if models is not None and (unknown := [name for name in models if name not in named]):
        raise ValueError(f"models has {unknown[0]!r}, which is no trainer's id.{nearest(str(unknown[0]), list(named))}")
    features = []
    for name, trainer in named.items():
        missing = [part for part in OFFERS if not hasattr(trainer, part)]
        if missing:
            raise TypeError(
                f"{name!r} is {type(trainer).__name__}, which has no {missing[0]}: a comparison of encodings takes "
                "trainers, because they know the texts of their classes."
            )
        model = models[name] if models is not None and name in models else trainer.get_model()
        group = tuple(model) if isinstance(model, (SeedModelGroup, list, tuple)) else (model,)
        features.append(_feature(name, trainer, group))
    _require_one_base_model(features)
    return features


def _named(trainers: Trainers) -> dict[str, Any]:
    if hasattr(trainers, "items"):
        named = {str(name): trainer for name, trainer in trainers.items()}
    elif isinstance(trainers, Sequence) and not isinstance(trainers, str):
        ids = [getattr(trainer, "run_id", None) for trainer in trainers]
        for place, name in enumerate(ids):
            if name is None or name in ids[:place]:
                what = "has no run_id" if name is None else f"has the run_id {name!r} of another one"
                raise ValueError(f"Trainer {place} {what}: give a dict id → trainer, or a run_id of its own to each.")
        named = dict(zip(map(str, ids), trainers, strict=True))
    else:
        raise TypeError(f"trainers must be a dict id → trainer, or a list of trainers; got {type(trainers).__name__}.")
    if not named:
        raise ValueError("There is no trainer to compare.")
    return named


def _feature(name: str, trainer: Any, models: tuple[Any, ...]) -> Feature:
    for model in models:
        if not isinstance(model, ModelWithGradiend):
            raise TypeError(f"The model of {name!r} must be a model with a GRADIEND; got {type(model).__name__}.")
        require_trained(trainer, model)
    sources = {model.source for model in models}
    if len(sources) != 1:
        raise ValueError(f"The models of {name!r} must read one source; got {', '.join(sorted(sources)) or 'none'}.")
    first, second = trainer.target_classes
    return Feature(name, trainer, models, (str(first), str(second)))


def _require_one_base_model(features: Sequence[Feature]) -> None:
    first = features[0].models[0]
    digest: BaseDigest | None = None
    for feature in features:
        for model in feature.models:
            if type(model.objective) is not type(first.objective):
                kinds = f"{type(first.objective).__name__} and {type(model.objective).__name__}"
                raise ValueError(
                    f"The GRADIENDs of {features[0].id!r} and {feature.id!r} score words in different ways ({kinds}): "
                    "compare the GRADIENDs of each objective on their own."
                )
            if model.base_model is first.base_model:
                continue
            digest = digest or BaseDigest.of(first.base_model)
            if changed := BaseDigest.of(model.base_model).differences(digest):
                raise ValueError(
                    f"The GRADIENDs of {features[0].id!r} and {feature.id!r} have different base models "
                    f"({differing(changed)}): their encodings of a text come from different gradients. Compare the "
                    "GRADIENDs of each base model on their own."
                )


def positive_classes(
    features: Sequence[Feature], given: Mapping[str, str] | None, trainers: Trainers
) -> dict[str, str]:
    """Id → the positive class of each pair; ValueError for a class that is not of the pair, or if none is known.

    The positive class is the given one, else that of a suite's definition of the pair, else `positive_class` of the
    training arguments, else `x` of a pair with `non_x` or `non-x`.
    """
    wanted = dict(given or {})
    if hasattr(trainers, "get_pair_definition"):
        wanted = {feature.id: trainers.get_pair_definition(feature.id).positive_class for feature in features} | wanted
    found = {}
    for feature in features:
        named = [name for name in feature.classes if not name.startswith(("non_", "non-"))]
        own = feature.trainer.training_args.positive_class
        name = wanted.get(feature.id) or own or (named[0] if len(named) == 1 else None)
        if name is None:
            raise ValueError(
                f"Which class of {feature.id!r} ({feature.label}) is the positive one? Give "
                f"positive_class={{{feature.id!r}: {feature.classes[0]!r}}}, or name the other class non_…"
            )
        if name not in feature.classes:
            known = nearest(str(name), feature.classes)
            raise ValueError(f"positive_class of {feature.id!r} is {name!r}; the pair is {feature.label}.{known}")
        found[feature.id] = name
    return found
