"""What `TextPredictionTrainer.evaluate_side_effects` is asked for: arguments → texts and classes to measure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from gradiend.data.unified import UNIFIED_FACTUAL, UNIFIED_FACTUAL_CLASS, UNIFIED_MASKED
from gradiend.evaluator._goals import require_plot_directory
from gradiend.evaluator._side_effects import OTHER, TARGET, ClassTexts, SideEffects, neutral_rows, require_sentences
from gradiend.gradients import Objective, WordScorer
from gradiend.objectives import objective_of
from gradiend.trainer.text.prediction._rows import scorable_rows
from gradiend.trainer.text.prediction._text_data import TextData
from gradiend.trainer.trainer import Trainer
from gradiend.util._argument_fields import plain
from gradiend.util._cache import CACHE_FORMAT, Cache
from gradiend.util._checks import AS_IN_ARGUMENTS, require_class_words, require_path, require_whole
from gradiend.util._digest import digest_json, frame_part, model_parts
from gradiend.util._files import kept_if_possible
from gradiend.util.paths import SIDE_EFFECTS, safe_name
from gradiend.visualizer import plot_side_effects
from gradiend.visualizer._output import format_of, plot_is_possible

COLUMNS = [UNIFIED_MASKED, UNIFIED_FACTUAL, UNIFIED_FACTUAL_CLASS]


class SideEffectsRequest:
    """The checked arguments of `TextPredictionTrainer.evaluate_side_effects` that say what is measured.

    Raises TypeError or ValueError for an argument of another kind.
    """

    def __init__(
        self, trainer: Any, neutral_df: pd.DataFrame | None, sentences: Sequence[str] | None,
        other_classes: Mapping[str, Sequence[str]] | None, other_gradiends: Mapping[str, Any] | None, top_k: int,
        max_size_neutral: int | None, eval_batch_size: int | None,
    ) -> None:  # fmt: skip
        for name, value in (("max_size_neutral", max_size_neutral), ("eval_batch_size", eval_batch_size)):
            require_whole(name, value, 1, none_means=AS_IN_ARGUMENTS)
        require_whole("top_k", top_k, 1)
        self.trainer = trainer
        self.args = trainer.training_args
        self.sentences = require_sentences(sentences)
        self.targets: Mapping[str, Sequence[str]] = trainer._get_decoder_eval_targets()
        self.others = _checked_classes(other_classes, self.targets)
        self.gradiends = list(_trainers(other_gradiends))
        self.top_k = top_k
        self.batch_size = eval_batch_size or self.args.eval_batch_size
        self.rows, neutral = self._rows_of(trainer, neutral_df, max_size_neutral)
        self.texts: list[str] = neutral["text"].tolist()
        words = [word for own in self.targets.values() for word in own]
        self.ignored = [*words, *(trainer.config.decoder_eval_ignore_tokens or ())]

    def kept(self, model: Any, rewrite: Mapping[str, Any], directory: str | None, name: str) -> pd.DataFrame:
        """The frame of `measure`; with a directory, it is read from a file there if that was made from the same."""
        if directory is None:
            return self.measure(model, rewrite)
        cache = Cache(Path(directory) / f"{SIDE_EFFECTS}_{safe_name(name)}.json", plain(self._parts(model, rewrite)))
        content, _ = cache.read()
        if content is None:
            frame = self.measure(model, rewrite)
            types = {name: str(kind) for name, kind in frame.dtypes.items()}
            rows = frame.astype(object).where(frame.notna(), None).to_numpy().tolist()
            with kept_if_possible("The side effects are"):
                cache.write({"types": types, "rows": plain(rows)})
            return frame
        return pd.DataFrame(content["rows"], columns=list(content["types"])).astype(content["types"])

    def _parts(self, model: Any, rewrite: Mapping[str, Any]) -> dict[str, Any]:
        """Everything that the results depend on."""
        others = {
            f"{name} {number}": [other._get_decoder_eval_targets(), frame_part(self._rows_of(other, None, None)[0])]
            for number, (name, other) in enumerate(self.gradiends)
        }
        return {
            "format": CACHE_FORMAT, **model_parts(model), "rewrite": dict(rewrite), "class words": self.targets,
            "rows": frame_part(self.rows), "neutral texts": digest_json(self.texts), "ignored words": self.ignored,
            "sentences": self.sentences, "other classes": self.others, "top_k": self.top_k, "other GRADIENDs": others,
        }  # fmt: skip

    def measure(self, model: Any, rewrite: Mapping[str, Any]) -> pd.DataFrame:
        """The frame of results for a model without auxiliary head and arguments of `temporarily_rewritten`."""
        objective = objective_of(model.base_model, model.tokenizer)
        effects = SideEffects(
            objective, self.texts, ignored=self.ignored, classes=self._classes(objective), sentences=self.sentences,
            top_k=self.top_k, batch_size=self.batch_size,
        )  # fmt: skip
        scorer = WordScorer(model.base_model, objective)
        return effects.measure(scorer, lambda: model.temporarily_rewritten(**rewrite))

    def _classes(self, objective: Objective) -> list[ClassTexts]:
        """Own and other classes on the trainer's rows, then the classes of every other trainer on its own rows."""
        words = {**self.targets, **self.others}
        groups = {name: TARGET if name in self.trainer.target_classes else OTHER for name in words}
        rows = pd.concat([self.rows, neutral_rows(self.texts, self.ignored)], ignore_index=True)
        found = [ClassTexts(groups, words, scorable_rows(rows, objective, "the side effects", may_lose_classes=True))]
        for name, other in self.gradiends:
            try:
                words = other._get_decoder_eval_targets()
                rows, _ = self._rows_of(other, None, None)
            except ValueError as error:
                raise ValueError(f"other_gradiends[{name!r}]: {error}") from error
            rows = scorable_rows(rows, objective, f"the classes of {name}", may_lose_classes=True)
            found.append(ClassTexts(dict.fromkeys(words, name), words, rows))
        return found

    def _rows_of(
        self, trainer: Any, neutral_df: pd.DataFrame | None, max_size_neutral: int | None
    ) -> tuple[pd.DataFrame, pd.DataFrame]:
        """The test rows and neutral texts of a trainer, as in its decoder evaluation."""
        rows, neutral = trainer._get_decoder_eval_dataframe(
            None,
            max_size_training_like=self.args.decoder_eval_max_size_training_like,
            max_size_neutral=max_size_neutral or self.args.decoder_eval_max_size_neutral,
            cached_neutral_df=neutral_df,
        )
        # Rows that differ in their alternative only are one text here.
        return rows[COLUMNS].drop_duplicates(), neutral


