"""What a trainer knows of its trained model → card.json and README.md beside the weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from gradiend.model._checkpoint_files import add_facts, holds, read_facts
from gradiend.util._argument_fields import plain
from gradiend.util._imports import LATER
from gradiend.util._keywords import split_names
from gradiend.util.logging import get_logger

logger = get_logger(__name__)


def note_training(trainer: Any, *, several: bool) -> None:
    """Note the data of a finished training, and the choice among seeds if there were `several`."""
    directory = trainer.current.directory
    if directory is None:
        return
    report = trainer.get_seed_report() if several else None
    seeds = {} if report is None else {"seeds": LATER["card facts"]().seed_facts(report)}
    _note(directory, {**trainer.modality.card_facts(), **seeds})


def note_encoder(trainer: Any, model: Any, key: Mapping[str, Any], result: Mapping[str, Any]) -> None:
    """Note an encoder evaluation of the trained model, if it is the usual one: of the test split, with all entries."""
    usual = key["split"] == "test" and key["source"] in (None, model.source)
    if usual and key["exclude_params"] is None and key["transition_selection"] is None:
        _note_of(trainer, model, lambda: {"encoder": LATER["card facts"]().encoder_facts(result, _targets(model))})


def note_decoder(
    trainer: Any, model: Any, results: Mapping[str, Any], split: str | Sequence[str] | None, rows: Any, neutral: Any
) -> None:  # fmt: skip
    """Note what came of each goal of a decoder evaluation of the trained model, and on which texts.

    `split`, `rows` and `neutral` are the arguments of the evaluation: None stands for the test split, and for the
    trainer's own texts.
    """

    def found() -> dict[str, Any]:
        splits = None if rows is not None else split_names(split or "test")
        has_neutral = neutral is not None or trainer.modality.has_neutral_texts()
        return {"goals": _goals(trainer, model, results, splits, has_neutral)}

    _note_of(trainer, model, found)


def note_side_effects(trainer: Any, model: Any, key: str, frame: pd.DataFrame) -> None:
    """Note the side effects of the rewrite for a goal."""
    _note_of(trainer, model, lambda: {"side_effects": {key: LATER["card facts"]().effect_facts(frame)}})


def facts_of_rewrites(trainer: Any, model: Any) -> Callable[[str, Mapping[str, Any]], dict[str, Any]]:
    """A function that gives what the card of a rewrite says, from its key and its entry in the results.

    No data is read: of the data and the training, the card says only what is noted beside the trained model on disk.
    """
    directory = trainer.current.directory
    known = read_facts(Path(directory)) if directory is not None and holds(Path(directory), model.gradiend) else {}
    named = {"base_model_revision": model.gradiend.kwargs.get("base_model_revision"), "task": model.task}
    known |= {"classes": model.feature_class_encoding_direction, **named}

    def facts(key: str, summary: Mapping[str, Any]) -> dict[str, Any]:
        effects = {name: one for name, one in (known.get("side_effects") or {}).items() if name == key}
        goals, noted = _goals(trainer, model, {key: summary}), (known.get("goals") or {}).get(key)
        if noted is not None and goals.get(key) == {**noted, "splits": None, "has_neutral_texts": None}:
            # These are the numbers that were noted when they were measured, when their texts were known.
            goals = {key: noted}
        return plain({**known, "goals": goals, "side_effects": effects})

    return facts


def _goals(
    trainer: Any, model: Any, results: Mapping[str, Any], splits: Sequence[str] | None = None,
    has_neutral_texts: bool | None = None,
) -> dict[str, Any]:  # fmt: skip
    """See `decoder_facts` in `gradiend.report._card_facts`; None stands for texts that are not known."""
    texts = {"splits": splits, "has_neutral_texts": has_neutral_texts}
    on_others = trainer.strengthens_on_other_classes
    found = LATER["card facts"]().decoder_facts(results, _targets(model), on_others=on_others)
    return {key: {**fact, **texts} for key, fact in found.items()}


def _targets(model: Any) -> list[str]:
    """The target classes of a model, first that with the label +1."""
    labels = model.feature_class_encoding_direction or {}
    return sorted((name for name, label in labels.items() if label), key=lambda name: -labels[name])


def _note_of(trainer: Any, model: Any, found: Callable[[], Mapping[str, Any]]) -> None:
    """Note what was measured of a model, if its weights are those of the trained model on disk."""
    directory = trainer.current.directory
    if directory is not None and holds(Path(directory), model.gradiend):
        _note(directory, found())


def _note(directory: str, found: Mapping[str, Any]) -> None:
    try:
        add_facts(Path(directory), found)
    except OSError as error:
        logger.warning("What the card of %s says is not kept: %s", directory, error)
    LATER["cards"]().renew(directory)
