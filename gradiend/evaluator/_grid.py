"""The decoder grid: the base model is rewritten, measured and restored for every feature factor and learning rate.

Each measurement is written to a file of its own, so that an interrupted grid goes on where it stopped.
"""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from gradiend.evaluator._language_score import FIRST_BLOCK, GROWTH, MIN_TEXTS, OWN_SHARE
from gradiend.evaluator._measurements import (
    BY_TEXT,
    BaseModelMeasurement,
    BlockScores,
    summarise,
)
from gradiend.evaluator._results import DecoderResult
from gradiend.evaluator._selection import (
    BASE,
    SKIPPED,
    UNCHANGED,
    BaseContext,
    LikelihoodPolicy,
    SelectionPolicy,
    base_context,
    described_ratio,
    why_refused,
)
from gradiend.model._rewriting import temporarily_updated
from gradiend.model.model_with_gradiend import ModelWithGradiend
from gradiend.util import WEAKENED
from gradiend.util._argument_fields import plain
from gradiend.util._cache import FINGERPRINT, Cache, Fingerprint
from gradiend.util._digest import digest_json, frame_part, model_parts, restore_tuple_keys_recursively, tokenizer_of
from gradiend.util._files import kept_if_possible, read_checked_json, remove, write_checked_json
from gradiend.util._progress import Progress
from gradiend.util.paths import DECODER_DIR, resolve_decoder_stats_path, safe_name

logger = logging.getLogger(__name__)

DATASETS = "datasets"
"""Key in the file of a measurement: the dataset classes that the measurement was made on."""
GRID = "grid"
UNSCORED = "unscored"
"""The key in an entry whose model was not scored on the neutral texts, because its probabilities said enough."""
FIRST_STEP = "first_step"
"""The beginning of the name of the file with the first step of a search."""
BY_DATASET = ("probs_by_dataset", "probs", "probs_factual", "probs_interval", "probs_change_interval")
"""Keys in the entry of a rewrite that have a value for each dataset class."""

T = TypeVar("T")
Key = Any
"""`"base"` or the name of another model that is not rewritten, or (feature_factor, learning_rate)."""


