"""The data, seeds and arguments of a run, and how the run is made again."""

from __future__ import annotations

import dataclasses
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gradiend import __version__
from gradiend.data._summary import DataSummary
from gradiend.report._format import THIN, Text, duration, is_number, listed
from gradiend.trainer.core._memory import size
from gradiend.util._argument_fields import SHORT, field_sentences, plain
from gradiend.util._display import UNKNOWN
from gradiend.util._imports import installed_versions

MOST_CHARS = 200
"""Characters of the value of an argument that are shown."""
_DATA_FIELDS = ("data", "eval_neutral_data", "balance_texts")
"""Fields of the configuration that hold data, which the data summary describes."""


@dataclass(frozen=True)
class Argument:
    """One argument of the run."""

    name: str
    value: str
    default: str
    differs: bool
    told: str
    """What the argument does, in a sentence."""


@dataclass(frozen=True)
class Phase:
    """One step of the run."""

    name: str
    seconds: str
    memory: str
    reused: bool


@dataclass(frozen=True)
class Reproduction:
    """How the run is made again."""

    command: str | None
    lines: Sequence[tuple[str, str]]
    versions: Sequence[tuple[str, str]]
    phases: Sequence[Phase]
    experiment: str | None
    """The resolved arguments as JSON."""
    recorded: bool
    """Whether this is from a record of the run; otherwise the versions are from the process that wrote the page."""


def arguments_of(trainer: Any) -> list[Argument]:
    """The arguments of a trainer, those that differ from their defaults first."""
    found: dict[str, Argument] = {}
    # A field that both have is in the configuration as it holds.
    for given in (trainer.training_args, trainer.config):
        usual, told = _values(type(given)()), field_sentences(type(given))
        for name, value in _values(given).items():
            found[name] = Argument(name, value, usual[name], value != usual[name], told.get(name, ""))
    return sorted(found.values(), key=lambda one: not one.differs)


def _values(given: Any) -> dict[str, str]:
    """Field → value as a short text; data is left to the data summary."""
    own = vars(given)
    names = [item.name for item in dataclasses.fields(given) if item.name not in _DATA_FIELDS]
    return {name: _written(own[name]) for name in names}


def _written(value: Any) -> str:
    if isinstance(value, str):
        return value[:MOST_CHARS]
    return SHORT.repr(plain(value) if isinstance(value, Mapping | list | tuple) else value)[:MOST_CHARS]


def described_data(summary: DataSummary) -> dict[str, Any]:
    """The data summary as rows of tables."""
    splits = list(dict.fromkeys(split for item in summary.classes for split in item.rows))
    return {
        "splits": splits,
        "n_rows": summary.n_rows,
        "classes": [
            {
                "name": item.name,
                "rows": [item.rows.get(split, 0) for split in splits],
                "all": item.n_rows,
                "words": listed((f"{word.word} {word.count}" for word in item.words), 5),
                "n_words": len(item.words),
                "median": item.lengths.quartiles[1],
                "longest": item.lengths.maximum,
            }
            for item in summary.classes
        ],
        "examples": [(item.name, Text.of(text, word)) for item in summary.classes for text, word in item.examples],
        "overlaps": [(" and ".join(one.splits), one.kind, one.count, one.example) for one in summary.overlaps],
        "dropped": list(summary.dropped.items()),
        "tokenizer": summary.tokenizer,
        "flagged": [(name, listed(word.word for word in words)) for name, words in summary.flagged_words.items()],
    }


def reproduction(record: Mapping[str, Any] | None, seeds: Sequence[int | None]) -> Reproduction:
    """How to reproduce a run, from its record if there is one."""
    seeds = (record or {}).get("seeds") or seeds
    known_seeds = [str(seed) for seed in seeds if seed is not None]
    seed_line = ("seeds", ", ".join(known_seeds) or "none: every run differs")
    if record is None:
        known = [("gradiend", __version__), ("python", platform.python_version()), *installed_versions().items()]
        return Reproduction(None, [seed_line, ("platform", platform.platform())], known, [], None, False)
    git = record.get("git")
    lines = [seed_line]
    if fingerprint := (record.get("data") or {}).get("fingerprint"):
        lines.append(("fingerprint of the data", _one_line(fingerprint)))
    if git:
        lines.append(("git commit", f"{git['commit']}{' with changes that are not committed' if git['dirty'] else ''}"))
    lines += [(name, str(record[name])) for name in ("platform", "device", "started", "finished") if record.get(name)]
    versions = {"gradiend": record.get("gradiend"), **(record.get("versions") or {})}
    experiment = record.get("experiment")
    phases = [
        Phase(str(name), duration(one.get("seconds")), _memory(one.get("peak_memory_bytes")), bool(one.get("reused")))
        for name, one in (record.get("phases") or {}).items()
    ]
    return Reproduction(
        _one_line(record["command"]) if record.get("command") else None, lines,
        [(str(name), str(value)) for name, value in versions.items() if value is not None], phases,
        None if experiment is None else json.dumps(experiment, indent=2, ensure_ascii=False), True,
    )  # fmt: skip


def total_seconds(record: Mapping[str, Any]) -> float | None:
    """The seconds of all steps of a recorded run; None if none is known."""
    found = [one.get("seconds") for one in (record.get("phases") or {}).values()]
    known = [seconds for seconds in found if is_number(seconds)]
    return sum(known) if known else None


def _memory(by_device: Mapping[str, Any] | None) -> str:
    """The largest memory on each device."""
    return ", ".join(f"{size(n).replace(' ', THIN)} ({device})" for device, n in (by_device or {}).items()) or UNKNOWN


def _one_line(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
