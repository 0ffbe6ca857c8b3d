"""Measurements of rewritten models on disk: one file each, so that an interrupted grid goes on where it stopped."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from gradiend.evaluator.stats_files import read_decoder_stats_file, write_decoder_stats
from gradiend.util._arguments import plain
from gradiend.util.files import write_json
from gradiend.util.fingerprint import FINGERPRINT, Fingerprint, read_cached
from gradiend.util.paths import DECODER_DIR, resolve_decoder_stats_path, safe_name

logger = logging.getLogger(__name__)

DATASETS = "datasets"
"""Key of a file: the dataset classes that its entry was measured on."""

Key = Any
"""`"base"` or the name of another model that is not rewritten, or (feature_factor, learning_rate)."""


class CandidateFiles:
    """`<directory>/decoder/<feature_factor>_<learning_rate>.json` and `base.json`.

    Args:
        directory: Of the experiment; None keeps nothing.
        base: What the measurement of the base model depends on.
        rewrite: What that of a rewritten model depends on.
        part: The part of the GRADIEND that rewrites; others than decoder have it in the name of the file.
        use_cache: Whether older measurements are read.
    """

    def __init__(
        self, directory: Path | None, base: Fingerprint, rewrite: Fingerprint, *, part: str, use_cache: bool
    ) -> None:
        self._directory = None if directory is None else directory / DECODER_DIR
        self._base, self._rewrite = base, rewrite
        self._prefix = "" if part == "decoder" else f"{part}_"
        self._use_cache = use_cache
        self._told = False

    def load(self, key: Key) -> tuple[dict[str, Any], list[str]]:
        """The entry of a candidate and the dataset classes that it was measured on; ({}, []) if there is none."""
        if not self._use_cache or self._directory is None:
            return {}, []
        content, why = read_cached(self._path(key), self._parts(key))
        if why and not self._told:
            logger.info("Measurements in %s are not used (%s): measuring again.", self._directory, "; ".join(why))
            self._told = True
        if content is None:
            return {}, []
        return content, content.pop(DATASETS)

    def store(self, key: Key, entry: Mapping[str, Any], datasets: Collection[str]) -> None:
        """Write an entry, whole or not at all."""
        if self._directory is not None:
            content = {**entry, DATASETS: list(datasets), FINGERPRINT: self._parts(key)}
            write_json(self._path(key), plain(content))

    def _parts(self, key: Key) -> Fingerprint:
        return self._base if isinstance(key, str) else self._rewrite

    def _path(self, key: Key) -> Path:
        assert self._directory is not None
        name = safe_name(key) if isinstance(key, str) else f"{self._prefix}{key[0]}_{key[1]}"
        return self._directory / f"{name}.json"


def write_results(
    path: Path, experiment_dir: str | None, results: Mapping[str, Any], parts: Fingerprint, asked: Iterable[str]
) -> None:
    """Write decoder results: all of them to `path`, and per summary to `decoder_stats_<key>.json`.

    What an earlier evaluation of the same model on the same data chose for other classes, or for the other direction,
    is kept beside it.

    Args:
        path: File of all results.
        experiment_dir: Where those of each summary go; None writes none of these.
        results: What `evaluate_decoder` returns.
        parts: What they depend on.
        asked: The summaries that were asked for; where there is none, an earlier choice is not kept either.
    """
    earlier: dict[str, Any] = {}
    content, _ = read_cached(path, plain(parts))
    if content is not None:
        earlier = read_decoder_stats_file(path)
    rejected = [name for name in asked if name not in results]
    earlier = {name: summary for name, summary in earlier.items() if name not in rejected}
    results = {**earlier, **results, "grid": {**earlier.get("grid", {}), **results["grid"]}}
    content = plain({**results, "grid": {repr(key): entry for key, entry in results["grid"].items()}})
    write_decoder_stats(path, content, **{FINGERPRINT: plain(parts)})
    if experiment_dir is None:
        return
    for name in rejected:
        for stats in _stats_files(experiment_dir, name):
            stats.unlink(missing_ok=True)
    for name, summary in results.items():
        if isinstance(summary, Mapping) and "learning_rate" in summary:
            for stats in _stats_files(experiment_dir, name):
                write_decoder_stats(stats, content, **{FINGERPRINT: plain(parts)})


def _stats_files(experiment_dir: str, name: str) -> list[Path]:
    """The files that a summary is found in: of its own name, and a weakened class of that of the class."""
    paths = [resolve_decoder_stats_path(experiment_dir, metric_name=n) for n in {name, name.removesuffix("_weaken")}]
    return [Path(path) for path in paths if path is not None]
