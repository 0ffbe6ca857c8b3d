"""Encodings and their metrics on disk: `encoded_values[_key].csv`, and `.json` with what both were made from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from gradiend.data.core._tables import csv_table
from gradiend.evaluator.frame_metrics import get_encoder_metrics_from_dataframe
from gradiend.util.files import read_json, replacing, write_json
from gradiend.util.fingerprint import CACHE_FORMAT, FINGERPRINT, Fingerprint, digest_files, read_cached
from gradiend.util.plain import plain

ENCODINGS = "encodings"
"""Key in the JSON: digest and column types of the CSV file beside it."""

_NUMBER = re.compile(r"encoded|label|latent_\d+")
"""Columns that hold numbers in any file of encodings; words and classes of others are texts."""

_FLOAT_KEYS = ("mean_by_class", "label_value_to_class_name")


def write_encodings(path: Path, frame: pd.DataFrame, metrics: Mapping[str, Any], parts: Fingerprint) -> None:
    """Write a frame of encodings, and its metrics with what both depend on beside it."""
    # Metrics of other encodings shall not lie beside these, not even for a moment.
    path.with_suffix(".json").unlink(missing_ok=True)
    with replacing(path) as temporary:
        frame.to_csv(temporary, index=False)
    types = {name: str(dtype) for name, dtype in frame.dtypes.items()}
    _write(path, metrics, {ENCODINGS: {"digest": _digest(path), "types": types}, FINGERPRINT: parts})


def read_encodings(path: Path, parts: Fingerprint) -> tuple[tuple[pd.DataFrame, dict[str, Any]] | None, list[str]]:
    """(frame and metrics that were made from `parts`, []), or (None, why not); no reason where there is no file."""
    if not path.is_file():
        return None, []
    content, why = read_cached(path.with_suffix(".json"), plain(parts))
    if content is None:
        return None, why or ["it does not say what it was made from"]
    about = content.pop(ENCODINGS, None)
    if about is None or about["digest"] != _digest(path):
        return None, ["the encodings were changed since"]
    return (_read_frame(path, about["types"]), restored(content)), []


def write_metrics(path: Path, metrics: Mapping[str, Any], parts: Fingerprint | None) -> None:
    """Write metrics alone (`.json`); without `parts` they are never taken for those of anything."""
    write_json(path, plain(metrics if parts is None else {**metrics, FINGERPRINT: parts}))


def restored(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Metrics as they were before JSON made their float keys texts."""
    return {
        name: {float(key): item for key, item in value.items()} if name in _FLOAT_KEYS else value
        for name, value in metrics.items()
    }


def get_model_metrics(
    csv_path: str | Path,
    *,
    use_cache: bool | None = None,
    neg_boundary: float = -0.5,
    pos_boundary: float = 0.5,
    neutral_boundary: float = 0.0,
) -> dict[str, Any]:
    """Metrics of a file of encodings, kept in the JSON file beside it.

    Args:
        csv_path: Written by `evaluate_encoder`, or any CSV file with encoded, label and type.
        use_cache: False computes them in any case. Otherwise those of the same encodings and boundaries are read.
        neg_boundary: See `get_encoder_metrics_from_dataframe`.
        pos_boundary: See there.
        neutral_boundary: See there.

    Returns:
        See `get_encoder_metrics_from_dataframe`.

    Raises:
        FileNotFoundError: No such file.
    """
    path = Path(csv_path)
    if not path.is_file():
        raise FileNotFoundError(f"There are no encodings in {path}: evaluate_encoder() writes them.")
    boundaries = {"neg_boundary": neg_boundary, "pos_boundary": pos_boundary, "neutral_boundary": neutral_boundary}
    kept = _kept(path)
    about = kept.get(ENCODINGS, {})
    same = about.get("digest") == _digest(path) and about.get("format", CACHE_FORMAT) == CACHE_FORMAT
    if use_cache is not False and same and kept.get("boundaries") == boundaries:
        return restored({name: value for name, value in kept.items() if name not in {ENCODINGS, FINGERPRINT}})
    frame = read_frame(path)
    metrics = get_encoder_metrics_from_dataframe(
        frame, neg_boundary=neg_boundary, pos_boundary=pos_boundary, neutral_boundary=neutral_boundary
    )
    types = {name: str(dtype) for name, dtype in frame.dtypes.items()}
    made_from = {FINGERPRINT: kept[FINGERPRINT]} if same and FINGERPRINT in kept else {}
    _write(path, metrics, {ENCODINGS: {"digest": _digest(path), "types": types}, **made_from})
    return metrics


def _write(path: Path, metrics: Mapping[str, Any], about: Mapping[str, Any]) -> None:
    content = {**metrics, **about}
    content[ENCODINGS] = {**content[ENCODINGS], "format": CACHE_FORMAT}
    write_json(path.with_suffix(".json"), plain(content))


def _kept(path: Path) -> dict[str, Any]:
    """The JSON beside a file of encodings; {} if there is none that can be read."""
    beside = path.with_suffix(".json")
    try:
        content = read_json(beside) if beside.is_file() else {}
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _digest(path: Path) -> str:
    return digest_files([path], path.parent)


def read_frame(path: Path) -> pd.DataFrame:
    """The encodings in a file as they were written; where that is not known, numbers in the columns that have them."""
    about = _kept(path).get(ENCODINGS, {})
    if about.get("digest") == _digest(path):
        return _read_frame(path, about["types"])
    frame = csv_table(path)
    for name in frame.columns:
        if _NUMBER.fullmatch(name):
            frame[name] = pd.to_numeric(frame[name])
        elif name == "held_out":
            frame[name] = frame[name] == "True"
    return frame


def _read_frame(path: Path, types: Mapping[str, str]) -> pd.DataFrame:
    """The frame as it was written: exact floats, and words such as "null" and "NA" stay words."""
    texts = csv_table(path, missing="")
    return pd.DataFrame({name: _typed(texts[name], kind) for name, kind in types.items()})


def _typed(texts: pd.Series, kind: Any) -> Any:
    if kind == "bool":
        return texts == "True"
    if kind.startswith("float"):
        # Python's float reads back what was written to the last bit; pandas' own parser need not.
        return texts.map(lambda text: float(text or "nan")).astype(kind)
    return texts.astype(kind)
