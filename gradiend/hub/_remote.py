"""One commit on a hub, through the client of `huggingface_hub` and its settings (HF_ENDPOINT, HF_TOKEN, …).

A commit is whole or not there, so that an upload which breaks off leaves the repository as it was. Where the reason
may pass, the commit is made again from what the repository holds by then: if only the answer was lost, nothing differs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants, get_token
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import validate_repo_id
from huggingface_hub.utils.sha import git_hash, sha_fileobj

from gradiend._version import __version__
from gradiend.model._hub_place import LOGIN, client_errors
from gradiend.util._checks import require_flag, require_text
from gradiend.util._display import one_line

_FOLDER = re.compile(r"\w[\w.+ -]*")
PASSING = (408, 412, 429, 500, 502, 503, 504)
"""Answers that may be others a moment later; 412 says that somebody else has made a commit in the meantime."""
WAITS = (1.0, 4.0)
"""Seconds before a commit is tried again; the client itself repeats most other requests."""


@dataclass(frozen=True)
class Remote:
    """The content of a repository."""

    head: str | None = None
    """The last commit of the branch; None for a repository that is not there."""
    private: bool = True
    """Whether the repository is private, or would be made private."""
    has_branch: bool = False
    """Whether the branch that is asked for exists."""
    files: Mapping[str, RepoFile] = field(default_factory=dict)
    """Path → what the hub says of the file."""

    def holds(self, path: str, file: Path) -> bool:
        """Whether a file of the repository has the same content as a file of this machine."""
        there = self.files.get(path)
        if there is None or there.size != file.stat().st_size:
            return False
        with file.open("rb") as opened:
            if there.lfs is not None:
                return sha_fileobj(opened).hex() == there.lfs.sha256
            return git_hash(opened.read()) == there.blob_id


@dataclass(frozen=True)
class Committed:
    """A commit, or what was there already."""

    oid: str
    changed: tuple[str, ...]
    """The paths of the files that were changed, added or removed."""
    url: str | None = None
    """The address of the commit or pull request; None if nothing had to be changed."""


@dataclass(frozen=True)
class Target:
    """A folder in a repository on a hub, and how it is changed; errors are those of the client, see `explained`."""

    repo_id: str
    subfolder: str | None
    private: bool
    revision: str | None
    create_pr: bool
    api: HfApi = field(repr=False)

    @classmethod
    def parse(
        cls, repo_id: str, subfolder: str | None, revision: str | None, token: str | None, *, private: bool,
        create_pr: bool,
    ) -> Target:  # fmt: skip
        """The target of a call. Raises TypeError and ValueError for arguments that name none."""
        require_text("repo_id", repo_id)
        try:
            validate_repo_id(repo_id)
            is_valid = "/" in repo_id
        except HFValidationError:
            is_valid = False
        if not is_valid:
            raise ValueError(
                "repo_id must be 'owner/name': your name on the hub or that of an organization, and the name of the "
                f"repository (letters, digits, '-', '_', '.'); got {repo_id!r}."
            )
        if subfolder is not None:
            require_text("subfolder", subfolder)
            subfolder = subfolder.strip("/")
            if not all(map(_FOLDER.fullmatch, subfolder.split("/"))):
                raise ValueError(
                    f"subfolder must be a folder in the repository, such as 'en/gender'; got {subfolder!r}."
                )
        for name, flag in (("private", private), ("create_pr", create_pr)):
            require_flag(name, flag)
        if revision is not None:
            require_text("revision", revision)
        if token is not None and not isinstance(token, str):
            raise TypeError(f"token must be a string; got {type(token).__name__}.")
        if create_pr and revision is not None:
            raise ValueError("A pull request gets a branch of its own: give create_pr=True or revision, not both.")
        api = HfApi(token=token, library_name="gradiend", library_version=__version__)
        return cls(repo_id, subfolder, private, revision, create_pr, api)

    def require_ready(self) -> None:
        """Raise ConnectionError if the client must not use the network, PermissionError without a login."""
        dry = "A dry run needs neither network nor login: push_to_hub(…, dry_run='folder'), or --dry-run FOLDER."
        if constants.HF_HUB_OFFLINE:
            raise ConnectionError(f"HF_HUB_OFFLINE is set, so that nothing can be published: start without it. {dry}")
        if self.api.token is None and get_token() is None:
            raise PermissionError(
                f"Publishing needs a login: {LOGIN}, with a token that may write to {self.repo_id}. {dry}"
            )

    def path(self, name: str) -> str:
        """The path in the repository of a file of what is published."""
        return f"{self.subfolder}/{name}" if self.subfolder else name

    def look(self) -> Remote:
        """The present content of the repository. Raises PermissionError for a public one if `private` is wanted."""
        try:
            info = self.api.repo_info(self.repo_id)
        except RepositoryNotFoundError as error:
            if error.response.status_code == 401 or self.create_pr:
                raise
            return Remote(private=self.private)
        if self.private and not info.private:
            raise PermissionError(
                f"{self.repo_id} is there already and is public, so that everybody could read what is published: say "
                "so with private=False (--public), or choose another repository."
            )
        head, has_branch = info.sha, True
        if self.revision is not None:
            try:
                head = self.api.repo_info(self.repo_id, revision=self.revision).sha
            except RevisionNotFoundError:
                has_branch = False
        listed = self.api.list_repo_tree(self.repo_id, recursive=True, revision=head)
        files = {entry.path: entry for entry in listed if isinstance(entry, RepoFile)}
        return Remote(head, bool(info.private), has_branch, files)

    def read(self, remote: Remote, path: str, folder: Path) -> Path | None:
        """A small file of the repository, downloaded into a folder; None if there is none."""
        if path not in remote.files:
            return None
        return Path(self.api.hf_hub_download(self.repo_id, path, revision=remote.head, local_dir=folder))

    def commit(self, remote: Remote, new: Mapping[str, Path], old: Iterable[str], message: str) -> Committed:
        """Make one commit of the `new` files (path → file) without the `old`, in a repository that may be new."""
        changed = [path for path, file in new.items() if not remote.holds(path, file)]
        removed = [path for path in old if path not in new]
        head = remote.head
        if head is None:
            self.api.create_repo(self.repo_id, private=self.private, exist_ok=True)
            head = str(self.api.repo_info(self.repo_id).sha)
        if self.revision is not None and not remote.has_branch:
            self.api.create_branch(self.repo_id, branch=self.revision, exist_ok=True)
        if not changed and not removed:
            return Committed(head, ())
        operations: list[Any] = [CommitOperationAdd(path, str(new[path])) for path in changed]
        operations += [CommitOperationDelete(path) for path in removed]
        made = self.api.create_commit(
            self.repo_id, operations, commit_message=message, revision=self.revision, create_pr=self.create_pr,
            parent_commit=head,
        )  # fmt: skip
        return Committed(made.oid, (*changed, *removed), made.pr_url or made.commit_url)


def may_pass(error: OSError) -> bool:
    """Whether an error that `explained` has raised may not come again."""
    cause = error.__cause__
    if isinstance(cause, HfHubHTTPError):
        return cause.response.status_code in PASSING
    return isinstance(cause, client_errors())


@contextmanager
def explained(target: Target) -> Iterator[None]:
    """A with-block of requests, whose errors say what was not done, why, and what helps."""
    try:
        yield
    except RuntimeError as error:
        # The client names the file that it could not upload, and has the reason as the cause.
        if not isinstance(error.__cause__, client_errors()):
            raise
        raise _explanation(target, error.__cause__) from error
    except client_errors() as error:
        raise _explanation(target, error) from error
    except ConnectionError as error:
        raise ConnectionError(
            f"Files could not be sent by Xet, which the client sends large files with. {target.repo_id} is as it was: "
            "run the same again; or, for a hub that does not speak Xet, with HF_HUB_DISABLE_XET=1, which sends them in "
            f"the plain way. ({error})"
        ) from error


def _explanation(target: Target, error: BaseException) -> OSError:
    name, same = target.repo_id, f"{target.repo_id} is as it was: run the same again"
    if not isinstance(error, HfHubHTTPError):
        return ConnectionError(
            f"The hub does not answer. {same} when there is a connection. ({type(error).__name__}: {error})"
        )
    status, said = error.response.status_code, error.server_message
    known: dict[int, tuple[type[OSError], str]] = {
        401: (
            PermissionError,
            f"The hub does not accept the token, and nothing was published to {name}: {LOGIN}, with a token that may "
            "write there.",
        ),
        403: (
            PermissionError,
            f"This login may not write to {name}: use a token that may write, a repository under your own name, or "
            "create_pr=True (--create-pr), which proposes the change to its owner.",
        ),
        404: (FileNotFoundError, f"There is no repository {name}, or this login does not see it."),
        412: (
            FileExistsError,
            f"Somebody else has changed {name} in the meantime, and nothing was published: run the same again.",
        ),
        429: (ConnectionError, f"The hub was asked too often. {same} in some minutes."),
    }
    kind, text = known.get(status, (ConnectionError, f"The hub has failed ({status}). {same} later."))
    return kind(f"{text} The hub says: {one_line(said)}" if said else text)
