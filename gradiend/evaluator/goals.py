"""What a decoder evaluation is asked for: classes to move, and where that is seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gradiend.evaluator.selection import Candidate, lms_of, numbers_of
from gradiend.model._context import moving_factor
from gradiend.util.fingerprint import FINGERPRINT

RESULT_KEYS = ("grid", "summary", "plot_path", "plot_paths", FINGERPRINT)
"""Keys of decoder results, in memory and in their files, that are no summaries."""
SUFFIXES = ("_weaken", "_factual")
"""What makes the key of a metric of a class from its name."""


def derive_feature_factor_for_class(
    trainer: Any, model_with_gradiend: Any = None, class_name: str | None = None, *, strengthen: bool = True
) -> float:
    """The feature factor that strengthens (or weakens) a class, see `moving_factor` in `gradiend.model._context`.

    Several latents all get it, though training gives none of them its sign.

    Raises:
        ValueError: No or an unknown class, or a model that does not know its encoding direction.
    """
    model = trainer.get_model() if model_with_gradiend is None else model_with_gradiend
    return moving_factor(model.feature_class_encoding_direction, model.target, class_name, strengthen=strengthen)


derive_default_feature_factor = derive_feature_factor_for_class


def default_decoder_feature_factors(trainer: Any, model_with_gradiend: Any = None) -> list[float]:
    """The strengthening factor of each target class, in their order.

    Raises:
        ValueError: No target classes, or no encoding direction.
    """
    classes = trainer.target_classes or trainer.config.target_classes
    if not classes:
        raise ValueError(
            "The trainer has no target_classes, so there is no default feature factor: pass feature_factors."
        )
    return [derive_feature_factor_for_class(trainer, model_with_gradiend, name) for name in classes]


def check_class_names(names: Sequence[Any]) -> None:
    """Refuse classes whose results would have the key of something else, or could not be written.

    Raises:
        ValueError: Such a class; the message lists the names that are taken.
    """
    for name in map(str, names):
        if name in RESULT_KEYS:
            raise ValueError(
                f"A class cannot be called {name!r}: decoder results use {', '.join(RESULT_KEYS)} as keys of "
                "their own. Rename the class."
            )
        for suffix in SUFFIXES:
            if name.endswith(suffix) and name.removesuffix(suffix) in names:
                raise ValueError(
                    f"A class cannot be called {name!r} beside {name.removesuffix(suffix)!r}, whose results use that "
                    f"key: decoder results have <class>{' and <class>'.join(SUFFIXES)} for every class. Rename one."
                )
        if any("\ud800" <= letter <= "\udfff" for letter in name):
            raise ValueError(f"The class name {name!r} is no text: it has a lone surrogate, which no file can hold.")


@dataclass(frozen=True)
class Goal:
    """One class to strengthen or weaken: which rows show it, and which factor does it."""

    target_class: str
    strengthen: bool
    datasets: tuple[str, ...]
    """Dataset classes that it is measured on: strengthening on the other classes' texts, weakening on its own."""
    factor: float

    @property
    def summary(self) -> str:
        """Key of the result."""
        return self.target_class if self.strengthen else f"{self.target_class}_weaken"

    def accepts(self, factor: float, given: Sequence[float] | None) -> bool:
        """Whether a rewrite with `factor` is a candidate: any that the user has given, otherwise the goal's own.

        A plot measures both directions on all texts; the wrong one must not be chosen because the right one fails.
        """
        return given is not None or factor == self.factor

    def value(self, entry: Mapping[str, Any]) -> float | None:
        """P(class) on the goal's texts, or 1 − P(class) to weaken; None if that was not measured.

        An entry without probabilities may give the value itself, as a number under the name of the class.
        """
        by_dataset = entry.get("probs_by_dataset", {})
        found = [by_dataset[name].get(self.target_class) for name in self.datasets if name in by_dataset]
        if len(found) == len(self.datasets) and None not in found:
            mean = sum(found) / len(found)
            return mean if self.strengthen else 1 - mean
        if not self.strengthen and self.target_class in entry.get("probs_factual", {}):
            return float(1 - entry["probs_factual"][self.target_class])
        if self.strengthen and len(self.datasets) == 1 and self.datasets[0] in entry.get("probs", {}):
            return float(entry["probs"][self.datasets[0]])
        return numbers_of(entry).get(self.summary)

    def candidates(self, grid: Mapping[Any, Mapping[str, Any]], given: Sequence[float] | None) -> list[Candidate]:
        """The measured rewrites that may be chosen, with the metric `summary`."""
        result = []
        for key, entry in grid.items():
            value = None if isinstance(key, str) else self.value(entry)
            if value is not None and self.accepts(key[0], given):
                result.append(Candidate(entry["id"], lms_of(entry), {self.summary: value}))
        return result


def goals_of(
    trainer: Any, model: Any, target_class: str | Sequence[str] | None, strengthen: bool, *, on_others: bool = True
) -> list[Goal]:
    """The goals of an evaluation.

    Args:
        trainer: Its target classes.
        model: Knows which class it encodes positive.
        target_class: One or several. Default: all target classes.
        strengthen: Or weaken.
        on_others: Whether strengthening is measured on the other classes' texts; False: on the class's own.

    Raises:
        TypeError: Neither a name nor a list.
        ValueError: No class, or one that the model does not tell apart.
    """
    classes = list(trainer.target_classes)
    if target_class is None:
        target_class = classes
    if not isinstance(target_class, (str, list, tuple)):
        raise TypeError(f"target_class must be a class name or a list of them; got {target_class!r:.60}.")
    chosen = [target_class] if isinstance(target_class, str) else list(target_class)
    if not chosen:
        raise ValueError("target_class=[] names no class to move: leave it out for all target classes.")
    goals = []
    for name in chosen:
        factor = derive_feature_factor_for_class(trainer, model, name, strengthen=strengthen)
        others = tuple(other for other in classes if other != name)
        goals.append(Goal(name, strengthen, others if strengthen and on_others else (name,), factor))
    return goals


def datasets_by_factor(
    goals: Sequence[Goal], factors: Sequence[float] | None, everything: Sequence[str] | None
) -> dict[float, list[str]]:
    """Feature factor → dataset classes to measure it on.

    Args:
        goals: What is asked for.
        factors: Those the user has given; each is measured for every goal.
        everything: Measure all factors on these, whatever the goals need.
    """
    needed: dict[float, list[str]] = {}
    for goal in goals:
        for factor in [goal.factor] if factors is None else factors:
            needed.setdefault(float(factor), []).extend(goal.datasets)
    return {
        factor: list(everything if everything is not None else dict.fromkeys(datasets))
        for factor, datasets in needed.items()
    }
