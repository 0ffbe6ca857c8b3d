"""Names and places of the files of an experiment, and safe file names for classes and other texts of users."""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
import unicodedata
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from gradiend.util._processes import by_first

ARTIFACT_MODEL = "model"
ARTIFACT_ENCODED_VALUES = "encoded_values"
ARTIFACT_ENCODER_PLOT = "encoder_plot"
ARTIFACT_CONVERGENCE_PLOT = "convergence_plot"
ARTIFACT_DECODER_ANALYSIS_DIR = "decoder_analysis_dir"
ARTIFACT_DECODER_ANALYSIS_SUMMARY = "decoder_analysis_summary"
ARTIFACT_MODEL_CHANGED = "model_changed"
ARTIFACT_CACHE_GRADIENTS = "cache_gradients"

# Folders of an experiment.
MODEL_DIR = "model"
SEEDS_DIR = "seeds"
CACHED_GRADIENTS = "cache/gradients"
DECODER_DIR = "decoder"
DELTAS_DIR = "deltas"
TENSORBOARD_DIR = "tensorboard"
DATA_DIR = "data"
"""The folder of rows that an experiment made from raw text."""
REWRITTEN_DIR = "rewritten"
"""The folder of the rewritten models of an experiment in a file."""
MLM_HEAD = "decoder_mlm_head"
"""The folder of an auxiliary head in an experiment or a checkpoint; the head's files name it as their type."""
CLASSIFICATION_HEAD = "classification_head"
CUSTOM_HEAD = "custom_prediction_head"
DECODER_ANALYSIS = "decoder_analysis"

# Files of an experiment. The name of a plot gets the suffix of the plot's format.
NAMES = "names.json"
"""The file with the run_id of each folder whose run_id is no file name."""
SEED_REPORT = "seed_report.json"
SEED_EVALUATIONS = "evaluations"
"""The folder beside the seeds with evaluations of each seed."""
RUN_RECORD = "run.json"
REPORT, LIVE_REPORT = "report.html", "report.live.html"
"""The page of a finished run, and that of a run that goes on."""
LOCK_FILE, LOCK_RECORD = ".lock", ".lock.json"
"""The lock of the one run that may write to a folder, and who this is; both are there only while it writes."""
LOCK_LEASE = ".lock.lease"
"""The lock where the file system has none of its own."""
RUNTIME_MONITOR = "runtime_monitor.jsonl"
"""The file of what calls do while they run, with `runtime_monitor`."""
LR_SEARCH = "lr_search.json"
"""The file with the result of `Trainer.tune_learning_rate`."""
ENCODED_VALUES, OLD_ENCODER_RESULT = "encoded_values", "encoder_eval_result"
DECODER_GRID, DECODER_STATS = "decoder_grid_cache.json", "decoder_stats"
ENCODER_PLOT, CONVERGENCE_PLOT, SHIFTS_PLOT = "encoder_analysis", "training_convergence", "probability_shifts"
SCATTER_PLOT = "encoder_analysis_scatter.html"
WORDS_PLOT, WORDS_STRIP = "encoder_by_target", "encoder_strip_by_split"
SIDE_EFFECTS, BALANCE_PLOT = "side_effects", "balance"
ROW_WISE_SCORES, ANNOTATED_DATA = "decoder_row_wise_scores.csv", "annotated_data"
"""`side_effects` is the name of a figure, and the beginning of the files with the measurements of a rewrite each."""

# Files and folders of a checkpoint.
CONFIG_FILE = "config.json"
ADAPTER_CONFIG = "adapter_config.json"
"""The file in which PEFT saves the configuration of an adapter."""
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
CONTEXT = "gradiend_context.json"
TRAINING = "training.json"
CARD = "README.md"
"""The card of a model, see `gradiend.util._card_seal`."""
FACTS = "card.json"
"""The file of a checkpoint with what was measured of it, for its card."""
BASE_DIGEST = "base_model_digest.safetensors"
"""The file with a sample of the base model's weights."""
FINGERPRINT_FILE = "fingerprint.json"
"""The file with the fingerprint of a trained model."""
OWN_BASE_MODEL = "base_model"
"""The folder of the base model and its tokenizer, if no name or path loads the same weights."""
OWN_TOKENIZER = "tokenizer"
"""The folder of the tokenizer, if its name or path loads another tokenizer."""
FILES = "files"
"""The key of config.json, and of the record of a rewritten model, for the files of the folder and their checksums."""

