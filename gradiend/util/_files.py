"""Files that are either whole or absent, and that say if they were changed since.

Every file is written under a temporary name and then renamed. JSON objects (`write_checked_json`) carry checksums of
what is in them, which reading compares; files without a checksum are read too, because older versions and other tools
write such files. Files with tensors are in `_tensor_files`, because functions that write tables or JSON must not wait
for torch. Room on the disk is asked for before long work and large files; a result that cannot be kept is still
returned.
"""

from __future__ import annotations

import csv
import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from gradiend.util._leftovers import temporary_name
from gradiend.util._processes import by_first, processes
from gradiend.util.logging import get_logger

if TYPE_CHECKING:
    from torch import nn

logger = get_logger(__name__)

LONGEST_NAME = 255
"""The largest number of bytes in the name of a file or folder."""
JSON_FORMAT = 1
"""The version of JSON objects whose content has no version of its own."""
VERSION, CHECKSUM = "format_version", "checksum"
"""Keys that writing adds."""
DIGEST_SIGN = "blake2b:"
"""The beginning of every digest; messages name digests that differ but do not show them."""


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path of the same name; on success the new file replaces `path`, on failure it is removed.

    The file is in a temporary folder beside `path`, because some writers make temporary files of their own beside it.
    Of several processes of a run, the first writes `path`; the others get a path elsewhere, which is removed. Raises
    OSError, which says what is kept, for a file that cannot be written (disk full, read-only, folder removed).
    """
    path, team = Path(path), processes()
    # Nobody may still read the earlier file.
    team.exchanged(None)
    with team.together():
        if not team.first:
            with tempfile.TemporaryDirectory() as folder:
                yield Path(folder) / path.name
            return
        with explained_failure(path), _removed(_folder_aside(path)) as folder:
            temporary = folder / path.name
            temporary.touch()
            yield temporary
            temporary.replace(path)


@contextmanager
def made_aside(path: str | Path) -> Iterator[Path]:
    """Yield a path of the same name in a temporary folder beside `path`, which is removed at the end.

    A folder that is a file system of its own, or whose parent takes no folder, has the temporary folder inside. All
    processes of a run get the same path. Errors are those of `replacing`.
    """
    path, team = Path(os.path.realpath(path)) if Path(path).is_dir() else Path(path), processes()
    with explained_failure(path):
        folder = team.agreed(lambda: _folder_aside(path))
        with team.together(), _removed(folder) if team.first else nullcontext():
            yield folder / path.name


def _folder_aside(path: Path) -> Path:
    """A new temporary folder beside, or in, `path`."""
    inside = path.is_dir() and (os.path.ismount(path) or not os.access(path.parent, os.W_OK))
    folder = (path if inside else path.parent) / temporary_name(path.name)
    folder.mkdir(parents=True)
    return folder


@contextmanager
def _removed(folder: Path) -> Iterator[Path]:
    """A with-block at whose end a folder is removed."""
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@by_first
def remove(path: str | Path) -> None:
    """Remove a file, or a folder with all that is in it, if it is there."""
    if Path(path).is_dir() and not Path(path).is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    elif os.path.lexists(path):
        # Where nothing can be written, removing what is not there is an error too.
        Path(path).unlink(missing_ok=True)


@contextmanager
def explained_failure(path: Path) -> Iterator[None]:
    """An error of writing a file or folder in a with-block says what could not be written, why, and what is kept."""
    try:
        yield
    except UnwrittenError:
        raise
    except (OSError, RuntimeError, SafetensorError) as error:
        number = _failure(error, path)
        if number is None:
            raise
        raise unwritten(path, number) from error


def unwritten(path: Path, number: int) -> UnwrittenError:
    """The error of a file or folder that cannot be written, from the number of the system's error."""
    return UnwrittenError(
        number,
        f"{path.name} could not be written to {path.parent} ({os.strerror(number)}). {FAILURES[number]}, then run the "
        "same again. Everything that was finished before is kept.",
    )


