"""The files of a rewrite: a record of how the rewrite was made, and a delta with the changed entries.

gradiend_rewrite.json           in the directory of a rewritten model: from what and how the model was made, and the
                                checksums of the files of the model
gradiend_delta.safetensors      new values of the entries that a rewrite changed. Tensors: `<parameter>/values`, in the
                                parameter's dtype, and `<parameter>/indices`, flat and ascending; a parameter without
                                indices is stored whole, because that takes less space. The header has the rest as
                                JSON under `gradiend_delta`, and the card under `gradiend_card`.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from gradiend._version import __version__
from gradiend.model._base_model import identity_of
from gradiend.model._hub import local_delta, local_with_file
from gradiend.model._parameter_map import MappedParameter, bits, digest_of, index_dtype
from gradiend.model._refusals import inside
from gradiend.model._shards import whole
from gradiend.model.core.backbone import backbone_prefix
from gradiend.util._card_seal import write_card
from gradiend.util._checks import require_path
from gradiend.util._digest import digest_json, hash_model_weights
from gradiend.util._display import Shown, Table, facts, number
from gradiend.util._files import kept_if_possible, read_checked_json, require_room, write_checked_json
from gradiend.util._imports import LATER, without_package
from gradiend.util._keywords import known_keywords
from gradiend.util._tensor_files import file_checksum, read_header, read_tensors, write_tensors
from gradiend.util.paths import DELTA_FILE, FILES, REWRITE_RECORD, model_files

HEADER, CARD_HEADER = "gradiend_delta", "gradiend_card"
"""The keys in the header of the file of a delta, and of its card."""
FORMAT_VERSION = 1
"""The version of both files."""
_MODEL_JSON = re.compile(
    r"(adapter_config|added_tokens|config|generation_config|model|pytorch_model|special_tokens|tokenizer|vocab)"
)
"""The beginnings of the names of JSON files that transformers and PEFT write."""


@dataclass(frozen=True)
class RewriteChoice:
    """The rewrite that a decoder evaluation chose."""

    target_class: str
    """The class that the rewrite moves, or another key of the results."""
    direction: Literal["strengthen", "weaken", "balance"]
    """Whether the rewrite strengthens the class, weakens it, or aims at no preference among the classes."""
    gradiend_path: str | None = None
    """The checkpoint of the GRADIEND, if known; deltas do not keep this path, because users exchange deltas."""
    value: float | None = None
    """The value of the metric, such as the probability of the class on the texts of the other class."""
    lms: float | None = None
    """The language-modelling score of the rewritten model."""
    base_lms: float | None = None
    """The language-modelling score of the base model."""
    facts: Mapping[str, Any] | None = field(default=None, repr=False)
    """Further measurements, which the card says."""

    @property
    def goal(self) -> str:
        """The goal in words: "strengthen she", "weaken she" or "balance"."""
        return self.direction if self.direction == "balance" else f"{self.direction} {self.target_class}"

    @property
    def measured(self) -> float | None:
        """The value for people: P(class) also where a class is weakened, whose `value` is 1 − P(class)."""
        # Facts know the goals of classes only; a record without facts is from a version that had none.
        is_class = self.facts is None or bool(self.facts.get("goals"))
        return self.value if self.value is None or self.direction != "weaken" or not is_class else 1 - self.value


@dataclass(frozen=True, repr=False)
class RewriteRecord(Shown):
    """Everything that makes a rewritten model again: θ' = θ + learning_rate · decoder(feature_factor)."""

    base_model: str
    """The name or path of the base model."""
    base_model_fingerprint: str
    """The `hash_model_weights` of the base model."""
    gradiend_fingerprint: str
    """The `hash_model_weights` of the GRADIEND."""
    param_map_hash: str
    """The hash of the map between the GRADIEND and the base model."""
    learning_rate: float
    """The step size, an argument of `ModelWithGradiend.rewrite_base_model`."""
    feature_factor: float | list[float]
    """The latent that was decoded."""
    part: str
    """The part that was added; with another part than decoder, θ' = θ + learning_rate · part."""
    share_changed: float
    """The share of the mapped entries whose stored value changed."""
    choice: RewriteChoice | None = None
    """The choice of the decoder evaluation; None for a rewrite with numbers that the user gave."""
    gradiend_version: str = __version__
    """The version of this package."""

    def _tables(self) -> tuple[str, list[Table]]:
        choice = self.choice
        known = {
            "base model": self.base_model,
            "goal": None if choice is None else choice.goal,
            "value": None if choice is None else number(choice.measured),
            "step": number(self.learning_rate, "g"),
            "feature factor": str(self.feature_factor),
            "part": self.part,
            "entries changed": f"{self.share_changed:.1%}",
            "GRADIEND": None if choice is None else choice.gradiend_path,
            "made by": f"gradiend {self.gradiend_version}",
        }
        return type(self).__name__, [facts("", known)]

    def to_json(self) -> dict[str, Any]:
        """The record as a JSON object."""
        return {"format_version": FORMAT_VERSION, **dataclasses.asdict(self)}

    @classmethod
    def from_json(cls, content: Any) -> RewriteRecord:
        """Undo `to_json`. Raises ValueError for another format version, or missing or unknown fields."""
        if not isinstance(content, Mapping):
            raise ValueError(f"A rewrite record must be a JSON object, not {type(content).__name__}.")
        fields = {name: value for name, value in content.items() if name != FILES}
        _require_version(fields.pop("format_version", None))
        try:
            choice = fields.pop("choice", None)
            return cls(**fields, choice=None if choice is None else RewriteChoice(**choice))
        except TypeError as error:
            raise ValueError(f"The fields of the rewrite record do not fit: {error}.") from error


