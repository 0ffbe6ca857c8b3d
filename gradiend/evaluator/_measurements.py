"""Measurements of a base model for the decoder evaluation: P(class), balance, and scores on neutral texts."""

from __future__ import annotations

import itertools
import math
import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from gradiend.data.unified._schema import UNIFIED_FACTUAL, UNIFIED_FACTUAL_CLASS, UNIFIED_MASKED
from gradiend.evaluator._language_score import LanguageModelingScore, Ratio, Scored, TextScores
from gradiend.evaluator._probabilities import ClassProbabilities, WordProbabilities
from gradiend.gradients import GradientEngine, Objective, WordScorer
from gradiend.model._parameter_map import ParameterMap
from gradiend.model._refusals import refuse_undefined_weights
from gradiend.util import BALANCE
from gradiend.util._bootstrap import Floats, intervals_of_means

DATASET_COLUMNS = (UNIFIED_FACTUAL_CLASS, "label_class", "factual_id")
"""Columns that may name the class of a row; the first column that a frame has is used."""
ALL_TEXTS = "the end of the texts"
"""Why no more tokens are scored: all tokens are scored."""
AS_EXACT_AS_ALL = "an error as if all texts were scored, with a model that loses on the same tokens"
"""Why no more tokens are scored: most of the error is that of a model that was scored on all tokens."""
FEW_TEXTS = 16
"""The number of texts whose derivatives give a first guess of the step."""
FIRST_BLOCKS = 4
"""The number of blocks that the unchanged model is scored on at first: one block is rarely enough for a ratio."""
BY_TEXT = "scores_by_text"
"""The key in a grid entry for the scores of each text, block by block (`BlockScores`)."""

BlockScores = Sequence[Mapping[str, Sequence[float]]]
"""The scores of a model on each block of neutral tokens, each as `TextScores.to_dict` gives them."""


class BalanceOfClasses:
    """How evenly a model's probability is spread over classes at the placeholders of texts that fit all of them."""

    def __init__(
        self, texts: Sequence[str], class_words: Mapping[str, Sequence[str]], objective: Objective, *, batch_size: int
    ) -> None:
        # A word with a capital gives class words a capital wherever the place asks for one.
        frame = pd.DataFrame({UNIFIED_MASKED: texts, UNIFIED_FACTUAL: "X", UNIFIED_FACTUAL_CLASS: BALANCE})
        words = [word for own in class_words.values() for word in own]
        self.texts = list(texts)
        self.classes = list(class_words)
        self._of_each = ClassProbabilities(frame, class_words, objective, batch_size=batch_size)
        # Classes may share words, which count once.
        self._of_any = ClassProbabilities(frame, {BALANCE: words}, objective, batch_size=batch_size)

    def measure(self, scorer: WordScorer) -> Floats:
        """The probabilities of the classes and, in the last column, of any of their words, (texts, classes + 1)."""
        return np.hstack([part.rows(scorer, BALANCE) for part in (self._of_each, self._of_any)])

    def summary(self, found: Floats, base: Floats | None = None) -> dict[str, Any]:
        """The measures of docs/debias.md, each the mean over texts, with bootstrap intervals over texts.

        Args:
            found: What `measure` gives.
            base: The same of the unchanged model, for the intervals of the changes.

        Returns:
            balance, gap, difference, sum; interval and, with `base`, change_interval, each with the same keys;
            by_text {text: {class: probability}} and n_texts.
        """
        measures, before = _balance_measures(found), None if base is None else _balance_measures(base)
        names = list(measures)
        weights = self._of_each.weights(BALANCE)

        def intervals(values: Mapping[str, Floats]) -> dict[str, list[float] | None]:
            rows = intervals_of_means(np.stack([values[name] for name in names], axis=1), weights)
            return {n: None if interval is None else list(interval) for n, interval in zip(names, rows, strict=True)}

        result: dict[str, Any] = {name: float(values.mean()) for name, values in measures.items()}
        result["interval"] = intervals(measures)
        if before is not None:
            result["change_interval"] = intervals({name: measures[name] - before[name] for name in names})
        rows = [dict(zip(self.classes, row.tolist(), strict=True)) for row in found[:, :-1]]
        return {**result, "by_text": dict(zip(self.texts, rows, strict=True)), "n_texts": len(self.texts)}


