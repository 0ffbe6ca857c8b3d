"""The decoder grid: rewrite, measure, restore, for every feature factor and learning rate that is not known yet."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from tqdm.auto import tqdm

from gradiend.evaluator._measurements import BaseModelMeasurement, summarise
from gradiend.evaluator.grid_cache import CandidateFiles, Key
from gradiend.evaluator.selection import BASE, SKIPPED, UNCHANGED, SelectionPolicy, base_context, least_lms, lms_of
from gradiend.model.model_with_gradiend import ModelWithGradiend
from gradiend.model.rewriting import temporarily_updated

_PER_DATASET = ("probs_by_dataset", "probs", "probs_factual")


class GridMeasurer:
    """Measures a model and its rewrites, and keeps what is known of each.

    Args:
        model: A `ModelWithGradiend`; or what rewrites a copy with `rewrite_base_model` and has a `base_model`.
        part: What is added to the weights.
        prepare: Base model → its measurement; called once for a model that is rewritten in place.
        files: Earlier measurements, and a place for new ones.
        policy: Says which candidates need no probabilities; None measures all of them.
        known: Entries of a grid that was measured before; they go before those on disk.
    """

    def __init__(
        self,
        model: Any,
        part: str,
        prepare: Callable[[Any], BaseModelMeasurement],
        files: CandidateFiles,
        policy: SelectionPolicy | None,
        known: Mapping[Key, Mapping[str, Any]],
    ) -> None:
        self._model, self._part, self._prepare, self._files, self._policy = model, part, prepare, files, policy
        self._known = known
        self._prepared: BaseModelMeasurement | None = None
        self._base: dict[str, Any] = {}

    def measure(
        self, base_datasets: Sequence[str], points: Mapping[tuple[float, float], Sequence[str]]
    ) -> dict[Key, dict[str, Any]]:
        """The grid.

        Args:
            base_datasets: Dataset classes to measure the base model on.
            points: (feature_factor, learning_rate) → dataset classes to measure that rewrite on.

        Returns:
            "base" or (feature_factor, learning_rate) → id and measurements; see `DecoderEvaluator.evaluate_decoder`.
        """
        self._base = self._entry(BASE, base_datasets)
        grid: dict[Key, dict[str, Any]] = {BASE: self._base}
        for point, datasets in tqdm(points.items(), desc="Decoder grid", unit="model"):
            grid[point] = self._entry(point, datasets)
        return grid

    def _entry(self, key: Key, datasets: Sequence[str]) -> dict[str, Any]:
        entry, measured = self._earlier(key)
        missing = [name for name in datasets if name not in measured]
        if measured and not missing:
            entry.pop(SKIPPED, None)
            return entry
        if SKIPPED in entry and self._collapsed(entry):
            return entry
        if not entry:
            entry = {"id": BASE if key == BASE else {"feature_factor": key[0], "learning_rate": key[1]}}
        with self._rewritten(key, entry) as base_model:
            measurement = self._measurement(base_model)
            if "lms" not in entry:
                entry.update(measurement.lms())
            skip = self._collapsed(entry) if key != BASE else None
            entry.pop(SKIPPED, None)
            if skip is not None:
                # Empty where nothing was measured before, so that who reads every entry finds no numbers here.
                entry = {**summarise({}), **entry, SKIPPED: skip}
            else:
                entry = _joined(entry, measurement.on(missing))
                measured = [*measured, *missing]
        self._files.store(key, entry, measured)
        return entry

    def _earlier(self, key: Key) -> tuple[dict[str, Any], list[str]]:
        if key in self._known:
            return dict(self._known[key]), list(self._known[key].get("probs_by_dataset", {}))
        return self._files.load(key)

    def _collapsed(self, entry: Mapping[str, Any]) -> str | None:
        """Why an entry's probabilities need not be measured, or None."""
        score = lms_of(entry)
        least = None if self._policy is None else least_lms(self._policy, base_context({BASE: self._base}))
        if score is None or least is None or score >= least:
            return None
        return f"LMS {score:.4f} is below {least:.4f}, the least that the selection accepts: not measured further"

    def _measurement(self, base_model: Any) -> BaseModelMeasurement:
        if not isinstance(self._model, ModelWithGradiend):
            return self._prepare(base_model)
        if self._prepared is None:
            self._prepared = self._prepare(base_model)
        return self._prepared

    @contextmanager
    def _rewritten(self, key: Key, entry: dict[str, Any]) -> Iterator[Any]:
        """The base model as the candidate has it: changed in place and restored bit by bit, or a changed copy.

        `entry` gets a mark where nothing was changed.
        """
        if key == BASE:
            yield self._model.base_model
            return
        factor, rate = key
        # Only the decoder knows a feature factor; the other parts move both ways through the sign of the step.
        scale = rate if self._part == "decoder" else rate * factor
        if not isinstance(self._model, ModelWithGradiend):
            yield self._model.rewrite_base_model(learning_rate=scale, feature_factor=factor, part=self._part)
            return
        update = scale * self._model.update_vector(factor, self._part).float()
        with temporarily_updated(self._model.base_model, self._model.gradiend.mapping, update) as share:
            if not share:
                entry[UNCHANGED] = True
            yield self._model.base_model


def _joined(entry: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """An entry with further measurements: results per dataset class are put side by side."""
    joined = {**entry, **found}
    for name in _PER_DATASET:
        if name in entry and name in found:
            joined[name] = {**entry[name], **found[name]}
    return joined
