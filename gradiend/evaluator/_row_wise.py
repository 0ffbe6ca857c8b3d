"""The decoder evaluation row by row: P(the word of a row) against P(its alternative), where classes share words."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gradiend.data.unified._schema import (
    UNIFIED_ALTERNATIVE,
    UNIFIED_ALTERNATIVE_CLASS,
    UNIFIED_FACTUAL,
    UNIFIED_FACTUAL_CLASS,
    UNIFIED_MASKED,
)
from gradiend.evaluator._goals import goal_entries
from gradiend.evaluator._grid import GridSearch, Key
from gradiend.evaluator._measurements import BaseModelMeasurement, TextMeasurement
from gradiend.evaluator._probabilities import WordProbabilities
from gradiend.evaluator._selection import BASE
from gradiend.gradients import Objective, WordScorer
from gradiend.util._files import write_csv
from gradiend.util.paths import ROW_WISE_SCORES

logger = logging.getLogger(__name__)

COLUMNS = [UNIFIED_MASKED, UNIFIED_FACTUAL_CLASS, UNIFIED_FACTUAL, UNIFIED_ALTERNATIVE_CLASS, UNIFIED_ALTERNATIVE]


class RowWiseProbabilities(WordProbabilities):
    """P(class) on a row: P(the row's own word) for its class, and P(the alternative) for the alternative's class.

    The two classes of the unified rows are among `classes`; the words are written as they are in the rows.
    """

    def __init__(self, rows: pd.DataFrame, classes: Sequence[str], objective: Objective, *, batch_size: int) -> None:
        number = {name: place for place, name in enumerate(classes)}
        sides = ((UNIFIED_FACTUAL_CLASS, UNIFIED_FACTUAL), (UNIFIED_ALTERNATIVE_CLASS, UNIFIED_ALTERNATIVE))
        pairs = (zip(rows[name].map(number), rows[word], strict=True) for name, word in sides)
        super().__init__(classes, rows, zip(*pairs, strict=True), objective, batch_size=batch_size)
        self.frame = rows[COLUMNS].reset_index(drop=True)

    def scores(self, scorer: WordScorer) -> pd.DataFrame:
        """The rows with p_factual and p_alternative, in their order."""
        number = {name: place for place, name in enumerate(self.classes)}
        found = np.zeros((len(self.frame), 2))
        for dataset in self.datasets:
            places = np.flatnonzero(self.frame[UNIFIED_FACTUAL_CLASS] == dataset)
            values = self.rows(scorer, dataset)
            others = self.frame[UNIFIED_ALTERNATIVE_CLASS].iloc[places].map(number).to_numpy()
            found[places] = np.stack([values[:, number[dataset]], values[np.arange(len(places)), others]], axis=1)
        return self.frame.assign(p_factual=found[:, 0], p_alternative=found[:, 1])


def wants_row_scores(trainer: Any, output: Path | None) -> bool:
    """Whether the trainer asks for the file. Raises ValueError if there is no place for it."""
    if trainer.exports_row_scores and output is None:
        raise ValueError(
            "decoder_eval_export_row_wise_csv needs a place for the file: give the trainer "
            "TrainingArguments(experiment_dir=…), or pass output_path."
        )
    return trainer.exports_row_scores


def export_row_scores(search: GridSearch, results: Mapping[str, Any]) -> None:
    """Write `decoder_row_wise_scores.csv` beside the results; a warning says so if rows were not scored one by one.

    The file has every row once for the unchanged model (goal "base") and once for each chosen rewrite (its goal).
    """
    chosen: dict[str, Key] = {
        name: (float(entry["feature_factor"]), float(entry["learning_rate"]))
        for name, entry in goal_entries(results).items()
        if entry.get("learning_rate") is not None
    }
    frames = []
    for goal, key in {BASE: BASE, **chosen}.items():
        factor, rate = (None, None) if key == BASE else key
        measured = search.with_rewrite(key, _scores)
        if measured is None:
            logger.warning(
                "decoder_eval_export_row_wise_csv has no effect: the words of the classes were scored, not those of "
                'each row. decoder_eval_targets="label" scores row by row.'
            )
            return
        frames.append(measured.assign(goal=goal, feature_factor=factor, learning_rate=rate).astype(_NUMBERS))
    assert search.output is not None
    found, first = pd.concat(frames, ignore_index=True), ["goal", *_NUMBERS]
    ordered = found[[*first, *(name for name in found.columns if name not in first)]]
    write_csv(search.output.parent / ROW_WISE_SCORES, ordered)


_NUMBERS = {"feature_factor": float, "learning_rate": float}


def _scores(measurement: BaseModelMeasurement) -> pd.DataFrame | None:
    """The rows with p_factual and p_alternative; None if rows are not scored one by one."""
    if isinstance(measurement, TextMeasurement) and isinstance(measurement.probabilities, RowWiseProbabilities):
        return measurement.probabilities.scores(measurement.scorer)
    return None