def _require_version(version: Any) -> None:
    if version != FORMAT_VERSION:
        newer = (
            " A newer version wrote it: update gradiend."
            if isinstance(version, int) and version > FORMAT_VERSION
            else ""
        )
        raise ValueError(f"format_version is {version!r}; this version of gradiend reads {FORMAT_VERSION}.{newer}")


def write_rewrite_record(directory: str | Path, record: RewriteRecord) -> None:
    """Write gradiend_rewrite.json into a model directory, with the checksums of the files of the model."""
    files = {path.relative_to(directory).as_posix(): file_checksum(path) for path in files_of_model(directory)}
    write_checked_json(Path(directory) / REWRITE_RECORD, {**record.to_json(), FILES: files})


def files_of_model(directory: str | Path) -> list[Path]:
    """The files of a model and its tokenizer; the folder may be one with other results in it, such as run.json."""
    paths = (path for path in model_files(directory) if path.parent == Path(directory))
    return [path for path in paths if path.suffix != ".json" or _MODEL_JSON.match(path.name)]


def verify_rewritten(directory: str | Path, *, weights: bool = True) -> None:
    """Compare the files of a rewritten model with its record; do nothing for a folder without such a record.

    With `weights`, the weights are compared too, which reads all of their bits. Raises FileNotFoundError for a missing
    file, and ValueError, which names the file, for one that was damaged or changed after the rewrite.
    """
    record = Path(directory) / REWRITE_RECORD
    listed = read_checked_json(record, own_version=FORMAT_VERSION).get(FILES) if record.is_file() else None
    if listed is None:
        return
    there = {path.relative_to(directory).as_posix(): path for path in files_of_model(directory)}
    for name in listed:
        if not weights and name.endswith((".safetensors", ".bin")):
            continue
        if name not in there:
            raise FileNotFoundError(f"{Path(directory) / name} is missing, which {record} lists: copy the model again.")
        if file_checksum(there[name]) != listed[name]:
            raise ValueError(
                f"{there[name]} is not the file that {record} was written with: it was damaged or changed after the "
                f"rewrite. Copy or make the model again; if the change is meant, remove {REWRITE_RECORD}."
            )