# Files beside other results.
MADE_FROM = "made_from.json"
"""The file with the origin of an auxiliary head; `<table>.made_from.json` is the file with the origin of a table."""
REWRITE_RECORD = "gradiend_rewrite.json"
"""The file with the record of how a rewritten model was made."""
DELTA_FILE = "gradiend_delta.safetensors"
"""The usual name of the file of a delta."""

OWN_NAMES = (
    MODEL_DIR, SEEDS_DIR, "cache", DECODER_DIR, DELTAS_DIR, TENSORBOARD_DIR, MLM_HEAD, CLASSIFICATION_HEAD, CUSTOM_HEAD,
    DECODER_ANALYSIS, NAMES, DATA_DIR, REWRITTEN_DIR, RUN_RECORD, REPORT,
)  # fmt: skip
"""Names of an experiment's own files and folders; other names, such as `model_step_<n>`, begin with one of these."""

_PLACES = {
    ARTIFACT_MODEL: MODEL_DIR,
    ARTIFACT_ENCODED_VALUES: f"{ENCODED_VALUES}.csv",
    ARTIFACT_ENCODER_PLOT: f"{ENCODER_PLOT}.pdf",
    ARTIFACT_CONVERGENCE_PLOT: f"{CONVERGENCE_PLOT}.pdf",
    ARTIFACT_DECODER_ANALYSIS_DIR: DECODER_ANALYSIS,
    ARTIFACT_DECODER_ANALYSIS_SUMMARY: f"{DECODER_ANALYSIS}.json",
    ARTIFACT_CACHE_GRADIENTS: CACHED_GRADIENTS,
}

_MODEL_SUFFIXES = {
    ".json", ".safetensors", ".bin", ".pt", ".pth", ".model", ".py", ".jinja", ".tiktoken", ".codes", ".vocab", ".bpe",
}  # fmt: skip
_MODEL_TEXTS = re.compile(r"(vocab|merges|dict)[^.]*\.txt")
"""Text files that tokenizers are loaded from; other text files are notes."""

_LONGEST = 180
"""The largest number of bytes in a name; prefix, suffix and a temporary name need the rest of the usual 255 bytes."""
_UNSAFE = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*\ud800-\udfff]|^[. ]+|[. ]+$')
_DEVICE = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|com\d|lpt\d)\s*(\..*)?", re.IGNORECASE)


def working_folder() -> Path | None:
    """The folder that relative paths start at; None if it has been removed."""
    try:
        return Path.cwd()
    except FileNotFoundError:
        return None


def seen_from(folder: Path | None, path: str) -> str:
    """A path that was relative to an earlier working folder (None: it was removed), as one that holds now."""
    if folder is None or Path(path).is_absolute() or working_folder() == folder:
        return path
    return str(folder / path)


def safe_name(name: str, own: Collection[str] = ()) -> str:
    """A file name for any text: `name` itself if every file system takes that name, else a cleaned name with a hash.

    Texts such as `../../x`, `a/b` and `CON`, of any length, are made safe. A name of `own` belongs to another file.
    """
    is_device = _DEVICE.fullmatch(name) is not None
    # The text before the first dot makes a device: `nul.txt` is a device too.
    cleaned = _UNSAFE.sub("_", name.replace(".", "_") if is_device else name)
    if len(cleaned.encode()) > _LONGEST:
        cleaned = cleaned.encode()[: _LONGEST - 9].decode(errors="ignore")
    if name and cleaned == name and not is_device and _folded(name) not in map(_folded, own):
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{cleaned}-{digest}"


def safe_path(name: str) -> str:
    """A relative path for any text: `name` itself if each part between slashes is a safe name, else one safe name."""
    parts = name.split("/")
    return name if [safe_name(part, OWN_NAMES) for part in parts] == parts else safe_name(name, OWN_NAMES)


def name_in(folder: str | Path, name: str, suffix: str = "", taken: Collection[str] = ()) -> str:
    """The `safe_name` of an entry of a folder, with a hash if the name differs from another entry only in case.

    The folder may be missing. `suffix` is that of the file, and `taken` has names of entries that will be made.
    """
    usual = safe_name(name, OWN_NAMES)
    there = {*taken, *(path.name for path in (Path(folder).iterdir() if Path(folder).is_dir() else ()))}
    other = safe_name(name, [*OWN_NAMES, usual])
    clash = usual + suffix not in there and _folded(usual + suffix) in map(_folded, there)
    return (other if clash or other + suffix in there else usual) + suffix


