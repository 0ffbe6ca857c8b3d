"""The files of a checkpoint as a whole: which there are, whether they are as they were written, how they are removed.

config.json lists every other file that was written with it, with a checksum each, so that a file that was truncated,
changed, or swapped with that of another checkpoint is noticed. training.json, which holds times, card.json, to which
evaluations add, and fingerprint.json are written later: each has a checksum of its own, and the checksum of the weights
that it describes. README.md is made of these files. Files of others, such as notes, are neither read nor removed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from gradiend.util import paths
from gradiend.util._card_seal import remove_card
from gradiend.util._files import read_checked_json, write_checked_json
from gradiend.util._processes import by_first
from gradiend.util._tensor_files import file_checksum, tensors_checksum
from gradiend.util.logging import get_logger
from gradiend.util.paths import model_files

logger = get_logger(__name__)

FORMAT_VERSION = 0
CONFIG = paths.CONFIG_FILE
WEIGHTS, WEIGHTS_BIN = paths.WEIGHT_FILES
STEMS = {"indices": "mapping_indices", "mask": "mapping_masks"}
SUFFIXES = {False: "safetensors", True: "pth"}
"""The suffix of the mapping files, by whether torch writes them."""
MAPPING_FILES = tuple(f"{stem}.{suffix}" for stem in STEMS.values() for suffix in SUFFIXES.values())
NETWORK_FILES = (*paths.WEIGHT_FILES, *MAPPING_FILES)
"""The files that the GRADIEND is loaded from, besides config.json."""
LISTED = (*NETWORK_FILES, paths.BASE_DIGEST, paths.CONTEXT)
"""The files that config.json lists, if they are there; map and format decide which of them exist."""
OWN_FILES = (CONFIG, paths.FINGERPRINT_FILE, *LISTED, paths.TRAINING, paths.FACTS)
"""All files that a checkpoint may have, in the order of their removal: first those that mark a whole checkpoint.

README.md is a file of the checkpoint too, as long as no person has edited it."""
OF_WEIGHTS = "of_weights"
"""The key of training.json and card.json for the checksum of the weights that they describe."""
FOLDERS = [paths.OWN_BASE_MODEL, paths.OWN_TOKENIZER]
"""The folders of a checkpoint. The registry of objectives adds the folders of kinds of models."""
LAST = (paths.ADAPTER_CONFIG, paths.CONFIG_FILE, paths.REWRITE_RECORD)
"""The files that say a folder is complete, in the order in which they are moved."""


def checksums(directory: Path) -> dict[str, str]:
    """The entry `files` of config.json: the path of each file that is there → its checksum."""
    paths = [directory / name for name in LISTED if (directory / name).is_file()]
    paths += [path for name in FOLDERS for path in model_files(directory / name)]
    return {path.relative_to(directory).as_posix(): file_checksum(path) for path in paths}


def read_config(directory: Path) -> dict[str, Any]:
    """The content of config.json. Raises ValueError for a file that is damaged or from a newer version."""
    return read_checked_json(directory / CONFIG, own_version=FORMAT_VERSION)


def mapped_parameters(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The entries of config.json for the parameters of the map; those of which pruning has left nothing are none."""
    entries = (config.get("mapping") or {}).get("param_map") or []
    return [entry for entry in entries if entry.get("num_selected") != 0]


def write_config(directory: Path, content: Mapping[str, Any]) -> None:
    """Write config.json, which is written last because it has the checksums of the other files."""
    write_checked_json(directory / CONFIG, {**content, paths.FILES: checksums(directory)})


def verify_files(directory: Path, config: Mapping[str, Any], names: Iterable[str]) -> None:
    """Raise ValueError for a file that is not as config.json lists it, and FileNotFoundError for a missing file.

    Nothing is compared if config.json lists no files, because an older version or another tool wrote it.
    """
    listed = config.get(paths.FILES)
    if listed is None:
        return
    for name in names:
        path = directory / name
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise ValueError(f"{directory / CONFIG} lists {name}, which is outside of its folder: it is not read.")
        if name not in listed:
            raise ValueError(f"{path} is not among the files that {CONFIG} lists: remove it, or save the model again.")
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing, which {CONFIG} lists: copy the checkpoint again as a whole.")
        if file_checksum(path) != listed[name]:
            raise ValueError(
                f"{path} is not the file that {CONFIG} was written with: it was damaged, changed, or belongs to "
                "another checkpoint. Copy the checkpoint again as a whole, or save the model again."
            )


def verify_others(directory: Path, *, with_base_model: bool) -> None:
    """Apply `verify_files` to all listed files but `NETWORK_FILES`; to weights of the base model only if wanted."""
    config = read_config(directory)
    names = [name for name in config.get(paths.FILES) or () if name not in NETWORK_FILES]
    if not with_base_model:
        weights = (".safetensors", ".bin")
        names = [name for name in names if not (name.startswith(f"{paths.OWN_BASE_MODEL}/") and name.endswith(weights))]
    verify_files(directory, config, names)


def write_training(directory: Path, content: Mapping[str, Any]) -> None:
    """Write training.json with the checksum of the weights in the folder, which must be written before."""
    of = _weights_checksum(directory)
    write_checked_json(directory / paths.TRAINING, content if of is None else {**content, OF_WEIGHTS: of})