class UnwrittenError(OSError):
    """A file that could not be written, for lack of room or rights, or because its folder was removed."""


FAILURES = {
    errno.ENOSPC: "Make room on the disk",
    errno.EDQUOT: "Make room within the quota",
    errno.EROFS: "Choose a folder that can be written to",
    errno.EACCES: "Choose a folder that can be written to, or make this one so",
    errno.EPERM: "Choose a folder that can be written to, or make this one so",
    errno.ENOENT: "The folder cannot be made, or was removed while it was in use: choose another, or leave it in place",
    errno.EIO: "The disk reports an error: choose another one",
}
"""The errors of a file that cannot be written → the way out."""
ONLY_OF_WRITES = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
"""Those errors that nothing but writing raises."""
_ERROR_NUMBER = re.compile(r"(?:os error |\[Errno )(\d+)")
OF_TORCH = ("inline_container", "iostream error", "Parent directory")
"""What the errors of `torch.save` say, which have no number."""


def _failure(error: Exception, path: Path) -> int | None:
    """The number of an error of writing `path`; None for any other error."""
    number = error.errno if isinstance(error, OSError) else None
    if isinstance(error, OSError) and isinstance(error.filename, str) and str(path.parent) not in error.filename:
        # Another file failed, one that is read.
        return None
    if number is None and (told := _ERROR_NUMBER.search(str(error))):
        # The errors of safetensors, and of a copy of many files, name the number in their texts.
        number = int(told[1])
    elif isinstance(error, RuntimeError) and any(text in str(error) for text in OF_TORCH):
        number = errno.ENOSPC if path.parent.is_dir() else errno.ENOENT
    if number == errno.ENOENT and path.parent.is_dir():
        return None
    return number if number in FAILURES else None


def require_directory(path: str | Path) -> None:
    """Raise ValueError unless `path` is a directory or can become one, and files can be written there.

    No file may be in the way, no name may be too long, and the nearest folder that exists must take a new folder.
    """
    for name in Path(path).parts:
        if len(os.fsencode(name)) > LONGEST_NAME:
            raise ValueError(f"{name[:40]}… is too long for the name of a folder. Choose another place.")
    for part in (Path(path), *Path(path).absolute().parents):
        if part.exists():
            if not part.is_dir():
                raise ValueError(f"{path} cannot be a directory: {part} is a file. Choose another place.")
            try:
                # Only a trial shows it: /proc, for example, refuses new folders whatever its permissions are.
                trial = part / temporary_name()
                trial.mkdir()
                trial.rmdir()
            except OSError as error:
                raise ValueError(
                    f"Nothing can be written to {path}: {part} is read-only or takes no folder ({error.strerror}). "
                    "Choose another place."
                ) from error
            return


MARGIN = 1 << 16
"""Bytes that stay free beside a large file, for the small files around it."""


def require_room(place: str | Path, needed: int, what: str) -> None:
    """Raise OSError (ENOSPC) unless the disk of a file or folder, which may be missing, has room for `needed` bytes."""
    folder = next(one for one in (Path(place), *Path(place).absolute().parents) if one.is_dir())
    usage = shutil.disk_usage(folder)
    # A file system without a size of its own says 0.
    if not usage.total or usage.free >= needed + MARGIN:
        return
    raise UnwrittenError(
        errno.ENOSPC,
        f"{what} needs {needed:,} bytes in {place}, where {usage.free:,} are free. {FAILURES[errno.ENOSPC]} or choose "
        "another folder, then run the same again. Everything that was finished before is kept.",
    )


def weights_size(model: nn.Module) -> int:
    """The bytes of a model's weights in a file."""
    return sum(parameter.nbytes for parameter in model.parameters())


@contextmanager
def kept_if_possible(what: str) -> Iterator[None]:
    """A with-block that writes a result: where it cannot be written, a warning says so and the call goes on."""
    try:
        yield
    except OSError as error:
        if error.errno not in FAILURES:
            raise
        why = str(error) if isinstance(error, UnwrittenError) else f"{os.strerror(error.errno)}: {error.filename}"
        logger.warning("%s not kept, only returned: %s", what, why)


