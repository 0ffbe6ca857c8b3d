"""Encodings and metrics on disk: `encoded_values[_key].csv`, and a `.json` that also says what both were made from."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pandas as pd

from gradiend.data.core._table_formats import csv_table
from gradiend.evaluator._encoder_statistics import SPREAD
from gradiend.evaluator._results import EncoderResult
from gradiend.util._argument_fields import plain
from gradiend.util._bits import digest_files
from gradiend.util._cache import FINGERPRINT, RESULT, Cache, Fingerprint
from gradiend.util._files import kept_if_possible, read_checked_json, write_csv
from gradiend.util._processes import by_first
from gradiend.util._unfinished import kept_in

logger = logging.getLogger(__name__)

ENCODINGS = "encodings"
"""Key in the JSON file for the column types of the CSV file and the format of the metrics."""

_NUMBER = re.compile(r"encoded|label|latent_\d+")
"""The columns that hold numbers in every file of encodings; the other columns are texts."""

_FLOAT_KEYS = (
    "mean_by_class", "mean_by_class_interval", "label_value_to_class_name",
    *(f"{measure}_by_class" for measure in SPREAD),
)  # fmt: skip
METRICS_FORMAT = 4
"""The number is raised when the same encodings give other metrics; metrics with another number are made again."""


def kept_encodings(
    path: Path | None, parts: Fingerprint | None, *, use_cache: bool, save_minutes: float | None,
    encode: Callable[[], pd.DataFrame], measure: Callable[[pd.DataFrame], dict[str, Any]],
) -> tuple[pd.DataFrame, dict[str, Any]]:  # fmt: skip
    """Read encodings and their metrics if the CSV file `path` was made from the same `parts`; else make and write them.

    Without a path nothing is written, and without parts nothing is read. An empty frame is not written. Every
    `save_minutes` minutes, the encodings so far are kept, so that the next call goes on there if this call is stopped;
    None: nothing is kept on the way.
    """
    if path is not None and use_cache and parts is not None:
        found, why = read_encodings(path, parts)
        if found is not None:
            return found
        if why:
            logger.info("The encodings in %s are not used (%s): encoding again.", path, "; ".join(why))
    keeping: AbstractContextManager[None] = nullcontext()
    if path is not None and parts is not None and save_minutes is not None:
        keeping = kept_in(path.parent, path.stem, plain(parts), 60 * save_minutes)
    with keeping:
        frame = encode()
    metrics = measure(frame)
    if path is not None and not frame.empty:
        with kept_if_possible("The encodings are"):
            _write(path, frame, metrics, parts)
    return frame, metrics


@by_first
def _write(path: Path, frame: pd.DataFrame, metrics: Mapping[str, Any], parts: Fingerprint | None) -> None:
    # Metrics of other encodings must not lie beside the new encodings, not even for a moment.
    _record(path, parts).forget()
    write_csv(path, frame)
    write_metrics(path, frame, metrics, parts)


def write_metrics(path: Path, frame: pd.DataFrame, metrics: Mapping[str, Any], parts: Fingerprint | None) -> None:
    """Write the JSON file with the metrics of the frame that the CSV file `path` holds."""
    types = {name: str(dtype) for name, dtype in frame.dtypes.items()}
    _record(path, parts).write(plain({**metrics, ENCODINGS: {"types": types, "format": METRICS_FORMAT}}))


def read_encodings(path: Path, parts: Fingerprint) -> tuple[tuple[pd.DataFrame, dict[str, Any]] | None, list[str]]:
    """((frame, metrics), []) if both were made from `parts`, else (None, reasons); a missing file gives no reason."""
    if not path.is_file():
        return None, []
    content, why = _record(path, parts).read()
    if content is None:
        return None, why or ["it does not say what it was made from"]
    described = content.pop(ENCODINGS)
    if described["format"] != METRICS_FORMAT:
        return None, ["an earlier version made their metrics"]
    frame = _read_frame(path, described["types"])
    # Another run may have replaced the file in the meantime, and then its record too.
    if not path.is_file() or _record(path, parts).read()[0] is None:
        return None, ["another run changed them"]
    return (frame, restored(content)), []


def read_frame(path: Path) -> pd.DataFrame:
    """The encodings in a file, with the column types of the JSON file beside the encodings, else the usual types."""
    if kept := kept_beside(path):
        return _read_frame(path, kept[ENCODINGS]["types"])
    try:
        frame = csv_table(path)
        for name in frame.columns:
            if _NUMBER.fullmatch(name):
                frame[name] = pd.to_numeric(frame[name])
            elif name == "held_out":
                frame[name] = frame[name] == "True"
    except ValueError as error:
        raise ValueError(f"{path} holds no encodings: {error} Make it again with evaluate_encoder().") from error
    return frame


def kept_beside(path: Path) -> dict[str, Any]:
    """The content of the JSON file beside encodings; {} unless the file describes the encodings as they are now."""
    beside = path.with_suffix(".json")
    try:
        content = read_checked_json(beside) if beside.is_file() else {}
    except ValueError as error:
        logger.warning("The metrics of %s are measured again: %s", path, error)
        return {}
    if RESULT in content and content[RESULT] != _digest(path):
        logger.warning("%s was damaged, or changed after %s was written: it is read as it is now.", path, beside.name)
        return {}
    described = content.get(ENCODINGS)
    is_known = RESULT in content and isinstance(described, dict) and described.get("format") == METRICS_FORMAT
    return content if is_known else {}


def restored(metrics: Mapping[str, Any]) -> EncoderResult:
    """The metrics in a JSON file, with float keys (in JSON, keys are texts) and without the other keys of the file."""
    return EncoderResult(
        (name, {float(key): item for key, item in value.items()} if name in _FLOAT_KEYS else value)
        for name, value in metrics.items()
        if name not in {ENCODINGS, FINGERPRINT, RESULT}
    )


def _record(path: Path, parts: Fingerprint | None) -> Cache:
    return Cache(path.with_suffix(".json"), plain(parts), lambda: _digest(path), keys=[ENCODINGS])


def _digest(path: Path) -> str:
    return digest_files([path], path.parent)


def _read_frame(path: Path, types: Mapping[str, str]) -> pd.DataFrame:
    """The frame as it was written: floats are exact, and words such as "null" and "NA" stay words."""
    texts = csv_table(path, missing="")
    return pd.DataFrame({name: _typed(texts[name], kind) for name, kind in types.items()})


def _typed(texts: pd.Series, kind: Any) -> Any:
    if kind == "bool":
        return texts == "True"
    if kind.startswith("float"):
        # Python's float reads every bit back; the parser of pandas need not.
        return texts.map(lambda text: float(text or "nan")).astype(kind)
    return texts.astype(kind)
