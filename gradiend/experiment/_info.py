"""What is in a folder or a file: a run, a trained GRADIEND, a rewritten model, a delta. No weights are loaded."""

from __future__ import annotations

import glob
from pathlib import Path
from typing import Any

from gradiend.evaluator._goals import as_probability
from gradiend.experiment._record import read_record
from gradiend.model import list_gradiends, read_delta, read_rewrite_record
from gradiend.model._adapters import ADAPTER
from gradiend.model._checkpoint import is_checkpoint
from gradiend.model._checkpoint_files import mapped_parameters, read_config, verify_files
from gradiend.model._context import read_gradiend_context
from gradiend.model._hub import download_files, inside_run, local_delta
from gradiend.model._hub_place import HubPlace
from gradiend.model._quantized import QUANTIZATION, bits_of
from gradiend.model._rewrite_files import RewriteRecord, delta_path, verify_rewritten
from gradiend.trainer import load_training_stats
from gradiend.util._lock import unchanged, written_by
from gradiend.util.paths import CONFIG_FILE, CONTEXT, MODEL_DIR, REWRITE_RECORD, RUN_RECORD, TRAINING


def describe(path: str | Path) -> dict[str, Any]:
    """What is at a path, for people: name → value.

    Of a rewrite, `measured` is the number after it, `of` says what the number is, and `before` is the base model's.

    Args:
        path: The folder of an experiment, a run.json, a checkpoint of a GRADIEND, a rewritten model, or a delta; also a
            place on a hub, `owner/name` or `hf://owner/name@revision/subfolder`.

    Raises:
        FileNotFoundError: There is nothing.
        ValueError: None of these is there, or a file of it is damaged.
    """
    at = HubPlace.of(path)
    if at is not None:
        return _on_hub(at)
    place = Path(path)
    if not place.exists():
        raise FileNotFoundError(f"{place} does not exist.")
    try:
        return _described(place)
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"A file of {place} holds something else than gradiend writes ({error!r}).") from error


def _on_hub(at: HubPlace) -> dict[str, Any]:
    """What is at a place on a hub: the one thing that is there, or a line for each of several."""
    listed = list_gradiends(str(at))
    if [one.subfolder for one in listed] == [""]:
        only = listed[0]
        if only.kind == "GRADIEND":
            at, root = download_files(*_texts_of(listed.place))
            return {"place": listed.place, "kind": only.kind, **_of_checkpoint(inside_run(root / at.path))}
        record = read_rewrite_record(listed.place)
        return {"place": listed.place, "kind": only.kind, "base model": only.base_model, **_of_rewrite(record)}
    if not listed and at.is_file:
        return {"place": str(at), **_described(local_delta(str(at)))}
    if not listed:
        raise ValueError(f"{listed.place} holds no GRADIEND, no delta and no rewritten model.")
    kinds = {one.subfolder or "(top)": ", ".join(filter(None, [one.kind, one.goal, *one.classes])) for one in listed}
    return {"place": listed.place, "kind": f"{len(listed)} to load", **kinds}


def _texts_of(place: str) -> tuple[HubPlace, list[str]]:
    """(a place on a hub, the files that describe the checkpoint there)."""
    at = HubPlace.of(place)
    assert at is not None
    names = (CONFIG_FILE, CONTEXT, TRAINING)
    return at, [glob.escape(at.below(folder, name)) for folder in ("", MODEL_DIR) for name in names]


def _described(place: Path) -> dict[str, Any]:
    if delta_path(place).is_file():
        delta = read_delta(place)
        made = {} if delta.rewrite is None else _of_rewrite(delta.rewrite)
        size = f"{delta.num_entries:,} entries of {len(delta.changes)} parameters"
        return {"kind": "delta", "base model": delta.base_model, "size": size, **made, "card": delta.card}
    if (place / REWRITE_RECORD).is_file():
        record = read_rewrite_record(place)
        verify_rewritten(place)
        return {"kind": "rewritten model", "base model": record.base_model, **_of_rewrite(record)}
    if is_checkpoint(place):
        with unchanged(place / CONFIG_FILE):
            return {"kind": "GRADIEND", **_of_checkpoint(place)}
    if place.suffix == ".json" or (place / RUN_RECORD).is_file():
        return {"kind": "run", **_of_run(place)}
    if is_checkpoint(place / MODEL_DIR):
        with unchanged(place / MODEL_DIR / CONFIG_FILE):
            return {"kind": "experiment without run.json", **_of_checkpoint(place / MODEL_DIR)}
    raise ValueError(
        f"{place} is no folder of an experiment (no {RUN_RECORD}, no {MODEL_DIR}/), no trained GRADIEND, no rewritten "
        f"model and no delta{written_by(place / MODEL_DIR)}."
    )