@dataclass
class GridSearch:
    """Measures a model and its rewrites, and keeps every measurement."""

    trainer: Any
    model: Any
    """A `ModelWithGradiend`, or another object with a `base_model` and `rewrite_base_model`, which rewrites a copy."""
    part: str
    """The part of the GRADIEND that is added to the weights."""
    rows: Any
    neutral: Any
    batch_size: int
    output: Path | None
    """The file of the results, beside the folder of the measurements; None writes no files."""
    use_cache: bool
    policy: SelectionPolicy | None
    """The policy says which candidates need no probabilities; None measures all candidates."""
    known: Mapping[Key, Mapping[str, Any]]
    """Entries of a grid that was measured before; these entries are preferred to entries on disk."""
    scored_by: LikelihoodPolicy | None = None
    """The policy that says how many tokens are scored; None: the tokens of the documented score."""
    balance_texts: Sequence[str] | None = None
    """The texts on which the balance of the classes is measured, if it is."""
    bar: Progress = field(default_factory=lambda: Progress("rewrites", unit="model", shown=False))
    """Shows how many models are measured, and what the last one was."""
    grid: dict[Key, dict[str, Any]] = field(default_factory=dict)
    """Key of a model → the measurements of this model."""
    scored: dict[Key, BlockScores] = field(default_factory=dict)
    """Key of a measured rewrite → its scores of each text, which can correct the ratio of a later rewrite."""

    @functools.cached_property
    def parts(self) -> Fingerprint:
        """Everything that the measurement of a rewritten model depends on."""
        data: dict[str, Any] = {"rows": frame_part(self.rows), "neutral texts": frame_part(self.neutral)}
        if self.scored_by is not None:
            data["scored tokens"] = {**asdict(self.scored_by), "blocks": [FIRST_BLOCK, GROWTH, MIN_TEXTS, OWN_SHARE]}
        if self.balance_texts is not None:
            data["balance texts"] = digest_json(list(self.balance_texts))
        return {**self.trainer.measurement_parts(), **data, **model_parts(self.model), "part": self.part}

    def measure(self, key: Key, datasets: Sequence[str], *, scores: bool = True) -> dict[str, Any]:
        """The entry of a key of the grid, measured on dataset classes unless this was done before.

        Without `scores`, a model that is not scored yet is not scored on the neutral texts either.
        """
        new = key not in self.grid
        self.grid[key] = self._entry(key, datasets, scores=scores)
        self.bar.advance(int(new), *self._notes(key))
        return self.grid[key]

    @property
    def context(self) -> BaseContext:
        """The numbers of the base model that policies need."""
        return base_context(self.grid)

    def first_step(self, factor: float, ratio: float) -> float | None:
        """A guess of the step that keeps `ratio` of the score, by the curvature of the loss; None without a guess."""
        if not isinstance(self.model, ModelWithGradiend):
            return None
        found, _ = self._files.load((FIRST_STEP, factor))
        if found.get("ratio") != ratio:
            self._prepared.hold_base([], scores=True)
            direction = self._scale(factor, 1.0) * self.model.update_vector(factor, self.part).float()
            step = self._prepared.first_step(self.model.gradiend.mapping, direction, ratio)
            found = {"step": step, "ratio": ratio}
            self._files.store((FIRST_STEP, factor), found, [])
        return found["step"]

    def with_rewrite(self, key: Key, measure: Callable[[BaseModelMeasurement], T]) -> T:
        """The result of `measure` for the model of a key of the grid, which is rewritten for this call only."""
        with self._rewritten(key, {}) as base_model:
            return measure(self._prepared if base_model is self.model.base_model else self._prepare(base_model))

    def _notes(self, key: Key) -> list[str]:
        """The texts that the bar shows after a measurement."""
        if isinstance(key, str):
            return [f"{key} model"]
        scores = self.grid[key].get("lms", {})
        kept = [] if scores.get("lms") is None else [f"{described_ratio(scores, self.context)} kept"]
        return [f"factor {key[0]:g} step {key[1]:g}", *kept]

    def _entry(self, key: Key, datasets: Sequence[str], *, scores: bool) -> dict[str, Any]:
        earlier = self.grid.get(key, self.known.get(key))
        if earlier is None:
            entry, measured = self._files.load(key)
            self._keep_scores(key, entry)
        else:
            entry, measured = dict(earlier), list(earlier.get("probs_by_dataset", {}))
        missing = [name for name in datasets if name not in measured]
        if measured and not missing and not (scores and UNSCORED in entry):
            entry.pop(SKIPPED, None)
            return entry
        if SKIPPED in entry and self._refused(entry) is not None:
            return entry
        if not entry:
            entry = {"id": BASE if key == BASE else {"feature_factor": key[0], "learning_rate": key[1]}}
        if key == BASE:
            measurement = self._prepared
            entry = _joined(entry, measurement.base(missing))
            measured = [*measured, *missing]
        else:
            scores = scores and "lms" not in entry
            entry, measured = self._rewritten_entry(key, entry, measured, missing, scores=scores)
            self._keep_scores(key, entry)
        self._files.store(key, {**entry, **({BY_TEXT: self.scored[key]} if key in self.scored else {})}, measured)
        return entry

    def _keep_scores(self, key: Key, entry: dict[str, Any]) -> None:
        """Move the scores of each text from an entry to `scored`."""
        if BY_TEXT in entry:
            self.scored[key] = entry.pop(BY_TEXT)

    def _rewritten_entry(
        self, key: Key, entry: dict[str, Any], measured: list[str], missing: Sequence[str], *, scores: bool
    ) -> tuple[dict[str, Any], list[str]]:
        """The entry of a rewritten model with its measurements, and the dataset classes that it was measured on."""
        in_place = isinstance(self.model, ModelWithGradiend)
        other = self._correcting(key)
        if in_place:
            self._prepared.hold_base(missing, scores=scores, other=other)
        while True:
            with self._rewritten(key, entry) as base_model:
                measurement = self._prepared if in_place else self._prepare(base_model)
                entry.pop(UNSCORED, None)
                if scores:
                    entry.update(measurement.lms(other))
                elif "lms" not in entry:
                    entry[UNSCORED] = True
                if not scores or measurement.settled:
                    refused = self._refused(entry)
                    entry.pop(SKIPPED, None)
                    if refused is not None:
                        # An entry without measurements has empty probabilities, so that readers of all entries find
                        # no numbers.
                        return {**summarise({}), **entry, SKIPPED: f"{refused}: not measured further"}, measured
                    return _joined(entry, measurement.on(missing)), [*measured, *missing]
            measurement.more_of_base()

    def _correcting(self, key: Key) -> BlockScores:
        """The scores that correct the ratio of a rewrite; () if there are none.

        They are those of the measured rewrite with the nearest factor and, among equally near factors, the most blocks.
        The choice must not depend on the scores themselves, or the errors of corrected ratios would be too small.
        """
        known = [(other, scores) for other, scores in self.scored.items() if other != key]
        ranked = sorted(known, key=lambda one: (float(np.linalg.norm(np.subtract(one[0][0], key[0]))), -len(one[1])))
        return ranked[0][1] if ranked else ()

    def _refused(self, entry: Mapping[str, Any]) -> str | None:
        if self.policy is None or "lms" not in entry:
            return None
        return why_refused(self.policy, entry["lms"], self.context)

    @functools.cached_property
    def _files(self) -> CandidateFiles:
        if self.output is None:
            return CandidateFiles(None, {}, {}, part=self.part, use_cache=False)
        base = {name: value for name, value in self.parts.items() if name not in {"GRADIEND", "part"}}
        prefix = "" if self.scored_by is None else "likelihood_"
        return CandidateFiles(
            self.output.parent, base, self.parts, part=self.part, use_cache=self.use_cache, prefix=prefix
        )

    @functools.cached_property
    def _prepared(self) -> BaseModelMeasurement:
        """The measurement that serves all rewrites of a base model that is changed in place."""
        return self._prepare(self.model.base_model)

    def _prepare(self, base_model: Any) -> BaseModelMeasurement:
        return self.trainer.prepare_base_model_evaluation(
            base_model, tokenizer_of(self.model), self.rows, self.neutral, eval_batch_size=self.batch_size,
            scored_by=self.scored_by, balance_texts=self.balance_texts,
        )  # fmt: skip

    def _scale(self, factor: float, rate: float) -> float:
        """The number that the update vector is multiplied with."""
        # Only the decoder takes a feature factor; the sign of the step gives the direction of the other parts.
        return rate if self.part == "decoder" else rate * factor

    @contextmanager
    def _rewritten(self, key: Key, entry: dict[str, Any]) -> Iterator[Any]:
        """Yield the base model of a candidate: changed in place and restored bit by bit, or a changed copy.

        `entry` gets the mark `UNCHANGED` if the step changes no weight.
        """
        if key == BASE:
            yield self.model.base_model
            return
        factor, rate = key
        scale = self._scale(factor, rate)
        if not isinstance(self.model, ModelWithGradiend):
            yield self.model.rewrite_base_model(learning_rate=scale, feature_factor=factor, part=self.part)
            return
        update = scale * self.model.update_vector(factor, self.part).float()
        with temporarily_updated(self.model.base_model, self.model.gradiend.mapping, update) as share:
            if not share:
                entry[UNCHANGED] = True
            yield self.model.base_model


