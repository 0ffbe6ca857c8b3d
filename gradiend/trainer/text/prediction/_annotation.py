"""What the base model knows of rows: the probabilities of their words, of the words of every class, and of the classes.

`TextPredictionTrainer.annotate_data` is the call.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gradiend.data import unified
from gradiend.data.unified import UNIFIED_ALTERNATIVE, UNIFIED_FACTUAL, UNIFIED_FACTUAL_CLASS, UNIFIED_MASKED
from gradiend.data.unified._casing import write_in_place
from gradiend.evaluator._encoding_files import kept_encodings
from gradiend.evaluator._probabilities import WordProbabilities
from gradiend.gradients import Objective, WordScorer
from gradiend.model._refusals import inside
from gradiend.objectives import objective_of
from gradiend.trainer._models import unpruned
from gradiend.trainer.core.feature_definition import original_model
from gradiend.trainer.text.prediction._rows import scorable_rows, training_like_rows
from gradiend.util._checks import AS_IN_ARGUMENTS, require_mapping, require_path, require_text, require_whole
from gradiend.util._digest import frame_part, language_model_parts
from gradiend.util._files import kept_if_possible, require_directory, write_checked_json
from gradiend.util._keywords import ALL_SPLITS, split_names
from gradiend.util._processes import by_first
from gradiend.util.paths import resolve_annotation_path

FACTUAL, ALTERNATIVE = "base_p_factual", "base_p_alternative"
TARGET, CLASS = "base_p_target_", "base_p_class_"
SUMMARY = "summary"
"""The entry of `DataFrame.attrs` with the summary of an annotated frame."""


@dataclass(frozen=True)
class Annotation:
    """The checked arguments of `TextPredictionTrainer.annotate_data`.

    Raises TypeError or ValueError for an argument of another kind.
    """

    trainer: Any
    """A `TextPredictionTrainer`."""
    data: Any
    split: str | Sequence[str] | None
    output_csv: str | Path | None
    output_json: str | Path | None
    max_size: int | None
    batch_size: int | None
    strings: Mapping[str, str] | None

    def __post_init__(self) -> None:
        require_whole("max_size", self.max_size, 1, none_means="for all rows")
        require_whole("eval_batch_size", self.batch_size, 1, none_means=AS_IN_ARGUMENTS)
        for name, path in (("output_csv", self.output_csv), ("output_json", self.output_json)):
            if path is not None:
                require_path(name, path)
                require_directory(Path(path).parent)
        if self.strings is not None:
            require_mapping("unicode_string_map", self.strings)
            for text in (*self.strings, *self.strings.values()):
                require_text("A text of unicode_string_map", text)
        if self.data is not None and self.split is not None:
            raise ValueError("data gives the rows, so that split has no effect: leave one of them out.")

    def frame(self, *, use_cache: bool) -> pd.DataFrame:
        """The rows with the probabilities, read from the file if they were measured on the same before."""
        trainer, rows = self.trainer, self._rows()
        words: dict[str, list[str]] = trainer._get_decoder_eval_targets()
        columns = self._columns(words)
        model = trainer.get_model() if trainer.has_model() else trainer.current.model
        if model is None:
            # Only the base model is measured, so a new GRADIEND needs no weights.
            model = unpruned(trainer, trainer.current.given, None, trainer.training_args)
        base = original_model(inside(model.base_model))
        own = {"rows": frame_part(rows), "class words": words, "columns": columns}
        parts = {**language_model_parts(base, model.tokenizer), **own}

        def annotated() -> pd.DataFrame:
            return rows.assign(**self._measured(rows, words, columns, base, objective_of(base, model.tokenizer)))

        place = self._place()
        frame, summary = kept_encodings(
            place, parts, use_cache=use_cache and place is not None, save_minutes=None, encode=annotated,
            measure=lambda found: summary_of(found, {name: columns[CLASS + name] for name in words}),
        )  # fmt: skip
        summary = dict(summary)
        if self.output_json is not None:
            with kept_if_possible("The summary is"):
                by_first(write_checked_json)(self.output_json, summary)
        # The columns of the data keep their types; only the probabilities come from a file.
        frame = rows.assign(**{name: frame[name].to_numpy() for name in columns.values() if name in frame})
        frame.attrs[SUMMARY] = summary
        return frame

    def _rows(self) -> pd.DataFrame:
        """The rows, numbered from 0."""
        modality = self.trainer.modality
        if self.data is None:
            others = not modality.config.decoder_eval_restrict_to_target_classes
            splits = modality.splits_of(self.split or ALL_SPLITS)
            rows = pd.concat([modality.rows(name, others) for name in splits], ignore_index=True)
        else:
            given, columns = unified.resolve_dataframe(self.data), modality.config.columns()
            assert given is not None
            rows = training_like_rows(modality.usual_frame(given, "data"), columns, "data")
            if UNIFIED_ALTERNATIVE not in rows and columns.alternative in rows:
                rows = rows.assign(**{UNIFIED_ALTERNATIVE: rows[columns.alternative]})
        return modality.capped(rows, UNIFIED_FACTUAL_CLASS, self.max_size).reset_index(drop=True)

    def _place(self) -> Path | None:
        if self.output_csv is not None:
            return Path(self.output_csv)
        names = None if self.data is not None else split_names(self.split or ALL_SPLITS)
        place = resolve_annotation_path(self.trainer.experiment_dir, split=names, max_size=self.max_size)
        return None if place is None else Path(place)

    def _columns(self, words: Mapping[str, Sequence[str]]) -> dict[str, str]:
        """What is measured → the column of it, with the texts of `unicode_string_map` replaced."""
        plain = [CLASS + name for name in words]
        plain += [TARGET + word for word in dict.fromkeys(word for own in words.values() for word in own)]
        named = {}
        for name in plain:
            named[name] = name
            for text, other in (self.strings or {}).items():
                named[name] = named[name].replace(text, other)
        if len(set(named.values())) < len(named):
            twice = next(name for name in named.values() if list(named.values()).count(name) > 1)
            raise ValueError(f"unicode_string_map gives two columns the name {twice!r}: replace other texts.")
        return {**named, FACTUAL: FACTUAL, ALTERNATIVE: ALTERNATIVE}

    def _measured(
        self, rows: pd.DataFrame, words: Mapping[str, Sequence[str]], columns: Mapping[str, str], base: Any,
        objective: Objective,
    ) -> dict[str, pd.Series]:  # fmt: skip
        """Column → probability on each row, NaN where the model cannot predict the word.

        Raises:
            ValueError: Words that the tokenizer does not know.
        """
        objective.require_known([word for own in words.values() for word in own])
        sides = {FACTUAL: UNIFIED_FACTUAL, ALTERNATIVE: UNIFIED_ALTERNATIVE}
        sides = {name: side for name, side in sides.items() if side in rows and (rows[side] != "").all()}
        measured = [name for name in columns if name not in (FACTUAL, ALTERNATIVE) or name in sides]
        number = {name: place for place, name in enumerate(measured)}
        scored = scorable_rows(rows, objective, "the annotation", may_lose_classes=True)
        asked = []
        for row in scored.to_dict("records"):
            own = {number[name]: row[side] for name, side in sides.items()}
            written = list(own.items())
            for name, given in words.items():
                for word in given:
                    text = write_in_place(word, row[UNIFIED_MASKED], row[UNIFIED_FACTUAL])
                    written += [(number[CLASS + name], text), (number[TARGET + word], text)]
            asked.append(dict.fromkeys(written))
        # One class for all rows keeps their order.
        together = scored.assign(**{UNIFIED_FACTUAL_CLASS: ""})
        batch_size = self.batch_size or self.trainer.training_args.eval_batch_size
        found = np.full((len(rows), len(measured)), np.nan)
        if asked:
            probabilities = WordProbabilities(measured, together, asked, objective, batch_size=batch_size)
            found[scored.index] = probabilities.rows(WordScorer(base, objective), "")
        return {columns[name]: pd.Series(found[:, place]) for name, place in number.items()}


def summary_of(rows: pd.DataFrame, class_columns: Mapping[str, str]) -> dict[str, Any]:
    """n_rows, and by_class {class: …}: its rows, and means over them.

    Of each class: n_rows; base_p_factual, base_p_alternative and base_p_class {class: mean probability}; and
    prefers_factual, the share of rows whose own word is more likely than its alternative. None where nothing was
    measured.
    """
    by_class = {}
    for name, own in rows.groupby(UNIFIED_FACTUAL_CLASS, sort=False):
        entry: dict[str, Any] = {"n_rows": len(own)}
        entry |= {column: _mean(own[column]) for column in (FACTUAL, ALTERNATIVE) if column in own}
        if {FACTUAL, ALTERNATIVE} <= set(own.columns):
            known = own[[FACTUAL, ALTERNATIVE]].dropna()
            entry["prefers_factual"] = _mean(known[FACTUAL] > known[ALTERNATIVE])
        entry["base_p_class"] = {other: _mean(own[column]) for other, column in class_columns.items()}
        by_class[str(name)] = entry
    return {"n_rows": len(rows), "by_class": by_class}


def _mean(values: pd.Series) -> float | None:
    mean = float(values.mean())
    return None if math.isnan(mean) else mean
