"""Digests of the bits of tensors and files.

`digest_weights` and `digest_files` add up machine words: the 32-bit words of a row (`ROW` words) are multiplied by
fixed odd numbers and added modulo 2⁶⁴. A change of one entry always changes the sum, because an odd factor is
invertible; two different rows have equal sums with a probability of about 2⁻³². The sums are computed where the tensor
lies, depend neither on the device nor on the order of addition, and take a quarter of the time of blake2b. The digests
protect from mistakes, not from forgery.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from gradiend.util._files import digest_text, new_digest
from gradiend.util._processes import processes

ROW = 1 << 16
"""How many 32-bit words are added up into one number."""
_READ = 1 << 24


def digest_weights(tensors: Iterable[tuple[str, Any]]) -> str:
    """A digest of named tensors (names, types, shapes and every bit) that is fast for large tensors."""
    digest = new_digest()
    for name, tensor in tensors:
        digest.update(_about(name, tensor))
        if isinstance(tensor, DTensor):
            # The sums of the shards, one process after the other.
            for sums in processes().exchanged(_sums(tensor.to_local().detach())):
                digest.update(sums)
        else:
            digest.update(_sums(tensor.detach()))
    return digest_text(digest)


def digest_blocks(tensors: Iterable[tuple[str, Any, Iterable[Tensor]]]) -> str:
    """The digest of `digest_weights` for tensors that come in flat blocks: (name, what has dtype and shape, blocks)."""
    digest = new_digest()
    for name, tensor, blocks in tensors:
        digest.update(_about(name, tensor))
        left = torch.empty(0, dtype=torch.uint8)
        for block in blocks:
            left = torch.cat([left, block.contiguous().view(torch.uint8)])
            rows = left.numel() // (4 * ROW) * 4 * ROW
            # The last sum is that of the incomplete row, which is not complete yet.
            digest.update(_sums(left[:rows])[:-8])
            left = left[rows:].clone()
        digest.update(_sums(left))
    return digest_text(digest)


def digest_tensors(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """A digest of named tensors for files that users exchange (deltas): this digest must never change."""
    digest = new_digest()
    for name, tensor in tensors:
        add_bits(digest, name, tensor)
    return digest_text(digest)


def digest_files(paths: Iterable[Path], root: Path) -> str:
    """A digest of files: their names relative to `root`, and their contents."""
    digest = new_digest()
    buffer = torch.empty(_READ, dtype=torch.uint8, device="cpu")
    for path in sorted(paths):
        digest.update(f"{path.relative_to(root).as_posix()}|{path.stat().st_size}|".encode())
        with path.open("rb") as file:
            while n_bytes := file.readinto(buffer.numpy().data):
                digest.update(_sums(buffer[:n_bytes]))
    return digest_text(digest)


def _about(name: str, tensor: Any) -> bytes:
    return f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode()


def add_bits(digest: Any, name: str, tensor: Any) -> None:
    """Add name, type, shape and every bit of a tensor to a digest of hashlib."""
    digest.update(_about(name, tensor))
    tensor = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    if flat.numel():
        # The tensor is read as bytes, because NumPy has no bfloat16.
        digest.update(flat.view(torch.uint8).numpy().data)


def add_blocks(digest: Any, name: str, tensor: Any, blocks: Iterable[Tensor]) -> None:
    """`add_bits` for a tensor that comes in flat blocks; `tensor` has its dtype and shape."""
    digest.update(_about(name, tensor))
    for block in blocks:
        digest.update(block.contiguous().view(torch.uint8).numpy().data)


def _sums(tensor: Tensor) -> bytes:
    """The weighted sum of each row of 32-bit words; a last, incomplete row and word are filled up with zeros."""
    flat = tensor.contiguous().reshape(-1).view(torch.uint8)
    n_whole = flat.numel() // (4 * ROW)
    if flat.storage_offset() % 4:
        # A slice of narrow entries may begin within a word.
        flat = flat.clone()
    whole = flat[: n_whole * 4 * ROW].view(torch.int32).view(n_whole, ROW)
    rest = torch.nn.functional.pad(flat[n_whole * 4 * ROW :], (0, -flat.numel() % 4)).view(torch.int32)
    factors = _factors(flat.device)
    sums = torch.empty(n_whole + 1, dtype=torch.int64, device=flat.device)
    if flat.device.type == "cpu":
        # NumPy takes half the time of PyTorch; the products stay in the cache.
        by_row, out = np.empty(ROW, np.int64), sums.numpy()
        for number, row in enumerate(whole.numpy()):
            out[number] = np.multiply(row, factors.numpy(), out=by_row).sum()
    else:
        n_rows = 64
        products = torch.empty(min(n_rows, n_whole), ROW, dtype=torch.int64, device=flat.device)
        for start in range(0, n_whole, n_rows):
            rows = whole[start : start + n_rows]
            torch.sum(torch.mul(rows, factors, out=products[: len(rows)]), 1, out=sums[start : start + len(rows)])
    sums[-1] = (rest * factors[: rest.numel()]).sum()
    return sums.cpu().numpy().tobytes()


@functools.cache
def _factors(device: torch.device) -> Tensor:
    """The odd numbers that the words of a row are multiplied by: (ROW,) int64, the same on every machine."""
    numbers = np.frombuffer(hashlib.shake_256(b"gradiend").digest(8 * ROW), dtype="<i8")
    return torch.from_numpy(numbers | 1).to(device)