@known_keywords("read_rewrite_record", suggest=False)
def read_rewrite_record(
    directory: str | Path, *, subfolder: str | None = None, revision: str | None = None
) -> RewriteRecord:
    """The record of a saved rewritten model: from what and how the model was made.

    Args:
        directory: The directory in which `Trainer.rewrite_base_model(output_dir=…)` saved the model, or a place on a
            hub (`owner/name`, `hf://owner/name@revision/subfolder`), whose weights are not downloaded.
        subfolder: The folder of the model below `directory`.
        revision: The branch, tag or commit of a repository.

    Raises:
        FileNotFoundError: There is no gradiend_rewrite.json: the model was not saved by a trainer.
        ValueError: The file is damaged or has another format version; the message names the file.
    """
    require_path("directory", directory)
    path = local_with_file(directory, subfolder, revision, REWRITE_RECORD, "rewritten model") / REWRITE_RECORD
    if not path.is_file():
        raise FileNotFoundError(
            f"{directory} has no {REWRITE_RECORD}: it is no model that Trainer.rewrite_base_model saved."
        )
    content = read_checked_json(path, own_version=FORMAT_VERSION)
    try:
        return RewriteRecord.from_json(content)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


@dataclass(frozen=True, eq=False, repr=False)
class ParameterChange:
    """The changed entries of one parameter."""

    entry: MappedParameter
    """The name and shape of the parameter, and the changed entries, or all entries if the parameter is stored whole."""
    values: Tensor
    """The new values of these entries, (entry.num_selected,), in the dtype of the parameter."""
    replaces: str
    """The `digest_of` of the values before the change."""
    tied: tuple[str, ...] = ()
    """Other names of the same tensor, which change too."""

    def __repr__(self) -> str:
        return f"ParameterChange({self.entry!r}, {self.values.dtype})"

    @classmethod
    def between(cls, name: str, old: Tensor, new: Tensor, tied: Sequence[str] = ()) -> ParameterChange | None:
        """The change of the bits of `old` to those of `new`, of the same shape and dtype; None if they are equal."""
        shape = tuple(new.shape)
        old, new = old.detach().reshape(-1).cpu(), new.detach().reshape(-1).cpu()
        indices = (bits(old) != bits(new)).nonzero().squeeze(1).to(index_dtype(old.numel()))
        if not indices.numel():
            return None
        sparse = indices.numel() * (indices.itemsize + new.itemsize)
        if sparse >= new.nbytes:
            return cls(MappedParameter(name, shape), new, digest_of(old), tuple(tied))
        entry = MappedParameter(name, shape, indices)
        return cls(entry, new[indices], digest_of(old[indices]), tuple(tied))


@dataclass(frozen=True, eq=False, repr=False)
class Delta(Shown):
    """The entries that a rewrite changes; see `apply_delta`."""

    changes: tuple[ParameterChange, ...]
    """The changes, one for each parameter with a changed entry."""
    base_model: str
    """The name or path of the model that the delta was made for."""
    base_model_fingerprint: str
    """The `hash_model_weights` of the model that the delta was made for."""
    backbone_prefix: str
    """The prefix of the names of that model's backbone parameters."""
    rewrite: RewriteRecord | None = None
    """The record of the rewrite; None for the difference of two models."""
    card: str | None = None
    """The text for people, in Markdown, that the file holds; None for a file without such a text."""

    def _tables(self) -> tuple[str, list[Table]]:
        made = ""
        if self.rewrite is not None:
            choice, rewrite = self.rewrite.choice, self.rewrite
            goal = "" if choice is None else f"{choice.goal}, "
            made = f", {goal}learning_rate={rewrite.learning_rate:g}, feature_factor={rewrite.feature_factor}"
        size = f"{self.num_entries:,} entries of {len(self.changes)} parameters"
        return f"Delta({size} of {self.base_model!r}{made})", []

    @cached_property
    def fingerprint(self) -> str:
        """A digest of the changed entries with their old and new values."""
        parts = [(c.entry.name, c.replaces, digest_of(c.values), digest_of(c.entry.indices())) for c in self.changes]
        return digest_json(parts)

    @property
    def num_entries(self) -> int:
        """The number of stored values."""
        return sum(change.entry.num_selected for change in self.changes)