@dataclass
class CandidateFiles:
    """The files `<directory>/decoder/<feature_factor>_<learning_rate>.json` and `base.json`."""

    directory: Path | None
    """The folder of the results; None writes no files."""
    base: Fingerprint
    """Everything that the measurement of the base model depends on."""
    rewrite: Fingerprint
    """Everything that the measurement of a rewritten model depends on."""
    part: str
    use_cache: bool
    """Whether earlier measurements are read."""
    prefix: str = ""
    """The beginning of the files' names, which tells measurements of other tokens apart."""
    told: bool = False
    """Whether the log says already why measurements are not used."""
    refused: bool = False
    """Whether a measurement could not be written, which the log says."""

    def load(self, key: Key) -> tuple[dict[str, Any], list[str]]:
        """The entry of a candidate and the dataset classes of its measurement; ({}, []) without a measurement."""
        cache = self._cache(key)
        if not self.use_cache or cache is None:
            return {}, []
        content, why = cache.read()
        if why and not self.told:
            logger.info("Measurements in %s are not used (%s): measuring again.", cache.path.parent, "; ".join(why))
            self.told = True
        return ({}, []) if content is None else (content, content.pop(DATASETS))

    def store(self, key: Key, entry: Mapping[str, Any], datasets: Collection[str]) -> None:
        """Write an entry, whole or not at all; where nothing can be written, only once."""
        cache = self._cache(key)
        if cache is None or self.refused:
            return
        self.refused = True
        with kept_if_possible("The measurements are"):
            cache.write(plain({**entry, DATASETS: list(datasets)}))
            self.refused = False

    def _cache(self, key: Key) -> Cache | None:
        if self.directory is None:
            return None
        part = "" if self.part == "decoder" else f"{self.part}_"
        name = self.prefix + (safe_name(key) if isinstance(key, str) else f"{part}{key[0]}_{key[1]}")
        parts = self.base if isinstance(key, str) else self.rewrite
        return Cache(self.directory / DECODER_DIR / f"{name}.json", plain(parts), keys=[DATASETS])