def _folded(name: str) -> str:
    """A form of a name that is equal for names that some file systems do not tell apart."""
    return unicodedata.normalize("NFC", name).casefold()


def resolve_output_path(
    experiment_dir: str | None, explicit_path: str | None, artifact_type: str, **extra: Any
) -> str | None:
    """The place of an artifact: `explicit_path`, else its default place in the experiment directory.

    Args:
        experiment_dir: The root of the experiment.
        explicit_path: A path that is returned unchanged.
        artifact_type: One of the `ARTIFACT_…` constants.
        **extra: `target_class`, which names the directory of a rewritten model (`ARTIFACT_MODEL_CHANGED`).

    Returns:
        The path; None without an experiment directory and a path, or without a default place.
    """
    if explicit_path:
        return str(explicit_path)
    place = _PLACES.get(artifact_type)
    if artifact_type == ARTIFACT_MODEL_CHANGED and extra.get("target_class") is not None and experiment_dir is not None:
        place = name_in(experiment_dir, str(extra["target_class"]))
    return _inside(experiment_dir, None, place)


def require_output_path(experiment_dir: str | None, explicit_path: str | None, artifact_type: str, **extra: Any) -> str:
    """The place of an artifact, see `resolve_output_path`; raises ValueError instead of returning None."""
    path = resolve_output_path(experiment_dir, explicit_path, artifact_type, **extra)
    if path is None:
        raise ValueError(
            f"No place for {artifact_type!r}: set TrainingArguments(experiment_dir=…), or pass the path itself."
        )
    return path


def create_readable_key(components: Mapping[str, Any]) -> str:
    """`name_value` pairs in the order of the names, joined by underscores; None is skipped, lists are joined too.

    `{"split": "test", "max_size": 100, "source": None}` gives `max_size_100_split_test`; a long key ends with a hash.
    """
    key = "_".join(f"{name}_{_readable(value)}" for name, value in sorted(components.items()) if value is not None)
    key = re.sub(r"[\x00-\x1f/\\]", "_", key)
    return key if len(key.encode("utf-8", "replace")) <= _LONGEST else safe_name(key)


def resolve_encoder_analysis_path(
    experiment_dir: str | None, explicit_path: str | None = None, **key: Any
) -> str | None:
    """`encoded_values[_key].csv`; the `.json` of the same name holds the metrics. See `create_readable_key`."""
    return _inside(experiment_dir, explicit_path, _keyed(ENCODED_VALUES, key, ".csv"))


def resolve_annotation_path(experiment_dir: str | None, **key: Any) -> str | None:
    """`annotated_data[_key].csv`; the `.json` of the same name holds the summary. See `create_readable_key`."""
    return _inside(experiment_dir, None, _keyed(ANNOTATED_DATA, key, ".csv"))


def resolve_encoder_eval_result_path(
    experiment_dir: str | None, explicit_path: str | None = None, **key: Any
) -> str | None:
    """`encoded_values[_key].json`, the metrics beside the encodings."""
    return _inside(experiment_dir, explicit_path, _keyed(ENCODED_VALUES, key, ".json"))


def resolve_encoder_eval_result_path_legacy(experiment_dir: str | None, **key: Any) -> str | None:
    """`encoder_eval_result[_key].json`, the metrics of older versions."""
    return _inside(experiment_dir, None, _keyed(OLD_ENCODER_RESULT, key, ".json"))


def resolve_encoder_plot_path(experiment_dir: str | None, explicit_path: str | None = None, **key: Any) -> str | None:
    """`encoder_analysis[_key].pdf`, the plot of the encodings."""
    return _inside(experiment_dir, explicit_path, _keyed(ENCODER_PLOT, key, ".pdf"))


def resolve_decoder_stats_path(
    experiment_dir: str | None, *, feature_factors: Any = None, lrs: Any = None, topk: Any = None, part: Any = None,
    topk_part: Any = None, metric_name: Any = None,
) -> str | None:  # fmt: skip
    """`decoder_stats_<key>.json`, in a directory that is made if it is missing; see `create_readable_key`."""
    if experiment_dir is None:
        return None
    key = {
        "feature_factors": feature_factors, "lrs": lrs, "topk": topk, "part": part, "topk_part": topk_part,
        "metric_name": None if metric_name is None else safe_name(str(metric_name)),
    }  # fmt: skip
    Path(experiment_dir).mkdir(parents=True, exist_ok=True)
    return str(Path(experiment_dir) / f"{DECODER_STATS}_{create_readable_key(key)}.json")


