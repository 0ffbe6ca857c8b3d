"""Publishing: files on this machine → a folder as it will be published → one commit on a hub."""

from __future__ import annotations

import logging
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Protocol, runtime_checkable
from urllib.parse import quote

from huggingface_hub import ModelCardData, metadata_load

from gradiend.hub._privacy import is_local, refuse_private
from gradiend.hub._remote import WAITS, Remote, Target, explained, may_pass
from gradiend.hub._staging import Source
from gradiend.report._card import UNKNOWN_LICENSE, card_of
from gradiend.report._render import escaped
from gradiend.util._card_seal import is_unedited, write_card
from gradiend.util._checks import require_flag, require_path, require_text
from gradiend.util._display import Shown, Table, facts
from gradiend.util._files import require_directory
from gradiend.util._keywords import known_keywords
from gradiend.util._leftovers import temporary_folder
from gradiend.util._processes import processes
from gradiend.util.paths import CARD, CONTEXT, DELTA_FILE, REWRITE_RECORD

logger = logging.getLogger(__name__)

CALLS = {
    "GRADIEND": 'ModelWithGradiend.from_pretrained("{place}")',
    "delta": 'apply_delta(model, "{place}")',
    "rewritten model": 'AutoModel….from_pretrained("{repo_id}"{where})',
}
"""Kind → the call that loads it."""
MARKS = {CONTEXT: "GRADIEND", REWRITE_RECORD: "rewritten model", DELTA_FILE: "delta"}
"""File → the kind of thing that a folder with this file holds."""


@dataclass(frozen=True, repr=False)
class Published(Shown):
    """The result of `push_to_hub`: what was published, or what a dry run would publish."""

    repo_id: str
    """The repository."""
    subfolder: str | None
    """The folder in the repository; None for the repository itself."""
    kind: str
    """The kind of what is published: GRADIEND, delta or rewritten model."""
    base_model: str
    """The name of the base model in the published files."""
    private: bool
    """Whether the repository is private."""
    files: Mapping[str, int]
    """Path in the repository → bytes, of all files that belong to it."""
    changed: tuple[str, ...] = ()
    """The files that the commit has changed, added or removed."""
    commit: str | None = None
    """The commit; None for a dry run."""
    url: str | None = None
    """The address of the commit or pull request; None for a dry run, and if nothing had to be changed."""
    folder: str | None = None
    """The folder of a dry run, which is laid out as the repository."""

    @property
    def place(self) -> str:
        """The name that every loading call takes: `hf://owner/name@commit/sub/folder`."""
        pinned = f"@{self.commit}" if self.commit else ""
        return f"hf://{self.repo_id}{pinned}" + (f"/{self.subfolder}" if self.subfolder else "")

    def to_dict(self) -> dict[str, Any]:
        """The fields and `place`, as JSON holds them."""
        return {**vars(self), "files": dict(self.files), "changed": list(self.changed), "place": self.place}

    @property
    def call(self) -> str:
        """The call that loads it."""
        given = {"subfolder": self.subfolder, "revision": self.commit}
        where = "".join(f', {name}="{text}"' for name, text in given.items() if text)
        return CALLS[self.kind].format(place=self.place, repo_id=self.repo_id, where=where)

    def _tables(self) -> tuple[str, list[Table]]:
        rows = [[path, f"{size:,}", self._state(path)] for path, size in sorted(self.files.items())]
        note = f"{len(rows)} files, {sum(self.files.values()):,} bytes."
        removed = [path for path in self.changed if path not in self.files]
        note += f" Removed: {', '.join(removed)}." if removed else ""
        known = {
            "what": self.kind,
            "base model": self.base_model,
            "repository": f"{self.repo_id} ({'private' if self.private else 'public'})",
            "folder": self.subfolder,
            "see": self.url,
            "written to": self.folder,
            "load": self.call,
        }
        headline = "Published." if self.changed else "Nothing had to be changed: it is published already."
        headline = headline if self.commit else "A dry run: nothing was published."
        return headline, [facts("", known), Table("Files", ["file", "bytes", ""], rows, note)]

    def _state(self, path: str) -> str:
        return "" if self.commit is None else "changed" if path in self.changed else "as it was"


@runtime_checkable
class Publishable(Protocol):
    """An object in memory, such as a model, that can write what is to be published."""

    def write_to_publish(self, folder: Path) -> Path:
        """Write it into an empty folder, unless it is on disk already; return its place."""