def _of_rewrite(record: RewriteRecord) -> dict[str, Any]:
    choice = record.choice
    found: dict[str, Any] = {} if choice is None else {"goal": choice.goal}
    found |= {"step": record.learning_rate, "feature factor": record.feature_factor, "part": record.part}
    found["entries changed"] = f"{record.share_changed:.1%}"
    if choice is not None:
        found["measured"] = choice.measured
        facts = next(iter(((choice.facts or {}).get("goals") or {}).values()), None)
        if facts is not None and choice.value is not None:
            found |= {"of": facts["measured"], "before": facts["before"]}
        found |= {"LMS": choice.lms, "LMS of the base model": choice.base_lms}
        found["made by"] = choice.gradiend_path
    return {**found, "version": record.gradiend_version}


def _of_checkpoint(place: Path) -> dict[str, Any]:
    config = read_config(place)
    metadata, architecture = config.get("metadata") or {}, config.get("architecture") or {}
    source = target = direction = None
    if (place / CONTEXT).is_file():
        verify_files(place, config, [CONTEXT])
        source, target, direction = read_gradiend_context(place)
    classes = direction or {}
    entries, latents = architecture.get("input_dim"), architecture.get("latent_dim")
    found: dict[str, Any] = {
        "base model": metadata.get("base_model"),
        **({"held in": bits_of(metadata[QUANTIZATION])} if metadata.get(QUANTIZATION) else {}),
        **({"adapter": metadata[ADAPTER]} if metadata.get(ADAPTER) else {}),
        "classes": ", ".join(f"{name} ({sign:+})" for name, sign in classes.items()) or "not recorded",
        "reads → reproduces": f"{source} → {target}",
        "size": f"{entries:,} entries → {latents} → {entries:,}" if entries else "not recorded",
        "parameters": len(mapped_parameters(config)) or "see the checkpoint",
        "activations": f"{architecture.get('activation_encoder')}, {architecture.get('activation_decoder')}",
    }
    stats = load_training_stats(place)
    if stats is not None:
        verdict, arguments = stats.get("convergence_info") or {}, stats.get("training_args") or {}
        value = verdict.get("convergence_metric_value")
        measured = "" if value is None else f" ({verdict.get('convergence_metric')} {value:.3f})"
        found["converged"] = ("yes" if verdict.get("converged") else "no") + measured
        best = (stats.get("best_score_checkpoint") or {}).get("global_step")
        found["trained"] = f"{len(stats.get('losses') or ())} steps, best at {best}; seed {arguments.get('seed')}"
    return found


def _of_run(place: Path) -> dict[str, Any]:
    record = read_record(place)
    experiment, metrics = record["experiment"], record["metrics"]
    found: dict[str, Any] = {
        "model": experiment.get("model"),
        "folder": experiment.get("experiment_dir"),
        "last run": record.get("started"),
        "ended": record.get("finished") or "no: run it again to go on",
        "command": record.get("command"),
        "version": record.get("gradiend"),
        "commit": (record.get("git") or {}).get("commit"),
        "seconds": {name: phase["seconds"] for name, phase in record.get("phases", {}).items()},
    }
    if "correlation" in metrics:
        found["correlation"] = metrics["correlation"]["value"]
        found["class means"] = metrics["mean_by_class"]
    for goal, entry in (metrics.get("goals") or {}).items():
        ends = [as_probability(goal, entry.get(name), metrics.get("classes") or ()) for name in ("base", "value")]
        found[f"goal {goal}"] = (
            entry.get("reason")
            if entry.get("learning_rate") is None
            else f"{ends[0]:.3f} → {ends[1]:.3f} with the step {entry['learning_rate']:g}"
        )
    return found