def resolve_decoder_per_model_cache_path(experiment_dir: str | None, cache_folder: str = "") -> str | None:
    """`decoder/<name>.json`, the measurements of a rewritten model, or of the base model for an empty name."""
    return _inside(experiment_dir, None, f"{DECODER_DIR}/{safe_name(cache_folder or 'base')}.json")


def resolve_decoder_grid_cache_path(experiment_dir: str | None, explicit_path: str | None = None) -> str | None:
    """`decoder_grid_cache.json`, the last decoder evaluation."""
    return _inside(experiment_dir, explicit_path, DECODER_GRID)


def resolve_decoder_mlm_head_dir(experiment_dir: str | None, explicit_path: str | None = None) -> str | None:
    """`decoder_mlm_head`, an auxiliary head of a causal model."""
    return _inside(experiment_dir, explicit_path, MLM_HEAD)


def resolve_classification_head_dir(experiment_dir: str | None, explicit_path: str | None = None) -> str | None:
    """`classification_head`, the folder of a classification head."""
    return _inside(experiment_dir, explicit_path, CLASSIFICATION_HEAD)


def resolve_custom_prediction_head_dir(experiment_dir: str | None, explicit_path: str | None = None) -> str | None:
    """`custom_prediction_head`, the folder of a prediction head of the user."""
    return _inside(experiment_dir, explicit_path, CUSTOM_HEAD)


def weight_file(directory: str | Path) -> Path | None:
    """The weight file in a directory; None without one."""
    return next((path for name in WEIGHT_FILES if (path := Path(directory) / name).is_file()), None)


def has_saved_model(directory: str | Path | None) -> bool:
    """Whether a directory has config.json and a weight file; the contents of the files are not checked."""
    return directory is not None and (Path(directory) / CONFIG_FILE).is_file() and weight_file(directory) is not None


def model_files(folder: str | Path) -> list[Path]:
    """The files of a model's folder and its subfolders that the model and its tokenizer may be loaded from, sorted.

    Hidden files, notes, pictures and backups of editors are not among them; a folder that is missing has no files.
    """
    root = Path(folder)
    paths = (path for path in sorted(root.rglob("*")) if path.is_file())
    shown = (path for path in paths if not any(part.startswith(".") for part in path.relative_to(root).parts))
    return [path for path in shown if path.suffix in _MODEL_SUFFIXES or _MODEL_TEXTS.fullmatch(path.name)]


def should_use_cached(path: str | Path | None, use_cache: bool | None) -> bool:
    """Whether a cache is wanted and the file of the cache exists."""
    return bool(use_cache) and path is not None and Path(path).exists()


def is_under_temp_dir(path: str | Path | None) -> bool:
    """Whether a path lies in the system's directory for temporary files."""
    return path is not None and Path(path).resolve().is_relative_to(Path(tempfile.gettempdir()).resolve())


@by_first
def invalidate_encoder_metrics_cache(encoded_values_csv_path: str | Path) -> None:
    """Remove the metrics beside a file of encodings; the encodings stay."""
    Path(encoded_values_csv_path).with_suffix(".json").unlink(missing_ok=True)


@by_first
def invalidate_experiment_caches(experiment_dir: str | Path | None) -> None:
    """Remove every cached evaluation of an experiment; models, statistics and plots stay."""
    if experiment_dir is None:
        return
    root = Path(experiment_dir)
    for pattern in (f"{ENCODED_VALUES}*.csv", f"{ENCODED_VALUES}*.json", f"{OLD_ENCODER_RESULT}*.json"):
        for path in root.glob(pattern):
            path.unlink()
    forget_choices(root)
    shutil.rmtree(root / DECODER_DIR, ignore_errors=True)


@by_first
def forget_choices(experiment_dir: str | Path) -> None:
    """Remove the choices of decoder evaluations; the measurements stay."""
    root = Path(experiment_dir)
    for path in [root / DECODER_GRID, *root.glob(f"{DECODER_STATS}_*.json")]:
        path.unlink(missing_ok=True)


def _inside(experiment_dir: str | None, explicit_path: str | None, place: str | None) -> str | None:
    if explicit_path:
        return str(explicit_path)
    return None if experiment_dir is None or place is None else str(Path(experiment_dir) / place)


def _keyed(name: str, key: Mapping[str, Any], suffix: str) -> str:
    readable = create_readable_key(key)
    return f"{name}_{readable}{suffix}" if readable else f"{name}{suffix}"


def _readable(value: Any) -> str:
    return "_".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
