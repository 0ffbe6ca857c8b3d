"""Checks at the start of evaluations, and the goals of a decoder evaluation: classes to strengthen or weaken."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gradiend.evaluator._selection import BASE, Candidate, is_scored, lms_of, numbers_of
from gradiend.model._context import moving_factor
from gradiend.model.model_with_gradiend import ModelWithGradiend
from gradiend.util import BALANCE, WEAKENED
from gradiend.util._cache import FINGERPRINT, CachePolicy, parse_policy

RESULT_KEYS = ("grid", "summary", "plot_path", "plot_paths", FINGERPRINT)
"""The keys of decoder results, in memory and in files, that hold no summary."""
SUFFIXES = (WEAKENED, "_factual")
"""Endings that turn the name of a class into the key of a metric."""


def goal_entries(results: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Goal → its entry in the results of a decoder evaluation."""
    return {key: one for key, one in results.items() if key not in RESULT_KEYS and isinstance(one, Mapping)}


def weakened_class(key: str, classes: Collection[str]) -> str | None:
    """The class that a goal makes less likely; None for another goal."""
    name = key.removesuffix(WEAKENED)
    return name if name != key and name in classes else None


def as_probability(key: str, value: Any, classes: Collection[str]) -> Any:
    """The value of a goal for people: P(class) also where a class is weakened, whose results hold 1 − P(class)."""
    return value if value is None or weakened_class(key, classes) is None else 1 - value


def wants_cache(trainer: Any, use_cache: CachePolicy | None, call: str, explicit_path: str | None = None) -> bool:
    """Whether a call reads earlier results: not with False; None asks the training arguments.

    Raises ValueError for another value, or if earlier results are wanted and there is no place for them.
    """
    if use_cache is None:
        use_cache = trainer.training_args.use_cache
    use_cache = parse_policy("use_cache", use_cache)
    if use_cache and trainer.experiment_dir is None and explicit_path is None:
        raise ValueError(
            f"{call}(use_cache=True) needs a place where earlier results are: give the trainer "
            "TrainingArguments(experiment_dir=…)" + (", or pass output_path." if call == "evaluate_decoder" else ".")
        )
    return bool(use_cache)


def require_trained(trainer: Any, model: Any) -> None:
    """Raise ValueError for a GRADIEND whose weights are still random: its encodings and rewrites are noise."""
    if isinstance(model, ModelWithGradiend) and model.gradiend.is_untrained:
        raise ValueError(
            "This GRADIEND is not trained: its weights are the random ones that it started with. "
            f"{trainer.why_untrained()}"
        )


def require_plot_directory(experiment_dir: str | None) -> None:
    """Raise ValueError for a plot that would be neither shown nor saved."""
    if experiment_dir is None:
        raise ValueError("A plot with show=False needs a place: TrainingArguments(experiment_dir=…). Or show it.")


def derive_feature_factor_for_class(
    trainer: Any, model_with_gradiend: Any = None, class_name: str | None = None, *, strengthen: bool = True
) -> float:
    """The feature factor that strengthens (or weakens) a class, see `moving_factor` in `gradiend.model._context`.

    All latents get the same factor, although the training of several latents gives no latent a sign. ValueError: no or
    an unknown class, or a model that does not know its encoding direction.
    """
    model = trainer.get_model() if model_with_gradiend is None else model_with_gradiend
    return moving_factor(model.feature_class_encoding_direction, model.target, class_name, strengthen=strengthen)


derive_default_feature_factor = derive_feature_factor_for_class


def default_decoder_feature_factors(trainer: Any, model_with_gradiend: Any = None) -> list[float]:
    """The strengthening factor of each target class, in their order; ValueError without classes or a direction."""
    classes = trainer.target_classes or trainer.config.target_classes
    if not classes:
        raise ValueError("The trainer has no target_classes, so there is no default factor: pass feature_factors.")
    return [derive_feature_factor_for_class(trainer, model_with_gradiend, name) for name in classes]