def figure_drawer(trainer: Any, output: str | Path | None, show: bool | None) -> Callable[[pd.DataFrame], Any] | None:
    """A function that draws the frame of results; None without matplotlib, with a warning."""
    if output is not None:
        require_path("output", output)
        if Path(output).is_dir():
            raise ValueError(f"output must be a file; {output} is a folder.")
    elif show is False:
        require_plot_directory(trainer.experiment_dir)
    if not plot_is_possible():
        return None
    output = trainer._with_output(SIDE_EFFECTS, {"output": output})["output"]
    if output is not None:
        format_of(Path(output))
    return lambda frame: plot_side_effects(frame, output=output, show=True if show is None else show)


def _checked_classes(given: Any, known: Mapping[str, Any]) -> dict[str, list[str]]:
    """`other_classes` as name → words. Raises TypeError or ValueError for other values and for a taken name."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise TypeError(f"other_classes must be a dict of names and their words; got {given!r:.60}.")
    for name, words in given.items():
        require_class_words(f"other_classes[{name!r}]", words)
        if name in known:
            raise ValueError(f"other_classes has {name!r}, which is a class of this trainer already: rename it.")
    return {str(name): list(words) for name, words in given.items()}


def _trainers(given: Any) -> Iterable[tuple[str, Any]]:
    """Yield (name, trainer) of `other_gradiends`. Raises TypeError for other values."""
    if given is not None and not isinstance(given, Mapping):
        raise TypeError(f"other_gradiends must be a dict of names and trainers; got {given!r:.60}.")
    for name, trainers in (given or {}).items():
        for other in trainers if isinstance(trainers, list | tuple) else [trainers]:
            if not isinstance(other, Trainer) or not isinstance(other.modality, TextData):
                raise TypeError(
                    f"other_gradiends[{name!r}] must be a TextPredictionTrainer, or several; got {other!r:.60}."
                )
            yield str(name), other