@known_keywords("push_to_hub")
def push_to_hub(
    place: str | Path | Publishable, repo_id: str, *, subfolder: str | None = None, private: bool = True,
    base_model: str | None = None, include_base_model: bool = False, license: str | None = None,
    revision: str | None = None, create_pr: bool = False, commit_message: str | None = None, token: str | None = None,
    dry_run: str | Path | None = None,
) -> Published:  # fmt: skip
    """Publish a GRADIEND, a delta or a rewritten model with its card, in one commit.

        push_to_hub("runs/gender/model", "owner/name", subfolder="gender_en", license="cc-by-4.0")

    Paths of this machine, times and what only this machine needs are left out; weights keep their bits. Another push to
    the same place changes only what differs. A README.md that a person wrote or edited, here or there, stays as it is.

    Args:
        place: A checkpoint, the folder of a run with one in `model/`, a rewritten model with its gradiend_rewrite.json,
            the file or folder of a delta, or a model in memory.
        repo_id: The repository, `owner/name`, which is made if it is missing.
        subfolder: The folder in the repository. Default: the repository itself.
        private: Whether a new repository is private, and one that is public is refused. A repository that is there
            never changes from private to public, or back.
        base_model: The name of the base model on the hub. Default: the recorded name, unless that is a local folder.
        include_base_model: Whether the weights of a base model that is a local folder are put into a checkpoint.
        license: The license of what is published, as the hub names it.
        revision: The branch, which is made if it is missing. Default: main.
        create_pr: Whether the change is only proposed, as a pull request to the owner of the repository.
        commit_message: The title of the commit.
        token: A token that may write. Default: that of the client's own login (`hf auth login`, or HF_TOKEN).
        dry_run: A new or empty folder: everything is written there, laid out as the repository, and nothing is sent.

    Returns:
        What was published: files, commit, and the name to load it by.

    Raises:
        TypeError, ValueError: An argument that does not fit; a damaged file, or one with a token in it; a base model
            that others cannot load; or another kind of model in that place of the repository.
        FileNotFoundError: There is nothing at `place`, or no repository for a pull request.
        PermissionError: There is no login, or it may not write there, or the repository is public but `private`.
        ConnectionError: HF_HUB_OFFLINE is set, or the hub does not answer; the repository is as it was.
    """
    target = Target.parse(repo_id, subfolder, revision, token, private=private, create_pr=create_pr)
    require_flag("include_base_model", include_base_model)
    for name, text in (("license", license), ("commit_message", commit_message)):
        if text is not None:
            require_text(name, text)
    if isinstance(place, (str, Path)):
        # What is wrong here is said before the hub is asked.
        Source.at(place, include_base_model=include_base_model).published_base(base_model)
    elif not isinstance(place, Publishable):
        raise TypeError(
            "place must be the path of a checkpoint, a rewritten model or a delta, or a ModelWithGradiend; got "
            f"{type(place).__name__}."
        )
    if dry_run is None:
        target.require_ready()
    else:
        _require_empty(dry_run)

    def publish(local: Path) -> Published:
        """Write what is at a place of this machine into a folder, refuse what is private in it, and send the folder."""
        source = Source.at(local, include_base_model=include_base_model)
        base = source.published_base(base_model)
        on_hub = None if is_local(base) else base
        with _folder(dry_run) as root:
            folder = root / (target.subfolder or "")
            folder.mkdir(parents=True, exist_ok=True)
            where = {"repo_id": repo_id, "subfolder": target.subfolder, "license": license or earlier}
            source.write(folder, base, lambda made: card_of(made, **where))
            refuse_private(folder, source.private_places(), token)
            published = Published(repo_id, target.subfolder, source.kind, base, private, _sizes(_files(root)))
            if dry_run is None:
                title = commit_message or f"Publish a {source.kind}"
                return _committed(published, target, source, _files(root), on_hub, title)
            if target.subfolder:
                write_card(root, repository_card(repo_id, {target.subfolder: source.kind}, [on_hub]))
            return replace(published, files=_sizes(_files(root)), folder=str(dry_run))

    # What the hub would refuse is known before any long work.
    earlier = processes().agreed(lambda: _license_of(target)) if dry_run is None else None
    with _on_disk(place) as local:
        return processes().agreed(lambda: publish(local))


def _files(root: Path) -> dict[str, Path]:
    """Path in the repository → file, of a folder that is laid out as the repository."""
    return {path.relative_to(root).as_posix(): path for path in sorted(root.rglob("*")) if path.is_file()}


def _sizes(files: Mapping[str, Path]) -> dict[str, int]:
    return {name: path.stat().st_size for name, path in files.items()}


@contextmanager
def _on_disk(place: str | Path | Publishable) -> Iterator[Path]:
    """The place of what is to be published; what is in memory is saved for the time of the block."""
    if isinstance(place, (str, Path)):
        yield Path(place)
        return
    team = processes()
    folder = team.agreed(lambda: temporary_folder(tempfile.gettempdir()))
    try:
        yield place.write_to_publish(folder)
    finally:
        if team.first:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _folder(dry_run: str | Path | None) -> Iterator[Path]:
    """The folder of a dry run, or one that is removed at the end."""
    folder = temporary_folder(tempfile.gettempdir()) if dry_run is None else Path(dry_run)
    done = False
    try:
        yield folder
        done = dry_run is not None
    finally:
        if not done:
            shutil.rmtree(folder, ignore_errors=True)