def check_class_names(names: Sequence[Any]) -> None:
    """Raise ValueError for classes whose results would have the key of another result, or could not be written."""
    for name in map(str, names):
        if name in RESULT_KEYS:
            raise ValueError(
                f"A class cannot be called {name!r}: decoder results use {', '.join(RESULT_KEYS)} as keys of "
                "their own. Rename the class."
            )
        if name == BALANCE:
            raise ValueError(f"A class cannot be called {name!r}, the goal of no preference. Rename the class.")
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
    """One class to strengthen or weaken, with the rows that show the effect and the factor that has the effect."""

    target_class: str
    strengthen: bool
    """Whether the class is strengthened (True) or weakened (False)."""
    datasets: tuple[str, ...]
    """The dataset classes to measure on: usually the other classes to strengthen, and the class itself to weaken."""
    factor: float
    """The feature factor that has the effect."""

    @property
    def summary(self) -> str:
        """The key of the goal's result."""
        return self.target_class if self.strengthen else f"{self.target_class}{WEAKENED}"

    @property
    def aim(self) -> str:
        """The aim of the choice in words, such as "the highest P(she)"."""
        return f"the {'highest' if self.strengthen else 'lowest'} P({self.target_class})"

    def accepts(self, factor: float, given: Sequence[float] | None) -> bool:
        """Whether a rewrite with `factor` is a candidate: every factor that the user gave, otherwise the goal's own.

        A plot measures both directions; the wrong direction must not be chosen because the right direction fails.
        """
        return given is not None or factor == self.factor

    def value(self, entry: Mapping[str, Any]) -> float | None:
        """P(class) on the goal's texts, or 1 − P(class) to weaken the class; None if nothing was measured.

        In an entry without probabilities, a number with the name of the class is the value.
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

    def worth(self, entry: Mapping[str, Any], base: Mapping[str, Any]) -> float | None:
        """The number that a choice maximises: the value; None for an entry that may not be chosen."""
        del base
        return self.value(entry)

    def candidates(self, grid: Mapping[Any, Mapping[str, Any]], given: Sequence[float] | None) -> list[Candidate]:
        """The measured rewrites that may be chosen, with the metric `summary`."""
        result = []
        for key, entry in grid.items():
            worth = None if isinstance(key, str) else self.worth(entry, grid[BASE])
            if worth is not None and self.accepts(key[0], given) and is_scored(entry, grid[BASE]):
                result.append(Candidate(entry["id"], lms_of(entry), {self.summary: worth}, entry.get("lms", {})))
        return result

    def no_gain(self, entry: Mapping[str, Any], base: Mapping[str, Any]) -> str | None:
        """A clause that says so if a rewrite is worth no more than the base model; None otherwise, or if unknown."""
        worth, before = self.worth(entry, base), self.worth(base, base)
        if worth is None or before is None or worth > before:
            return None
        return f"the best step has the value {worth:.4g}, and the base model {before:.4g}"

    def why_none(self, grid: Mapping[Any, Mapping[str, Any]]) -> str | None:
        """Why no measured rewrite was chosen; None if the reason is the language-modelling score."""
        del grid
        return None

    def report(self, entry: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
        """Further keys of the summary of the chosen entry, beside step and scores: value, base_value and intervals."""
        result: dict[str, Any] = {"value": self.value(entry), "base_value": self.value(base)}
        for name, source, key in (
            ("value_interval", entry, "probs_interval"), ("base_value_interval", base, "probs_interval"),
            ("change_interval", entry, "probs_change_interval"),
        ):  # fmt: skip
            found = [source.get(key, {}).get(dataset, {}).get(self.target_class) for dataset in self.datasets]
            # An interval over the texts of several classes would need all of their rows.
            interval = found[0] if len(found) == 1 else None
            if interval is not None and not self.strengthen:
                whole = 0.0 if name == "change_interval" else 1.0
                interval = [whole - interval[1], whole - interval[0]]
            result[name] = interval
        return result


@dataclass(frozen=True)
class BalanceGoal(Goal):
    """No preference among the target classes on texts that fit all of them; `datasets` begins with `BALANCE`.

    Rewrites that lower the probability of all classes are no balance: the classes together must keep their probability.
    """

    @property
    def summary(self) -> str:
        """The key of the goal's result."""
        return BALANCE

    @property
    def aim(self) -> str:
        """The aim of the choice in words, such as "the highest P(she)"."""
        return "the smallest gap between the classes"

    def accepts(self, factor: float, given: Sequence[float] | None) -> bool:
        """Whether a rewrite with `factor` is a candidate: every one is."""
        del factor, given
        return True

    def value(self, entry: Mapping[str, Any]) -> float | None:
        """The mean gap |P(a) − P(b)| / (P(a) + P(b)); None if it was not measured."""
        found = entry.get(BALANCE)
        return None if found is None else float(found["gap"])

    def worth(self, entry: Mapping[str, Any], base: Mapping[str, Any]) -> float | None:
        """1 − gap; None if the classes together are less likely than in the base model."""
        if BALANCE not in entry or entry[BALANCE]["sum"] < base[BALANCE]["sum"]:
            return None
        return 1 - float(entry[BALANCE]["gap"])

    def candidates(self, grid: Mapping[Any, Mapping[str, Any]], given: Sequence[float] | None) -> list[Candidate]:
        """See `Goal.candidates`; a rewrite must have a smaller gap than the base model."""
        found = super().candidates(grid, given)
        least = 1 - float(grid[BASE][BALANCE]["gap"]) if found else 0.0
        return [one for one in found if one.metrics[self.summary] > least]

    def why_none(self, grid: Mapping[Any, Mapping[str, Any]]) -> str | None:
        """See `Goal.why_none`."""
        measured = [entry[BALANCE] for key, entry in grid.items() if key != BASE and BALANCE in entry]
        if not measured:
            return None
        base = grid[BASE][BALANCE]
        as_likely = [found for found in measured if found["sum"] >= base["sum"]]
        if not as_likely:
            return (
                "No measured rewrite that is allowed leaves the classes together as likely as before: their mean sum "
                f"is {max(found['sum'] for found in measured):.3f} at most, and {base['sum']:.3f} in the base model."
            )
        smallest = min(found["gap"] for found in as_likely)
        if smallest >= base["gap"]:
            return (
                f"No measured rewrite brings the classes closer together: the gap is {smallest:.3f} at least, and "
                f"{base['gap']:.3f} in the base model."
            )
        return None

    def report(self, entry: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
        """See `Goal.report`; also every measure of balance, and P of the right word on the rows of each class."""
        return {
            "value": self.value(entry), "base_value": self.value(base),
            "measures": without_texts(entry), "base_measures": without_texts(base),
            "probs_factual": entry.get("probs_factual", {}), "base_probs_factual": base.get("probs_factual", {}),
        }  # fmt: skip


def without_texts(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The measures of balance in an entry of the grid, without the probabilities of each text."""
    return {name: value for name, value in entry[BALANCE].items() if name != "by_text"}


def goals_of(trainer: Any, model: Any, target_class: str | Sequence[str] | None, strengthen: bool) -> list[Goal]:
    """The goals of an evaluation.

    Raises TypeError unless `target_class` is a name or a list, and ValueError without a class or for an unknown class.
    """
    classes = list(trainer.target_classes)
    target_class = classes if target_class is None else target_class
    if not isinstance(target_class, (str, list, tuple)):
        raise TypeError(f"target_class must be a class name or a list of them; got {target_class!r:.60}.")
    chosen = [target_class] if isinstance(target_class, str) else list(target_class)
    if not chosen:
        raise ValueError("target_class=[] names no class to move: leave it out for all target classes.")
    if not strengthen and BALANCE in chosen:
        raise ValueError(f"{BALANCE!r} is a goal of its own, which is neither strengthened nor weakened.")
    goals: list[Goal] = []
    for name in chosen:
        if name == BALANCE:
            goals.append(BalanceGoal(BALANCE, True, (BALANCE, *classes), 0.0))
            continue
        factor = derive_feature_factor_for_class(trainer, model, name, strengthen=strengthen)
        others = tuple(other for other in classes if other != name)
        goals.append(
            Goal(name, strengthen, others if strengthen and trainer.strengthens_on_other_classes else (name,), factor)
        )
    return goals
