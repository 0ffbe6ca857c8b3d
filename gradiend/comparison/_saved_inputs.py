"""Saved GRADIENDs, and the rows that encoder evaluations saved, as features to compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from gradiend.comparison._pool import KEY
from gradiend.evaluator._encoding_files import read_frame
from gradiend.evaluator.encoder import EncoderData
from gradiend.model._base_model import BaseDigest
from gradiend.model._checkpoint import is_checkpoint
from gradiend.model._hub import local_runs
from gradiend.model.model_with_gradiend import ModelWithGradiend
from gradiend.util import PLACEHOLDER
from gradiend.util._keywords import known_keywords, normalize_split_name
from gradiend.util.paths import safe_path

MODEL = "model"
"""The folder of a run's checkpoint."""
NAMES = {
    "input_text": ("input_text", "masked", "template"),
    "factual": ("factual", "factual_token"),
    "alternative": ("alternative", "alternative_token"),
    "source_id": ("factual_id", "source_id"),
    "target_id": ("counterfactual_id", "alternative_id", "target_id"),
}
"""A column of rows → the columns of a file that may have it, the surer ones first."""


@dataclass(frozen=True, eq=False)
class SavedFeature:
    """A saved GRADIEND with the rows of one split; a comparison takes it in the place of a trainer."""

    run_id: str
    model: Any
    target_classes: list[str]
    """The class that the GRADIEND encodes positive, then the other one."""
    split: str
    rows: pd.DataFrame
    """The text, the two words and the two classes of each row."""

    def __repr__(self) -> str:
        return f"SavedFeature({self.run_id!r}, {' ↔ '.join(self.target_classes)}, {len(self.rows)} rows)"

    def get_model(self) -> Any:
        """See `Trainer.get_model`."""
        return self.model

    def create_eval_data(
        self, model_with_gradiend: Any, split: str = "test", include_other_classes: bool = False
    ) -> EncoderData:
        """The rows, tokenized; ValueError for another split than the saved one."""
        if normalize_split_name(split) != self.split:
            raise ValueError(
                f"The saved rows of {self.run_id!r} are those of the split {self.split!r}; {split!r} was asked for. (A "
                "null level by shuffled labels needs training rows: use null='random'.)"
            )
        rows = self.rows
        if not include_other_classes:
            rows = rows[rows["source_id"].isin(self.target_classes)].reset_index(drop=True)
        tokenize = model_with_gradiend.objective.tokenize_known
        words = [tokenize(rows["input_text"], rows[side]) for side in ("factual", "alternative")]
        return EncoderData(rows, *words)


@known_keywords("load_saved_cross_encoding_inputs")
def load_saved_cross_encoding_inputs(
    root: str | Path, run_ids: Sequence[str] | None = None, split: str = "test", *, subfolder: str | None = None,
    revision: str | None = None,
) -> dict[str, SavedFeature]:  # fmt: skip
    """Load the GRADIENDs and the evaluated rows of several runs, to be compared.

    Each run has a checkpoint in `<root>/<run id>/model`, and one file `encoded_values*_split_<split>.csv` beside it. Of
    the file, texts, words and classes are read; a comparison encodes them again. Runs with the same base model share it
    in memory.

    Args:
        root: The folder of the runs, or a place on a hub: `owner/name`, `hf://owner/name@revision/subfolder`.
        run_ids: The runs. Default: all folders in `root` with a checkpoint, in the order of their names.
        split: The split whose rows are read.
        subfolder: The folder of the runs below `root`.
        revision: The branch, tag or commit of a repository.

    Returns:
        Run id → what a comparison takes as a trainer.

    Raises:
        FileNotFoundError: There is no run, or a run lacks its checkpoint or its file of encodings.
        ValueError: A run has several such files, a file lacks texts, words or classes, or a checkpoint does not say
            which class it encodes positive.
    """
    split = normalize_split_name(split)
    if isinstance(run_ids, str):
        raise TypeError(f"run_ids must be a list of run ids; got {run_ids!r}.")
    paths = None if run_ids is None else [safe_path(str(run_id)) for run_id in run_ids]
    root = local_runs(root, paths, split, subfolder, revision)
    if run_ids is None:
        run_ids = sorted(found.parent.name for found in root.glob(f"*/{MODEL}") if is_checkpoint(found))
    if not run_ids:
        raise FileNotFoundError(f"{root} has no run: a folder with a checkpoint in its folder {MODEL!r}.")
    features: dict[str, SavedFeature] = {}
    bases: list[tuple[BaseDigest, Any]] = []
    for run_id in run_ids:
        directory = root / safe_path(str(run_id))
        path = _encodings_in(directory, split)
        model = ModelWithGradiend.from_pretrained(str(directory / MODEL), require_gradiend_model=True)
        digest = BaseDigest.of(model.base_model)
        known = next((base for other, base in bases if not other.differences(digest)), None)
        if known is None:
            bases.append((digest, model.base_model))
        else:
            model = model.with_original_base_model(known)
        direction = model.feature_class_encoding_direction or {}
        pair = [name for sign in (1, -1) for name, label in direction.items() if label == sign]
        if len(pair) != 2:
            raise ValueError(f"{directory / MODEL} does not say which two classes it encodes with opposite signs.")
        features[str(run_id)] = SavedFeature(str(run_id), model, pair, split, _rows(path, pair))
    return features


def _encodings_in(directory: Path, split: str) -> Path:
    pattern = f"encoded_values*_split_{split}.csv"
    found = sorted(directory.glob(pattern))
    if not found:
        raise FileNotFoundError(f"{directory} has no {pattern}: evaluate_encoder(split={split!r}) writes it.")
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise ValueError(f"{directory} has several files of encodings of this split ({names}): leave one there.")
    return found[0]


def _rows(path: Path, pair: Sequence[str]) -> pd.DataFrame:
    """The rows of a file that are no neutral texts.

    In files of gradiend 0.2.x, rows of a GRADIEND that reads the alternative word have the class of this word twice:
    their text is then one of the pair's other class.
    """
    frame = read_frame(path)
    if "type" in frame:
        frame = frame[~frame["type"].astype(str).str.contains("neutral")]
    columns = {}
    for name, spellings in NAMES.items():
        column = pd.Series(pd.NA, index=frame.index, dtype=object)
        for spelling in (one for one in spellings if one in frame):
            given = frame[spelling].replace("", pd.NA)
            if name == "input_text":
                given = given.where(given.astype(str).str.contains(PLACEHOLDER, regex=False))
            column = column.where(column.notna(), given)
        if column.isna().any():
            raise ValueError(f"{path} does not say {name} in each row; it would be in {' or '.join(spellings)}.")
        columns[name] = column.astype(str)
    rows = pd.DataFrame(columns)[KEY].reset_index(drop=True)
    twice = (rows["source_id"] == rows["target_id"]) & (rows["factual"] != rows["alternative"])
    other = dict(zip(pair, reversed(pair), strict=True))
    rows.loc[twice, "source_id"] = rows.loc[twice, "target_id"].map(lambda name: other.get(name, name))
    return rows
