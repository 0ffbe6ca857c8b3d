"""training.json: what happened during a training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gradiend.trainer.core.arguments import TrainingArguments
from gradiend.util._files import read_json, write_json
from gradiend.util.paths import TRAINING
from gradiend.util.plain import plain


def write_training_stats(
    output_dir: str | Path,
    training_stats: Mapping[str, Any],
    best_score_checkpoint: Mapping[str, Any] | None,
    training_args: TrainingArguments | Mapping[str, Any] | None,
    time_stats: Mapping[str, float] | None = None,
    losses: Sequence[float] | None = None,
    convergence_info: Mapping[str, Any] | None = None,
) -> str:
    """Write `training.json` into `output_dir`, replacing an older one, and return its path."""
    arguments = training_args.to_dict() if isinstance(training_args, TrainingArguments) else training_args
    content = {
        "training_stats": training_stats,
        "best_score_checkpoint": best_score_checkpoint,
        "training_args": arguments,
        "time": time_stats or {},
        "losses": list(losses or []),
        "convergence_info": convergence_info,
    }
    path = Path(output_dir) / TRAINING
    write_json(path, plain(content))
    return str(path)


def load_training_stats(model_path: str | Path) -> dict[str, Any] | None:
    """The content of `training.json` in a model directory, or None without one.

    JSON has turned steps and labels, which are keys, into strings.
    """
    path = Path(model_path) / TRAINING
    return read_json(path) if path.is_file() else None