def write_json(path: str | Path, content: Any) -> None:
    """Write `content` as indented UTF-8 JSON, atomically."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


@by_first
def write_csv(path: str | Path, frame: Any, *, index: bool = False) -> None:
    """Write a frame to a CSV file, whole or not at all, with a column for its `index` if that is asked for."""
    with replacing(path) as temporary:
        csv_file(temporary, frame, index=index)


def csv_file(path: Path, frame: Any, *, index: bool = False) -> None:
    """Write a frame to a CSV file in place; every field is quoted if a text or a name has a carriage return.

    Without quotes, a carriage return would end a row; Python quotes it by itself from version 3.13 on.
    """
    names = [*frame.columns, *(frame.index if index else ())]
    texts = (column.astype(str) for _, column in frame.items() if column.dtype.kind not in "biuf")
    has_return = any("\r" in str(name) for name in names) or any(
        column.str.contains("\r", regex=False).any() for column in texts
    )
    frame.to_csv(path, index=index, encoding="utf-8", quoting=csv.QUOTE_ALL if has_return else csv.QUOTE_MINIMAL)


def read_json(path: str | Path) -> Any:
    """Read a JSON file. Raises a ValueError that names a file that is no JSON; FileNotFoundError, PermissionError."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (FileNotFoundError, PermissionError):
        raise
    except (ValueError, OSError, RecursionError) as error:
        raise ValueError(f"{path} is not valid JSON ({error}). Was it written completely?") from error


def write_checked_json(path: str | Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object with its checksum and, unless it has one, a format version; see `read_checked_json`."""
    # The checksum is that of the content as it is read again, in which every key is a text.
    content = json.loads(json.dumps({**content, VERSION: content.get(VERSION, JSON_FORMAT)}))
    write_json(path, {CHECKSUM: checksum_of(content), **content})


def read_checked_json(path: str | Path, *, own_version: int | None = None) -> dict[str, Any]:
    """The JSON object that `write_checked_json` wrote; one without a checksum, such as another tool's, is not compared.

    `own_version` is the version of a content that has a version of its own, which then is part of the result. Raises
    FileNotFoundError, and ValueError, which names the file, for one that was damaged or edited, is from a newer
    version, or holds no JSON object.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold a JSON object, not {type(content).__name__}.")
    # The damage may have hit the name of the checksum, which is the first.
    name = CHECKSUM if CHECKSUM in content else next(iter(content), "")
    checksum, rest = content.get(name), {key: value for key, value in content.items() if key != name}
    is_same = isinstance(checksum, str) and checksum.startswith(DIGEST_SIGN) and checksum == checksum_of(rest)
    if is_same != (name == CHECKSUM):
        raise ValueError(
            f"{path} was damaged, or edited after it was written: its {CHECKSUM} is that of other contents. Copy or "
            f'make it again. If the edit is meant, delete the line "{CHECKSUM}" in it.'
        )
    content = rest if is_same else content
    version, newest = content.get(VERSION), JSON_FORMAT if own_version is None else own_version
    if isinstance(version, int) and version > newest:
        raise ValueError(
            f"{path}: {VERSION} is {version}; this version of gradiend reads up to {newest}. A newer version wrote the "
            "file: update gradiend."
        )
    if own_version is None:
        content.pop(VERSION, None)
    return content


def checksum_of(content: Any) -> str:
    """The checksum of JSON values, for any order of the keys of objects."""
    return digest_text(new_digest(json.dumps(content, sort_keys=True).encode()))


def new_digest(start: bytes = b"") -> Any:
    """The beginning of a digest, see `digest_text`."""
    return hashlib.blake2b(start, digest_size=16)


def digest_text(digest: Any) -> str:
    """A digest of hashlib as text."""
    return DIGEST_SIGN + digest.hexdigest()
