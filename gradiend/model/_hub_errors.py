"""Errors of the hub's client as a person needs them: what was asked for, the likely reason, the way out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from gradiend.model._hub_place import HubPlace
from gradiend.util._keywords import nearest_first

LOGIN = "log in with `hf auth login`, or set HF_TOKEN"


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
