"""Files that are either whole or absent, and that say if they were changed since.

Every file is written under a temporary name and then renamed. JSON objects (`write_checked_json`) and safetensors files
carry checksums of what is in them, which reading compares; files without a checksum are read too, because older
versions and other tools write such files. The functions that need torch import torch, because functions that write
tables or JSON must not wait for torch.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from gradiend.util._leftovers import temporary_name

if TYPE_CHECKING:
    import torch

LONGEST_NAME = 255
"""The largest number of bytes in the name of a file or folder."""
JSON_FORMAT = 1
"""The version of JSON objects whose content has no version of its own."""
VERSION, CHECKSUM, HEADER_CHECKSUM = "format_version", "checksum", "header_checksum"
"""Keys that writing adds: the last two are the checksum of a JSON object, or of the tensors of a safetensors file, and
that of the other texts in the header of such a file."""
DIGEST_SIGN = "blake2b:"
"""The beginning of every digest; messages name digests that differ but do not show them."""


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path of the same name; on success the new file replaces `path`, on failure it is removed.

    The file is in a temporary folder beside `path`, because some writers make temporary files of their own beside it.

    Raises:
        OSError: The file cannot be written (disk full, read-only, folder removed); the message says what is kept.
    """
    path = Path(path)
    with made_aside(path) as temporary:
        temporary.touch()
        yield temporary
        temporary.replace(path)


@contextmanager
def made_aside(path: str | Path) -> Iterator[Path]:
    """Yield a path of the same name in a temporary folder beside `path`, which is removed at the end.

    A folder that is a file system of its own, or whose parent takes no folder, has the temporary folder inside.

    Raises:
        OSError: See `replacing`.
    """
    path = Path(os.path.realpath(path)) if Path(path).is_dir() else Path(path)
    inside = path.is_dir() and (os.path.ismount(path) or not os.access(path.parent, os.W_OK))
    aside = (path if inside else path.parent) / temporary_name(path.name)
    with explained_failure(path):
        try:
            aside.mkdir(parents=True)
            yield aside / path.name
        finally:
            shutil.rmtree(aside, ignore_errors=True)


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


def write_json(path: str | Path, content: Any) -> None:
    """Write `content` as indented UTF-8 JSON, atomically."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


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
    write_json(path, {CHECKSUM: _checksum(content), **content})


def read_checked_json(path: str | Path, *, own_version: int | None = None) -> dict[str, Any]:
    """The JSON object that `write_checked_json` wrote.

    Args:
        path: The file. Without a checksum (an older version or another tool wrote the file), nothing is compared.
        own_version: The version of a content that has a version of its own, which then is part of the result.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file was damaged or edited, is from a newer version, or holds no JSON object; the message names
            the file.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold a JSON object, not {type(content).__name__}.")
    # The damage may have hit the name of the checksum, which is the first.
    name = CHECKSUM if CHECKSUM in content else next(iter(content), "")
    checksum, rest = content.get(name), {key: value for key, value in content.items() if key != name}
    is_same = isinstance(checksum, str) and checksum.startswith(DIGEST_SIGN) and checksum == _checksum(rest)
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


def _checksum(content: Any) -> str:
    return digest_text(new_digest(json.dumps(content, sort_keys=True).encode()))


def new_digest(start: bytes = b"") -> Any:
    """The beginning of a digest, see `digest_text`."""
    return hashlib.blake2b(start, digest_size=16)


def digest_text(digest: Any) -> str:
    """A digest of hashlib as text."""
    return DIGEST_SIGN + digest.hexdigest()


def write_tensors(
    path: str | Path, tensors: Mapping[str, torch.Tensor], header: Mapping[str, str] | None = None
) -> None:
    """Write named tensors, atomically: safetensors for `*.safetensors`, `torch.save` for any other suffix.

    `header` holds texts for the header of a safetensors file, see `read_header`. Only such a file has checksums.
    """
    import torch  # noqa: PLC0415
    from safetensors.torch import save_file  # noqa: PLC0415

    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with replacing(path) as temporary:
        if temporary.suffix == ".safetensors":
            texts = {"format": "pt", **(header or {}), CHECKSUM: _tensor_checksum(contiguous)}
            save_file(contiguous, temporary, metadata={**texts, HEADER_CHECKSUM: _checksum(texts)})
            _sort_header(temporary)
        else:
            torch.save(contiguous, temporary)


def _tensor_checksum(tensors: Mapping[str, torch.Tensor]) -> str:
    from gradiend.util._bits import digest_weights  # noqa: PLC0415 - needs torch

    return digest_weights(sorted(tensors.items()))


def _sort_header(path: Path) -> None:
    """Sort the texts of a safetensors header in place, because the library writes the texts in a random order."""
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        content = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        assert len(content) <= size
        file.seek(8)
        file.write(content.ljust(size))


def read_tensors(path: str | Path, *, verify: bool = True) -> dict[str, torch.Tensor]:
    """Read what `write_tensors` wrote, to the CPU.

    Args:
        path: The file.
        verify: Whether to compare the checksum of the tensors, if the file has one. This reads all bits once more.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged.
    """
    import torch  # noqa: PLC0415
    from safetensors import SafetensorError  # noqa: PLC0415
    from safetensors.torch import load_file  # noqa: PLC0415

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no weight file {path}.")
    try:
        if path.suffix == ".safetensors":
            checksum = read_header(path).get(CHECKSUM)
            # The library maps the file into memory; copies let a model outlive the file.
            tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
            if verify and checksum is not None and checksum != _tensor_checksum(tensors):
                raise _damaged(path)
            return tensors
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except PermissionError:
        raise
    except (SafetensorError, RuntimeError, EOFError, OSError, UnpicklingError) as error:
        raise ValueError(f"{path} cannot be read as a weight file ({error}). Was it written completely?") from error
    if not isinstance(tensors, Mapping) or not all(isinstance(tensor, torch.Tensor) for tensor in tensors.values()):
        raise ValueError(f"{path} does not hold named tensors: was it written by something else?")
    return dict(tensors)


def read_header(path: str | Path) -> dict[str, str]:
    """The texts in the header of a safetensors file, compared with their checksum, if the file has one.

    The texts include the checksums, see `CHECKSUM`; the tensors are not read. Raises FileNotFoundError, or ValueError
    for a damaged or another file.
    """
    from safetensors import SafetensorError, safe_open  # noqa: PLC0415

    if not Path(path).is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    try:
        with safe_open(str(path), framework="pt") as file:
            header = dict(file.metadata() or {})
    except PermissionError:
        raise
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is not a safetensors file ({error}). Was it written completely?") from error
    texts = {name: text for name, text in header.items() if name != HEADER_CHECKSUM}
    # One without the other is a file whose damage hit the name of a checksum.
    if (CHECKSUM in header or HEADER_CHECKSUM in header) and header.get(HEADER_CHECKSUM) != _checksum(texts):
        raise _damaged(path)
    return header


def _damaged(path: str | Path) -> ValueError:
    return ValueError(
        f"{path} was damaged or changed after it was written: its checksum is that of other contents. Copy or make it "
        "again."
    )


def file_checksum(path: Path) -> str:
    """A digest of a file: the header checksum of a safetensors file that has checksums, else one of all bytes."""
    from gradiend.util._bits import digest_files  # noqa: PLC0415 - needs torch

    own = read_header(path).get(HEADER_CHECKSUM) if path.suffix == ".safetensors" else None
    return own or digest_files([path], path.parent)
