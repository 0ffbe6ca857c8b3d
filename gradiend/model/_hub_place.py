"""Places on a model hub, as a call names them: `owner/name`, or `hf://owner/name@revision/subfolder`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote, unquote

from typing_extensions import Self

from gradiend.util._checks import require_text

SCHEME = "hf://"
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

        What is here wins: `owner/name` is a folder if there is one of this name, or one that is called `owner`. Raises
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