def _license_of(target: Target) -> str | None:
    """The license in the card that is published already, which another push without one keeps."""
    with _folder(None) as notes, explained(target):
        found = target.read(target.look(), target.path(CARD), notes)
        # A card that a person edited stays as it is, and may hold anything.
        known = metadata_load(found) if found is not None and is_unedited(found) else None
        found_license = (known or {}).get("license")
        return None if found_license == UNKNOWN_LICENSE else found_license


def _require_empty(dry_run: str | Path) -> None:
    require_path("dry_run", dry_run)
    require_directory(dry_run)
    if Path(dry_run).is_dir() and any(Path(dry_run).iterdir()):
        raise ValueError(
            f"dry_run must be a new or empty folder, which shows what is published; {dry_run} has files in it."
        )


def _committed(
    published: Published, target: Target, source: Source, files: Mapping[str, Path], base_model: str | None, title: str
) -> Published:
    """Make a commit of the files, again if the reason of a failure may pass, and return what was published."""
    waits = iter(WAITS)
    while True:
        try:
            with explained(target), _folder(None) as notes:
                remote = target.look()
                _refuse_other_kind(target, remote, source.kind)
                new = {**files, **_index(target, remote, source.kind, base_model, notes)}
                card = target.path(CARD)
                if source.card is None and _is_of_a_person(target, remote, card, notes):
                    logger.info("%s in %s was edited by a person: it stays.", card, target.repo_id)
                    del new[card]
                prefix = target.path("")
                old = [path for path in remote.files if path.startswith(prefix) and source.owns(path[len(prefix) :])]
                done = target.commit(remote, new, old, title)
                return replace(
                    published, files=_sizes(new), private=remote.private, commit=done.oid, changed=done.changed,
                    url=done.url,
                )  # fmt: skip
        except (ConnectionError, FileExistsError) as error:
            wait = next(waits, None)
            # A second pull request would be one too many, if only the answer to the first was lost.
            if wait is None or target.create_pr or not may_pass(error):
                raise
            logger.info("%s Trying again.", error)
            time.sleep(wait)


def _refuse_other_kind(target: Target, remote: Remote, kind: str) -> None:
    there = kinds_in(remote.files).get(target.subfolder or "")
    if there not in (None, kind):
        raise ValueError(
            f"{target.repo_id} holds a {there} in {target.subfolder or 'its main folder'}, which a {kind} would "
            "replace: choose another subfolder."
        )


def _index(target: Target, remote: Remote, kind: str, base_model: str | None, notes: Path) -> dict[str, Path]:
    """The README.md of a repository whose folders hold the models, unless it is a person's, or the card of a model."""
    kinds = kinds_in(remote.files)
    if target.subfolder is None or "" in kinds or _is_of_a_person(target, remote, CARD, notes):
        return {}
    before = metadata_load(notes / CARD) if (notes / CARD).is_file() else None
    bases = (before or {}).get("base_model")
    bases = [*bases, base_model] if isinstance(bases, list) else [base_model]
    write_card(notes / "new", repository_card(target.repo_id, {**kinds, target.subfolder: kind}, bases))
    return {CARD: notes / "new" / CARD}


def _is_of_a_person(target: Target, remote: Remote, path: str, notes: Path) -> bool:
    """Whether a person wrote or edited a README.md of the repository, which is downloaded to `notes`."""
    found = target.read(remote, path, notes)
    return found is not None and not is_unedited(found)


def kinds_in(paths: Iterable[str]) -> dict[str, str]:
    """Folder → what it holds, for the files of a repository; the repository's own folder is the empty text."""
    found = {}
    for path in map(PurePosixPath, paths):
        if path.name in MARKS:
            found["" if path.parent == PurePosixPath() else str(path.parent)] = MARKS[path.name]
    return found


def repository_card(repo_id: str, kinds: Mapping[str, str], base_models: Iterable[Any]) -> str:
    """The text of the README.md of a repository whose folders have cards of their own, with metadata for the hub."""
    rows = [f"| [{escaped(name)}]({quote(name)}/README.md) | {kind} |" for name, kind in sorted(kinds.items())]
    relation = "finetune" if set(kinds.values()) == {"rewritten model"} else "adapter"
    bases = sorted({name for name in base_models if isinstance(name, str)})
    metadata = ModelCardData(
        library_name="gradiend", tags=["gradiend"], base_model=bases or None,
        base_model_relation=relation if bases else None,
    )  # fmt: skip
    return "\n".join([
        "---",
        metadata.to_yaml(),
        "---",
        "",
        f"# {escaped(repo_id)}",
        "",
        "Features of language models, found in their gradients. Each folder has a card of its own.",
        "",
        "| folder | what |",
        "|---|---|",
        *rows,
        "",
        "```python",
        "from gradiend import ModelWithGradiend, list_gradiends",
        "",
        f'list_gradiends("{repo_id}")',
        f'ModelWithGradiend.from_pretrained("{repo_id}", subfolder="…")',
        "```",
    ])  # fmt: skip