def _balance_measures(found: Floats) -> dict[str, Floats]:
    """Each measure of `BalanceOfClasses.summary`, text by text; `found` is what `BalanceOfClasses.measure` gives."""
    classes, of_any = found[:, :-1], found[:, -1]
    total, difference = classes.sum(axis=1), np.ptp(classes, axis=1)
    return {
        "balance": (1 - difference) * of_any,
        "gap": difference / np.where(total > 0, total, 1.0),
        "difference": difference,
        "sum": total,
    }


class BaseModelMeasurement(ABC):
    """Measures a base model as it is at the moment of the call: unchanged, or rewritten.

    By default one measurement scores all tokens, and no scores of single texts are kept.
    """

    settled = True
    """Whether the last call of `lms` scored as many tokens as are asked for."""

    def base(self, datasets: Collection[str] | None) -> dict[str, Any]:
        """All measurements of the unchanged model, which later measurements are compared with."""
        return self.on(datasets)

    def hold_base(self, datasets: Collection[str] | None, *, scores: bool, other: BlockScores = ()) -> None:
        """Measure the unchanged model, with which a rewritten model will be compared, and keep its numbers.

        It is measured on the rows of `datasets` (None: all) and, with `scores`, on the neutral texts; `other` is what
        `lms` will get for the rewritten model.
        """
        del datasets, scores, other

    def more_of_base(self) -> None:
        """Score more tokens of the unchanged model, after a rewritten model was not `settled`."""
        raise NotImplementedError(f"{type(self).__name__} must say how more tokens of the unchanged model are scored.")

    def lms(self, other: BlockScores = ()) -> dict[str, Any]:
        """The scores without class probabilities.

        Args:
            other: The `BY_TEXT` of another rewritten model, which corrects a ratio of fewer tokens.

        Returns:
            {"lms": {"lms": score, …}}, with `BY_TEXT` if the scores can correct those of other models; {} if the model
            is not `settled`, or if the scores are measured together with the probabilities.
        """
        del other
        return {}

    @abstractmethod
    def on(self, datasets: Collection[str] | None) -> dict[str, Any]:
        """The measurements on the rows of some dataset classes (None: all), at least probs_by_dataset."""

    def first_step(self, mapping: ParameterMap, direction: Tensor, ratio: float) -> float | None:
        """A guess of the step along `direction` (mapping.size,) that keeps `ratio` of the score; None without one."""
        del mapping, direction, ratio
        return None