def write_results(
    path: Path, experiment_dir: str | None, results: Mapping[str, Any], parts: Fingerprint, asked: Iterable[str]
) -> None:
    """Write the results of `evaluate_decoder` to `path`, and to one `decoder_stats_<key>.json` per summary.

    The choices that an earlier evaluation of the same model and data made for other classes, or for the other
    direction, are kept; an earlier summary with a name in `asked` is replaced or removed.
    """
    made_from = {FINGERPRINT: plain(parts)}
    content, _ = Cache(path, plain(parts)).read()
    earlier = {} if content is None else read_decoder_stats_file(path)
    rejected = [name for name in asked if name not in results]
    earlier = {name: summary for name, summary in earlier.items() if name not in rejected}
    results = {**earlier, **results, "grid": {**earlier.get("grid", {}), **results["grid"]}}
    before = content
    content = plain({**results, "grid": {repr(key): entry for key, entry in results["grid"].items()}})
    places = [
        stats for name, summary in results.items() if isinstance(summary, Mapping) and "learning_rate" in summary
        for stats in ([] if experiment_dir is None else _stats_files(experiment_dir, name))
    ]  # fmt: skip
    written = json.loads(json.dumps({**content, GRID: list(content[GRID].values())}))
    if before == written and not rejected and all(stats.is_file() for stats in places):
        # Everything was found, maybe in a folder that takes no files.
        return
    write_decoder_stats(path, content, **made_from)
    if experiment_dir is None:
        return
    for name in rejected:
        for stats in _stats_files(experiment_dir, name):
            remove(stats)
    for stats in places:
        write_decoder_stats(stats, content, **made_from)


def write_decoder_stats(path: str | Path, results: Mapping[str, Any], **more: Any) -> None:
    """Write decoder results as JSON: the summaries, the grid as a list of its entries, and the fingerprint."""
    write_checked_json(path, {**results, GRID: list(results[GRID].values()), **more})


def read_decoder_stats_file(path: str | Path) -> dict[str, Any]:
    """Decoder results from a file.

    Args:
        path: A file that `evaluate_decoder` wrote; older versions wrote {"summary": …, "grid": …}, or a grid whose keys
            are texts of lists or tuples, and both are read too.

    Returns:
        The summaries and "grid" {"base" or (feature_factor, learning_rate): measurements}, as `evaluate_decoder` gives.

    Raises:
        FileNotFoundError: No such file.
        ValueError: The file holds something else; the message names the file.
    """
    content = read_checked_json(path)
    content.pop(FINGERPRINT, None)
    if isinstance(content.get("summary"), dict):
        content = {**content.pop("summary"), **content}
    grid = content.get(GRID, {})
    try:
        if isinstance(grid, dict):
            # Older grids have the candidate in the key only.
            grid = [_with_id(key, entry) for key, entry in restore_tuple_keys_recursively(grid).items()]
        if not isinstance(grid, list) or not all(isinstance(entry, dict) and "id" in entry for entry in grid):
            raise ValueError(f"{path} holds no decoder results: every entry of its grid needs an 'id'.")
        content[GRID] = {grid_key(entry["id"]): entry for entry in grid}
    except (IndexError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path}: a grid entry's id must be 'base', or name feature_factor and learning_rate as numbers."
        ) from error
    return DecoderResult(content)


def read_fingerprint(path: str | Path) -> Any:
    """The fingerprint in a file of decoder results; None in the files of older versions."""
    return read_checked_json(path).get(FINGERPRINT)


def grid_key(identity: Any) -> Any:
    """ "base", or (feature_factor, learning_rate), for the id of a grid entry."""
    if identity == BASE:
        return BASE
    factor, rate = identity["feature_factor"], identity["learning_rate"]
    return (tuple(factor) if isinstance(factor, list) else float(factor)), float(rate)


def _joined(entry: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """An entry with further measurements; the results of all dataset classes are kept."""
    both = [name for name in BY_DATASET if name in entry and name in found]
    return {**entry, **found, **{name: {**entry[name], **found[name]} for name in both}}


def _stats_files(experiment_dir: str, name: str) -> list[Path]:
    """The files of a summary: for a weakened class under two names, with and without `_weaken`."""
    paths = [resolve_decoder_stats_path(experiment_dir, metric_name=n) for n in {name, name.removesuffix(WEAKENED)}]
    return [Path(path) for path in paths if path is not None]


def _with_id(key: Any, entry: Any) -> Any:
    if not isinstance(entry, dict) or "id" in entry:
        return entry
    identity = key if key == BASE else {"feature_factor": key[0], "learning_rate": key[1]}
    return {**entry, "id": identity}
