"""How much memory a device has left."""

from __future__ import annotations

import ctypes
import platform
from pathlib import Path

import torch

CGROUP = Path("/sys/fs/cgroup")


def free_memory(device: torch.device) -> int | None:
    """Bytes that can still be allocated on a device; None where that cannot be found out."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    if device.type != "cpu":
        return None
    limits = [value for value in (_of_the_machine(), _of_the_container()) if value is not None]
    return min(limits, default=None)


def _of_the_machine() -> int | None:
    path = Path("/proc/meminfo")
    if not path.is_file():
        return None
    fields = dict(line.split(":", 1) for line in path.read_text().splitlines())
    return int(fields["MemAvailable"].split()[0]) * 1024 if "MemAvailable" in fields else None


def _of_the_container() -> int | None:
    limit, used = CGROUP / "memory.max", CGROUP / "memory.current"
    if not limit.is_file() or not used.is_file() or limit.read_text().strip() == "max":
        return None
    # Cached files are given up when memory is short.
    counts = dict(line.split() for line in (CGROUP / "memory.stat").read_text().splitlines())
    return int(limit.read_text()) - int(used.read_text()) + int(counts.get("inactive_file", 0))


def return_freed_memory() -> None:
    """Give memory that the C library keeps for later allocations back to the system; with other libraries than glibc,
    nothing happens.

    Many tensors of some megabytes, made and freed, leave a heap that no large tensor can use.
    """
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
