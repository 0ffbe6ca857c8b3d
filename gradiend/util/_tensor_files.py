"""Files with tensors, which carry checksums of the tensors and of the texts in their headers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from gradiend.util._bits import digest_files, digest_weights
from gradiend.util._files import CHECKSUM, checksum_of, replacing
from gradiend.util._processes import processes

HEADER_CHECKSUM = "header_checksum"
"""The key for the checksum of the other texts in a header, among them that of the tensors."""


def write_tensors(
    path: str | Path, tensors: Mapping[str, torch.Tensor], header: Mapping[str, str] | None = None
) -> None:
    """Write named tensors, atomically: safetensors for `*.safetensors`, `torch.save` for any other suffix.

    `header` holds texts for the header of a safetensors file, see `read_header`. Only such a file has checksums.
    """
    with replacing(path) as temporary:
        if not processes().first:
            return
        contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        if temporary.suffix == ".safetensors":
            texts = {"format": "pt", **(header or {}), CHECKSUM: _tensor_checksum(contiguous)}
            save_file(contiguous, temporary, metadata={**texts, HEADER_CHECKSUM: checksum_of(texts)})
            _sort_header(temporary)
        else:
            torch.save(contiguous, temporary)


def _tensor_checksum(tensors: Mapping[str, torch.Tensor]) -> str:
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
    if (CHECKSUM in header or HEADER_CHECKSUM in header) and header.get(HEADER_CHECKSUM) != checksum_of(texts):
        raise _damaged(path)
    return header


def _damaged(path: str | Path) -> ValueError:
    return ValueError(
        f"{path} was damaged or changed after it was written: its checksum is that of other contents. Copy or make it "
        "again."
    )


def file_checksum(path: Path) -> str:
    """A digest of a file: the header checksum of a safetensors file that has checksums, else one of all bytes."""
    own = read_header(path).get(HEADER_CHECKSUM) if path.suffix == ".safetensors" else None
    return own or digest_files([path], path.parent)