def read_training(directory: Path, *, verify: bool = True) -> dict[str, Any] | None:
    """The content of training.json, or None; ValueError if it is damaged, or of other weights than those beside it."""
    path = directory / paths.TRAINING
    if not path.is_file():
        return None
    content = read_checked_json(path)
    of = content.pop(OF_WEIGHTS, None)
    if verify and of is not None and _weights_checksum(directory) not in (of, None):
        raise ValueError(
            f"{path} describes the training of other weights than those beside it: it belongs to another checkpoint, "
            "or the weights were replaced. Copy the checkpoint again as a whole, or remove this file."
        )
    return content


def read_facts(directory: Path) -> dict[str, Any]:
    """The facts in card.json about the weights beside it; {} for a missing or damaged file, and for other weights."""
    try:
        content = read_checked_json(directory / paths.FACTS)
    except FileNotFoundError:
        return {}
    except ValueError as error:
        path = directory / paths.FACTS
        logger.warning("%s was damaged, or written by a newer version: the card is made without it. (%s)", path, error)
        return {}
    of = content.pop(OF_WEIGHTS, None)
    return content if of == _weights_checksum(directory) else {}


def carried_facts(directory: Path) -> dict[str, Any]:
    """The content of card.json for a copy elsewhere, which says of which weights it is; {} without facts."""
    found = read_facts(directory)
    return {**found, OF_WEIGHTS: _weights_checksum(directory)} if found else {}


def write_facts(directory: Path, carried: Mapping[str, Any] | None) -> None:
    """Write the facts that a loaded model carries into a folder without facts, and remove facts of other weights."""
    if read_facts(directory):
        return
    if carried and carried.get(OF_WEIGHTS) == _weights_checksum(directory):
        write_checked_json(directory / paths.FACTS, carried)
    elif (directory / paths.FACTS).is_file():
        (directory / paths.FACTS).unlink()


@by_first
def add_facts(directory: Path, found: Mapping[str, Any]) -> None:
    """Add facts to card.json. Of a fact that has an entry for each goal, only the entries that are given change."""
    before = read_facts(directory)
    known = dict(before)
    for name, value in found.items():
        known[name] = {**known[name], **value} if name in ("goals", "side_effects") and name in known else value
    if known != before:
        write_checked_json(directory / paths.FACTS, {**known, OF_WEIGHTS: _weights_checksum(directory)})


def holds(directory: Path, gradiend: Any) -> bool:
    """Whether a folder has the weights of a GRADIEND in memory; of a sharded one, whether it has any."""
    weights = paths.weight_file(directory)
    if weights is None or gradiend.shards is not None:
        return weights is not None
    return tensors_checksum(weights) == gradiend.weights_digest()


def _weights_checksum(directory: Path) -> str | None:
    weights = paths.weight_file(directory)
    return None if weights is None else file_checksum(weights)


@by_first
def list_again(directory: Path, name: str) -> None:
    """Write the present checksum of a file into config.json, if config.json lists files."""
    if (directory / CONFIG).is_file() and paths.FILES in (config := read_config(directory)):
        config[paths.FILES][name] = file_checksum(directory / name)
        write_checked_json(directory / CONFIG, config)


@by_first
def remove_files(directory: Path, *, keep: Collection[str] = ()) -> None:
    """Remove the files of a checkpoint, but those to `keep` stay; then remove the folders in it that are empty.

    The config.json is removed first: a directory with a config.json is complete, however the process ends.
    """
    for name in OWN_FILES:
        if name not in keep:
            (directory / name).unlink(missing_ok=True)
    remove_card(directory)
    for folder in FOLDERS:
        remove_model(directory / folder)


@by_first
def remove_model(folder: Path) -> None:
    """Remove the files of a model, or of a tokenizer, and then folders that are empty."""
    for path in model_files(folder):
        path.unlink(missing_ok=True)
    for path in sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True):
        remove_empty(path)
    remove_empty(folder)


@by_first
def remove_empty(folder: Path) -> None:
    """Remove a folder if it is there and has no entry."""
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


@by_first
def take_over(staging: Path, target: Path, clear: Callable[[Path], None]) -> None:
    """Move the files of a folder to `target`, from which `clear` removes those of an earlier model.

    A folder is complete if it has a config.json (the folder of an adapter: adapter_config.json) and, for a rewritten
    model, its record. These files are removed first and moved last, so that no reader ever finds files of two models.
    Other files in `target` stay, because `target` may be any folder of the user; a card that a person edited stays too.
    """
    target = Path(os.path.realpath(target))
    if not target.exists():
        staging.rename(target)
        return
    for name in reversed(LAST):
        (target / name).unlink(missing_ok=True)
    clear(target)
    remove_card(target)
    files = [path.relative_to(staging) for path in staging.rglob("*") if path.is_file()]
    for file in sorted(files, key=lambda file: LAST.index(str(file)) if str(file) in LAST else -1):
        if file == Path(paths.CARD) and (target / file).exists():
            continue
        (target / file).parent.mkdir(parents=True, exist_ok=True)
        (staging / file).replace(target / file)
