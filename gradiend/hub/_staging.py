"""What is published (a checkpoint, a delta or a rewritten model) is written into a folder, without what is private.

Weights, maps and tokenizers are copied bit by bit. JSON files, and the header of a delta, are written again, without
paths and times, and with the checksums that then fit.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from gradiend.hub._privacy import clean_json, is_local, without_places
from gradiend.model import Delta, ModelWithGradiend, read_delta, read_rewrite_record
from gradiend.model._base_model import BASE_REVISION
from gradiend.model._checkpoint import is_checkpoint, read_checkpoint
from gradiend.model._checkpoint_files import (
    FOLDERS,
    NETWORK_FILES,
    OWN_FILES,
    STEMS,
    read_config,
    read_training,
    verify_others,
    write_config,
    write_training,
)
from gradiend.model._rewrite_files import (
    RewriteRecord,
    files_of_model,
    verify_rewritten,
    write_delta,
    write_rewrite_record,
)
from gradiend.report._format import model_name
from gradiend.trainer._rewrites import is_model_file
from gradiend.util import paths
from gradiend.util._card_seal import is_unedited, write_card
from gradiend.util._checks import require_path, require_text
from gradiend.util._files import read_checked_json, read_json, require_room, write_checked_json
from gradiend.util.paths import model_files

PICKLED = (".bin", ".pt", ".pth")
"""Suffixes of files that are loaded by unpickling, which can run any code."""
WEIGHTS = ("model", "adapter_model", *STEMS.values())
"""The beginnings of the names of files with weights or a map."""
_WORDS = ("tokenizer.json", "vocab.json", "added_tokens.json")
"""JSON files with the words of a tokenizer, which name no place."""


@dataclass(frozen=True)
class Source:
    """Something to publish, and its place on this machine; see the subclasses."""

    place: Path
    """The folder; for a delta, the file."""
    base_model: str
    """The name or path of the base model, as it was recorded."""

    kind = ""

    @staticmethod
    def at(place: str | Path, *, include_base_model: bool = False) -> Source:
        """The source at a path: a checkpoint, the folder of a run with one in `model/`, a delta or a rewritten model.

        With `include_base_model`, the base model of a checkpoint, a local folder, is put into it. Raises
        FileNotFoundError if there is nothing, ValueError if it is none of these, a file is damaged, or no base model
        can be put into it.
        """
        require_path("place", place)
        path = Path(place)
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist: there is nothing to publish.")
        checkpoint = next(filter(is_checkpoint, (path, path / paths.MODEL_DIR)), None)
        if checkpoint is not None:
            base = (read_config(checkpoint).get("metadata") or {}).get("base_model") or ""
            return CheckpointSource(checkpoint, base, include_base_model)
        if include_base_model:
            raise ValueError(f"include_base_model is for the checkpoint of a GRADIEND, and {path} is none.")
        if path.suffix == ".safetensors" or (path / paths.DELTA_FILE).is_file():
            file = path / paths.DELTA_FILE if path.is_dir() else path
            return DeltaSource(file, read_delta(file).base_model)
        if (path / paths.REWRITE_RECORD).is_file():
            return RewrittenSource(path, read_rewrite_record(path).base_model)
        runs = sorted(one.parent.parent for one in path.glob(f"*/{paths.MODEL_DIR}/{paths.CONFIG_FILE}"))
        raise ValueError(
            f"{path} is neither a trained GRADIEND, nor a run with one in {paths.MODEL_DIR}/, nor a rewritten model "
            f"with its {paths.REWRITE_RECORD}, nor a delta: give the folder of one of them, or the file of a delta "
            "(.safetensors)." + (f" Did you mean {runs[0]}?" if runs else "")
        )

    def published_base(self, given: str | None) -> str:
        """The name of the base model for others: `given`, else the recorded name.

        Raises ValueError for a folder of this machine that others find nowhere, or a `given` that is no name on a hub.
        """
        if given is not None:
            require_text("base_model", given)
            try:
                validate_repo_id(given)
            except HFValidationError as error:
                raise ValueError(
                    f"base_model must be a name on the hub, such as 'owner/name'; got {given!r}."
                ) from error
            return given
        if self.base_model and not is_local(self.base_model):
            return self.base_model
        if not self._needs_base:
            # No hub has such a name.
            return f"./{model_name(self.base_model)}" if self.base_model else ""
        name = f"The base model {self.base_model!r}" if self.base_model else "The base model, which has no name,"
        raise ValueError(
            f"{name} is on this machine alone, where nobody else can load it. If the same weights are on the hub, give "
            f"their name, base_model='owner/name' (--base-model){self._other_way}."
        )

    @property
    def _other_way(self) -> str:
        """A further way out, for the error of a base model that others do not find."""
        return ""

    @property
    def _needs_base(self) -> bool:
        """Whether what is published does not hold its base model."""
        raise NotImplementedError

    def write(self, folder: Path, base_model: str, new_card: Callable[[Path | Delta], str]) -> None:
        """Write what is published into an empty folder; `new_card` makes the text of a card."""
        raise NotImplementedError

    def _write_card(self, folder: Path, card: str) -> None:
        if self.card is None:
            write_card(folder, card)
        else:
            shutil.copyfile(self.card, folder / paths.CARD)

    def owns(self, name: str) -> bool:
        """Whether a file of this name, in the folder of what is published, belongs to such a model."""
        raise NotImplementedError

    def private_places(self) -> list[str]:
        """Paths of this machine that no published file may contain."""
        return [str(self.place.resolve()), *self._names("")]

    @property
    def card(self) -> Path | None:
        """The README.md beside the files if a person wrote or edited it, else None."""
        path = (self.place if self.place.is_dir() else self.place.parent) / paths.CARD
        return path if self._has_folder and path.is_file() and not is_unedited(path) else None

    @property
    def _has_folder(self) -> bool:
        """Whether the folder around the files is theirs alone."""
        return True

    def _published(self, record: RewriteRecord, base_model: str) -> RewriteRecord:
        """The record of a rewrite as it is published: without the place of the GRADIEND."""
        choice = record.choice
        if choice is not None:
            known = without_places(choice.facts, self._names(base_model))
            choice = replace(choice, gradiend_path=None, facts=self._without_revision(known, base_model))
        return replace(record, base_model=base_model, choice=choice)

    def _without_revision(self, known: Any, base_model: str) -> Any:
        """The known facts, without the revision of the base model if the base model has another name now."""
        if not isinstance(known, Mapping) or base_model == self.base_model:
            return known
        return {name: value for name, value in known.items() if name != BASE_REVISION}

    def _names(self, base_model: str) -> dict[str, str]:
        """Path of the base model on this machine → its name."""
        return {self.base_model: base_model} if is_local(self.base_model) else {}


@dataclass(frozen=True)
class CheckpointSource(Source):
    """A trained GRADIEND."""

    includes: bool = False
    """Whether the base model, a local folder, is put into the checkpoint, unless it is there."""

    kind = "GRADIEND"

    def __post_init__(self) -> None:
        if self._copies_base and not Path(self.base_model).is_dir():
            raise ValueError(
                f"include_base_model copies a base model that is a local folder, and {self.base_model!r} is none: "
                "leave it out if that is a name on the hub."
            )

    @property
    def _copies_base(self) -> bool:
        return self.includes and not (self.place / paths.OWN_BASE_MODEL).is_dir()

    @property
    def _other_way(self) -> str:
        if self.includes:
            return ", or that of the plain model under an adapter"
        return "; or publish them with the checkpoint, include_base_model=True (--include-base-model)"

    @property
    def _needs_base(self) -> bool:
        folder = Path(self.base_model) if self._copies_base else self.place / paths.OWN_BASE_MODEL
        return not folder.is_dir() or _lacks_plain_model(folder)

    def owns(self, name: str) -> bool:
        return name in OWN_FILES or name.split("/", 1)[0] in FOLDERS

    def write(self, folder: Path, base_model: str, new_card: Callable[[Path | Delta], str]) -> None:
        """See `Source.write`."""
        place, names = self.place, self._names(base_model)
        config = read_config(place)
        # All files are read and compared with their checksums first, so that no damaged file is published.
        read_checkpoint(place, with_mapping=config.get("mapping") is not None)
        verify_others(place, with_base_model=True)
        own = [path for name in (*NETWORK_FILES, paths.BASE_DIGEST, paths.CONTEXT) if (path := place / name).is_file()]
        _copy(place, [*own, *(path for name in FOLDERS for path in model_files(place / name))], folder)
        if self._copies_base:
            _copy(Path(self.base_model), files_of_model(self.base_model), folder / paths.OWN_BASE_MODEL)
        for name in FOLDERS:
            _clean_models(folder / name, names, base_model)
        if (place / paths.FACTS).is_file():
            write_checked_json(folder / paths.FACTS, without_places(read_checked_json(place / paths.FACTS), names))
        training = read_training(place)
        if training is not None:
            write_training(folder, without_places(training, names))
        metadata = self._without_revision(without_places(config.get("metadata") or {}, names), base_model)
        metadata["base_model"] = base_model
        if is_local((config.get("metadata") or {}).get("tokenizer") or ""):
            metadata["tokenizer"] = base_model
        write_config(folder, {**{key: config[key] for key in config if key != paths.FILES}, "metadata": metadata})
        self._write_card(folder, new_card(folder))
        if self._copies_base and (folder / paths.OWN_BASE_MODEL / paths.CONFIG_FILE).is_file():
            # A folder of weights can have changed since the training: loading compares them.
            ModelWithGradiend.from_pretrained(folder, device="cpu")


class DeltaSource(Source):
    """A delta."""

    kind = "delta"

    @property
    def _other_way(self) -> str:
        return "; or publish the rewritten model instead, which needs no other"

    @property
    def _needs_base(self) -> bool:
        return True

    def owns(self, name: str) -> bool:
        return name == paths.DELTA_FILE

    @property
    def _has_folder(self) -> bool:
        # The folder of a delta with another name may hold other deltas, or anything else.
        return self.place.name == paths.DELTA_FILE

    def write(self, folder: Path, base_model: str, new_card: Callable[[Path | Delta], str]) -> None:
        """See `Source.write`."""
        delta = read_delta(self.place)
        rewrite = None if delta.rewrite is None else self._published(delta.rewrite, base_model)
        delta = replace(delta, base_model=base_model, rewrite=rewrite)
        card = new_card(delta) if self.card is None else self.card.read_text(encoding="utf-8")
        write_delta(folder / paths.DELTA_FILE, replace(delta, card=card))
        self._write_card(folder, card)


class RewrittenSource(Source):
    """A rewritten model."""

    kind = "rewritten model"

    @property
    def _needs_base(self) -> bool:
        return _lacks_plain_model(self.place)

    def owns(self, name: str) -> bool:
        return is_model_file(name)

    def write(self, folder: Path, base_model: str, new_card: Callable[[Path | Delta], str]) -> None:
        """See `Source.write`."""
        verify_rewritten(self.place)
        _copy(self.place, files_of_model(self.place), folder)
        _clean_models(folder, self._names(base_model), base_model)
        write_rewrite_record(folder, self._published(read_rewrite_record(self.place), base_model))
        self._write_card(folder, new_card(folder))


def _copy(root: Path, files: Iterable[Path], folder: Path) -> None:
    """Copy files with their places under a root, but no code. Raises ValueError for weights that are pickled only."""
    files = list(files)
    for path in files:
        # If the same weights are there as safetensors, these are copied; other pickled files hold no weights.
        stem = path.stem.removeprefix("pytorch_")
        safe = [one for one in files if one.parent == path.parent and one.match(f"{stem}*.safetensors")]
        if path.suffix in PICKLED and stem.startswith(WEIGHTS) and not safe:
            raise ValueError(
                f"{path} is loaded by unpickling, which can run any code, so that nobody should load it from "
                "strangers. Load the model, save it again with save_pretrained as safetensors, and publish that."
            )
    files = [path for path in files if path.suffix not in (*PICKLED, ".py")]
    require_room(folder, sum(path.stat().st_size for path in files), "The folder to publish")
    for path in files:
        target = folder / path.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)


def _clean_models(folder: Path, names: Mapping[str, str], base_model: str) -> None:
    """Clean the JSON files of models and tokenizers in a folder."""
    adapters = {base: base_model for _, base in _local_adapters(folder)}
    for path in model_files(folder):
        if path.suffix == ".json" and path.name not in _WORDS:
            clean_json(path, {**names, **adapters})


def _local_adapters(folder: Path) -> Iterator[tuple[Path, str]]:
    """(folder, path of the plain model) of the adapters (PEFT) in a folder whose plain model has a local name."""
    for place in (folder, folder / paths.OWN_BASE_MODEL):
        config = place / paths.ADAPTER_CONFIG
        base = str(read_json(config).get("base_model_name_or_path") or "") if config.is_file() else ""
        if is_local(base):
            yield place, base


def _lacks_plain_model(folder: Path) -> bool:
    """Whether a folder has an adapter (PEFT) whose plain model is neither beside it nor on a hub."""
    return any(not (place / paths.CONFIG_FILE).is_file() for place, _ in _local_adapters(folder))
