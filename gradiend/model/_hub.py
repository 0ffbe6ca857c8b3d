"""Downloads from a model hub: the files of a GRADIEND, a delta or runs, all of one commit, with checksums compared.

`huggingface_hub` downloads into its cache, tries again where a connection breaks, and finds files there without a
connection. Only files of `KINDS` are downloaded: a repository is somebody else's, so nothing in it is run or unpickled.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

from gradiend._version import __version__
from gradiend.model._checkpoint import is_checkpoint
from gradiend.model._checkpoint_files import CONFIG, FOLDERS, OWN_FILES, WEIGHTS, read_config
from gradiend.model._hub_place import KINDS, SCHEME, HubPlace, client_errors, joined, taught
from gradiend.util._checks import require_path
from gradiend.util._files import read_json
from gradiend.util._keywords import nearest_first
from gradiend.util._processes import processes
from gradiend.util._progress import others_bars
from gradiend.util.paths import CONTEXT, DELTA_FILE, ENCODED_VALUES, MODEL_DIR

PICKLED = (".bin", ".pt", ".pth", ".pkl", ".ckpt")
README = "README.md"
GRADIEND = "GRADIEND"
_SHA256, _SHA1 = re.compile(r"[0-9a-f]{64}"), re.compile(r"[0-9a-f]{40}")


# Places → local files


def local_folder(
    place: str | Path, subfolder: str | None = None, revision: str | None = None, *, verify: bool = True
) -> Path:
    """The local folder of a GRADIEND, which is downloaded if the place is on a hub.

    The place is a checkpoint, or a run that has its checkpoint in `model/`: a folder, `owner/name`, or
    `hf://owner/name@revision/subfolder`. With `verify`, downloaded files are compared with the checksums under which
    the hub keeps them.

    Raises:
        FileNotFoundError: There is no such repository, revision or subfolder, or no GRADIEND in it; or there is no
            connection and the files are not in the cache.
        PermissionError: The repository is private or restricted, and the login of this machine may not read it.
        ConnectionError: The hub cannot be reached, or fails.
        ValueError: A downloaded file is not the one that the hub lists, or the weights are pickled.
    """
    require_path("load_directory", place)
    at = HubPlace.of(place, subfolder, revision)
    if at is None:
        return inside_run(_local(place, subfolder))
    with taught(at):
        configs = [glob.escape(at.below(CONFIG)), glob.escape(at.below(MODEL_DIR, CONFIG))]
        at, root = download_files(at, configs, verify=verify)
        folder = next((one for one in (at.path, at.below(MODEL_DIR)) if is_checkpoint(root / one)), None)
        if folder is None:
            _nothing_there(at, GRADIEND)
        return _checkpoint(at, root, folder, verify=verify)


def at_hand(
    model: Any, subfolder: str | None = None, revision: str | None = None, *, sure: bool = False, verify: bool = True
) -> Any:
    """The local folder of a GRADIEND that `model` names; any other `model`, such as a base model's name, as it is.

    The config.json of the repository `owner/name` decides whether it holds a GRADIEND or a base model; if the caller is
    `sure`, it must hold a GRADIEND. Errors are those of `local_folder`.
    """
    if not isinstance(model, (str, Path)):
        return model
    at = HubPlace.of(model, subfolder, revision)
    if at is None:
        if subfolder is None and Path(model).is_dir():
            folder = inside_run(Path(model))
            return model if folder == Path(model) else str(folder)
        return model if subfolder is None else str(local_folder(model, subfolder))
    if sure or at.path or str(model).startswith(SCHEME):
        return str(local_folder(model, subfolder, revision, verify=verify))
    from huggingface_hub import hf_hub_download, try_to_load_from_cache  # noqa: PLC0415 - slow to import
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError  # noqa: PLC0415

    with taught(at), others_bars():
        try:
            found = Path(hf_hub_download(at.repository, CONFIG, revision=at.revision))
            config, revision = read_json(found), found.parent.name
            is_ours = isinstance(config, dict) and "architecture" in config
        except LocalEntryNotFoundError:
            # Without an answer of the hub: transformers looks for a base model, or says what is wrong.
            run = try_to_load_from_cache(at.repository, f"{MODEL_DIR}/{CONFIG}", revision=at.revision)
            is_ours = isinstance(run, str)
        except EntryNotFoundError:
            # No model at the top, but perhaps an adapter, which transformers knows.
            is_ours = bool(folders_with_gradiends(at))
    return str(local_folder(model, revision=revision, verify=verify)) if is_ours else model


def local_delta(
    place: str | Path, subfolder: str | None = None, revision: str | None = None, *, verify: bool = True
) -> Path:
    """The local file or folder of a delta, see `local_with_file`."""
    return local_with_file(place, subfolder, revision, DELTA_FILE, "delta", verify=verify)


def local_runs(
    place: str | Path, run_ids: Sequence[str] | None, split: str, subfolder: str | None, revision: str | None
) -> Path:
    """The local folder of runs, each with its GRADIEND in `model/` and the encodings of a split beside it."""
    at = HubPlace.of(place, subfolder, revision)
    if at is None:
        return _local(place, subfolder)
    with taught(at):
        top = glob.escape(at.path)
        names = ["*"] if run_ids is None else [glob.escape(run_id) for run_id in run_ids]
        at, root = download_files(at, [joined(top, name, MODEL_DIR, CONFIG) for name in names])
        found = [one.parent.name for one in (root / at.path).glob(f"*/{MODEL_DIR}")] if run_ids is None else run_ids
        for run_id in found:
            if is_checkpoint(root / at.below(run_id, MODEL_DIR)):
                _checkpoint(at, root, at.below(run_id, MODEL_DIR), verify=True)
                rows = f"{ENCODED_VALUES}*_split_{glob.escape(split)}.csv"
                download_files(at, [joined(top, glob.escape(run_id), rows)])
    return root / at.path


def _local(place: str | Path, subfolder: str | None) -> Path:
    return Path(place) if subfolder is None else Path(place) / joined(subfolder)


def inside_run(folder: Path) -> Path:
    """The checkpoint in a folder: `model/` if the folder is that of a run, else the folder itself."""
    run = not is_checkpoint(folder) and is_checkpoint(folder / MODEL_DIR)
    return folder / MODEL_DIR if run else folder


def local_with_file(
    place: str | Path, subfolder: str | None, revision: str | None, name: str, kind: str, *, verify: bool = True
) -> Path:
    """The local folder with a file called `name`, see `local_folder`; the rest of the folder is not downloaded.

    A place on a hub may name the file itself. Messages call what the file holds a `kind`, such as "delta".
    """
    require_path("path", place)
    at = HubPlace.of(place, subfolder, revision)
    if at is None:
        return _local(place, subfolder)
    file = at.path if at.is_file else at.below(name)
    wanted = [file] if at.is_file else [file, at.below(README)]
    with taught(at):
        at, root = download_files(at, [glob.escape(one) for one in wanted], verify=verify)
        if not (root / file).is_file():
            _nothing_there(at, kind)
    return root / at.path


# Downloads


def _checkpoint(at: HubPlace, root: Path, folder: str, *, verify: bool) -> Path:
    """Download the files of a checkpoint whose config.json is here."""
    named = read_config(root / folder).get("mapping") or {}
    maps = [str(text) for key, text in named.items() if key.endswith("_file")]
    own = [name for name in (*OWN_FILES, README) if name.endswith(KINDS)]
    below = [f"{glob.escape(joined(folder, name))}/*{kind}" for name in FOLDERS for kind in KINDS]
    download_files(at, [*(glob.escape(joined(folder, name)) for name in own), *below], verify=verify)
    pickled = [name for name in maps if name.endswith(PICKLED)]
    if not (root / folder / WEIGHTS).is_file():
        there = [name for name in repository_files(at) if folder_of(name) == folder]
        pickled += [PurePosixPath(name).name for name in there if name.endswith(PICKLED)]
    if pickled:
        raise ValueError(
            f"The GRADIEND in {at} has weights in {', '.join(pickled)}: such a file can run code when it is read, so "
            "it is not downloaded. Its owner can save it again in safetensors, which gradiend does unless it is told "
            "otherwise. If you trust the file, download the folder yourself and name it here."
        )
    return root / folder


def download_files(at: HubPlace, wanted: list[str], *, verify: bool = True) -> tuple[HubPlace, Path]:
    """Download the files that match a pattern; return (the place at its commit, the repository's local folder)."""
    from huggingface_hub import snapshot_download  # noqa: PLC0415

    def download(revision: str | None) -> Path:
        with others_bars():
            return Path(
                snapshot_download(
                    at.repository, revision=revision, allow_patterns=wanted, library_name="gradiend",
                    library_version=__version__,
                )
            )  # fmt: skip

    def commit() -> str:
        with taught(at):
            return download(at.revision).name

    # A branch may move while several processes ask for it: all take the commit that the first one got.
    team = processes()
    root = download(at.revision if team.count == 1 else team.agreed(commit))
    at = replace(at, revision=root.name)
    if verify:
        for path in sorted(root.rglob("*")):
            name = path.relative_to(root).as_posix()
            if any(fnmatchcase(name, one) for one in wanted):
                _verify(path, at)
    return at, root


def _verify(path: Path, at: HubPlace) -> None:
    """Raise ValueError for a file with another checksum than the hub lists.

    In the cache, `path` is a link to a file whose name is this checksum. On a file system without links, the cache does
    not keep it, and nothing is compared here; a checkpoint has checksums of its own.
    """
    from huggingface_hub.utils.sha import git_hash, sha_fileobj  # noqa: PLC0415

    if not path.is_symlink():
        return
    kept = path.parent / os.readlink(path)
    with path.open("rb") as file:
        if _SHA256.fullmatch(kept.name):
            found = sha_fileobj(file).hex()
        elif _SHA1.fullmatch(kept.name):
            found = git_hash(file.read())
        else:
            return
    if found != kept.name:
        # With the damaged file gone, the next call downloads it again.
        for one in (path, kept):
            one.unlink(missing_ok=True)
        raise ValueError(
            f"{path.name} of {at} is not the file that the hub lists: its checksum is {found[:12]}… instead of "
            f"{kept.name[:12]}…, so it was damaged or changed on its way or in the cache. It was removed from the "
            "cache: call again to download it again."
        )


def folder_of(name: str) -> str:
    """The folder of a path in a repository; empty for its top."""
    return joined(str(PurePosixPath(name).parent))


def repository_files(at: HubPlace) -> dict[str, int]:
    """path → bytes of every file in a repository."""
    from huggingface_hub import HfApi  # noqa: PLC0415
    from huggingface_hub.hf_api import RepoFile  # noqa: PLC0415

    entries = HfApi().list_repo_tree(at.repository, recursive=True, revision=at.revision)
    return {entry.path: entry.size for entry in entries if isinstance(entry, RepoFile)}


def folders_with_gradiends(at: HubPlace) -> list[str]:
    """The subfolders of a repository that seem to hold a GRADIEND, by the names of their files."""
    folders = (folder_of(name) for name in repository_files(at) if PurePosixPath(name).name == CONTEXT)
    return sorted(folder_of(name) if PurePosixPath(name).name == MODEL_DIR else name for name in folders)


def _nothing_there(at: HubPlace, kind: str) -> NoReturn:
    try:
        files = repository_files(at)
        names = folders_with_gradiends(at)
    except client_errors() as error:
        raise FileNotFoundError(f"The cache has no {kind} of {at}, and the hub cannot be asked ({error}).") from error
    where = f"no {kind} in {at.path!r}" if at.path else f"no {kind} at the top"
    has = [name or "the top" for name in nearest_first(at.path, names)] if kind == GRADIEND else []
    if has:
        known = f"It has GRADIENDs in {', '.join(has[:5])}{', …' if len(has) > 5 else ''}: give subfolder=."
    elif kind == GRADIEND and at.below(CONFIG) in files:
        known = f"It holds a model, but no GRADIEND: give its name, {at.repository!r}, where a base model is wanted."
    else:
        known = f"list_gradiends({at.repository!r}) shows what it holds."
    raise FileNotFoundError(f"{at.repository} has {where} (revision {at.revision}). {known}")