def delta_path(path: str | Path) -> Path:
    """The file of a delta: `path` itself if it ends in .safetensors, otherwise `path`/gradiend_delta.safetensors."""
    require_path("path", path)
    path = Path(path)
    return path if path.suffix == ".safetensors" else path / DELTA_FILE


def require_delta_place(path: str | Path) -> Path:
    """`delta_path` of a delta that will be written; raises ValueError for a file of something else, such as weights."""
    file = delta_path(path)
    if file.is_file():
        try:
            is_delta = HEADER in read_header(file)
        except ValueError:  # damaged, so there is nothing to lose
            is_delta = True
        if not is_delta:
            raise ValueError(f"{file} is there and is no delta, but holds other tensors: write the delta elsewhere.")
    return file


def write_delta(path: str | Path, delta: Delta) -> str:
    """Write a delta with its card, a new one unless it has one, and return the path of its file.

    Beside a file of the usual name, the card is README.md too, unless a person wrote or edited that one.
    """
    tensors: dict[str, Tensor] = {}
    for change in delta.changes:
        tensors[f"{change.entry.name}/values"] = change.values
        if change.entry.selection is not None:
            tensors[f"{change.entry.name}/indices"] = change.entry.selection
    content = {
        "format_version": FORMAT_VERSION,
        "base_model": delta.base_model,
        "base_model_fingerprint": delta.base_model_fingerprint,
        "backbone_prefix": delta.backbone_prefix,
        "parameters": [
            {
                "name": change.entry.name,
                "shape": list(change.entry.shape),
                "dtype": str(change.values.dtype).removeprefix("torch."),
                "num_entries": change.entry.num_selected,
                "replaces": change.replaces,
                "tied": list(change.tied),
            }
            for change in delta.changes
        ],
        "rewrite": None if delta.rewrite is None else delta.rewrite.to_json(),
    }
    file = require_delta_place(path)
    require_room(file, sum(tensor.nbytes for tensor in tensors.values()), "The delta")
    cards = LATER["cards"]()
    card = delta.card or without_package(lambda: cards.card_of(delta), "The card of the delta")
    header = {HEADER: json.dumps(content, ensure_ascii=False), **({} if card is None else {CARD_HEADER: card})}
    write_tensors(file, tensors, header)
    if card is not None and file.name == DELTA_FILE:
        with kept_if_possible("The README.md of the delta is"):
            write_card(file.parent, card)
    return str(file)


@known_keywords("read_delta", suggest=False)
def read_delta(
    path: str | Path, *, verify: bool = True, subfolder: str | None = None, revision: str | None = None
) -> Delta:
    """Read and verify a delta.

    Args:
        path: The file, or a directory with gradiend_delta.safetensors; or one of these on a hub: `owner/name`,
            `hf://owner/name@revision/he.safetensors`.
        verify: Whether to compare the tensors with their checksum, which reads all bits once more.
        subfolder: The folder, or the file, below `path`.
        revision: The branch, tag or commit of a repository.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged, has another format version, or holds no delta; the message names the file.
    """
    file = delta_path(local_delta(path, subfolder, revision, verify=verify))
    header = read_header(file)
    if HEADER not in header:
        raise ValueError(f"{file} is no delta: its header has no {HEADER}. export_delta writes one.")
    try:
        content = json.loads(header[HEADER])
        _require_version(content["format_version"])
        tensors = read_tensors(file, verify=verify)
        return Delta(
            changes=tuple(_read_change(entry, tensors) for entry in content["parameters"]),
            base_model=content["base_model"],
            base_model_fingerprint=content["base_model_fingerprint"],
            backbone_prefix=content["backbone_prefix"],
            rewrite=None if content["rewrite"] is None else RewriteRecord.from_json(content["rewrite"]),
            card=header.get(CARD_HEADER),
        )
    except KeyError as error:
        raise ValueError(f"{file}: {error} is missing.") from error
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(str(error) if str(file) in str(error) else f"{file}: {error}") from error


