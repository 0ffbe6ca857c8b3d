"""gradiend_rewrite.json: from what and how a rewritten model was made."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gradiend._version import __version__
from gradiend.util._files import read_json, write_json

RECORD = "gradiend_rewrite.json"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class RewriteChoice:
    """What a decoder evaluation knows about the rewrite that it chose."""

    target_class: str
    """The class that was rewritten for, or another key of the results."""
    direction: Literal["strengthen", "weaken"]
    """What the rewrite does to the class."""
    gradiend_path: str | None = None
    """The checkpoint that the GRADIEND was loaded from or saved to, if known; not in deltas, which are handed on."""
    value: float | None = None
    """The metric of the choice, such as the probability of the class on the other class's texts."""
    lms: float | None = None
    """Language-modelling score of the rewritten model."""
    base_lms: float | None = None
    """Language-modelling score of the base model."""


@dataclass(frozen=True)
class RewriteRecord:
    """Everything that is needed to make a rewritten model again: θ' = θ + learning_rate · decoder(feature_factor)."""

    base_model: str
    """Name or path."""
    base_model_fingerprint: str
    """`hash_model_weights` of the base model."""
    gradiend_fingerprint: str
    """`hash_model_weights` of the GRADIEND."""
    param_map_hash: str
    """Of the map between the GRADIEND and the base model."""
    learning_rate: float
    """Step size, as `ModelWithGradiend.rewrite_base_model` takes it."""
    feature_factor: float | list[float]
    """What was decoded."""
    part: str
    """What was added; with another part than decoder, θ' = θ + learning_rate · part."""
    share_changed: float
    """Share of the mapped entries whose stored value changed."""
    choice: RewriteChoice | None = None
    """How the evaluation chose it; None for a rewrite with numbers given by hand."""
    gradiend_version: str = __version__
    """Version of this package."""

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return {"format_version": FORMAT_VERSION, **dataclasses.asdict(self)}

    @classmethod
    def from_json(cls, content: Any) -> RewriteRecord:
        """Parse what `to_json` made.

        Raises:
            ValueError: Another format version, or fields that are missing or unknown.
        """
        if not isinstance(content, Mapping):
            raise ValueError(f"A rewrite record must be a JSON object, not {type(content).__name__}.")
        fields = dict(content)
        version = fields.pop("format_version", None)
        if version != FORMAT_VERSION:
            raise ValueError(f"format_version is {version!r}; this version of gradiend reads {FORMAT_VERSION}.")
        try:
            choice = fields.pop("choice", None)
            return cls(**fields, choice=None if choice is None else RewriteChoice(**choice))
        except TypeError as error:
            raise ValueError(f"The fields of the rewrite record do not fit: {error}.") from error


def write_rewrite_record(directory: str | Path, record: RewriteRecord) -> None:
    """Write gradiend_rewrite.json into a model directory."""
    write_json(Path(directory) / RECORD, record.to_json())


def read_rewrite_record(directory: str | Path) -> RewriteRecord:
    """From what and how a saved rewritten model was made.

    Args:
        directory: Where `Trainer.rewrite_base_model(output_dir=…)` saved it.

    Raises:
        FileNotFoundError: There is no gradiend_rewrite.json: the model was not saved by a trainer.
        ValueError: A damaged file, or one of another format version; the message names it.
    """
    path = Path(directory) / RECORD
    if not path.is_file():
        raise FileNotFoundError(f"{directory} has no {RECORD}: it is no model that Trainer.rewrite_base_model saved.")
    content = read_json(path)
    try:
        return RewriteRecord.from_json(content)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
