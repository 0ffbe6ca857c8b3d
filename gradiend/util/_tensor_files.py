"""Files with tensors, which carry checksums of the tensors and of the texts in their headers."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import IO, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from gradiend.util._bits import digest_blocks, digest_files, digest_weights
from gradiend.util._files import CHECKSUM, checksum_of, replacing
from gradiend.util._processes import processes

HEADER_CHECKSUM = "header_checksum"
"""The key for the checksum of the other texts in a header, among them that of the tensors."""


@dataclass(frozen=True)
class Pieces:
    """A tensor that is nowhere in one piece: its entries come in flat blocks, which all processes must ask for."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    blocks: Callable[[], Iterator[torch.Tensor]]
    """Gives the blocks to the first process, and none to the others."""


def write_tensors(
    path: str | Path, tensors: Mapping[str, torch.Tensor | Pieces], header: Mapping[str, str] | None = None
) -> None:
    """Write named tensors, atomically: safetensors for `*.safetensors`, `torch.save` for any other suffix.

    `header` holds texts for the header of a safetensors file, see `read_header`. Only such a file has checksums.
    Tensors in pieces are written block by block, as safetensors.
    """
    here = {name: tensor for name, tensor in tensors.items() if isinstance(tensor, torch.Tensor)}
    if len(here) < len(tensors):
        _write_blocks(Path(path), tensors, header or {})
        return
    with replacing(path) as temporary:
        if not processes().first:
            return
        contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in here.items()}
        if temporary.suffix == ".safetensors":
            texts = {"format": "pt", **(header or {}), CHECKSUM: _tensor_checksum(contiguous)}
            save_file(contiguous, temporary, metadata={**texts, HEADER_CHECKSUM: checksum_of(texts)})
            _sort_header(temporary)
        else:
            torch.save(contiguous, temporary)


def _write_blocks(path: Path, tensors: Mapping[str, torch.Tensor | Pieces], header: Mapping[str, str]) -> None:
    """`write_tensors` for tensors that all processes have together; the checksums are filled in at the end."""
    entries: dict[str, Any] = {}
    begin = 0
    for name, tensor in sorted(tensors.items()):
        end = begin + math.prod(tensor.shape) * tensor.dtype.itemsize
        entries[name] = {
            "dtype": _SAFETENSORS_TYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [begin, end]
        }  # fmt: skip
        begin = end

    def content(checksum: str) -> bytes:
        texts = {"format": "pt", **header, CHECKSUM: checksum}
        texts = dict(sorted({**texts, HEADER_CHECKSUM: checksum_of(texts)}.items()))
        made = json.dumps({"__metadata__": texts, **entries}, ensure_ascii=False, separators=(",", ":")).encode()
        return made.ljust(-(-len(made) // 8) * 8)

    def written(blocks: Iterable[torch.Tensor], file: IO[bytes] | None) -> Iterator[torch.Tensor]:
        for block in blocks:
            if file is not None:
                file.write(block.contiguous().view(torch.uint8).numpy().data)
                yield block

    def blocks_of(tensor: torch.Tensor | Pieces) -> Iterable[torch.Tensor]:
        return tensor.blocks() if isinstance(tensor, Pieces) else [tensor.detach().cpu().reshape(-1)]

    with replacing(path) as temporary, temporary.open("wb") as opened:
        file = opened if processes().first else None
        # Digests of any content have the same length, and so has the header.
        start = content(digest_blocks([]))
        opened.write(len(start).to_bytes(8, "little") + start)
        parts = ((name, tensor, written(blocks_of(tensor), file)) for name, tensor in sorted(tensors.items()))
        checksum = digest_blocks(parts)
        opened.seek(8)
        opened.write(content(checksum))


_SAFETENSORS_TYPES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64",
    torch.int32: "I32", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip


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
    """Read what `write_tensors` wrote, to the CPU; `verify` compares the checksum, which reads all bits again."""
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


def range_reader(path: str | Path, name: str) -> Callable[[int, int], torch.Tensor]:
    """A function that reads a range of the entries of a tensor in a safetensors file, and nothing else."""
    with Path(path).open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        entry = json.loads(file.read(size))[name]
    dtype = next(kind for kind, text in _SAFETENSORS_TYPES.items() if text == entry["dtype"])

    def read(start: int, stop: int) -> torch.Tensor:
        with Path(path).open("rb") as file:
            file.seek(8 + size + entry["data_offsets"][0] + start * dtype.itemsize)
            return torch.frombuffer(bytearray(file.read((stop - start) * dtype.itemsize)), dtype=dtype)

    return read


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
        f"{path} was damaged or changed after it was written: its checksum is of other contents. Copy or make it again."
    )


def tensors_checksum(path: Path) -> str:
    """A digest of the tensors in a file, equal to `digest_weights` of the same tensors: read or, without one, made."""
    own = read_header(path).get(CHECKSUM) if path.suffix == ".safetensors" else None
    return own or _tensor_checksum(read_tensors(path))


def file_checksum(path: Path) -> str:
    """A digest of a file: the header checksum of a safetensors file that has checksums, else one of all bytes."""
    own = read_header(path).get(HEADER_CHECKSUM) if path.suffix == ".safetensors" else None
    return own or digest_files([path], path.parent)