def _read_change(content: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> ParameterChange:
    name, values = content["name"], tensors[f"{content['name']}/values"]
    indices = tensors.get(f"{name}/indices")
    spec = {"shape": content["shape"], "repr": "all" if indices is None else "indices", "indices": indices}
    entry = MappedParameter.from_spec(name, spec)
    if str(values.dtype) != f"torch.{content['dtype']}" or tuple(values.shape) != (entry.num_selected,):
        found = f"{values.dtype} of shape {tuple(values.shape)}"
        raise ValueError(f"{name} has values {found}, but {entry.num_selected} of {content['dtype']} belong there.")
    return ParameterChange(entry, values, content["replaces"], tuple(content["tied"]))


@known_keywords("export_delta", suggest=False)
def export_delta(
    base_model: nn.Module, rewritten: nn.Module, path: str | Path, *, rewrite: RewriteRecord | None = None
) -> str:
    """Write the entries in which `rewritten` differs from `base_model`; tensors that are used twice are stored once.

    Args:
        base_model: The model to which the delta can be applied later.
        rewritten: A changed copy of the base model, such as the result of `ModelWithGradiend.rewrite_base_model`.
        path: A file that ends in .safetensors, or a directory for gradiend_delta.safetensors.
        rewrite: The record of the rewrite, which the file keeps.

    Returns the path of the file.

    Raises:
        TypeError: An argument is no model, no record or no path.
        ValueError: The models have different architectures or dtypes, or equal weights.
    """
    for name, model in (("base_model", base_model), ("rewritten", rewritten)):
        if not isinstance(model, nn.Module):
            raise TypeError(f"{name} must be a loaded model; got {model!r:.60}.")
    base_model, rewritten = inside(base_model), inside(rewritten)
    if rewrite is not None and not isinstance(rewrite, RewriteRecord):
        raise TypeError(f"rewrite must be a RewriteRecord, such as read_rewrite_record gives; got {rewrite!r:.60}.")
    require_delta_place(path)
    old, new = dict(base_model.named_parameters()), dict(rewritten.named_parameters())
    if {name: (p.shape, p.dtype) for name, p in old.items()} != {name: (p.shape, p.dtype) for name, p in new.items()}:
        raise ValueError(
            f"The two models have not the same parameters in shapes and dtypes ({type(base_model).__name__} with "
            f"{len(old)}, {type(rewritten).__name__} with {len(new)}): load both in the same way."
        )
    return write_delta(path, delta_of(base_model, iter(new.items()), rewrite))


def delta_of(base_model: nn.Module, changed: Iterator[tuple[str, Tensor]], rewrite: RewriteRecord | None) -> Delta:
    """The delta of the new values (name → tensor) of some parameters. Raises ValueError if no value is new."""
    parameters = dict(base_model.named_parameters(remove_duplicate=False))
    changes = []
    for name, new in changed:
        old = parameters[name]
        tied = [other for other, parameter in parameters.items() if parameter is old and other != name]
        if (change := ParameterChange.between(name, whole(old), whole(new), tied)) is not None:
            changes.append(change)
    if not changes:
        raise ValueError("The rewritten model equals the base model in every bit: there is no delta to export.")
    fingerprint = hash_model_weights(base_model)
    return Delta(tuple(changes), identity_of(base_model), fingerprint, backbone_prefix(base_model), rewrite)
