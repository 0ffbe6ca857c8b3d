"""Places on a model hub, as a call names them: `owner/name`, or `hf://owner/name@revision/subfolder`.

Errors of the hub's client become what a person needs: what was asked for, the likely reason, the way out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote, unquote

from typing_extensions import Self

from gradiend.util._checks import require_text
from gradiend.util._keywords import nearest_first

SCHEME = "hf://"
LOGIN = "log in with `hf auth login`, or set HF_TOKEN"
KINDS = (".json", ".safetensors", ".txt", ".jinja", ".md", ".csv")
"""The kinds of files that are downloaded: data, texts, and weights that hold no code."""
_REPOSITORY = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)
_ADDRESS = re.compile(
    r"hf://(?!(?:datasets|spaces|buckets|kernels)/)(?:models/)?([^/@]+/[^/@]+)(?:@(refs/pr/\d+|[^/]+))?(?:/(.*))?"
)


@dataclass(frozen=True)
class HubPlace:
    """A folder or file of a repository on a model hub."""

    repository: str
    """The name of the repository, `owner/name`."""
    revision: str | None = None
    """The branch, tag or commit; None is the main branch."""
    path: str = ""
    """The folder or file in the repository; empty for its root."""

    @classmethod
    def of(cls, place: Any, subfolder: str | None = None, revision: str | None = None) -> Self | None:
        """The place that `owner/name` or `hf://owner/name@revision/path` names; None for a place on this machine.

        Local places win: `owner/name` is a folder if there is one of this name, or one that is called `owner`. Raises
        TypeError for a subfolder or revision that is no text, and ValueError for a bad address, a path that leads out
        of the repository, two revisions, or a revision of a place on this machine.
        """
        for name, value in (("subfolder", subfolder), ("revision", revision)):
            if value is not None:
                require_text(name, value)
        text = place if isinstance(place, str) else ""
        is_name = _REPOSITORY.fullmatch(text) and not text.endswith(KINDS)
        if text.startswith(SCHEME):
            match = _ADDRESS.fullmatch(text)
            if match is None or not _REPOSITORY.fullmatch(match[1]):
                raise ValueError(
                    f"{text!r} is no address of a model repository: write hf://owner/name, and after it @revision and "
                    "/subfolder where needed."
                )
            named = None if match[2] is None else unquote(match[2])
            if named is not None and revision not in (None, named):
                raise ValueError(f"{text!r} names the revision {named!r}, and revision={revision!r} another: give one.")
            found = cls(match[1], named or revision, joined(match[3] or "", subfolder or ""))
        elif is_name and not (Path(text).exists() or Path(text).parent.is_dir()):
            found = cls(text, revision, joined(subfolder or ""))
        elif revision is not None and Path(place).exists():
            raise ValueError(f"revision={revision!r} is of a repository on a hub, and {str(place)!r} is a local place.")
        else:
            return None
        return found

    def __str__(self) -> str:
        revision = self.revision or ""
        if not revision.startswith("refs/pr/"):
            revision = quote(revision, safe="")
        at, below = f"@{revision}" if revision else "", f"/{self.path}" if self.path else ""
        return f"{SCHEME}{self.repository}{at}{below}"

    @property
    def is_file(self) -> bool:
        """Whether a file is named, and not a folder."""
        return self.path.endswith(".safetensors")

    def below(self, *parts: str) -> str:
        """The path in the repository of something in this folder."""
        return joined(self.path, *parts)


def joined(*parts: str) -> str:
    """A path in a repository. Raises ValueError for one that leads out of it."""
    path = PurePosixPath(*(part.strip("/") for part in parts))
    if ".." in path.parts:
        raise ValueError(f"{str(path)!r} leads out of its folder: name a folder inside of it.")
    return "" if path == PurePosixPath() else str(path)


# Errors


def client_errors() -> tuple[type[Exception], ...]:
    """The errors of the client, of a connection, and of a request that the hub refuses."""
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, OfflineModeIsEnabled  # noqa: PLC0415

    # The client has changed the library by which it sends requests, and with it the class of these errors.
    of_requests = next(base for base in HfHubHTTPError.__mro__ if base.__module__.startswith(("httpx", "requests")))
    return EntryNotFoundError, OfflineModeIsEnabled, of_requests


@contextmanager
def taught(at: HubPlace) -> Iterator[None]:
    """Errors of the client, in a with-block, say what was asked for and what to do."""
    try:
        yield
    except client_errors() as error:
        kind, text = _explained(error, at)
        raise kind(text) from error
    except OSError as error:
        if "Consistency check failed" not in str(error):
            raise
        raise ConnectionError(f"The download of {at} broke off: call again. ({error})") from error


def _explained(error: Exception, at: HubPlace) -> tuple[type[OSError], str]:
    from huggingface_hub.errors import (  # noqa: PLC0415
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    cause: BaseException = error
    while isinstance(cause, LocalEntryNotFoundError) and cause.__cause__ is not None:
        cause = cause.__cause__
    status = cause.response.status_code if isinstance(cause, HfHubHTTPError) else None
    if isinstance(cause, GatedRepoError):
        return PermissionError, (
            f"{at} is restricted: its owner must grant access. Ask for it on its page, and {LOGIN} for an account that "
            "has it."
        )
    if isinstance(cause, RepositoryNotFoundError):
        return FileNotFoundError, (
            f"There is no repository {at.repository!r} on the hub, or it is private and the login of this machine may "
            f"not read it. Check the name (a local folder of this name is not here either); for a private one, {LOGIN}."
        )
    if isinstance(cause, RevisionNotFoundError):
        return FileNotFoundError, (
            f"{at.repository} has no revision {at.revision!r}: give a branch, a tag or a commit.{_revisions(at)}"
        )
    if isinstance(cause, (OfflineModeIsEnabled, LocalEntryNotFoundError)):
        return FileNotFoundError, (
            f"{at} is not, or not whole, in the cache, and HF_HUB_OFFLINE is set. Unset it, or name a local folder."
        )
    if status is None:
        return ConnectionError, (
            f"The hub cannot be reached for {at}, which is not wholly in the cache: call again with a connection. "
            f"({cause})"
        )
    return _of_status(status, at)


def _of_status(status: int, at: HubPlace) -> tuple[type[OSError], str]:
    if status == 401:
        return PermissionError, f"The hub does not accept the token of this machine ({at}): {LOGIN} again."
    if status == 403:
        return PermissionError, f"The token of this machine may not read {at}: {LOGIN} with one that may."
    if status == 429:
        return ConnectionError, (
            f"The hub was asked too often, and {at} is not in the cache: wait some minutes and call again. Who is "
            f"logged in may ask more often: {LOGIN}."
        )
    return ConnectionError, f"The hub fails ({status}) for {at}, which is not in the cache: call again later."


def _revisions(at: HubPlace) -> str:
    from huggingface_hub import HfApi  # noqa: PLC0415

    try:
        refs = HfApi().list_repo_refs(at.repository)
    except client_errors():
        return ""
    names = nearest_first(str(at.revision), [ref.name for ref in (*refs.branches, *refs.tags)])
    return f" It has {', '.join(names[:5])}." if names else ""