class TextMeasurement(BaseModelMeasurement):
    """Measures class probabilities and scores of a scorer's model; texts and masks are fixed.

    The numbers of the unchanged model are kept for each text, so that a rewritten model is compared text by text.

    Args:
        scorer: Scores words by the model.
        probabilities: The class probabilities to measure.
        score: The score on the neutral texts.
        enough: A function of the ratio to the base model that says why no more blocks of tokens are scored, or None if
            more are needed. Default: every block is scored.
        balance: The balance to measure, if it is a goal.
    """

    def __init__(
        self, scorer: WordScorer, probabilities: WordProbabilities, score: LanguageModelingScore, *,
        enough: Callable[[Ratio], str | None] | None = None, balance: BalanceOfClasses | None = None,
    ) -> None:  # fmt: skip
        self.scorer = scorer
        self.probabilities = probabilities
        self.score = score
        self.enough = enough
        self.balance = balance
        self._base_totals: list[TextScores] = []
        self._base_rows: dict[str, Floats] = {}
        self._base_balance: Floats | None = None
        self._unfinished: list[TextScores] = []

    def base(self, datasets: Collection[str] | None) -> dict[str, Any]:
        """See `BaseModelMeasurement.base`."""
        self.hold_base(datasets, scores=True)
        entry = {"lms": _described(self._base_totals[-1])}
        entry |= self._summary({name: self._base_rows[name] for name in self._known(datasets)})
        if self.balance is not None and (datasets is None or BALANCE in datasets):
            assert self._base_balance is not None
            entry[BALANCE] = self.balance.summary(self._base_balance)
        return entry

    def hold_base(self, datasets: Collection[str] | None, *, scores: bool, other: BlockScores = ()) -> None:
        """See `BaseModelMeasurement.hold_base`."""
        if scores:
            n_blocks = len(self.score.blocks) if self.enough is None else max(FIRST_BLOCKS, len(other))
            while len(self._base_totals) < min(n_blocks, len(self.score.blocks)):
                self.more_of_base()
        for name in self._known(datasets):
            if name not in self._base_rows:
                rows = self.probabilities.rows(self.scorer, name)
                self._require_numbers(rows.sum(axis=1), f"a text of {name!r}", self.probabilities.texts(name))
                self._base_rows[name] = rows
        wanted = datasets is None or BALANCE in datasets
        if self.balance is not None and wanted and self._base_balance is None:
            self._base_balance = self.balance.measure(self.scorer)

    def _require_numbers(self, values: Floats, what: str, texts: Sequence[str]) -> None:
        """Raise an error for an undefined value of the unchanged model: no rewrite could be compared with it."""
        if not np.isnan(values).any():
            return
        refuse_undefined_weights(self.scorer.model)
        text = texts[int(np.flatnonzero(np.isnan(values))[0])]
        raise FloatingPointError(
            f"The unchanged model gives no numbers (NaN) for {what}, {text!r:.300}: load it in float32, or leave this "
            "text out."
        )

    def more_of_base(self) -> None:
        """See `BaseModelMeasurement.more_of_base`."""
        found = self.score.measure(self.scorer, [len(self._base_totals)])
        self._require_numbers(found.loss, "a neutral text", self.score.texts)
        self._base_totals.append(self._base_totals[-1] + found if self._base_totals else found)

    def lms(self, other: BlockScores = ()) -> dict[str, Any]:
        """See `BaseModelMeasurement.lms`."""
        if not self._base_totals:
            return {"lms": _described(self.score.measure(self.scorer))}
        longer = _totals([TextScores.from_dict(block, self.score.n_texts) for block in other])
        found, why = self._unfinished, None
        while why is None and len(found) < len(self._base_totals):
            found.append(self.score.measure(self.scorer, [len(found)]))
            totals = _totals(found)
            ratio, why = self._judged(totals, longer)
        self.settled = why is not None
        if why is None:
            return {}
        self._unfinished = []
        scores = _described(totals[-1], self._base_totals[len(found) - 1], ratio)
        if self.enough is None:
            return {"lms": scores}
        by_text = {BY_TEXT: [block.to_dict() for block in found]} if totals[-1].is_finite else {}
        return {"lms": {**scores, "scored_until": why}, **by_text}

    def _judged(self, totals: Sequence[TextScores], longer: Sequence[TextScores]) -> tuple[Ratio, str | None]:
        """The likelihood ratio of a model, and why no more of its tokens are scored (None: more are needed).

        Args:
            totals: The `_totals` of the model.
            longer: The `_totals` of another model, which corrects the ratio if it was scored on more blocks.
        """
        base, here, last = self._base_totals, len(totals) - 1, len(self.score.blocks) - 1
        corrects = len(longer) > len(totals)
        other = Scored((longer[here], base[here]), (longer[-1], base[len(longer) - 1])) if corrects else None
        ratio = totals[-1].likelihood_ratio(base[here], other)
        if here == last or self.enough is None:
            return ratio, ALL_TEXTS if here == last else None
        settled = ratio.is_settled_by_another and len(longer) - 1 == last
        return ratio, self.enough(ratio) or (AS_EXACT_AS_ALL if settled else None)

    def on(self, datasets: Collection[str] | None) -> dict[str, Any]:
        """The probabilities, see `BaseModelMeasurement.on`; dataset classes without rows are left out."""
        result = self._summary({name: self.probabilities.rows(self.scorer, name) for name in self._known(datasets)})
        if self.balance is not None and (datasets is None or BALANCE in datasets):
            result[BALANCE] = self.balance.summary(self.balance.measure(self.scorer), self._base_balance)
        return result

    @torch.no_grad()
    def first_step(self, mapping: ParameterMap, direction: Tensor, ratio: float) -> float | None:
        """See `BaseModelMeasurement.first_step`.

        The mean loss is quadratic near the model: with the derivative J·v of the logits along the direction v, and p
        the model's predictions, loss(lr) ≈ loss − lr · mean(J·v[token] − E_p J·v) + ½ lr² · mean Var_p(J·v). That gives
        a step only for a ratio between 0 and 1.
        """
        if not 0 < ratio < 1:
            return None
        words = [word for _, word in self.score.blocks[0]][:FEW_TEXTS]
        derivatives = GradientEngine(self.scorer.model, mapping, self.score.objective).token_derivatives(
            words, direction, self.score.batch_size
        )
        if derivatives is None:
            return None
        slope, curvature = (float(values.double().mean()) for values in derivatives)
        # The loss is that of the first blocks, so that the guess does not depend on what was measured before.
        loss = 1 / self._base_totals[:FIRST_BLOCKS][-1].likelihood
        allowed = loss * (1 / ratio - 1)
        return (slope + math.sqrt(slope**2 + 2 * curvature * allowed)) / curvature if curvature > 0 else None

    def _known(self, datasets: Collection[str] | None) -> list[str]:
        return [name for name in self.probabilities.datasets if datasets is None or name in datasets]

    def _summary(self, by_dataset: Mapping[str, Floats]) -> dict[str, Any]:
        """The entries of `summarise`, with intervals and, if the base model is known, intervals of the changes."""
        names = self.probabilities.classes
        means = {d: dict(zip(names, rows.mean(axis=0).tolist(), strict=True)) for d, rows in by_dataset.items()}
        result = summarise(means)
        result["probs_interval"] = {d: self._intervals(d, rows) for d, rows in by_dataset.items()}
        pairs = {d: (rows, self._base_rows[d]) for d, rows in by_dataset.items() if d in self._base_rows}
        moved = {d: after - before for d, (after, before) in pairs.items() if after is not before}
        if moved:
            result["probs_change_interval"] = {d: self._intervals(d, rows) for d, rows in moved.items()}
        return result

    def _intervals(self, dataset: str, rows: Floats) -> dict[str, list[float] | None]:
        found = intervals_of_means(rows, self.probabilities.weights(dataset))
        return {
            name: None if interval is None else list(interval)
            for name, interval in zip(self.probabilities.classes, found, strict=True)
        }


def _totals(blocks: Sequence[TextScores]) -> list[TextScores]:
    """The scores on the first block, on the first two, and so on."""
    return list(itertools.accumulate(blocks, operator.add))


def _described(scores: TextScores, base: TextScores | None = None, ratio: Ratio | None = None) -> dict[str, Any]:
    """The value of the key "lms" in a grid entry; `base` has the scores of the unchanged model on the same tokens."""
    result: dict[str, Any] = {"lms": scores.lms, "likelihood": scores.likelihood}
    if base is not None and ratio is not None:
        accuracy = scores.accuracy_ratio(base)
        result |= {"base_lms": base.lms, "likelihood_ratio": ratio.to_dict()}
        result |= {} if accuracy is None else {"accuracy_ratio": accuracy.to_dict()}
    return {**result, "n_tokens": scores.n_tokens, "n_texts": int((scores.tokens > 0).sum())}


@dataclass(frozen=True)
class WholeMeasurement(BaseModelMeasurement):
    """A measurement by `evaluate_base_model` of a trainer, which gives LMS and probabilities in one call."""

    evaluate: Callable[[Any], dict[str, Any]]
    """The method `evaluate_base_model` with all arguments but the rows."""
    rows: Any
    """The rows of all dataset classes."""

    def on(self, datasets: Collection[str] | None) -> dict[str, Any]:
        """All measurements, see `BaseModelMeasurement.on`; of all rows if no row belongs to the dataset classes."""
        column = dataset_column(self.rows)
        if datasets is None or column is None:
            return self.evaluate(self.rows)
        chosen = self.rows[self.rows[column].isin(list(datasets))]
        return self.evaluate(self.rows if chosen.empty else chosen)


def dataset_column(rows: Any) -> str | None:
    """The column of a frame that names the class of a row, or None."""
    if not isinstance(rows, pd.DataFrame):
        return None
    return next((name for name in DATASET_COLUMNS if name in rows.columns), None)


def summarise(by_dataset: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """The summaries of mean probabilities {dataset class: {class: mean probability}}.

    Returns:
        probs_by_dataset, the argument; probs {X: mean probability of the other classes on X's texts}; probs_factual
        {X: mean probability of X on X's texts}.
    """
    probs, factual = {}, {}
    for dataset, means in by_dataset.items():
        others = [mean for name, mean in means.items() if name != dataset]
        if others:
            probs[dataset] = sum(others) / len(others)
        if dataset in means:
            factual[dataset] = means[dataset]
    return {"probs_by_dataset": dict(by_dataset), "probs": probs, "probs_factual": factual}
